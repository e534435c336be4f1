//! Sealing a new master key into a profile.

use aes_gcm::aead::AeadInOut as _;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

pub use super::open::{OpenError, Opened, ProviderSecret, open};
use super::{
    Profile, Provider, ProviderKind, Version,
    open::{cipher, integrity},
    shamir::{self, Share},
};
use crate::error::{self, Class, Error};

/// A provider to seal a share to.
pub struct NewProvider {
    /// Its id in the profile, unique there ("card-1").
    pub id: String,
    /// What it is.
    pub kind: ProviderKind,
    /// Its secret.
    pub secret: ProviderSecret,
}

/// Seals a new random master key to the providers, any `threshold` of which open it, as a version
/// 2 profile. The providers' share indexes are 1, 2, … in their order.
///
/// The profile was opened again, with every provider's secret, before this returns: a profile
/// that can't be is the one fault that nobody could mend later.
#[inline(never)]
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
    if providers.len() > 255 {
        return Err(fault(format!("{} providers; 255 have an index", providers.len())));
    }
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
    for (new, share) in providers.into_iter().zip(&shares) {
        let (provider, secret) = provider(new, share, &mut random, &fault)?;
        profile.providers.push(provider);
        secrets.push(secret);
    }
    profile.integrity = integrity(&profile, &master);

    let given: Vec<_> = secrets.iter().enumerate().collect();
    let opened = checked(&profile, &given, &fault)?;
    if !bool::from(opened.master.as_bytes().ct_eq(&*master)) {
        return Err(fault("it opens to another key".into()));
    }
    Ok((profile, opened))
}

/// A provider with its share sealed to it, and its secret. Draws share salt and nonce.
pub(super) fn provider(
    new: NewProvider,
    share: &Share,
    random: &mut impl FnMut(&mut [u8]) -> error::Result<()>,
    fault: &impl Fn(String) -> Error,
) -> error::Result<(Provider, ProviderSecret)> {
    let NewProvider { id, kind, secret } = new;
    let Some(mut params) = kind.to_params() else {
        return Err(fault(format!("provider {id} is of a kind that is read only")));
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
    Ok((provider, secret))
}

/// Opens a profile that is about to be written, as it will be read.
pub(super) fn checked(
    profile: &Profile,
    secrets: &[(usize, &ProviderSecret)],
    fault: &impl Fn(String) -> Error,
) -> error::Result<Opened> {
    // Every rule of the format is in the parser, and only there.
    match Profile::parse(&profile.to_toml()) {
        Ok(read) if read == *profile => {}
        Ok(_) => return Err(fault("it reads back as another profile".into())),
        Err(reason) => return Err(fault(reason)),
    }
    open(profile, secrets).map_err(|error| fault(error.to_string()))
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use expect_test::expect;
    use p256::{ProjectivePoint, Scalar, elliptic_curve::point::AffineCoordinates as _};

    use super::*;
    use crate::{
        card::{Guid, KeySource, PinPolicy, Serial, TouchPolicy, base_point},
        profile::{
            Argon2Params,
            piv::{Params, Peer, Scheme, SharedX},
        },
    };

    /// A card whose private key is `d`, and what it would be enrolled as.
    fn card(d: u8) -> NewProvider {
        let d = Scalar::from(u64::from(d) + 1);
        let key = (base_point().to_projective() * d).to_affine();
        let params = Params {
            attestation: None,
            peer: Peer::new(Scheme::HashToCurve, [7; 32]).unwrap(),
            public_key: key.try_into().unwrap(),
            slot: "82".parse().unwrap(),
            serial: Serial::new(42),
            guid: Guid::new([0xab; 16]),
            card_name: r#"A "card" \ reader"#.into(),
            touch_policy: TouchPolicy::Cached,
            pin_policy: Some(PinPolicy::Always),
            key_source: Some(KeySource::KeyAgreement),
        };
        let x = (ProjectivePoint::from(params.peer_point()) * d).to_affine().x();
        let secret = params.secret(&SharedX::new(&x.into()));
        NewProvider { id: "card-1".into(), kind: ProviderKind::Piv(Box::new(params)), secret }
    }

    /// The format with everything in it, from fixed "random" bytes: 1, 2, 3, …
    #[test]
    fn the_format_stays_what_it_is() {
        let recovery = NewProvider {
            id: "recovery-1".into(),
            kind: ProviderKind::Recovery(Argon2Params {
                salt: [9; 32],
                time: 3,
                memory_kib: 262_144,
                threads: 4,
            }),
            secret: ProviderSecret::new(&[8; 32]),
        };
        let mut drawn = 0;
        let random = |bytes: &mut [u8]| {
            for byte in bytes {
                drawn += 1;
                *byte = u8::try_from(drawn % 256).unwrap();
            }
            Ok(())
        };
        let (profile, opened) = seal_with("vault", 2, vec![card(1), recovery], random).unwrap();
        assert_eq!(opened.master.as_bytes()[..3], [1, 2, 3]);
        expect![[r#"
            version = 2
            name = "vault"
            threshold = 2
            output_salt = "2122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f40"
            integrity = "27e94cf18ccfb2c9f3d258918b8f6d41add80652a2418d8b60037506a58b6311"

            [[providers]]
              type = "piv"
              id = "card-1"
              encrypted_share = "c4d4cb8c0fd93990b1344626f4ec67b89f11caeb8e3ad8433dfe876a13000166c0479fd1b193557748c2d52ed0d9a352c9"
              nonce = "8182838485868788898a8b8c"
              share_salt = "6162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f80"
              [providers.params]
                card_name = "A \"card\" \\ reader"
                guid = "abababababababababababababababab"
                key_source = "key-agreement"
                pin_policy = "always"
                public_key = "047cf27b188d034f7e8a52380304b51ac3c08969e277f21b35a60b48fc4766997807775510db8ed040293d9ac69f7430dbba7dade63ce982299e04b79d227873d1"
                salt = "0707070707070707070707070707070707070707070707070707070707070707"
                scheme = "hash-to-curve"
                serial = "42"
                share_index = "1"
                slot = "82"
                touch_policy = "cached"

            [[providers]]
              type = "recovery"
              id = "recovery-1"
              encrypted_share = "14decdd7871a5834ec578d8fb5edd5c423d92f2a097b3fc21fa69a76f3bfcc754c4f3b595022e5a967b989774dd9f97663"
              nonce = "adaeafb0b1b2b3b4b5b6b7b8"
              share_salt = "8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3a4a5a6a7a8a9aaabac"
              [providers.params]
                argon_memory = "262144"
                argon_threads = "4"
                argon_time = "3"
                salt = "0909090909090909090909090909090909090909090909090909090909090909"
                share_index = "2"
        "#]].assert_eq(&profile.to_toml());
    }

    #[test]
    fn secrets_are_not_shown() {
        let (_, opened) = seal("vault", 1, vec![card(1)]).unwrap();
        expect!["MasterKey(not shown)"].assert_eq(&format!("{:?}", opened.master));
    }

    #[test]
    fn no_random_bytes_no_profile() {
        let random = |_: &mut [u8]| Err(super::super::no_random(getrandom::Error::UNSUPPORTED));
        let error = seal_with("vault", 1, vec![card(1)], random).unwrap_err();
        assert_eq!(error.class, Class::Internal);
    }
}
