//! Users and groups: the numbers of names, and back.

use std::time::Duration;

use nix::unistd::{Gid, Group, Uid, User};

use super::bounded;
use crate::error::{Class, Error, Result};

/// How long a look-up may take: a name can lead to a directory server, through modules of libc
/// that know no limit.
const LOOKUP_LIMIT: Duration = Duration::from_secs(10);

/// The number of the user called `name`.
///
/// # Errors
/// `Class::Publish` where no user has the name, or the look-up fails or takes over ten seconds.
pub fn uid(name: &str) -> Result<u32> {
    id(name, "user", "users.users", |name| Ok(User::from_name(name)?.map(|user| user.uid.as_raw())))
}

/// The number of the group called `name`; as [`uid`].
///
/// # Errors
/// As [`uid`].
pub fn gid(name: &str) -> Result<u32> {
    id(name, "group", "users.groups", |name| {
        Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()))
    })
}

/// The name of user `uid`, or the number where it has none or the look-up fails: for display.
#[must_use]
pub fn user_name(uid: u32) -> String {
    let found = bounded(LOOKUP_LIMIT, move || User::from_uid(Uid::from_raw(uid)));
    found.and_then(|user| Some(user.ok()??.name)).unwrap_or_else(|| uid.to_string())
}

/// The name of group `gid`; as [`user_name`].
#[must_use]
pub fn group_name(gid: u32) -> String {
    let found = bounded(LOOKUP_LIMIT, move || Group::from_gid(Gid::from_raw(gid)));
    found.and_then(|group| Some(group.ok()??.name)).unwrap_or_else(|| gid.to_string())
}

fn id(
    name: &str,
    kind: &str,
    option: &str,
    look_up: fn(&str) -> nix::Result<Option<u32>>,
) -> Result<u32> {
    // By definition; and it saves the default owner a look-up.
    if name == "root" {
        return Ok(0);
    }
    let fault = |found: String, advice: String| {
        Error::new(Class::Publish, format!("looking up {kind} {name}"), found, advice)
    };
    let asked = name.to_owned();
    match bounded(LOOKUP_LIMIT, move || look_up(&asked)) {
        Some(Ok(Some(id))) => Ok(id),
        Some(Ok(None)) => Err(fault(
            format!("there is no {kind} of that name"),
            format!("Declare it ({option}.{name}), or correct the secret's {kind} in the spec."),
        )),
        Some(Err(errno)) => Err(fault(
            errno.desc().to_owned(),
            format!("Try: getent {} {name}.", if kind == "user" { "passwd" } else { kind }),
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

    #[test]
    fn finds_root_both_ways() {
        assert_eq!(uid("root"), Ok(0));
        assert_eq!(gid("root"), Ok(0));
        assert_eq!(user_name(0), "root");
        assert_eq!(group_name(0), "root");
        assert_eq!(user_name(3_999_999_999), "3999999999");
    }

    #[test]
    fn names_who_is_unknown_and_what_to_do() {
        let name = "nobody-has-this";
        expect_test::expect![[
            r"looking up user nobody-has-this: there is no user of that name. Declare it (users.users.nobody-has-this), or correct the secret's user in the spec."
        ]]
        .assert_eq(&uid(name).unwrap_err().to_string());
        expect_test::expect![[
            r"looking up group nobody-has-this: there is no group of that name. Declare it (users.groups.nobody-has-this), or correct the secret's group in the spec."
        ]]
        .assert_eq(&gid(name).unwrap_err().to_string());
        assert_eq!(uid(name).unwrap_err().class, Class::Publish);
    }
}
