//! The small values of a spec. Each is checked where it is read, and says what is allowed.

use std::{
    borrow::Borrow, borrow::Cow, fmt, ops::Deref, path::PathBuf, str::FromStr, time::Duration,
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Serialize,
    de::{Deserializer, Error, Unexpected, Visitor},
};

use super::fault::quoted;

/// Where Nix keeps what everybody may read.
pub(super) const NIX_STORE: &str = "/nix/store";

/// What the types made of text have in common: they are read from a string through
/// `TryFrom<String>`, and written as it.
macro_rules! text {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                Self::check(&text)?;
                Ok(Self(text.into()))
            }
        }
    )*};
}

text!(Name, ProfileId, SubjectName, UnitName, Label, AbsolutePath, PrivatePath);

/// The name of a key, a secret or a credential, which becomes the name of a file or a part of
/// it, or the id of a provider: 1 to 64 of the characters `A-Z a-z 0-9 _ . -`, the first one no
/// dot and no dash.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String")]
#[schemars(extend("pattern" = "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$"))]
pub struct Name(String);

impl Name {
    fn check(text: &str) -> Result<(), String> {
        let safe = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        if (1..=64).contains(&text.len()) && text.bytes().all(safe) && !text.starts_with(['.', '-'])
        {
            Ok(())
        } else {
            Err("not a name; allowed are 1 to 64 of the characters A-Z a-z 0-9 _ . -, the first \
                 one no dot and no dash"
                .into())
        }
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.to_owned().try_into()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<std::path::Path> for Name {
    fn as_ref(&self) -> &std::path::Path {
        self.0.as_ref()
    }
}

/// The public id of a profile: 32 lower-case hex digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(extend("pattern" = "^[0-9a-f]{32}$"))]
pub struct ProfileId(String);

impl ProfileId {
    fn check(text: &str) -> Result<(), String> {
        if text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(())
        } else {
            Err(format!(
                "found {}; allowed are the 32 lower-case hex digits that `nixos-cryptkey status` \
                 prints",
                quoted(text)
            ))
        }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProfileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a unit of systemd that can be restarted: a service, socket, target, timer or path. A
/// template (`NAME@.service`) stands for all of its instances.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(extend(
    "pattern" = r"^[A-Za-z0-9:_.\\-][A-Za-z0-9:_.@\\-]*\.(service|socket|target|timer|path)$",
    "maxLength" = 255
))]
pub struct UnitName(String);

impl UnitName {
    const KINDS: [&str; 5] = ["service", "socket", "target", "timer", "path"];

    fn check(text: &str) -> Result<(), String> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b":_.@\\-".contains(&b);
        let is_one = text.rsplit_once('.').is_some_and(|(stem, kind)| {
            !stem.is_empty() && !stem.starts_with('@') && Self::KINDS.contains(&kind)
        });
        if is_one && text.len() <= 255 && text.bytes().all(allowed) {
            Ok(())
        } else {
            Err(format!(
                "found {}; allowed is the name of a unit with its kind, which is service, socket, \
                 target, timer or path",
                quoted(text)
            ))
        }
    }

    /// What systemctl knows the unit by, or all instances of the template.
    #[must_use]
    pub fn pattern(&self) -> Cow<'_, str> {
        match self.0.split_once("@.") {
            Some((stem, kind)) if !kind.contains('.') => format!("{stem}@*.{kind}").into(),
            _ => (&*self.0).into(),
        }
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a user or a group, as polkit matches it: 1 to 256 characters, no control characters,
/// none beyond U+FFFF. polkit knows users and groups by name, not by number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(extend("minLength" = 1, "maxLength" = 256))]
pub struct SubjectName(String);

