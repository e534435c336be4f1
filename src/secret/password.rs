//! Passwords: characters of an alphabet, drawn uniformly from a stream of bytes.

use std::collections::BTreeSet;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The most characters of a password.
pub const MAX_PASSWORD: usize = 256;

/// What a password is made of: 2 to 94 different ASCII characters, all printable, no blank.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Alphabet(String);

impl Default for Alphabet {
    fn default() -> Self {
        Self("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789".into())
    }
}

impl TryFrom<String> for Alphabet {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let different: BTreeSet<u8> = text.bytes().collect();
        let is_good = text.bytes().all(|byte| byte.is_ascii_graphic())
            && (2..=94).contains(&text.len())
            && different.len() == text.len();
        if is_good {
            Ok(Self(text))
        } else {
            Err("not an alphabet; allowed are 2 to 94 different ASCII characters, all printable, no \
                 blank"
                .into())
        }
    }
}

impl JsonSchema for Alphabet {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Alphabet".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[!-~]{2,94}$",
            "description": "2 to 94 different ASCII characters, all printable, no blank.",
        })
    }
}

impl Alphabet {
    /// Whether it has a character of this class.
    #[must_use]
    pub fn has(&self, class: CharClass) -> bool {
        self.0.bytes().any(|byte| class.has(byte))
    }
}

/// A kind of characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CharClass {
    /// A to Z.
    Upper,
    /// a to z.
    Lower,
    /// 0 to 9.
    Digit,
    /// All others.
    Symbol,
}

impl CharClass {
    fn has(self, byte: u8) -> bool {
        match self {
            Self::Upper => byte.is_ascii_uppercase(),
            Self::Lower => byte.is_ascii_lowercase(),
            Self::Digit => byte.is_ascii_digit(),
            Self::Symbol => byte.is_ascii_punctuation(),
        }
    }

    /// As it is written in a spec.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Upper => "upper",
            Self::Lower => "lower",
            Self::Digit => "digit",
            Self::Symbol => "symbol",
        }
    }
}

/// Draws a password of `length` characters; none where the stream ends before one has a character of
/// each class.
///
/// A byte below the greatest multiple of the alphabet's size is the character at that byte modulo the
/// size; another byte is passed over. The first `length` characters are a password, then the next ones:
/// the first password with a character of each class is the one. So each password that has them is as
/// likely as any other.
pub(super) fn draw(
    stream: &[u8],
    length: usize,
    Alphabet(alphabet): &Alphabet,
    classes: &[CharClass],
) -> Option<Zeroizing<Vec<u8>>> {
    let alphabet = alphabet.as_bytes();
    let limit = 256 - 256 % alphabet.len();
    let drawn = stream.iter().map(|&byte| usize::from(byte)).filter(|byte| *byte < limit);
    let mut drawn = drawn.map(|byte| alphabet[byte % alphabet.len()]);
    // With room for a line feed.
    let mut password = Zeroizing::new(Vec::with_capacity(length + 1));
    loop {
        password.clear();
        password.extend(drawn.by_ref().take(length));
        if password.len() < length || length == 0 {
            return None;
        }
        if classes.iter().all(|class| password.iter().any(|byte| class.has(*byte))) {
            return Some(password);
        }
    }
}
