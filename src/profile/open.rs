//! Opening a profile.
//!
//! Nothing can be derived from an [`Opened`] before the profile's integrity was checked: only
//! [`open`] makes one, after the check.

use std::fmt;

use aes_gcm::{Aes256Gcm, KeyInit as _, aead::AeadInOut as _};
use hmac::Mac as _;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{
    Profile, Provider, Recipient,
    shamir::{self, Share},
};
use crate::{
    error::{self, Class, Error},
    kdf,
};

kdf::secret_bytes! {
    /// What a provider's share is sealed with: 32 bytes that only the provider gives.
    ProviderSecret
}

kdf::secret_bytes! {
    /// The key itself, 32 bytes.
    MasterKey
}

/// A profile's key, opened and checked.
#[derive(Debug)]
pub struct Opened {
    pub(super) master: MasterKey,
    output_salt: [u8; 32],
    recipient: Recipient,
}

impl Opened {
    /// The key's age recipient.
    #[must_use]
    pub fn recipient(&self) -> Recipient {
        self.recipient
    }

    /// Derives the output of a use label: `length` bytes, 1 to [`kdf::MAX_OUTPUT`].
    pub fn output(&self, use_label: &str, length: usize) -> error::Result<Zeroizing<Vec<u8>>> {
        kdf::output(self.master.as_bytes(), &self.output_salt, use_label, length).ok_or_else(|| {
            Error::new(
                Class::Spec,
                format!("deriving the output of use {use_label:?}"),
                format!("a length of {length} bytes"),
                format!("Allowed are 1 to {} bytes.", kdf::MAX_OUTPUT),
            )
        })
    }

    /// The X25519 scalar of the recipient, not clamped: it opens what is encrypted to that.
    #[must_use]
    pub fn recipient_scalar(&self) -> Zeroizing<[u8; 32]> {
        kdf::recipient_scalar(self.master.as_bytes(), &self.output_salt)
    }

    /// What shows that the key's public halves are its own: HMAC-SHA256 of their text.
    #[must_use]
    pub fn authenticate(&self, public_halves: &[u8]) -> [u8; 32] {
        hmac(&kdf::public_halves_key(self.master.as_bytes()), public_halves)
    }
}

/// Why a profile did not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// Fewer providers gave their secret than the profile asks for.
    TooFew {
        /// How many did.
        given: usize,
        /// How many it takes.
        threshold: u8,
    },
    /// A provider's secret does not open its share: the card holds another key than the one that
    /// was enrolled, or the provider's part of the file was changed.
    WrongSecret {
        /// The provider's id.
        provider: String,
    },
    /// A share opened that is not at the place that the file says.
    WrongIndex {
        /// The provider's id.
        provider: String,
    },
    /// The shares opened, but the file is not the one that was sealed.
    Integrity,
}

impl OpenError {
    /// The error for an operator. `tried` is a phrase ("opening profile /var/…/vault.toml").
    ///
    /// A share that does not open means [`Class::KeyChanged`]; but where the cards' keys are known to
    /// be the enrolled ones, the file was changed, which means [`Class::Profile`].
    #[must_use]
    pub fn into_error(self, tried: &str, keys_are_known: bool) -> Error {
        let found = self.to_string();
        match self {
            Self::TooFew { .. } => {
                Error::new(Class::Profile, tried, found, "Open it with more of its providers.")
            }
            Self::WrongSecret { .. } if !keys_are_known => Error::new(
                Class::KeyChanged,
                tried,
                found,
                "Use the card that was enrolled. If it is that card, its key was replaced or the \
                 file was changed: restore the file from a backup; it is never replaced.",
            ),
            Self::WrongSecret { .. } | Self::WrongIndex { .. } | Self::Integrity => {
                let restore = "Restore the file from a backup; it is never replaced.";
                Error::new(Class::Profile, tried, found, restore)
            }
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFew { given, threshold } => {
                write!(f, "it takes {threshold} providers to open, and {given} gave their secret")
            }
            Self::WrongSecret { provider } => {
                write!(f, "the answer of provider {provider} does not open its share")
            }
            Self::WrongIndex { provider } => {
                write!(f, "the share of provider {provider} is not the one that the file names")
            }
            Self::Integrity => f.write_str(
                "the file is damaged: it is not what was sealed (its integrity differs)",
            ),
        }
    }
}

