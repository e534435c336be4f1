//! Sealing a master key into a profile, and opening it again.
//!
//! Nothing can be derived from an [`Opened`] before its integrity was checked: only [`open`] makes
//! one, after the check.

use std::fmt;

use aes_gcm::{Aes256Gcm, KeyInit as _, aead::AeadInOut as _};
use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{
    Profile, Provider, ProviderKind, Version,
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

/// A provider to seal a share to.
pub struct NewProvider {
    /// Its id in the profile, unique there ("card-1").
    pub id: String,
    /// What it is.
    pub kind: ProviderKind,
    /// Its secret.
    pub secret: ProviderSecret,
}

/// A profile's key, opened and checked.
#[derive(Debug)]
pub struct Opened {
    master: MasterKey,
    output_salt: [u8; 32],
}

impl Opened {
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
    /// [`Self::WrongSecret`] becomes [`Class::KeyChanged`]; a caller that knows the card's key to
    /// be the enrolled one knows that the file was changed, and says [`Class::Profile`].
    #[must_use]
    pub fn into_error(self, tried: &str) -> Error {
        let restore = "Restore the file from a backup; it is never replaced.";
        match &self {
            Self::TooFew { .. } => Error::new(
                Class::Profile,
                tried,
                self.to_string(),
                "Open it with more of its providers.",
            ),
            Self::WrongSecret { .. } => Error::new(
                Class::KeyChanged,
                tried,
                self.to_string(),
                "Use the card that was enrolled. If it is that card, its key was replaced or the \
                 file was changed: restore the file from a backup; it is never replaced.",
            ),
            Self::WrongIndex { .. } | Self::Integrity => {
                Error::new(Class::Profile, tried, self.to_string(), restore)
            }
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFew { given, threshold } => {
                write!(
                    f,
                    "it takes {threshold} providers to open, and {given} gave their secret"
                )
            }
            Self::WrongSecret { provider } => {
                write!(
                    f,
                    "the answer of provider {provider} does not open its share"
                )
            }
            Self::WrongIndex { provider } => {
                write!(
                    f,
                    "the share of provider {provider} is not the one that the file names"
                )
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
pub fn open(profile: &Profile, secrets: &[(usize, &ProviderSecret)]) -> Result<Opened, OpenError> {
    if secrets.len() < profile.threshold.into() {
        return Err(OpenError::TooFew {
            given: secrets.len(),
            threshold: profile.threshold,
        });
    }
    let mut shares = Vec::with_capacity(secrets.len());
    for (place, secret) in secrets {
        let wrong = || OpenError::WrongSecret {
            provider: format!("number {place}"),
        };
        shares.push(open_share(
            profile.providers.get(*place).ok_or_else(wrong)?,
            secret,
        )?);
    }
    // Two shares at one place: the file or the caller names one provider twice.
    let master = shamir::combine(&shares).ok_or(OpenError::Integrity)?;
    let intact = integrity(profile, &master).ct_eq(&profile.integrity);
    if !bool::from(intact) {
        return Err(OpenError::Integrity);
    }
    Ok(Opened {
        master: MasterKey::new(&master),
        output_salt: profile.output_salt,
    })
}

/// Seals a new random master key to the providers, any `threshold` of which open it, as a version
/// 2 profile. The providers' share indexes are 1, 2, … in their order.
///
/// The profile was opened again, with every provider's secret, before this returns: a profile
/// that can't be is the one fault that nobody could mend later.
pub fn seal(
    name: &str,
    threshold: u8,
    providers: Vec<NewProvider>,
) -> error::Result<(Profile, Opened)> {
    seal_with(name, threshold, providers, super::random)
}

/// [`seal`] with the random bytes from `random`: master key, output salt, coefficients of the
/// sharing, then share salt and nonce of each provider.
fn seal_with(
    name: &str,
    threshold: u8,
    providers: Vec<NewProvider>,
    mut random: impl FnMut(&mut [u8]) -> error::Result<()>,
) -> error::Result<(Profile, Opened)> {
    let fault = |found: String| {
        Error::new(
            Class::Internal,
            format!("sealing profile {name}"),
            found,
            "Nothing was written. This is a fault of the program: report it.",
        )
    };
    let mut master = Zeroizing::new([0; 32]);
    random(&mut *master)?;
    let mut output_salt = [0; 32];
    random(&mut output_salt)?;
    let mut coefficients = Vec::with_capacity(threshold.into());
    for _ in 1..threshold {
        let mut row = Zeroizing::new([0; 32]);
        random(&mut *row)?;
        coefficients.push(row);
    }
    let indexes: Vec<u8> = (1..=255).take(providers.len()).collect();
    let shares = shamir::split(&master, &coefficients, &indexes);

    let mut profile = Profile {
        version: Version::V2,
        name: name.into(),
        threshold,
        output_salt,
        integrity: [0; 32],
        providers: Vec::with_capacity(providers.len()),
    };
    let mut secrets = Vec::with_capacity(providers.len());
    for (NewProvider { id, kind, secret }, share) in providers.into_iter().zip(&shares) {
        let Some(mut params) = kind.to_params() else {
            return Err(fault(format!(
                "provider {id} is of a kind that is read only"
            )));
        };
        params.insert("share_index".into(), share.x.to_string());
        let mut provider = Provider {
            kind,
            id,
            encrypted_share: [0; 49],
            nonce: [0; 12],
            share_salt: [0; 32],
            params,
            share_index: Some(share.x),
        };
        random(&mut provider.share_salt)?;
        random(&mut provider.nonce)?;
        seal_share(&mut provider, share, &secret).ok_or_else(|| fault("AES-GCM failed".into()))?;
        profile.providers.push(provider);
        secrets.push(secret);
    }
    profile.integrity = integrity(&profile, &master);

    // Every rule of the format is in the parser, and only there.
    match Profile::parse(&profile.to_toml()) {
        Ok(read) if read == profile => {}
        Ok(_) => return Err(fault("it reads back as another profile".into())),
        Err(reason) => return Err(fault(reason)),
    }
    let given: Vec<_> = secrets.iter().enumerate().collect();
    let opened = open(&profile, &given).map_err(|error| fault(error.to_string()))?;
    if !bool::from(opened.master.as_bytes().ct_eq(&*master)) {
        return Err(fault("it opens to another key".into()));
    }
    Ok((profile, opened))
}

/// Opens a provider's share: AES-256-GCM over `x ‖ y`, 33 bytes and a tag of 16.
fn open_share(provider: &Provider, secret: &ProviderSecret) -> Result<Share, OpenError> {
    let wrong = |_| OpenError::WrongSecret {
        provider: provider.id.clone(),
    };
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
    let mut share = Share {
        x: plain[0],
        y: Zeroizing::new([0; 32]),
    };
    share.y.copy_from_slice(&plain[1..]);
    // Version 1 has no index outside the share.
    if provider.share_index.is_some_and(|index| index != share.x) {
        return Err(OpenError::WrongIndex {
            provider: provider.id.clone(),
        });
    }
    Ok(share)
}

/// Seals a share into its provider, whose nonce and share salt are drawn already.
fn seal_share(provider: &mut Provider, share: &Share, secret: &ProviderSecret) -> Option<()> {
    let mut plain = Zeroizing::new([0; 33]);
    plain[0] = share.x;
    plain[1..].copy_from_slice(&*share.y);
    let tag = cipher(provider, secret).encrypt_inout_detached(
        &provider.nonce.into(),
        provider.associated_data().as_bytes(),
        plain.as_mut_slice().into(),
    );
    let (sealed, sealed_tag) = provider.encrypted_share.split_at_mut(33);
    sealed.copy_from_slice(&*plain);
    sealed_tag.copy_from_slice(&tag.ok()?);
    Some(())
}

fn cipher(provider: &Provider, secret: &ProviderSecret) -> Aes256Gcm {
    let key = kdf::share_key(secret.as_bytes(), &provider.share_salt);
    Aes256Gcm::new((&*key).into())
}

/// HMAC-SHA256 over SHA-256 of the profile's lines, under a key that only the master key gives.
fn integrity(profile: &Profile, master: &[u8; 32]) -> [u8; 32] {
    // HMAC fills a key up to its block of 64 bytes with zeros; done here, it can't fail.
    let mut key = Zeroizing::new([0; 64]);
    key[..32].copy_from_slice(&*kdf::integrity_key(master));
    let mut mac = Hmac::<Sha256>::new((&*key).into());
    mac.update(&Sha256::digest(profile.integrity_lines()));
    mac.finalize().into_bytes().into()
}
