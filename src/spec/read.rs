//! From text to a [`Spec`], or to all of its faults.

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use super::{
    fault::{Fault, Faults, Path, Step, quoted},
    tree::{At, Why},
    types::Spec,
    validate,
};

/// More faults than this are not looked for: somebody gave us another file.
const MOST: usize = 1000;

/// Reads a spec, and finds all its faults in one run. It asks nothing but the text: no file, no
/// user database, no card.
pub fn read(text: &str) -> Result<Spec, Vec<Fault>> {
    let mut faults = Faults::default();
    let mut tree = parse(text, &mut faults).map_err(|fault| vec![fault])?;
    for field in ["version", "keys"] {
        if tree
            .as_object()
            .is_some_and(|fields| !fields.contains_key(field))
        {
            validate::missing(field, &mut faults);
        }
    }
    let spec = read_tree(&mut tree, &mut faults);
    if let Some(spec) = &spec {
        validate::validate(spec, &mut faults);
    }
    match spec {
        Some(spec) if faults.len() == 0 => Ok(with_uses(spec)),
        _ => Err(faults.finish()),
    }
}

/// Gives each secret without a use its own name for one.
fn with_uses(mut spec: Spec) -> Spec {
    let secrets = spec.keys.values_mut().flat_map(|key| &mut key.secrets);
    for (name, secret) in secrets.filter(|(_, secret)| secret.usage.is_empty()) {
        secret.usage = name.to_string();
    }
    spec
}

/// Reads the tree, takes out what is faulty, and reads again until the rest is good. Every field
/// has a default, so anything may be taken out.
fn read_tree(tree: &mut Value, faults: &mut Faults) -> Option<Spec> {
    loop {
        let problem = match Spec::deserialize(At(tree)) {
            Ok(spec) => return Some(spec),
            Err(problem) => problem,
        };
        let path = problem.path();
        if faults.len() >= MOST {
            faults.add(
                Path::default(),
                "there are more faults than these; correct these first",
            );
            return None;
        }
        match problem.why {
            Why::UnknownFields(fields, known) => {
                for field in fields {
                    let meant = nearest(&field, known);
                    if let Some(meant) = meant {
                        faults.suspect(path.field(meant));
                    }
                    let bad = path.field(&field);
                    if !take_out(tree, &bad) {
                        return None;
                    }
                    faults.add(bad, unknown(meant, known));
                }
                continue;
            }
            Why::NotAllowed(allowed) => {
                let found = describe(tree, &path);
                let warning = if found == "a string" || found == "a number" {
                    ". If this is a PIN or a management key, change it: everybody can read a spec"
                } else {
                    ""
                };
                faults.add(
                    path.clone(),
                    format!("found {found}; allowed {allowed}{warning}"),
                );
            }
            Why::Other(message) => faults.add(path.clone(), message),
        }
        if !take_out(tree, &path) {
            return None;
        }
    }
}

/// Takes the value out of the tree; an item of a list leaves an empty object, so that the others
/// keep their places. False if nothing was changed by that.
fn take_out(tree: &mut Value, path: &Path) -> bool {
    let Some((last, way)) = path.0.split_last() else {
        return false;
    };
    let parent = way.iter().try_fold(tree, |value, step| match step {
        Step::Field(name) => value.get_mut(name),
        Step::Item(index) => value.get_mut(index),
    });
    match (parent, last) {
        (Some(Value::Object(fields)), Step::Field(name)) => fields.remove(name).is_some(),
        (Some(Value::Array(items)), Step::Item(index)) => {
            items.get_mut(*index).is_some_and(|item| {
                let empty = Value::Object(Map::new());
                std::mem::replace(item, empty.clone()) != empty
            })
        }
        _ => false,
    }
}

/// What the tree holds at the path, in words for a message. A value where a PIN or a management key
/// is spoken of is not repeated: it might be one, and messages end up in logs.
fn describe(tree: &Value, path: &Path) -> String {
    let value = path.0.iter().try_fold(tree, |value, step| match step {
        Step::Field(name) => value.get(name),
        Step::Item(index) => value.get(index),
    });
    let secret = speaks_of_a_secret(path);
    match value {
        None => "nothing".into(),
        Some(Value::Null) => "null".into(),
        Some(Value::Bool(yes)) => yes.to_string(),
        Some(Value::Number(_)) if secret => "a number".into(),
        Some(Value::Number(number)) => format!("the number {number}"),
        Some(Value::String(_)) if secret => "a string".into(),
        Some(Value::String(text)) => quoted(text),
        Some(Value::Array(_)) => "a list".into(),
        Some(Value::Object(_)) => "an object".into(),
    }
}

/// Whether the path is that of a `pin` or `managementKey` field, or below one. A key or a secret
/// may have such a name, too.
fn speaks_of_a_secret(path: &Path) -> bool {
    let is = |step: Option<&Step>, names: [&str; 2]| matches!(step, Some(Step::Field(name)) if names.contains(&name.as_str()));
    (0..path.0.len()).any(|depth| {
        is(path.0.get(depth), ["pin", "managementKey"])
            && !is(
                depth.checked_sub(1).and_then(|above| path.0.get(above)),
                ["keys", "secrets"],
            )
    })
}

/// The known field that the unknown one is probably meant to be.
fn nearest(unknown: &str, known: &[&'static str]) -> Option<&'static str> {
    let plain = |name: &str| name.replace(['_', '-', ' '], "").to_lowercase();
    let unknown = plain(unknown);
    let distance = |name: &str| strsim::osa_distance(&unknown, &plain(name));
    let (distance, name) = known.iter().map(|name| (distance(name), *name)).min()?;
    (unknown.len() <= 64 && distance <= 2 && distance * 2 < name.len()).then_some(name)
}

fn unknown(meant: Option<&str>, known: &[&str]) -> String {
    match meant {
        Some(meant) => format!("unknown field; did you mean {meant}?"),
        None => format!("unknown field; allowed are {}", known.join(", ")),
    }
}

/// Reads JSON into a tree, and adds a fault for each field that an object has twice, which JSON
/// libraries pass over in silence.
fn parse(text: &str, faults: &mut Faults) -> Result<Value, Fault> {
    let mut json = serde_json::Deserializer::from_str(text);
    let node = Node {
        path: &mut Path::default(),
        faults,
    };
    node.deserialize(&mut json)
        .and_then(|tree| json.end().map(|()| tree))
        .map_err(|error| {
            let at = format!(" at line {} column {}", error.line(), error.column());
            let what = error.to_string();
            Fault {
                path: format!("line {}, column {}", error.line(), error.column()),
                message: format!(
                    "this is not JSON: {}",
                    what.strip_suffix(&at).unwrap_or(&what)
                ),
            }
        })
}

/// A value of the tree that is being built.
struct Node<'a> {
    path: &'a mut Path,
    faults: &'a mut Faults,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, yes: bool) -> Result<Value, E> {
        Ok(yes.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            self.path.0.push(Step::Item(items.len()));
            let item = list.next_element_seed(Node {
                path: self.path,
                faults: self.faults,
            })?;
            self.path.0.pop();
            match item {
                Some(item) => items.push(item),
                None => return Ok(items.into()),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = object.next_key::<String>()? {
            self.path.0.push(Step::Field(name.clone()));
            let value = object.next_value_seed(Node {
                path: self.path,
                faults: self.faults,
            })?;
            if fields.contains_key(&name) {
                self.faults
                    .add(self.path.clone(), "given twice; allowed is once");
            }
            self.path.0.pop();
            fields.entry(name).or_insert(value);
        }
        Ok(fields.into())
    }
}
