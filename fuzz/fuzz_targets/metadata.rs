//! What a card says of a slot and of its management key in metadata: tags, lengths, points.
#![no_main]

use cryptkey::token::{KeySource, SlotState};
use cryptkey_fuzz::{
    script::saying,
    steps::{settled, slot},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (mut piv, _) = saying(data).unwrap();
    let state = settled(piv.ask(slot(), KeySource::Metadata));
    assert!(state != Some(SlotState::Empty), "metadata taken for an empty slot");
    // What is told of it never fails either.
    if let Some(state) = state {
        let _ = format!("{state} {state:?}");
    }
    settled(piv.management_metadata());
    settled(piv.guid());
    settled(piv.serial());
    settled(piv.protected_management_key());
});
