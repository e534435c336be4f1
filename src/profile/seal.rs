//! Sealing a new master key into a profile.

use std::collections::BTreeSet;

use aes_gcm::aead::AeadInOut as _;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

pub use super::open::{OpenError, Opened, ProviderSecret, open};
use super::{
    Profile, Provider, ProviderKind, Recipient, Version, format,
    open::{cipher, integrity, open_shares, opened_by},
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

impl Provider {
    /// It once more, as a provider to seal to: the same id, params and secret. Its share, the salt of
    /// that and the nonce are fresh.
    #[must_use]
    pub fn again(&self, secret: &ProviderSecret) -> NewProvider {
        let secret = ProviderSecret::new(secret.as_bytes());
        NewProvider { id: self.id.clone(), kind: self.kind.clone(), secret }
    }
}

/// What is being done to a profile, for the errors.
pub(super) struct Task {
    /// As a phrase ("sealing profile vault").
    pub tried: String,
    /// What is left after a failure, as a sentence.
    pub left: &'static str,
}

/// Where the random bytes come from.
pub(super) trait Random: FnMut(&mut [u8]) -> error::Result<()> {}
impl<F: FnMut(&mut [u8]) -> error::Result<()>> Random for F {}

/// Seals a new random master key to the providers, any `threshold` of which open it, as a version
/// 2 profile. The providers' share indexes are 1, 2, … in their order.
///
/// The profile was opened again, with every provider's secret, before this returns: a profile
/// that can't be is the one fault that nobody could mend later.
///
/// # Errors
/// `bad-spec` for a threshold that the providers can't meet, for a name or an id that is empty or
/// holds a control character, and for ids that are not distinct.
#[inline(never)]
pub fn seal(
    name: &str,
    threshold: u8,
    providers: Vec<NewProvider>,
) -> error::Result<(Profile, Opened)> {
    seal_with(name, threshold, providers, super::random)
}

/// [`seal`] with the random bytes from `random`: master key, output salt, then as [`seal_key`].
fn seal_with(
    name: &str,
    threshold: u8,
    providers: Vec<NewProvider>,
    mut random: impl Random,
) -> error::Result<(Profile, Opened)> {
    let task = Task { tried: format!("sealing profile {name}"), left: "Nothing was written." };
    let mut master = Zeroizing::new([0; 32]);
    random(&mut *master)?;
    let mut output_salt = [0; 32];
    random(&mut output_salt)?;
    let frame = Profile {
        version: Version::V2,
        name: name.into(),
        threshold,
        output_salt,
        fields: format::Params::new(),
        integrity: [0; 32],
        providers: Vec::with_capacity(providers.len()),
    };
    seal_key(&task, frame, &master, providers, random)
}

/// Seals a master key to exactly these providers, with a fresh polynomial; `profile` has the rest.
/// Draws the coefficients, then share salt and nonce of each provider.
pub(super) fn seal_key(
    task: &Task,
    mut profile: Profile,
    master: &[u8; 32],
    providers: Vec<NewProvider>,
    mut random: impl Random,
) -> error::Result<(Profile, Opened)> {
    let (count, threshold) = (providers.len(), profile.threshold);
    if count > 255 || threshold == 0 || usize::from(threshold) > count {
        return Err(task.refused(
            format!("{count} providers, of which {threshold} are to open it"),
            "Allowed are 1 to 255 providers, and a threshold of 1 to their number.",
        ));
    }
    task.check_word("name", &profile.name)?;
    let mut ids = BTreeSet::new();
    for NewProvider { id, .. } in &providers {
        task.check_word("id", id)?;
        if !ids.insert(id) {
            return Err(task.in_use(id));
        }
    }

    let mut coefficients = Vec::with_capacity(threshold.into());
    for _ in 1..threshold {
        let mut row = Zeroizing::new([0; 32]);
        random(&mut *row)?;
        coefficients.push(row);
    }
    let indexes: Vec<u8> = (1..=255).take(count).collect();
    let shares = shamir::split(master, &coefficients, &indexes);

    profile.providers.clear();
    let mut secrets = Vec::with_capacity(count);
    for (new, share) in providers.into_iter().zip(&shares) {
        let (provider, secret) = task.provider(new, share, &mut random)?;
        profile.providers.push(provider);
        secrets.push(secret);
    }
    let new: Vec<_> = secrets.iter().enumerate().collect();
    task.finish(profile, master, &[], &new, Vec::new())
}

impl Task {
    /// A fault of the program.
    pub(super) fn fault(&self, found: impl Into<String>) -> Error {
        let advice = format!("{} This is a fault of the program: report it.", self.left);
        Error::new(Class::Internal, &*self.tried, found, advice)
    }

    /// What was asked for can't be.
    pub(super) fn refused(&self, found: impl Into<String>, advice: &str) -> Error {
        Error::new(Class::Spec, &*self.tried, found, format!("{} {advice}", self.left))
    }

    /// Refuses a provider whose id another one has.
    pub(super) fn in_use(&self, id: &str) -> Error {
        self.refused(
            format!("there is a provider {id} already"),
            "Give the new one another id, or remove the old one first.",
        )
    }

    /// Refuses a name or id that the format has no place for.
    pub(super) fn check_word(&self, what: &str, text: &str) -> error::Result<()> {
        format::word(what, text)
            .map_err(|found| self.refused(found, "Give it letters, digits and dashes."))
    }

    /// A provider with its share sealed to it, and its secret. Draws share salt and nonce.
    pub(super) fn provider(
        &self,
        new: NewProvider,
        share: &Share,
        random: &mut impl Random,
    ) -> error::Result<(Provider, ProviderSecret)> {
        let NewProvider { id, kind, secret } = new;
        let Some(mut params) = kind.to_raw() else {
            return Err(self.fault(format!("provider {id} is of a kind that is read only")));
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
        seal_share(&mut provider, share, &secret).ok_or_else(|| self.fault("AES-GCM failed"))?;
        Ok((provider, secret))
    }

    /// Writes the recipient and the integrity of a profile that is about to be written, and proves that it will be read
    /// and opened: by all the secrets that are known, and with each new one, by as few as it takes.
    ///
    /// `kept` and `new` are the secrets of providers, with their places in the profile. Where they are
    /// fewer than its threshold, `spare` shares of the same polynomial make up for it.
    pub(super) fn finish(
        &self,
        mut profile: Profile,
        master: &[u8; 32],
        kept: &[(usize, &ProviderSecret)],
        new: &[(usize, &ProviderSecret)],
        mut spare: Vec<Share>,
    ) -> error::Result<(Profile, Opened)> {
        let recipient = Recipient::of(master, &profile.output_salt);
        profile.fields.insert(format::RECIPIENT.into(), recipient.to_string());
        profile.integrity = integrity(&profile, master);
        // Every rule of the format is in the parser, and only there.
        match Profile::parse(&profile.to_toml()) {
            Ok(read) if read == profile => {}
            Ok(_) => return Err(self.fault("it reads back as another profile")),
            Err(reason) => return Err(self.fault(reason)),
        }
        let unopened = |error: OpenError| self.fault(error.to_string());
        let same = |opened: Opened| {
            let same = opened.master.as_bytes().ct_eq(master);
            bool::from(same).then_some(opened).ok_or_else(|| self.fault("it opens to another key"))
        };
        let threshold = usize::from(profile.threshold);
        let all = [kept, new].concat();
        let mut shares = open_shares(&profile, &all).map_err(unopened)?;
        spare.truncate(threshold.saturating_sub(shares.len()));
        shares.append(&mut spare);
        let opened = same(opened_by(&profile, &shares).map_err(unopened)?)?;
        for one in new {
            let others = all.iter().filter(|other| other.0 != one.0).take(threshold - 1);
            let few: Vec<_> = others.chain([one]).copied().collect();
            same(open(&profile, &few).map_err(unopened)?)?;
        }
        Ok((profile, opened))
    }
}

/// Seals a share into its provider, whose nonce and share salt are drawn already.
fn seal_share(provider: &mut Provider, share: &Share, secret: &ProviderSecret) -> Option<()> {
    let mut plain = Zeroizing::new([0; 33]);
    plain[0] = share.x;
    plain[1..].copy_from_slice(&**share.y);
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
        profile::{
            Argon2Params,
            piv::{Params, Peer, Scheme, SharedX},
        },
        token::{Guid, KeySource, PinPolicy, Serial, TouchPolicy, base_point},
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
            recipient = "age1ff2swlqe6v4jsr8wfwvjuu7vn3tpl0jydugccvdt82yy93r4v3jqt0gg4g"
            integrity = "b035a81a8fbef347e260a95646c6b912e5b4ba86b9d55c52d1f63e8c4d79a90d"

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

    /// The recipient is no claim: it is opened with the key, or it does not open.
    #[test]
    fn no_key_is_sealed_under_the_recipient_of_another() {
        let (own, _) = seal("vault", 1, vec![card(1)]).unwrap();
        let theirs = card(2);
        let secret = ProviderSecret::new(theirs.secret.as_bytes());
        let (mut forged, opened) = seal("vault", 1, vec![theirs]).unwrap();
        forged.output_salt = own.output_salt;
        forged.fields = own.fields.clone();
        forged.integrity = integrity(&forged, opened.master.as_bytes());
        assert_eq!((forged.id(), forged.salt_id()), (own.id(), own.salt_id()));
        assert_eq!(open(&forged, &[(0, &secret)]).map(drop), Err(OpenError::Integrity));
        // Without it it opens, and shows that it is another key.
        forged.fields.clear();
        forged.integrity = integrity(&forged, opened.master.as_bytes());
        assert_eq!(forged.id(), own.salt_id());
        let opened = open(&forged, &[(0, &secret)]).unwrap();
        assert_ne!(opened.recipient().id(), own.id());
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
