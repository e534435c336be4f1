//! Attestations and certificates, as a card gives them: DER, and objects around it.
#![no_main]

use cryptkey::card::{KeySource, SlotState};
use cryptkey_fuzz::{
    script::saying,
    steps::{settled, slot},
};
use libfuzzer_sys::fuzz_target;

/// A BER-TLV element with a length of two bytes.
fn element(tag: u8, value: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&[tag, 0x82, high, low], value].concat()
}

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
