//! From text to a [`Spec`], or to all of its faults.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    fault::{Fault, Faults, Path, Step, quoted},
    parse::parse,
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
    let absent: Vec<_> =
        ["version", "keys"].into_iter().filter(|field| tree.get(field).is_none()).collect();
    let Some(spec) = read_tree(&mut tree, &mut faults).map(with_uses) else {
        return Err(faults.finish());
    };
    validate::missing(&absent, &mut faults);
    validate::validate(&spec, &mut faults);
    if faults.len() == 0 { Ok(spec) } else { Err(faults.finish()) }
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
            faults.add(Path::default(), "there are more faults than these; correct these first");
            return None;
        }
        match problem.why {
            Why::UnknownFields(fields, known) => {
                // With the next round it is too many.
                for field in fields.into_iter().take(MOST - faults.len()) {
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
            // What is left of an object whose faulty fields were taken out, or of a faulty item.
            _ if is_stand_in(tree, &path) && faults.touch(&path) => {}
            Why::NotAllowed(allowed) => {
                faults.add(path.clone(), not_allowed(tree, &path, &allowed));
            }
            Why::Other(message) => faults.add(path.clone(), message),
        }
        if !take_out(tree, &path) {
            return None;
        }
    }
}

/// What takes the place of a faulty name, path, unit or class of characters in a list.
const STAND_INS: [&str; 4] = ["_", "/_", "_.service", "upper"];

/// Takes the value out of the tree; an item of a list leaves an empty object, or where that does not
/// serve one of [`STAND_INS`] after the other, so that the others keep their places. False if nothing
/// was changed by that.
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
                let before = STAND_INS.iter().position(|text| *item == *text);
                *item = match before {
                    Some(last) if last + 1 == STAND_INS.len() => return false,
                    Some(before) => STAND_INS[before + 1].into(),
                    None if *item == empty => STAND_INS[0].into(),
                    None => empty,
                };
                true
            })
        }
        _ => false,
    }
}

/// What the tree holds at the path.
fn get<'a>(tree: &'a Value, path: &Path) -> Option<&'a Value> {
    path.0.iter().try_fold(tree, |value, step| match step {
        Step::Field(name) => value.get(name),
        Step::Item(index) => value.get(index),
    })
}

/// Whether this is an empty object, or what [`take_out`] leaves of an item in its place.
fn is_stand_in(tree: &Value, path: &Path) -> bool {
    match get(tree, path) {
        Some(Value::Object(fields)) => fields.is_empty(),
        Some(Value::String(text)) => STAND_INS.contains(&text.as_str()),
        _ => false,
    }
}

/// The message for a value that is not what is allowed. Where a PIN or a management key belongs, it
/// is not repeated: it might be one, and messages end up in logs.
fn not_allowed(tree: &Value, path: &Path, allowed: &str) -> String {
    let secret = speaks_of_a_secret(path);
    let found = match get(tree, path) {
        None | Some(Value::Null) => "null".into(),
        Some(Value::Bool(yes)) => yes.to_string(),
        Some(Value::Number(_)) if secret => "a number".into(),
        Some(Value::Number(number)) => format!("the number {number}"),
        Some(Value::String(_)) if secret => "a string".into(),
        Some(Value::String(text)) => quoted(text),
        Some(Value::Array(_)) => "a list".into(),
        Some(Value::Object(_)) => "an object".into(),
    };
    let advice = match get(tree, path) {
        Some(Value::Number(_) | Value::String(_)) if secret => {
            ". If this is a PIN or a management key, change it: everybody can read a spec"
        }
        Some(Value::Number(_)) if allowed == "is a string" => ", in quotes",
        _ => "",
    };
    format!("found {found}; allowed {allowed}{advice}")
}

/// Whether the path is that of a `pin` or `managementKey` field, or below one. A key or a secret
/// may have such a name, too.
fn speaks_of_a_secret(path: &Path) -> bool {
    let named = |step: &Step, names: [&str; 2]| matches!(step, Step::Field(name) if names.contains(&name.as_str()));
    path.0.windows(2).any(|steps| {
        named(&steps[1], ["pin", "managementKey"]) && !named(&steps[0], ["keys", "secrets"])
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