impl SubjectName {
    fn check(text: &str) -> Result<(), String> {
        // Duktape splits what is beyond in two within a script, and not in the names that it is given.
        let bad = |c: char| c.is_control() || c > '\u{ffff}';
        if text.is_empty() || text.chars().count() > 256 || text.contains(bad) {
            Err(format!(
                "found {}; allowed is the name of a user or group: 1 to 256 characters, no control \
                 characters, none beyond U+FFFF",
                quoted(text)
            ))
        } else {
            Ok(())
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text that separates the secrets of one key: 1 to 256 characters, no control characters, no
/// blank at either end.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(inline, extend("minLength" = 1, "maxLength" = 256))]
pub(super) struct Label(String);

impl Label {
    fn check(text: &str) -> Result<(), String> {
        let long = text.chars().count() > 256;
        if text.is_empty() || long || text.contains(char::is_control) || text.trim() != text {
            Err(format!(
                "found {}; allowed are 1 to 256 characters, no control characters, no blank at \
                 either end",
                quoted(text)
            ))
        } else {
            Ok(())
        }
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0
    }
}

/// An absolute path, without `.` and `..` and without control characters.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(inline, extend("pattern" = "^/"))]
pub(super) struct AbsolutePath(PathBuf);

impl AbsolutePath {
    const ALLOWED: &str =
        "an absolute path (from /, without `.` and `..` and without control characters)";

    fn check(text: &str) -> Result<(), String> {
        if Self::good(text) {
            Ok(())
        } else {
            Err(format!("found {}; allowed is {}", quoted(text), Self::ALLOWED))
        }
    }

    fn good(text: &str) -> bool {
        text.starts_with('/')
            && !text.contains(char::is_control)
            && !text.split('/').any(|part| part == "." || part == "..")
    }
}

impl From<AbsolutePath> for PathBuf {
    fn from(path: AbsolutePath) -> Self {
        path.0
    }
}

/// The absolute path of a file that holds a PIN or a management key. It is not in the Nix store,
/// which everybody can read, and does not lead there through symbolic links.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(inline, extend("pattern" = "^/(?!nix/store(/|$))"))]
pub(super) struct PrivatePath(PathBuf);

impl PrivatePath {
    /// What is not a path is not repeated: it may be the PIN itself.
    fn check(text: &str) -> Result<(), String> {
        if !AbsolutePath::good(text) {
            Err(format!("not a path that can serve; allowed is {}", AbsolutePath::ALLOWED))
        } else if PathBuf::from(text).starts_with(NIX_STORE) {
            Err(format!(
                "found {}; allowed is a file outside the Nix store, which everybody can read. \
                 What was in there is no secret any more: change it",
                quoted(text)
            ))
        } else {
            Ok(())
        }
    }
}

impl From<PathBuf> for PrivatePath {
    fn from(path: PathBuf) -> Self {
        Self(path)
    }
}

impl From<PrivatePath> for PathBuf {
    fn from(path: PrivatePath) -> Self {
        path.0
    }
}

/// A whole number between two bounds.
pub(super) struct Whole<const LEAST: u32, const MOST: u32>(u32);

impl<const LEAST: u32, const MOST: u32> From<Whole<LEAST, MOST>> for Duration {
    fn from(seconds: Whole<LEAST, MOST>) -> Self {
        Self::from_secs(seconds.0.into())
    }
}

impl<const LEAST: u32, const MOST: u32> From<Whole<LEAST, MOST>> for usize {
    fn from(number: Whole<LEAST, MOST>) -> Self {
        number.0 as Self
    }
}

/// For one whose `MOST` fits.
impl<const LEAST: u32, const MOST: u32> From<Whole<LEAST, MOST>> for u8 {
    fn from(number: Whole<LEAST, MOST>) -> Self {
        const { assert!(MOST <= 255) };
        Self::try_from(number.0).unwrap_or(Self::MAX)
    }
}

impl<'de, const LEAST: u32, const MOST: u32> Deserialize<'de> for Whole<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Bounded<const LEAST: u32, const MOST: u32>;

        impl<const LEAST: u32, const MOST: u32> Visitor<'_> for Bounded<LEAST, MOST> {
            type Value = Whole<LEAST, MOST>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                if LEAST == MOST {
                    write!(f, "{LEAST}")
                } else {
                    write!(f, "a whole number from {LEAST} to {MOST}")
                }
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
                let fits = u32::try_from(number).ok().filter(|n| (LEAST..=MOST).contains(n));
                let invalid = || E::invalid_value(Unexpected::Unsigned(number), &self);
                fits.map(Whole).ok_or_else(invalid)
            }
        }

        input.deserialize_any(Bounded)
    }
}

impl<const LEAST: u32, const MOST: u32> JsonSchema for Whole<LEAST, MOST> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("WholeFrom{LEAST}To{MOST}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": LEAST, "maximum": MOST })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_stands_for_its_instances() {
        for (name, pattern) in [
            ("a.service", "a.service"),
            ("a@b.service", "a@b.service"),
            ("a@.service", "a@*.service"),
            (r"-\x2da:b@.timer", r"-\x2da:b@*.timer"),
        ] {
            assert_eq!(UnitName::try_from(name.to_owned()).unwrap().pattern(), pattern);
        }
        let (stem, kind) = ("a".repeat(247), ".service");
        assert!(UnitName::try_from(format!("{stem}{kind}")).is_ok());
        assert!(UnitName::try_from(format!("{stem}a{kind}")).is_err());
    }
}
