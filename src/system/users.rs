//! Owners and groups, by name or number.

use std::{borrow::Cow, fmt, time::Duration};

use nix::unistd::{Gid, Group, Uid, User};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::bounded;
use crate::error::{Class, Error, Result};

/// How long a look-up may take: a name can lead to a directory server, through modules of libc
/// that know no limit.
const LOOKUP_LIMIT: Duration = Duration::from_secs(10);

/// A user or a group: a name, or a number from 0 to 4294967294. A string of digits is a number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Account {
    /// By name, looked up when it is needed.
    Name(String),
    /// By number. Never 4294967295, which chown(2) takes for "leave it".
    Id(u32),
}

impl Account {
    fn from_number(number: u64) -> Option<Self> {
        u32::try_from(number)
            .ok()
            .filter(|id| *id != u32::MAX)
            .map(Self::Id)
    }

    fn from_text(text: &str) -> Option<Self> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return Self::from_number(text.parse().ok()?);
        }
        // A colon or a NUL can't be in passwd or group, nor asked for.
        (!text.is_empty() && !text.contains([':', '\n', '\0'])).then(|| Self::Name(text.to_owned()))
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Id(id) => write!(f, "{id}"),
        }
    }
}

impl Serialize for Account {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::Name(name) => serializer.serialize_str(name),
            Self::Id(id) => serializer.serialize_u32(*id),
        }
    }
}

impl<'de> Deserialize<'de> for Account {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor)
    }
}

struct Visitor;

impl de::Visitor<'_> for Visitor {
    type Value = Account;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name or a number from 0 to 4294967294")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<Account, E> {
        Account::from_text(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> std::result::Result<Account, E> {
        Account::from_number(number)
            .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
    }
}

impl JsonSchema for Account {
    fn schema_name() -> Cow<'static, str> {
        "Account".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A user or group: a name, or a number. A string of digits is a number.",
            "anyOf": [
                { "type": "string", "minLength": 1 },
                { "type": "integer", "minimum": 0, "maximum": u32::MAX - 1 },
            ],
        })
    }
}

/// The number of the user `account`. A number is taken as it is, also where nobody has it.
///
/// # Errors
/// `Class::Publish` where no user has the name, or the look-up fails or takes over ten seconds.
pub fn uid(account: &Account) -> Result<u32> {
    id(account, "user", "users.users", |name| {
        Ok(User::from_name(name)?.map(|user| user.uid.as_raw()))
    })
}

/// The number of the group `account`; as [`uid`].
///
/// # Errors
/// As [`uid`].
pub fn gid(account: &Account) -> Result<u32> {
    id(account, "group", "users.groups", |name| {
        Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()))
    })
}

/// The name of user `uid`, or the number where it has none or the look-up fails: for display.
#[must_use]
pub fn user_name(uid: u32) -> String {
    let found = bounded(LOOKUP_LIMIT, move || User::from_uid(Uid::from_raw(uid)));
    found
        .and_then(|user| Some(user.ok()??.name))
        .unwrap_or_else(|| uid.to_string())
}

/// The name of group `gid`; as [`user_name`].
#[must_use]
pub fn group_name(gid: u32) -> String {
    let found = bounded(LOOKUP_LIMIT, move || Group::from_gid(Gid::from_raw(gid)));
    found
        .and_then(|group| Some(group.ok()??.name))
        .unwrap_or_else(|| gid.to_string())
}

fn id(
    account: &Account,
    kind: &str,
    option: &str,
    look_up: fn(&str) -> nix::Result<Option<u32>>,
) -> Result<u32> {
    let name = match account {
        Account::Id(id) => return Ok(*id),
        Account::Name(name) => name,
    };
    let fault = |found: String, advice: String| {
        Error::new(
            Class::Publish,
            format!("looking up {kind} {name}"),
            found,
            advice,
        )
    };
    let asked = name.clone();
    match bounded(LOOKUP_LIMIT, move || look_up(&asked)) {
        Some(Ok(Some(id))) => Ok(id),
        Some(Ok(None)) => Err(fault(
            format!("there is no {kind} of that name"),
            format!("Declare it ({option}.{name}), or correct the secret's {kind} in the spec."),
        )),
        Some(Err(errno)) => Err(fault(
            errno.desc().to_owned(),
            format!(
                "Try: getent {} {name}.",
                if kind == "user" { "passwd" } else { kind }
            ),
        )),
        None => Err(fault(
            format!("no answer in {} seconds", LOOKUP_LIMIT.as_secs()),
            "See which service answers for it (/etc/nsswitch.conf), or give a number.".into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> std::result::Result<Account, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn reads_names_and_numbers() {
        assert_eq!(read("\"restic\""), Ok(Account::Name("restic".into())));
        assert_eq!(read("\"0x\""), Ok(Account::Name("0x".into())));
        for json in ["1000", "\"1000\"", "\"0001000\""] {
            assert_eq!(read(json), Ok(Account::Id(1000)));
        }
        assert_eq!(read("4294967294"), Ok(Account::Id(4_294_967_294)));
    }

    #[test]
    fn refuses_what_chown_would_take_for_leave_it() {
        for json in [
            "4294967295",
            "\"4294967295\"",
            "-1",
            "1.5",
            "\"\"",
            "null",
            "\"a:b\"",
        ] {
            let message = read(json).unwrap_err();
            assert!(
                message.contains("a name or a number from 0 to 4294967294"),
                "{message}"
            );
        }
    }

    #[test]
    fn writes_what_it_read() {
        for json in ["\"restic\"", "1000"] {
            assert_eq!(serde_json::to_string(&read(json).unwrap()).unwrap(), json);
        }
    }

    #[test]
    fn finds_root_both_ways_and_takes_a_number_as_it_is() {
        assert_eq!(uid(&Account::Name("root".into())), Ok(0));
        assert_eq!(gid(&Account::Name("root".into())), Ok(0));
        assert_eq!(uid(&Account::Id(3_999_999_999)), Ok(3_999_999_999));
        assert_eq!(user_name(0), "root");
        assert_eq!(group_name(0), "root");
        assert_eq!(user_name(3_999_999_999), "3999999999");
    }

    #[test]
    fn names_who_is_unknown_and_what_to_do() {
        let name = Account::Name("nobody-has-this".into());
        expect_test::expect![[
            r"looking up user nobody-has-this: there is no user of that name. Declare it (users.users.nobody-has-this), or correct the secret's user in the spec."
        ]]
        .assert_eq(&uid(&name).unwrap_err().to_string());
        expect_test::expect![[
            r"looking up group nobody-has-this: there is no group of that name. Declare it (users.groups.nobody-has-this), or correct the secret's group in the spec."
        ]]
        .assert_eq(&gid(&name).unwrap_err().to_string());
        assert_eq!(uid(&name).unwrap_err().class, Class::Publish);
    }
}
