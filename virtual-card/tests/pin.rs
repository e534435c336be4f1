//! PIN, PUK and what they guard.

mod common;

use common::{Host, PIN, padded};
use virtual_card::Options;

fn pair(a: &[u8], b: &[u8]) -> Vec<u8> {
    [padded(a), padded(b)].concat()
}

#[test]
fn tries_fall_with_wrong_pins_and_come_back_with_the_right_one() {
    let mut host = Host::new(Options::default());
    assert_eq!(host.tries(), 0x63C3);
    assert_eq!(host.verify(b"000000"), 0x63C2);
    assert_eq!(host.tries(), 0x63C2);
    assert_eq!(host.metadata(0x80, 6), [3, 2]);
    assert_eq!(host.verify(PIN), 0x9000);
    assert_eq!(host.tries(), 0x9000);
    assert_eq!(host.metadata(0x80, 6), [3, 3]);
}

#[test]
fn a_pin_of_another_length_costs_no_try() {
    let mut host = Host::new(Options::default());
    assert_eq!(host.sw(0x20, 0, 0x80, PIN), 0x6A80);
    assert_eq!(host.tries(), 0x63C3);
}

#[test]
fn spent_tries_outlive_the_power() {
    let mut host = Host::new(Options::default());
    host.verify(b"000000");
    host.reset();
    assert_eq!(host.tries(), 0x63C2);
}

#[test]
fn a_blocked_pin_refuses_the_right_one_until_the_puk_resets_it() {
    let mut host = Host::new(Options::default());
    for left in [0x63C2, 0x63C1, 0x63C0, 0x6983] {
        assert_eq!(host.verify(b"000000"), left);
    }
    assert_eq!(host.verify(PIN), 0x6983);
    assert_eq!(host.tries(), 0x6983);
    assert_eq!(host.sw(0x2C, 0, 0x80, &pair(b"87654321", b"654321")), 0x63C2);
    assert_eq!(host.sw(0x2C, 0, 0x80, &pair(b"12345678", b"654321")), 0x9000);
    assert_eq!(host.verify(b"654321"), 0x9000);
}

#[test]
fn a_reset_or_ff_or_a_wrong_pin_ends_the_verified_state() {
    let mut host = Host::new(Options::default());
    host.verify(PIN);
    host.reset();
    assert_eq!(host.tries(), 0x63C3);
    host.verify(PIN);
    assert_eq!(host.sw(0x20, 0xFF, 0x80, &[]), 0x9000);
    assert_eq!(host.tries(), 0x63C3);
    host.verify(PIN);
    host.verify(b"000000");
    assert_eq!(host.tries(), 0x63C2);
}

#[test]
fn pin_and_puk_change_with_themselves() {
    let mut host = Host::new(Options::default());
    assert_eq!(host.metadata(0x80, 5), [1]);
    assert_eq!(host.sw(0x24, 0, 0x80, &pair(b"000000", b"111111")), 0x63C2);
    assert_eq!(host.sw(0x24, 0, 0x80, &pair(PIN, b"12345")), 0x6A80);
    assert_eq!(host.sw(0x24, 0, 0x80, &pair(PIN, b"111111")), 0x9000);
    assert_eq!(host.metadata(0x80, 5), [0]);
    assert_eq!(host.verify(b"111111"), 0x9000);
    assert_eq!(host.sw(0x24, 0, 0x81, &pair(b"12345678", b"99999999")), 0x9000);
    assert_eq!(host.metadata(0x81, 5), [0]);
    assert_eq!(host.sw(0x2C, 0, 0x80, &pair(b"99999999", b"222222")), 0x9000);
    assert_eq!(host.verify(b"222222"), 0x9000);
}

#[test]
fn new_numbers_of_tries_need_both_keys_and_restore_the_defaults() {
    let mut host = Host::new(Options { pin: "777777".to_owned(), ..Options::default() });
    host.manage();
    assert_eq!(host.sw(0xFA, 5, 4, &[]), 0x6982);
    host.verify(b"777777");
    assert_eq!(host.sw(0xFA, 5, 4, &[]), 0x9000);
    assert_eq!(host.metadata(0x80, 6), [5, 5]);
    assert_eq!(host.metadata(0x81, 6), [4, 4]);
    assert_eq!(host.verify(PIN), 0x9000);
}

#[test]
fn a_factory_reset_wants_both_blocked_and_clears_all_but_the_attestation_key() {
    let mut host = Host::new(Options::default());
    host.manage();
    host.generate(0x9D, 0x11, 1, 1);
    assert_eq!(host.put(&[0x5F, 0xC1, 0x0B], b"certificate"), 0x9000);
    assert_eq!(host.sw(0xFB, 0, 0, &[]), 0x6985);
    for _ in 0..3 {
        host.verify(b"");
        host.sw(0x2C, 0, 0x80, &pair(b"", b""));
    }
    let guid = host.card.state().guid.clone();
    assert_eq!(host.sw(0xFB, 0, 0, &[]), 0x9000);
    assert_eq!(host.sw(0xF7, 0, 0x9D, &[]), 0x6A88);
    assert_eq!(host.get(&[0x5F, 0xC1, 0x0B]).1, 0x6A82);
    assert_eq!(host.get(&[0x5F, 0xFF, 1]).1, 0x9000);
    assert_eq!(host.tries(), 0x63C3);
    assert_ne!(host.card.state().guid, guid);
    host.manage();
    host.generate(0x9D, 0x11, 1, 1);
    host.ok(0xF9, 0x9D, 0, &[]);
}

#[test]
fn printed_information_is_readable_only_after_the_pin() {
    let mut host = Host::new(Options::default());
    let printed = [0x5F, 0xC1, 9];
    assert_eq!(host.get(&printed).1, 0x6982);
    host.verify(PIN);
    assert_eq!(host.get(&printed).1, 0x6A82);
    host.manage();
    assert_eq!(host.put(&printed, b"secret"), 0x9000);
    assert_eq!(host.get(&printed), (b"\x53\x06secret".to_vec(), 0x9000));
    host.reset();
    assert_eq!(host.get(&printed).1, 0x6982);
}
