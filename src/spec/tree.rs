//! Reads types out of a JSON tree, and says in plain words where and why it cannot.
//!
//! `serde_json` has a deserializer for its own tree. This one differs in three ways: an object is
//! never read from a list, all unknown fields of an object are found at once, and its errors are
//! values, not texts, so that messages can say what was found and what is allowed.

use std::fmt::{self, Display};

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, Expected, MapAccess, SeqAccess, Unexpected, Visitor,
    value::BorrowedStrDeserializer,
};
use serde_json::{Map, Value};

use super::fault::{Path, Step};

/// Why the tree could not be read.
#[derive(Debug)]
pub(super) struct Problem {
    /// The steps to the value, the last one first.
    steps: Vec<Step>,
    /// What is wrong with it.
    pub why: Why,
}

/// What is wrong with a value.
#[derive(Debug)]
pub(super) enum Why {
    /// It is not what is allowed, which follows the words "allowed": `is a list`.
    NotAllowed(String),
    /// It has fields that are unknown; these are known.
    UnknownFields(Vec<String>, &'static [&'static str]),
    /// Whatever its own type says.
    Other(String),
}

impl Problem {
    fn new(why: Why) -> Self {
        Self { steps: Vec::new(), why }
    }

    fn under(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// The path of the value.
    pub fn path(&self) -> Path {
        Path(self.steps.iter().rev().cloned().collect())
    }
}

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.path(), self.why)
    }
}

impl std::error::Error for Problem {}

impl serde::de::Error for Problem {
    fn custom<T: Display>(message: T) -> Self {
        Self::new(Why::Other(message.to_string()))
    }

    fn invalid_type(_: Unexpected<'_>, allowed: &dyn Expected) -> Self {
        let allowed = allowed.to_string();
        let plain = match allowed.as_str() {
            "a boolean" => "true or false",
            "a sequence" => "a list",
            "a map" => "an object",
            other => other,
        };
        Self::new(Why::NotAllowed(format!("is {plain}")))
    }

    fn invalid_value(found: Unexpected<'_>, allowed: &dyn Expected) -> Self {
        Self::invalid_type(found, allowed)
    }

    fn unknown_variant(_: &str, allowed: &'static [&'static str]) -> Self {
        Self::new(Why::NotAllowed(format!("are {}", allowed.join(", "))))
    }
}

/// A value of the tree, as a source of types.
pub(super) struct At<'a>(pub &'a Value);

impl<'de> Deserializer<'de> for At<'de> {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(yes) => visitor.visit_bool(*yes),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), _, _) => visitor.visit_u64(number),
                (_, Some(number), _) => visitor.visit_i64(number),
                (_, _, number) => visitor.visit_f64(number.unwrap_or(f64::NAN)),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(items) => visitor.visit_seq(Items(items.iter().enumerate())),
            Value::Object(fields) => visitor.visit_map(Fields::of(fields)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        let Value::Object(fields) = self.0 else {
            let fields = known.join(", ");
            return Err(Problem::new(Why::NotAllowed(format!(
                "is an object with the fields {fields}"
            ))));
        };
        let unknown: Vec<_> =
            fields.keys().filter(|name| !known.contains(&name.as_str())).cloned().collect();
        if unknown.is_empty() {
            visitor.visit_map(Fields::of(fields))
        } else {
            Err(Problem::new(Why::UnknownFields(unknown, known)))
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        match self.0 {
            Value::String(text) => visitor.visit_enum(BorrowedStrDeserializer::new(text)),
            _ => Err(Problem::unknown_variant("", variants)),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

/// The items of a list.
struct Items<'a>(std::iter::Enumerate<std::slice::Iter<'a, Value>>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Problem;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Problem> {
        let Some((index, value)) = self.0.next() else {
            return Ok(None);
        };
        let item = seed.deserialize(At(value));
        item.map(Some).map_err(|problem| problem.under(Step::Item(index)))
    }
}

/// The fields of an object.
struct Fields<'a> {
    rest: serde_json::map::Iter<'a>,
    current: Option<(&'a String, &'a Value)>,
}

impl<'a> Fields<'a> {
    fn of(object: &'a Map<String, Value>) -> Self {
        Self { rest: object.iter(), current: None }
    }
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = Problem;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Problem> {
        self.current = self.rest.next();
        let Some((name, _)) = self.current else {
            return Ok(None);
        };
        let key = seed.deserialize(BorrowedStrDeserializer::new(name));
        key.map(Some).map_err(|problem: Problem| problem.under(Step::Field(name.clone())))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Problem> {
        let Some((name, value)) = self.current.take() else {
            return Err(Problem::custom("a value was read before its key"));
        };
        let value = seed.deserialize(At(value));
        value.map_err(|problem| problem.under(Step::Field(name.clone())))
    }
}
