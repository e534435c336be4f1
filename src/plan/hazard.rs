//! What speaks against destroying a key, each with what to do next.

use crate::{
    error::Class,
    token::{Fingerprint, Slot},
};

/// Why a key is not destroyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hazard {
    /// With mode "overwrite", the slot holds a key that the spec does not name.
    NotNamed {
        /// The slot.
        slot: Slot,
        /// The card's.
        found: Fingerprint,
        /// The spec's.
        declared: Option<Fingerprint>,
    },
    /// A profile of another key is sealed to the key that would be destroyed.
    Dependent {
        /// The profile's file.
        profile: String,
        /// The key.
        key: Fingerprint,
    },
    /// Without the key that would be destroyed, the profile can't be opened.
    LastOpener {
        /// Shares that open it.
        threshold: usize,
        /// Its other cards that the spec lists.
        others: usize,
    },
    /// The key that would be destroyed opens a profile that the configuration ships.
    ShippedDoomed {
        /// The profile's file.
        profile: String,
    },
    /// The profile would be given up for a new key, and the spec forbids one.
    AbandonForbidden {
        /// The option that does.
        option: &'static str,
    },
}

impl Hazard {
    /// Class, what was tried, what was found, what to do next. `option` gives an option of the key its
    /// whole name.
    pub(super) fn parts(
        &self,
        option: &dyn Fn(&str) -> String,
    ) -> (Class, &'static str, String, String) {
        match self {
            Self::NotNamed { slot, found, declared } => (
                Class::KeyChanged,
                "checking the key that is to be overwritten",
                match declared {
                    None => format!(
                        "slot {slot} holds {found}, and the spec names no key that may be destroyed"
                    ),
                    Some(declared) => format!(
                        "slot {slot} holds {found}, and the key that the spec has destroyed is \
                         {declared}"
                    ),
                },
                format!(
                    "Nothing was destroyed. To use that key, set {} = \"use-existing\". To destroy it, \
                     and all that only it opens, for good: `{} = \"{found}\";`.",
                    option("mode"),
                    option("overwrite.fingerprint")
                ),
            ),
            Self::Dependent { profile, key } => (
                Class::Profile,
                "checking the key that is to be overwritten",
                format!("{profile}, the profile of another key, is sealed to {key}"),
                format!(
                    "Nothing was destroyed. Choose another slot with {}; or, only if every secret of \
                     that other key may be lost, move its profile out of the state directory.",
                    option("slot")
                ),
            ),
            Self::LastOpener { threshold, others } => (
                Class::Profile,
                "checking the key that is to be overwritten",
                format!(
                    "its profile is sealed to that key and takes {threshold} of its providers to open, \
                     of which this version can open {others} without it"
                ),
                format!(
                    "Nothing was destroyed. If it has other cards, list them in {}. Only if every secret of \
                     this key may change, set {} = true: the profile is kept under a dated name, and a \
                     new one is made.",
                    option("cards"),
                    option("overwrite.abandonProfile")
                ),
            ),
            Self::ShippedDoomed { profile } => (
                Class::Spec,
                "checking the key that is to be overwritten",
                format!("{profile}, which the configuration ships, is sealed to it"),
                format!(
                    "Nothing was destroyed. Such a profile is never replaced. Remove {}, or {}.",
                    option("overwrite.fingerprint"),
                    option("profile")
                ),
            ),
            Self::AbandonForbidden { option: forbids } => (
                Class::Spec,
                "giving its profile up for a new one",
                format!("{forbids} forbids a new one"),
                format!(
                    "Nothing was destroyed. Only if every secret of this key may change, remove {}.",
                    option(forbids)
                ),
            ),
        }
    }
}
