//! Who may do what with a published file.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Serialize,
    de::{Deserializer, Error, Unexpected, Visitor},
};

use super::fault::quoted;

/// A user or a group, by name or by number. Whether it exists is found out when the secret is
/// published.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub enum Account {
    /// By name.
    Name(String),
    /// By number.
    Id(u32),
}

impl Account {
    /// The highest number: the kernel takes the next one for "leave it as it is".
    const HIGHEST: u32 = u32::MAX - 1;

    /// The account's number. `look_up` finds that of a name.
    pub fn resolve<E>(&self, look_up: impl FnOnce(&str) -> Result<u32, E>) -> Result<u32, E> {
        match self {
            Self::Name(name) => look_up(name),
            Self::Id(id) => Ok(*id),
        }
    }
}

impl FromStr for Account {
    type Err = String;

    /// A text of digits only is a number.
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |c: char| c.is_control() || c.is_whitespace() || ":,/".contains(c);
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        let id = text.parse().ok().filter(|id| *id <= Self::HIGHEST).map(Self::Id);
        if !text.is_empty() && digits {
            id.ok_or_else(|| format!("found the number {text}; allowed are 0 to {}", Self::HIGHEST))
        } else if text.is_empty() || text.len() > 256 || text.starts_with('-') || text.contains(bad)
        {
            Err(format!(
                "found {}; allowed is the name of a user or group, or its number",
                quoted(text)
            ))
        } else {
            Ok(Self::Name(text.into()))
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Id(id) => id.fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for Account {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = Account;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a name, or a number from 0 to {}", Account::HIGHEST)
            }

            fn visit_u64<E: Error>(self, id: u64) -> Result<Account, E> {
                let small = u32::try_from(id).ok().filter(|id| *id <= Account::HIGHEST);
                let invalid = || E::invalid_value(Unexpected::Unsigned(id), &self);
                small.map(Account::Id).ok_or_else(invalid)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Account, E> {
                text.parse().map_err(E::custom)
            }
        }

        input.deserialize_any(Either)
    }
}

impl JsonSchema for Account {
    fn schema_name() -> Cow<'static, str> {
        "Account".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A user or a group, by name or by number. Whether it exists is found \
                            out when the secret is published.",
            "anyOf": [
                { "type": "string", "minLength": 1, "maxLength": 256, "pattern": "^[^-:,/\\s][^:,/\\s]*$" },
                { "type": "integer", "minimum": 0, "maximum": Self::HIGHEST },
            ],
        })
    }
}

/// Permissions of a file: read, write and execute for owner, group and others, in octal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileMode(pub u32);

impl FileMode {
    const ALLOWED: &str = "an octal string such as \"0400\", for read, write and execute only";
}

impl FromStr for FileMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix('0').filter(|rest| rest.len() == 3).unwrap_or(text);
        let octal = digits.len() == 3 && digits.bytes().all(|b| (b'0'..=b'7').contains(&b));
        let mode = octal.then(|| u32::from_str_radix(digits, 8).ok()).flatten();
        mode.map(Self)
            .ok_or_else(|| format!("found {}; allowed is {}", quoted(text), Self::ALLOWED))
    }
}

impl fmt::Display for FileMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl Serialize for FileMode {
    fn serialize<S: serde::Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        output.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FileMode {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Octal;

        impl Visitor<'_> for Octal {
            type Value = FileMode;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(FileMode::ALLOWED)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<FileMode, E> {
                text.parse().map_err(E::custom)
            }
        }

        input.deserialize_any(Octal)
    }
}

impl JsonSchema for FileMode {
    fn schema_name() -> Cow<'static, str> {
        "FileMode".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Permissions of a file: read, write and execute for owner, group and \
                            others, in octal.",
            "type": "string",
            "pattern": "^0?[0-7]{3}$",
        })
    }
}
