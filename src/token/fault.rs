//! What can go wrong at a card. The names steer the control flow; `observe` and `apply` add what was
//! tried and what to do next.

use std::fmt;

use crate::error::{Class, Error};

/// A status word (ISO/IEC 7816-4, 5.6; SP 800-73-4, part 2, table 1).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StatusWord(pub u16);

impl StatusWord {
    /// Done.
    pub const OK: Self = Self(0x9000);
    /// A PIN, a management key or a touch is missing.
    pub const SECURITY_STATUS: Self = Self(0x6982);
    /// No tries left.
    pub const BLOCKED: Self = Self(0x6983);
    /// Conditions of use not satisfied; some cards say so of an empty slot.
    pub const CONDITIONS_OF_USE: Self = Self(0x6985);
    /// Parameters that the card does not know, P1 or P2.
    pub const WRONG_PARAMETERS: Self = Self(0x6a86);
    /// Data that the card does not take; or it lacks what they ask for.
    pub const WRONG_DATA: Self = Self(0x6a80);
    /// No such function.
    pub const NOT_SUPPORTED: Self = Self(0x6a81);
    /// No such application or object.
    pub const NOT_FOUND: Self = Self(0x6a82);
    /// No such key.
    pub const NO_REFERENCE_DATA: Self = Self(0x6a88);
    /// No such instruction.
    pub const UNKNOWN_INSTRUCTION: Self = Self(0x6d00);

    /// The tries that a `63Cx` leaves, if this is one; or a `630x`, as the `YubiKey` NEO writes it. A plain
    /// `6300` says nothing of them.
    #[must_use]
    pub fn tries_left(self) -> Option<u8> {
        (matches!(self.0 & 0xfff0, 0x63c0 | 0x6300) && self.0 != 0x6300)
            .then_some((self.0 & 0xf) as u8)
    }
}

impl fmt::Display for StatusWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {:04X}", self.0)
    }
}

impl fmt::Debug for StatusWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a card operation did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is no card, no reader or no pcscd (any more).
    Absent,
    /// The card was reset under us: what it knew of this session is gone; start over.
    Reset,
    /// The card gave no answer: it was pulled while it worked, or has a bad contact. Start over.
    Lost,
    /// Another program holds the reader or the card.
    Held,
    /// polkit, or the permissions of pcscd's socket, said no.
    Denied,
    /// No answer within the deadline.
    TimedOut,
    /// A signal asked the run to end.
    Interrupted,
    /// The card answered with a status word that the operation has no meaning for.
    Status(StatusWord),
    /// The answer makes no sense; the text says which and why.
    Garbage(&'static str),
    /// Something else in PC/SC.
    Pcsc(pcsc::Error),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("there is no card"),
            Self::Reset => f.write_str("another program reset the card"),
            Self::Lost => f.write_str("the card was pulled, or the contact to it was lost"),
            Self::Held => f.write_str("another program holds the card"),
            Self::Denied => f.write_str("access to the card was denied"),
            Self::TimedOut => f.write_str("no answer came in time"),
            Self::Interrupted => f.write_str("a signal ended the run"),
            Self::Status(word) => write!(f, "the card answered {word}"),
            Self::Garbage(what) => write!(f, "the card's answer makes no sense ({what})"),
            Self::Pcsc(error) => write!(f, "PC/SC failed ({error})"),
        }
    }
}

impl Fault {
    /// The fault as an error about what was tried.
    #[must_use]
    pub fn error(&self, tried: impl Into<String>) -> Error {
        let (class, advice) = match self {
            Self::Absent => (Class::NoCard, "Insert the card, and start the unit again."),
            Self::Reset | Self::Held => {
                (Class::Busy, "End the program that uses the card, and start the unit again.")
            }
            Self::Denied => (
                Class::Permission,
                "Root needs polkit's leave too: see that polkit runs, and that its rules allow the \
                 actions org.debian.pcsc-lite.access_pcsc and access_card to this user.",
            ),
            Self::Lost => (
                Class::Card,
                "Insert the card firmly, or try another port, and start the unit again.",
            ),
            Self::TimedOut => (
                Class::Card,
                "Take the card out and insert it again; if that does not help, restart pcscd.",
            ),
            Self::Status(_) | Self::Garbage(_) => (
                Class::Card,
                "Take the card out, insert it again and start over. If it stays so, this card can't \
                 be used: please report it with the output of -vv.",
            ),
            Self::Interrupted => (Class::Internal, "Start the unit again."),
            Self::Pcsc(_) => (Class::Card, "See what pcscd's log says (journalctl -u pcscd)."),
        };
        Error::new(class, tried, self.to_string(), advice)
    }
}

impl From<pcsc::Error> for Fault {
    fn from(error: pcsc::Error) -> Self {
        use pcsc::Error as E;
        match error {
            E::NoSmartcard
            | E::RemovedCard
            | E::NoReadersAvailable
            | E::UnknownReader
            | E::ReaderUnavailable
            | E::NoService
            | E::ServiceStopped
            // What libpcsclite says when pcscd goes away in the middle.
            | E::InvalidHandle
            | E::CommError
            // A card pulled while it is powered up, or one put in the wrong way round.
            | E::UnresponsiveCard
            | E::UnpoweredCard => Self::Absent,
            E::ResetCard => Self::Reset,
            // pcscd, of a card that was pulled, or did not answer, while it had a command.
            E::NotTransacted => Self::Lost,
            E::SharingViolation => Self::Held,
            E::SecurityViolation | E::NoAccess => Self::Denied,
            E::Timeout => Self::TimedOut,
            other => Self::Pcsc(other),
        }
    }
}
