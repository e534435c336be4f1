//! Where a PIN and a management key come from: one field of several, each with its own meaning.

use std::{borrow::Cow, fmt, path::PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Unexpected, Visitor},
};

use super::names::{Name, PrivatePath};

/// Where a PIN comes from: one of these. The PIN itself is never in the spec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "PinFields", into = "PinFields")]
#[schemars(with = "PinFields")]
pub enum PinSource {
    /// A file.
    File(PathBuf),
    /// A credential of the systemd service.
    Credential(Name),
    /// A person.
    Ask,
}

/// How a [`PinSource`] is written: exactly one of the fields.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
#[schemars(rename = "PinSource", extend("minProperties" = 1, "maxProperties" = 1))]
struct PinFields {
    /// A file that holds the PIN and nothing else but a line ending.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PrivatePath")]
    file: Option<PrivatePath>,
    /// The name of a systemd credential of the service, which holds the PIN.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Name")]
    credential: Option<Name>,
    /// `true`: somebody is asked for it (systemd-ask-password).
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Yes")]
    ask: Option<Yes>,
}

impl TryFrom<PinFields> for PinSource {
    type Error = String;

    fn try_from(fields: PinFields) -> Result<Self, String> {
        match fields {
            PinFields { file: Some(path), credential: None, ask: None } => {
                Ok(Self::File(path.into()))
            }
            PinFields { file: None, credential: Some(name), ask: None } => {
                Ok(Self::Credential(name))
            }
            PinFields { file: None, credential: None, ask: Some(_) } => Ok(Self::Ask),
            PinFields { file, credential, ask } => Err(one_of([
                ("file", file.is_some()),
                ("credential", credential.is_some()),
                ("ask", ask.is_some()),
            ])),
        }
    }
}

impl From<PinSource> for PinFields {
    fn from(source: PinSource) -> Self {
        let none = Self::default();
        match source {
            PinSource::File(path) => Self { file: Some(path.into()), ..none },
            PinSource::Credential(name) => Self { credential: Some(name), ..none },
            PinSource::Ask => Self { ask: Some(Yes), ..none },
        }
    }
}

/// Where a card's management key comes from: one of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "ManagementKeyFields", into = "ManagementKeyFields")]
#[schemars(with = "ManagementKeyFields")]
pub enum ManagementKeySource {
    /// A file.
    File(PathBuf),
    /// The card, behind the PIN.
    Protected,
    /// The well-known key of a new card.
    FactoryDefault,
}

/// How a [`ManagementKeySource`] is written: exactly one of the fields.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
#[schemars(rename = "ManagementKeySource", extend("minProperties" = 1, "maxProperties" = 1))]
struct ManagementKeyFields {
    /// A file that holds the management key in hex.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PrivatePath")]
    file: Option<PrivatePath>,
    /// `true`: the card keeps it behind the PIN (`ykman piv access change-management-key
    /// --protect`).
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Yes")]
    protected: Option<Yes>,
    /// `true`: it is the one of a new card, which everybody knows. Whoever reaches the card can
    /// then put another key in its place.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Yes")]
    factory_default: Option<Yes>,
}

impl TryFrom<ManagementKeyFields> for ManagementKeySource {
    type Error = String;

    fn try_from(fields: ManagementKeyFields) -> Result<Self, String> {
        match (fields.file, fields.protected, fields.factory_default) {
            (Some(path), None, None) => Ok(Self::File(path.into())),
            (None, Some(_), None) => Ok(Self::Protected),
            (None, None, Some(_)) => Ok(Self::FactoryDefault),
            (file, protected, factory_default) => Err(one_of([
                ("file", file.is_some()),
                ("protected", protected.is_some()),
                ("factoryDefault", factory_default.is_some()),
            ])),
        }
    }
}

impl From<ManagementKeySource> for ManagementKeyFields {
    fn from(source: ManagementKeySource) -> Self {
        let none = Self::default();
        match source {
            ManagementKeySource::File(path) => Self { file: Some(path.into()), ..none },
            ManagementKeySource::Protected => Self { protected: Some(Yes), ..none },
            ManagementKeySource::FactoryDefault => Self { factory_default: Some(Yes), ..none },
        }
    }
}

/// Reads a value that may be left out but may not be null.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(input: D) -> Result<Option<T>, D::Error> {
    T::deserialize(input).map(Some)
}

/// The fault of fields of which exactly one must be there.
fn one_of(fields: [(&str, bool); 3]) -> String {
    let given: Vec<_> = fields.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
    let found = if given.is_empty() { "nothing".into() } else { given.join(" and ") };
    let [(first, _), (second, _), (third, _)] = fields;
    format!("found {found}; allowed is exactly one of {first}, {second}, {third}")
}

/// The word `true`. What is not so is left out.
#[derive(Clone, Copy)]
struct Yes;

impl Serialize for Yes {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        output.serialize_bool(true)
    }
}

impl<'de> Deserialize<'de> for Yes {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct True;

        impl Visitor<'_> for True {
            type Value = Yes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, or leave the field out")
            }

            fn visit_bool<E: Error>(self, yes: bool) -> Result<Yes, E> {
                let invalid = || E::invalid_value(Unexpected::Bool(yes), &self);
                yes.then_some(Yes).ok_or_else(invalid)
            }
        }

        input.deserialize_any(True)
    }
}

impl JsonSchema for Yes {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Yes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "const": true })
    }
}
