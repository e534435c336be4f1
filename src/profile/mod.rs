//! The profile: the file that holds a key sealed.
//!
//! A key is 32 random bytes, the master key, split into shares (Shamir, any threshold of them
//! opens it), each share sealed to one provider: a PIV card, a passphrase or a recovery code.
//! `docs/key-schedule.md` has the format byte for byte. What is here:
//!
//! | file | |
//! | --- | --- |
//! | `format` | the TOML file, read strictly and written |
//! | `kind` | what a kind of provider is, and the list of them |
//! | `piv`, `proof` | the PIV provider, and the proof that enrolls it |
//! | `passphrase`, `recovery`, `stretch` | what a person types, and how it is stretched to a secret |
//! | `recipient` | the age recipient of the key, of which its id is a hash |
//! | `shamir`, `seal`, `open` | shares, sealing and opening, the integrity of the whole |
//! | `change` | every change of a sealed profile |
//! | `store`, `save`, `replace` | the state directory, read and written |
//! | `generating` | the record of a key that is about to be generated |

use std::fmt;

use crate::kdf;
pub(crate) use crate::system::{no_random, random};

pub mod change;
mod format;
pub mod generating;
mod kind;
mod open;
mod passphrase;
pub mod piv;
pub mod proof;
mod recipient;
pub mod recovery;
mod replace;
mod save;
pub mod seal;
mod shamir;
pub mod store;
mod stretch;

pub use format::MAX_SIZE;
pub use kind::{ProviderKind, Wrong};
pub use recipient::Recipient;
pub use stretch::Argon2Params;

/// Who wrote the file, and by which rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Version {
    /// cryptkey. Its PIV shares open without the card to whoever reads the file.
    V1 = 1,
    /// nixos-cryptkey.
    V2 = 2,
}

/// A key, sealed. Only [`Profile::parse`], [`seal::seal`] and [`change`] make one, so it keeps every
/// rule of the format; whether it is whole shows when it is opened.
#[derive(Clone, PartialEq, Eq)]
pub struct Profile {
    version: Version,
    name: String,
    threshold: u8,
    output_salt: [u8; 32],
    /// Its other text fields, by name: the recipient, and what later versions may add.
    fields: format::Params,
    integrity: [u8; 32],
    providers: Vec<Provider>,
}

/// One way to open one share of a profile.
#[derive(Clone, PartialEq, Eq)]
pub struct Provider {
    kind: ProviderKind,
    id: String,
    encrypted_share: [u8; 49],
    nonce: [u8; 12],
    share_salt: [u8; 32],
    /// As they stand in the file: the integrity is over these. `kind` is what they mean.
    params: format::Params,
    share_index: Option<u8>,
}

impl Profile {
    /// The rules by which it is written.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The name it was sealed under. It plays no part in the outputs.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many providers open it.
    #[must_use]
    pub fn threshold(&self) -> u8 {
        self.threshold
    }

    /// The providers, in the order of the file.
    #[must_use]
    pub fn providers(&self) -> &[Provider] {
        &self.providers
    }

    /// The PIV providers with their places in [`Self::providers`].
    pub fn piv_providers(&self) -> impl Iterator<Item = (usize, &piv::Params)> {
        self.providers.iter().enumerate().filter_map(|(place, provider)| match &provider.kind {
            ProviderKind::Piv(params) => Some((place, &**params)),
            _ => None,
        })
    }

    /// Whether a passphrase is among its providers: then whoever reads it can guess at that.
    #[must_use]
    pub fn has_passphrase(&self) -> bool {
        self.providers.iter().any(|provider| matches!(provider.kind, ProviderKind::Passphrase(_)))
    }

    /// An id that no provider has: `prefix`, a dash and the lowest number that is free ("card-2").
    #[must_use]
    pub fn unused_id(&self, prefix: &str) -> String {
        let used: Vec<_> = self.providers.iter().map(Provider::id).collect();
        unused_id(prefix, &used)
    }

    /// The age recipient of the key that it says it is of; none in files that were written before there
    /// was one. The opened key has to give it again.
    #[must_use]
    pub fn recipient(&self) -> Option<Recipient> {
        self.fields.get(format::RECIPIENT).and_then(|text| Recipient::parse(text))
    }

    /// The public id: 32 lower-case hex digits that last for as long as the outputs do, through every
    /// resealing. It is a hash of the recipient; of a profile without one, of the output salt, which
    /// proves nothing.
    #[must_use]
    pub fn id(&self) -> String {
        self.recipient().map_or_else(|| self.salt_id(), |recipient| recipient.id())
    }

    /// The id that it had before it named a recipient.
    #[must_use]
    pub fn salt_id(&self) -> String {
        format::hex(&kdf::salt_id(&self.output_salt))
    }

    /// Whether both say that they are of the same key. That they are shows when they are opened.
    #[must_use]
    pub fn is_of_same_key(&self, other: &Self) -> bool {
        match (self.recipient(), other.recipient()) {
            (Some(own), Some(others)) => own == others,
            _ => self.output_salt == other.output_salt,
        }
    }
}

impl Provider {
    /// What it is.
    #[must_use]
    pub fn kind(&self) -> &ProviderKind {
        &self.kind
    }

    /// Its id, unique in the profile ("card-1").
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where the polynomial was taken for its share; none in version 1 files, which keep it inside
    /// the share.
    #[must_use]
    pub fn share_index(&self) -> Option<u8> {
        self.share_index
    }

    /// What its sealed share is bound to.
    fn associated_data(&self) -> String {
        format!("{}:{}", self.kind.type_name(), self.id)
    }
}

/// Names the profile and its providers only: who reads a version 1 file can open it.
impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile")
            .field("version", &self.version)
            .field("name", &self.name)
            .field("id", &self.id())
            .field("providers", &self.providers)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.associated_data())
    }
}

/// An id that is none of these: `prefix`, a dash and the lowest number that is free ("card-2").
#[must_use]
pub fn unused_id(prefix: &str, used: &[&str]) -> String {
    let mut number = 1;
    loop {
        let id = format!("{prefix}-{number}");
        if !used.contains(&id.as_str()) {
            return id;
        }
        number += 1;
    }
}
