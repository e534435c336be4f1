//! The one error type: what was tried, what was found, what to do next.

use std::fmt;

use serde::{Serialize, Serializer};

/// What an operator does next about an error. Each class has its own exit code and name; both are
/// documented in `docs/exit-codes.md` and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Class {
    /// A fault of this program or of the machine under it: report it.
    Internal = 1,
    /// The spec is wrong: correct the configuration.
    Spec = 10,
    /// No card, reader or pcscd: insert the card. Forgiven by `softFail`.
    NoCard = 11,
    /// Another program holds the reader or the card: end it.
    Busy = 12,
    /// A touch, or an answer at a prompt, did not come. Forgiven by `softFail`.
    NoAnswer = 13,
    /// The PIN was not presented, and no try was spent: see to the PIN first.
    PinRefused = 14,
    /// The card rejected the PIN, and a try was spent.
    PinWrong = 15,
    /// The card holds another key than the profile or the spec says, or one that cannot serve.
    KeyChanged = 16,
    /// The profile is damaged, lost, or not the declared one.
    Profile = 17,
    /// The operating system or polkit denied something.
    Permission = 18,
    /// The card cannot do what is asked, or its answers make no sense.
    Card = 19,
    /// The secrets could not be published; what was published before still stands.
    Publish = 20,
    /// What was typed does not open the key: a wrong passphrase or recovery code.
    WrongAnswer = 21,
}

impl Class {
    /// Every class, in the order of the exit codes.
    pub const ALL: [Self; 13] = [
        Self::Internal,
        Self::Spec,
        Self::NoCard,
        Self::Busy,
        Self::NoAnswer,
        Self::PinRefused,
        Self::PinWrong,
        Self::KeyChanged,
        Self::Profile,
        Self::Permission,
        Self::Card,
        Self::Publish,
        Self::WrongAnswer,
    ];

    /// The process's exit code for this class.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        self as u8
    }

    /// The class's name in `--json` and in the docs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Spec => "bad-spec",
            Self::NoCard => "no-card",
            Self::Busy => "card-busy",
            Self::NoAnswer => "no-answer",
            Self::PinRefused => "pin-refused",
            Self::PinWrong => "pin-wrong",
            Self::KeyChanged => "key-changed",
            Self::Profile => "profile",
            Self::Permission => "permission",
            Self::Card => "card",
            Self::Publish => "publish",
            Self::WrongAnswer => "wrong-answer",
        }
    }

    /// Whether `softFail` forgives this class (`docs/design.md`, rule 8).
    #[must_use]
    pub fn is_soft(self) -> bool {
        matches!(self, Self::NoCard | Self::NoAnswer)
    }
}

impl Serialize for Class {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// An error that an operator can act on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Error {
    /// What the operator does next, by class.
    pub class: Class,
    /// What was tried, as a phrase ("opening profile /var/lib/cryptkey/vault.toml").
    pub tried: String,
    /// What was found instead, as a phrase without a full stop.
    pub found: String,
    /// What to do next, as one or two sentences with their full stops.
    pub advice: String,
}

/// The result of everything that can fail in front of an operator.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `class` from its three parts.
    #[must_use]
    pub fn new(
        class: Class,
        tried: impl Into<String>,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { class, tried: tried.into(), found: found.into(), advice: advice.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}. {}", self.tried, self.found, self.advice)
    }
}

impl std::error::Error for Error {}
