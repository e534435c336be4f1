//! Certificates that were tampered with: refused, and no panic.

use proptest::{prelude::*, sample::Index};

use super::{SHARED, Shared, card, leaf, roots};
use crate::{
    chance::cases,
    token::{Attestation, Roots, Slot},
};

/// What a card with these certificates attests, with the right roots.
fn told(leaf: Vec<u8>, authority: Vec<u8>) -> Attestation {
    let vouching = roots(&[&SHARED.root, &SHARED.between]);
    card(Some(leaf), Some(authority)).attestation(Slot::KEY_MANAGEMENT, &vouching).unwrap()
}

/// No byte can go from the end, and none can come there, of either certificate.
#[test]
fn every_truncation_is_refused() {
    let Shared { rsa, p256, .. } = &*SHARED;
    for own in [rsa, p256] {
        let (leaf, own) = (leaf(own).der, own.der.clone());
        for length in 1..leaf.len() {
            let told = told(leaf[..length].to_vec(), own.clone());
            assert!(matches!(told, Attestation::Bad(_)), "{length}: {told:?}");
        }
        for length in 0..own.len() {
            let told = told(leaf.clone(), own[..length].to_vec());
            assert!(matches!(told, Attestation::Bad(_)), "{length}: {told:?}");
        }
        let longer = |der: &[u8]| [der, &[0]].concat();
        assert!(matches!(told(longer(&leaf), own.clone()), Attestation::Bad(_)));
        assert!(matches!(told(leaf.clone(), longer(&own)), Attestation::Bad(_)));
    }
}

/// Each byte of the certificates of a card, one bit of it changed.
#[test]
fn no_bit_may_change() {
    let Shared { p256, .. } = &*SHARED;
    let (leaf, own) = (leaf(p256).der, p256.der.clone());
    assert!(matches!(told(leaf.clone(), own.clone()), Attestation::Made(..)));
    for place in 0..leaf.len() {
        let mut other = leaf.clone();
        other[place] ^= 1 << (place % 8);
        let told = told(other, own.clone());
        assert!(matches!(told, Attestation::Bad(_)), "{place} of the leaf: {told:?}");
    }
    for place in 0..own.len() {
        let mut other = own.clone();
        other[place] ^= 1 << (place % 8);
        let told = told(leaf.clone(), other);
        assert!(matches!(told, Attestation::Bad(_)), "{place} of the card's: {told:?}");
    }
}

proptest! {
    #![proptest_config(cases!(300))]

    /// Some bytes of one of the certificates changed, the roots' among them.
    #[test]
    fn nothing_that_was_changed_is_trusted(
        which in 0_usize..4, changes in prop::collection::vec((any::<Index>(), 1_u8..), 1..4)
    ) {
        static LEAF: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| leaf(&SHARED.rsa).der);
        let Shared { root, between, rsa, .. } = &*SHARED;
        let (mut root, mut between) = (root.clone(), between.clone());
        let (mut leaf, mut own) = (LEAF.clone(), rsa.der.clone());
        let target = [&mut leaf, &mut own, &mut between.der, &mut root.der];
        let before = [&LEAF[..], &rsa.der, &SHARED.between.der, &SHARED.root.der][which];
        let Some(target) = target.into_iter().nth(which) else { return Ok(()) };
        for (place, flip) in changes {
            let place = place.index(target.len());
            target[place] ^= flip;
        }
        prop_assume!(&target[..] != before);
        let mut vouching = Roots::default();
        for entity in [root, between] {
            // A certificate that can't be read is told at once.
            drop(vouching.add(&entity.pem()));
        }
        let told = card(Some(leaf), Some(own)).attestation(Slot::KEY_MANAGEMENT, &vouching).unwrap();
        prop_assert!(matches!(told, Attestation::Bad(_)), "{:?}", told);
    }

    /// Anything at all in place of a certificate.
    #[test]
    fn random_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 1..600)) {
        let Shared { rsa, .. } = &*SHARED;
        let told = [told(bytes.clone(), rsa.der.clone()), told(rsa.der.clone(), bytes)];
        prop_assert!(told.iter().all(|told| matches!(told, Attestation::Bad(_))));
    }
}
