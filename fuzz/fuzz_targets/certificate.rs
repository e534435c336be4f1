//! Attestations and certificates, as a card gives them: DER, and objects around it.
#![no_main]

use cryptkey::token::{KeySource, SlotState};
use cryptkey_fuzz::{
    script::{element, saying},
    steps::{settled, slot},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (mut piv, _) = saying(data).unwrap();
    let attested = settled(piv.ask(slot(), KeySource::Attestation));
    assert!(attested != Some(SlotState::Empty));
    if let Some(state) = &attested {
        let _ = format!("{state}");
    }
    // The same bytes as a certificate object, bare and in its tags.
    assert!(settled(piv.ask(slot(), KeySource::Certificate)) != Some(SlotState::Empty));
    let object = element(0x53, &[element(0x70, data), vec![0x71, 1, 0, 0xfe, 0]].concat());
    let (mut piv, _) = saying(&object).unwrap();
    let stored = settled(piv.ask(slot(), KeySource::Certificate));
    // Both tell the same key of the same certificate.
    if let (Some(SlotState::Key(attested)), Some(SlotState::Key(stored))) = (attested, stored) {
        assert_eq!(attested.public, stored.public);
    }
});
