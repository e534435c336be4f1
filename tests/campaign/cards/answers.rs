//! Answers that no sane card gives: every status word, every length, random bytes and bits.

use cryptkey::error::Class;

use super::{Bench, Case, all};
use crate::{
    chance::Chance,
    extent::{amount, is_whole, tell},
};

/// What ISO/IEC 7816-4 (5.6) and PIV define, and what nobody does.
const STATUS_WORDS: [u16; 44] = [
    0x6100, 0x61ff, 0x6200, 0x6281, 0x6282, 0x6283, 0x6300, 0x6381, 0x63c0, 0x63c1, 0x63c2, 0x63c3,
    0x63cf, 0x6400, 0x6500, 0x6581, 0x6600, 0x6700, 0x6800, 0x6881, 0x6882, 0x6900, 0x6982, 0x6983,
    0x6984, 0x6985, 0x6986, 0x6a80, 0x6a81, 0x6a82, 0x6a84, 0x6a86, 0x6a88, 0x6b00, 0x6c00, 0x6cff,
    0x6d00, 0x6e00, 0x6f00, 0x9000, 0x9001, 0x9100, 0x0000, 0xffff,
];

/// What a run may end with whose card answers nonsense.
const CLASSES: [Class; 8] = [
    Class::Spec,
    Class::NoCard,
    Class::NoAnswer,
    Class::PinRefused,
    Class::PinWrong,
    Class::KeyChanged,
    Class::Profile,
    Class::Card,
];

/// The spec's `cardTimeoutSec`: a card that vanishes for a moment is back by then, and so is one that
/// pcscd still has for the run before on a busy machine.
const TIMEOUT: u32 = 20;

fn answered(bench: &mut Bench, case: &Case<String>) {
    bench.fault(case.nth, &case.fault);
    let output = bench.machine.apply();
    bench.judge(case.nth, &output, &CLASSES);
}

/// At every APDU of a flow, each of these; of all of them so many where not all of it runs.
fn at_every_apdu(
    bench: &Bench,
    bounded: usize,
    faults: impl Fn(&mut Chance, usize) -> Vec<String>,
) -> Vec<Case<String>> {
    let mut chance = Chance::of(bench.flow.name);
    let mut cases = Vec::new();
    for (index, apdu) in bench.apdus.iter().enumerate() {
        let faults = faults(&mut chance, apdu.answer);
        cases.extend(faults.into_iter().map(|fault| Case { nth: index + 1, fault }));
    }
    if is_whole() { cases } else { chance.some(cases, bounded) }
}

#[test]
fn every_status_word_at_every_apdu() {
    let words =
        |_: &mut Chance, _| STATUS_WORDS.iter().map(|word| format!("sw {word:04x}")).collect();
    let count = all(TIMEOUT, |bench| at_every_apdu(bench, 12, words), answered);
    tell(&format!("card: {count} status words that were answered to an APDU instead"));
}

#[test]
fn every_length_of_every_answer() {
    let lengths = |_: &mut Chance, answer: usize| {
        // Bytes in the middle of a long certificate are all alike.
        let lengths = (0..answer + 2).filter(|length| *length < 96 || length % 16 < 2);
        // vpcd waits for the first byte: nothing at all is a card that does not answer.
        let cut = lengths.clone().skip(1).map(|length| format!("cut {length}"));
        let short =
            lengths.filter(|length| *length < answer).map(|length| format!("short {length}"));
        cut.chain(short).collect()
    };
    let count = all(TIMEOUT, |bench| at_every_apdu(bench, 12, lengths), answered);
    tell(&format!("card: {count} answers that were cut short, at every length"));
}

#[test]
fn long_and_random_answers() {
    let random = |chance: &mut Chance, answer: usize| {
        let mut faults = Vec::new();
        for length in [256, 257, 258, 300, 4000, 20_000] {
            faults.push([&chance.bytes(length)[..], &[0x90, 0]].concat());
        }
        for _ in 0..amount(4, 12) {
            let length = chance.below(answer + 20) + 2;
            let mut bytes = chance.bytes(length);
            if chance.below(2) == 0 {
                bytes.extend([0x90, 0]);
            }
            faults.push(bytes);
        }
        let mut faults: Vec<_> = faults.iter().map(|b| raw(b)).collect();
        for _ in 0..amount(4, 12) {
            let (at, bits) = (chance.below(answer + 2), 1 << chance.below(8));
            faults.push(format!("flip {at} {bits:02x}"));
        }
        faults
    };
    let count = all(TIMEOUT, |bench| at_every_apdu(bench, 12, random), answered);
    tell(&format!("card: {count} answers that were too long, random, or had one bit changed"));
}

fn raw(bytes: &[u8]) -> String {
    format!("raw {}", base16ct::lower::encode_string(bytes))
}

#[test]
fn a_session_that_is_forgotten_at_every_apdu() {
    let forget = |_: &mut Chance, _| vec!["forget".to_owned()];
    let count = all(TIMEOUT, |bench| at_every_apdu(bench, 6, forget), answered);
    tell(&format!("card: {count} APDUs before which the card forgot its session"));
}
