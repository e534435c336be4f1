//! A chain of certificates of which one link is the fuzzer's: nothing is trusted but what the real
//! chain says.
#![no_main]

use cryptkey::token::{Attestation, Roots};
use cryptkey_fuzz::{
    script::{card, element},
    steps::{settled, slot},
};
use libfuzzer_sys::fuzz_target;

const ROOT: &str = include_str!("../chain/root.pem");
const AUTHORITY: &[u8] = include_bytes!("../chain/authority.der");
const LEAF: &[u8] = include_bytes!("../chain/leaf.der");

/// What a card with these two certificates attests, as far as these roots vouch for it.
fn attested(leaf: &[u8], authority: &[u8], roots: &Roots) -> Option<Attestation> {
    let tags = [element(0x70, authority), vec![0x71, 1, 0, 0xfe, 0]].concat();
    let (leaf, authority) = (leaf.to_vec(), element(0x53, &tags));
    let (mut data, mut at) = (Vec::new(), 0);
    let (mut piv, _) = card(move |command| {
        match command[1] {
            0xf9 => (data, at) = (leaf.clone(), 0),
            0xcb => (data, at) = (authority.clone(), 0),
            0xc0 => {}
            _ => return Some(vec![0x90, 0x00]),
        }
        let part = &data[at..data.len().min(at + 256)];
        at += part.len();
        let left = data.len() - at;
        let status = [if left > 0 { 0x61 } else { 0x90 }, u8::try_from(left).unwrap_or(0)];
        Some([part, &status].concat())
    })?;
    settled(piv.attestation(slot(), roots))
}

fn trusted() -> Roots {
    let mut roots = Roots::default();
    roots.add(ROOT).unwrap();
    roots
}

thread_local! {
    static REAL: Attestation = attested(LEAF, AUTHORITY, &trusted()).unwrap();
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&which, link)) = bytes.split_first() else { return };
    let found = match which % 3 {
        0 => attested(link, AUTHORITY, &trusted()),
        1 => attested(LEAF, link, &trusted()),
        _ => {
            let mut roots = Roots::default();
            // What it took before a fault is not used by the program; here it is.
            let _ = roots.add(&String::from_utf8_lossy(link));
            attested(LEAF, AUTHORITY, &roots)
        }
    };
    let Some(found) = found else { return };
    let _ = found.to_string();
    REAL.with(|real| {
        let Attestation::Made(trust, _) = real else { panic!("the real chain: {real}") };
        match &found {
            Attestation::Made(..) => assert_eq!(found, *real),
            Attestation::Able(other) => assert_eq!(other, trust),
            _ => {}
        }
    });
});