impl std::error::Error for OpenError {}

/// Opens a profile with the secrets of some of its providers, given with their places in
/// [`Profile::providers`].
///
/// Every secret given must open its share, also beyond the threshold. The file's integrity is
/// checked, in constant time, before this returns.
#[inline(never)]
pub fn open(profile: &Profile, secrets: &[(usize, &ProviderSecret)]) -> Result<Opened, OpenError> {
    if secrets.len() < profile.threshold.into() {
        return Err(OpenError::TooFew { given: secrets.len(), threshold: profile.threshold });
    }
    opened_by(profile, &open_shares(profile, secrets)?)
}

/// The shares that the secrets open.
pub(super) fn open_shares(
    profile: &Profile,
    secrets: &[(usize, &ProviderSecret)],
) -> Result<Vec<Share>, OpenError> {
    let mut shares = Vec::with_capacity(secrets.len());
    for (place, secret) in secrets {
        let wrong = || OpenError::WrongSecret { provider: format!("number {place}") };
        shares.push(open_share(profile.providers.get(*place).ok_or_else(wrong)?, secret)?);
    }
    Ok(shares)
}

/// What enough shares of a profile give; its integrity is checked.
pub(super) fn opened_by(profile: &Profile, shares: &[Share]) -> Result<Opened, OpenError> {
    // Two shares at one place: the file or the caller names one provider twice.
    let master = shamir::combine(shares).ok_or(OpenError::Integrity)?;
    let intact = integrity(profile, &master).ct_eq(&profile.integrity);
    if !bool::from(intact) {
        return Err(OpenError::Integrity);
    }
    let recipient = Recipient::of(&master, &profile.output_salt);
    // Whoever has some key can seal it under another one's name.
    if profile.recipient().is_some_and(|named| named != recipient) {
        return Err(OpenError::Integrity);
    }
    Ok(Opened { master: MasterKey::new(&master), output_salt: profile.output_salt, recipient })
}

impl Profile {
    /// Whether a secret opens the share of the provider at `place`.
    ///
    /// # Errors
    /// It does not, or the share is not the one that the file names.
    pub fn check_share(&self, place: usize, secret: &ProviderSecret) -> Result<(), OpenError> {
        open_shares(self, &[(place, secret)]).map(drop)
    }
}

/// Opens a provider's share: AES-256-GCM over `x ‖ y`, 33 bytes and a tag of 16.
pub(super) fn open_share(provider: &Provider, secret: &ProviderSecret) -> Result<Share, OpenError> {
    let wrong = |_| OpenError::WrongSecret { provider: provider.id.clone() };
    let (sealed, tag) = provider.encrypted_share.split_at(33);
    let mut plain = Zeroizing::new([0; 33]);
    plain.copy_from_slice(sealed);
    let mut whole_tag = [0; 16];
    whole_tag.copy_from_slice(tag);
    cipher(provider, secret)
        .decrypt_inout_detached(
            &provider.nonce.into(),
            provider.associated_data().as_bytes(),
            plain.as_mut_slice().into(),
            &whole_tag.into(),
        )
        .map_err(wrong)?;
    let mut share = Share::empty(plain[0]);
    share.y.copy_from_slice(&plain[1..]);
    // Version 1 has no index outside the share.
    if provider.share_index.is_some_and(|index| index != share.x) {
        return Err(OpenError::WrongIndex { provider: provider.id.clone() });
    }
    Ok(share)
}

pub(super) fn cipher(provider: &Provider, secret: &ProviderSecret) -> Aes256Gcm {
    let key = kdf::share_key(secret.as_bytes(), &provider.share_salt);
    Aes256Gcm::new((&*key).into())
}

/// HMAC-SHA256 over SHA-256 of the profile's lines, under a key that only the master key gives.
pub(super) fn integrity(profile: &Profile, master: &[u8; 32]) -> [u8; 32] {
    hmac(&kdf::integrity_key(master), &Sha256::digest(profile.integrity_lines()))
}

fn hmac(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let mut mac = kdf::hmac(key);
    mac.update(message);
    mac.finalize().into_bytes().into()
}
