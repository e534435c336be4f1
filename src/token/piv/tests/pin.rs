//! The PIN: its tries, presenting it, what a reset forgets.

use virtual_card::Options;

use super::{
    super::{Fault, Pin, PinTries, StatusWord, Verdict},
    support::{Bench, PIN, scripted},
};

fn pin(text: &str) -> Pin {
    Pin::new(text.as_bytes()).unwrap()
}

#[test]
fn pins_have_6_to_8_bytes() {
    for length in 0..20 {
        let made = Pin::new(&vec![b'1'; length]).is_some();
        assert_eq!(made, (6..=8).contains(&length), "{length}");
    }
    assert!(pin("123456").is(&pin("123456")));
    assert!(!pin("123456").is(&pin("1234567")));
}

#[test]
fn tries_are_counted_and_cost_nothing() {
    let bench = Bench::new(Options::default());
    let mut piv = bench.piv();
    for _ in 0..5 {
        assert_eq!(piv.pin_tries(), Ok(PinTries::Left(3)));
    }
    assert!(!bench.reset_at_end.get(), "nothing was learned");
}

#[test]
fn a_right_pin_is_accepted_and_hides_the_tries_until_a_reset() {
    let bench = Bench::new(Options::default());
    let mut piv = bench.piv();
    let right = Pin::new(PIN).unwrap();
    assert_eq!(piv.verify_pin(&right), Ok(Verdict::Accepted));
    assert!(bench.reset_at_end.get(), "the card must forget it");
    assert_eq!(piv.pin_tries(), Ok(PinTries::Verified));
    piv.reset().unwrap();
    assert_eq!(bench.resets.get(), 1);
    assert_eq!(piv.pin_tries(), Ok(PinTries::Left(3)));
}

#[test]
fn a_wrong_pin_costs_one_try_each_until_it_is_blocked() {
    let bench = Bench::new(Options::default());
    let mut piv = bench.piv();
    for left in [2, 1, 0] {
        let verdict = piv.verify_pin(&pin("654321"));
        assert_eq!(verdict, Ok(Verdict::Rejected(left)));
        assert_eq!(piv.pin_tries(), Ok(PinTries::Left(left)));
    }
    let right = Pin::new(PIN).unwrap();
    assert_eq!(piv.verify_pin(&right), Ok(Verdict::Rejected(0)));
    assert!(bench.reset_at_end.get());
}

#[test]
fn every_way_to_say_how_many_tries_are_left_is_understood() {
    for (word, left) in [
        (0x63c5_u16, 5),
        (0x63c0, 0),
        (0x63cf, 15),
        // The YubiKey NEO leaves the C out (OpenSC, card-piv.c, CI_VERIFY_630X).
        (0x6302, 2),
        (0x6983, 0),
    ] {
        let answer = move |_: &[u8]| word.to_be_bytes().to_vec();
        assert_eq!(scripted(answer).pin_tries(), Ok(PinTries::Left(left)), "{word:04x}");
        let verdict = scripted(answer).verify_pin(&pin("123456"));
        assert_eq!(verdict, Ok(Verdict::Rejected(left)), "{word:04x}");
    }
}

#[test]
fn an_answer_that_tells_nothing_of_the_pin_is_a_fault() {
    for word in [0x6a80_u16, 0x6a88, 0x6d00, 0x6982, 0x6300, 0x6310, 0x6f00] {
        let answer = move |_: &[u8]| word.to_be_bytes().to_vec();
        let fault = Fault::Status(StatusWord(word));
        assert_eq!(scripted(answer).pin_tries(), Err(fault.clone()));
        assert_eq!(scripted(answer).verify_pin(&pin("123456")), Err(fault));
    }
}

/// Rule 5: `6Cxx` asks for the command again with another length. Not so with a PIN.
#[test]
fn a_pin_is_sent_once_whatever_the_card_answers() {
    let bench = Bench::new(Options::default());
    for first in 0..=0xff_u8 {
        for second in [0x00, 0x03] {
            bench.card.borrow_mut().reset();
            let mut piv = bench.tampered(move |_, _| vec![first, second]);
            let _ = piv.verify_pin(&pin("654321"));
            assert_eq!(bench.count(0x20), 1, "{first:02x}{second:02x}");
        }
    }
}
