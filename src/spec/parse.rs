//! From text to a JSON tree.

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::fault::{Fault, Faults, Path, Step};

/// Reads JSON into a tree, and adds a fault for each field that an object has twice, which JSON
/// libraries pass over in silence.
pub(super) fn parse(text: &str, faults: &mut Faults) -> Result<Value, Fault> {
    let mut json = serde_json::Deserializer::from_str(text);
    let node = Node { path: &mut Path::default(), faults };
    node.deserialize(&mut json).and_then(|tree| json.end().map(|()| tree)).map_err(|error| {
        let at = format!(" at line {} column {}", error.line(), error.column());
        let what = error.to_string();
        let what = what.strip_suffix(&at).unwrap_or(&what);
        let what = if error.is_eof() { "the text ends too early" } else { what };
        Fault {
            path: format!("line {}, column {}", error.line(), error.column()),
            message: format!("this is not JSON: {what}"),
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
            let item = list.next_element_seed(Node { path: self.path, faults: self.faults })?;
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
            let value = object.next_value_seed(Node { path: self.path, faults: self.faults })?;
            if fields.contains_key(&name) {
                self.faults.add(self.path.clone(), "given twice; allowed is once");
            }
            self.path.0.pop();
            fields.entry(name).or_insert(value);
        }
        Ok(fields.into())
    }
}
