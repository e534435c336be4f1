//! Keys: policies, agreement, signature, import, move, metadata, management key.

mod common;

use common::{FACTORY_KEY, Host, PIN, independent_agreement, some_point};
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use virtual_card::state::Cipher;
use virtual_card::{Options, SlotOption, tlv};

#[test]
fn an_agreement_is_what_openssl_computes() {
    let mut host = Host::new(Options::default());
    host.manage();
    let point = host.generate(0x9D, 0x11, 1, 1);
    let (answer, sw) = host.agree(0x9D, &some_point());
    assert_eq!(sw, 0x9000);
    assert_eq!(answer, independent_agreement(&host.private_key("9d"), &point, &some_point()));
    assert_eq!(host.metadata(0x9D, 1), [0x11]);
    assert_eq!(host.metadata(0x9D, 2), [1, 1]);
    assert_eq!(host.metadata(0x9D, 3), [1]);
    assert_eq!(host.metadata(0x9D, 4), tlv::encode(0x86, &point));
}

#[test]
fn a_point_off_the_curve_is_refused() {
    let mut host = Host::new(Options::default());
    host.manage();
    host.generate(0x9D, 0x11, 1, 1);
    let mut point = some_point();
    point[64] ^= 1;
    assert_eq!(host.agree(0x9D, &point).1, 0x6A80);
    assert_eq!(host.agree(0x9D, &some_point()[..33]).1, 0x6A80);
    assert_eq!(host.agree(0x9D, &[0]).1, 0x6A80);
}

#[test]
fn a_signature_verifies() {
    let mut host = Host::new(Options::default());
    host.manage();
    let point = host.generate(0x9A, 0x11, 1, 1);
    let digest = [7; 32];
    let data = [tlv::encode(0x82, &[]), tlv::encode(0x81, &digest)].concat();
    let answer = host.ok(0x87, 0x11, 0x9A, &tlv::encode(0x7C, &data));
    let signature = tlv::only(tlv::only(&answer, 0x7C).unwrap(), 0x82).unwrap();
    let signature = p256::ecdsa::DerSignature::try_from(signature).unwrap();
    let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(&point).unwrap();
    key.verify_prehash(&digest, &signature).unwrap();
}

#[test]
fn pin_once_lasts_until_a_reset_and_always_only_for_the_next_command() {
    let mut host = Host::new(Options::default());
    host.manage();
    host.generate(0x9D, 0x11, 2, 1);
    host.generate(0x82, 0x11, 3, 1);
    let point = some_point();
    assert_eq!(host.agree(0x9D, &point).1, 0x6982);
    host.verify(PIN);
    assert_eq!(host.agree(0x9D, &point).1, 0x9000);
    assert_eq!(host.agree(0x9D, &point).1, 0x9000);
    assert_eq!(host.agree(0x82, &point).1, 0x6982);
    host.verify(PIN);
    host.ok(0xFD, 0, 0, &[]);
    assert_eq!(host.agree(0x82, &point).1, 0x6982);
    host.verify(PIN);
    assert_eq!(host.agree(0x82, &point).1, 0x9000);
    assert_eq!(host.agree(0x82, &point).1, 0x6982);
    host.reset();
    assert_eq!(host.agree(0x9D, &point).1, 0x6982);
}

#[test]
fn slots_have_default_policies() {
    let mut host = Host::new(Options::default());
    host.manage();
    for (slot, pin) in [(0x9A, 2), (0x9C, 3), (0x9D, 2), (0x9E, 1), (0x95, 2)] {
        host.ok(0x47, 0, slot, &[0xAC, 3, 0x80, 1, 0x11]);
        assert_eq!(host.metadata(slot, 2), [pin, 1]);
    }
}

#[test]
fn keys_change_only_with_the_management_key() {
    let mut host = Host::new(Options::default());
    let generate = [0xAC, 3, 0x80, 1, 0x11];
    assert_eq!(host.sw(0x47, 0, 0x9D, &generate), 0x6982);
    assert_eq!(host.sw(0xFE, 0x11, 0x9D, &tlv::encode(6, &[1; 32])), 0x6982);
    assert_eq!(host.sw(0xF6, 0xFF, 0x9D, &[]), 0x6982);
    assert_eq!(host.put(&[0x5F, 0xC1, 5], b"x"), 0x6982);
    host.manage();
    assert_eq!(host.sw(0x47, 0, 0x9D, &generate), 0x9000);
    host.reset();
    assert_eq!(host.sw(0x47, 0, 0x9D, &generate), 0x6982);
}

#[test]
fn unknown_algorithms_and_slots_are_refused() {
    let mut host = Host::new(Options::default());
    host.manage();
    assert_eq!(host.sw(0x47, 0, 0x9D, &[0xAC, 3, 0x80, 1, 0x07]), 0x6A80);
    assert_eq!(host.sw(0x47, 0, 0x9B, &[0xAC, 3, 0x80, 1, 0x11]), 0x6A86);
    assert_eq!(host.sw(0xFE, 0x11, 0x9D, &tlv::encode(6, &[0; 32])), 0x6A80);
    assert_eq!(host.sw(0xFE, 0x11, 0x9D, &tlv::encode(6, &[0xFF; 32])), 0x6A80);
}

#[test]
fn an_empty_slot_and_another_algorithm_are_told_apart_by_metadata_only() {
    let mut host = Host::new(Options::default());
    assert_eq!(host.sw(0xF7, 0, 0x9D, &[]), 0x6A88);
    assert_eq!(host.agree(0x9D, &some_point()).1, 0x6A80);
    host.manage();
    assert_eq!(host.generate(0x9D, 0x14, 1, 1).len(), 97);
    assert_eq!(host.metadata(0x9D, 1), [0x14]);
    assert_eq!(host.agree(0x9D, &some_point()).1, 0x6A80);
}

#[test]
fn keys_can_be_imported_moved_and_deleted() {
    let mut host = Host::new(Options::default());
    host.manage();
    let data = [tlv::encode(6, &[5; 32]), vec![0xAA, 1, 1, 0xAB, 1, 2]].concat();
    host.ok(0xFE, 0x11, 0x9D, &data);
    assert_eq!(host.metadata(0x9D, 3), [2]);
    assert_eq!(host.private_key("9d"), [5; 32]);
    host.ok(0x47, 0, 0x82, &[0xAC, 3, 0x80, 1, 0x11]);
    assert_eq!(host.sw(0xF6, 0x82, 0x9D, &[]), 0x6A80);
    assert_eq!(host.sw(0xF6, 0x83, 0x9E, &[]), 0x6A88);
    host.ok(0xF6, 0x83, 0x9D, &[]);
    assert_eq!(host.metadata(0x83, 2), [1, 2]);
    assert_eq!(host.sw(0xF7, 0, 0x9D, &[]), 0x6A88);
    host.ok(0xF6, 0xFF, 0x83, &[]);
    assert_eq!(host.sw(0xF7, 0, 0x83, &[]), 0x6A88);
    assert_eq!(host.sw(0xF6, 0xFF, 0x83, &[]), 0x6A88);
}

#[test]
fn keys_can_be_there_from_the_start() {
    let mut slot = SlotOption::parse(&format!("9d={}", "07".repeat(32))).unwrap();
    (_, slot.pin_policy, slot.touch_policy) = {
        let (slot, pin, touch) = virtual_card::parse_policy("9d=never,cached").unwrap();
        (slot, Some(pin), Some(touch))
    };
    let slots = vec![slot, SlotOption::parse("9a=p384").unwrap()];
    let mut host = Host::new(Options { slots, ..Options::default() });
    assert_eq!(host.private_key("9d"), [7; 32]);
    assert_eq!(host.metadata(0x9D, 2), [1, 3]);
    assert_eq!(host.metadata(0x9D, 3), [2]);
    assert_eq!(host.metadata(0x9A, 1), [0x14]);
    assert_eq!(host.metadata(0x9A, 3), [1]);
    assert!(SlotOption::parse("9b=generate").is_err());
    assert!(virtual_card::parse_policy("9d=sometimes,never").is_err());
}

#[test]
fn mutual_authentication_works_with_every_cipher() {
    let mut host = Host::new(Options::default());
    let mut now = (0x0A, FACTORY_KEY.to_owned());
    for (number, length) in [(3, 24), (8, 16), (0x0A, 24), (0x0C, 32)] {
        assert_eq!(host.authenticate(now.0, &now.1), 0x9000);
        let key: Vec<u8> = (0x31..).take(length).collect();
        let data = [&[number], tlv::encode(0x9B, &key).as_slice()].concat();
        host.ok(0xFF, 0xFF, 0xFE, &data);
        host.reset();
        now = (number, common::hex(&key));
        assert_eq!(host.authenticate(number, &now.1), 0x9000);
        assert_eq!(host.metadata(0x9B, 1), [number]);
        assert_eq!(host.metadata(0x9B, 5), [0]);
        host.reset();
        assert_eq!(host.authenticate(number, &"42".repeat(length)), 0x6982);
        assert_eq!(host.sw(0x47, 0, 0x9D, &[0xAC, 3, 0x80, 1, 0x11]), 0x6982);
        assert_eq!(host.authenticate(if number == 3 { 8 } else { 3 }, &now.1), 0x6A80);
    }
}

#[test]
fn the_factory_key_is_flagged_as_such() {
    for (cipher, number) in [(Cipher::TripleDes, 3), (Cipher::Aes192, 0x0A)] {
        let management_key_algorithm = Some(cipher);
        let mut host = Host::new(Options { management_key_algorithm, ..Options::default() });
        assert_eq!(host.metadata(0x9B, 1), [number]);
        assert_eq!(host.metadata(0x9B, 5), [1]);
        assert_eq!(host.authenticate(number, FACTORY_KEY), 0x9000);
    }
}

#[test]
fn external_authentication_works_once_per_challenge() {
    let mut host = Host::new(Options::default());
    let answer = host.ok(0x87, 0x0A, 0x9B, &[0x7C, 2, 0x81, 0]);
    let challenge = tlv::only(tlv::only(&answer, 0x7C).unwrap(), 0x81).unwrap();
    let response = common::cipher(0x0A, FACTORY_KEY, challenge, true);
    let data = tlv::encode(0x7C, &tlv::encode(0x82, &response));
    assert_eq!(host.sw(0x87, 0x0A, 0x9B, &data), 0x9000);
    assert_eq!(host.sw(0x47, 0, 0x9D, &[0xAC, 3, 0x80, 1, 0x11]), 0x9000);
    assert_eq!(host.sw(0x87, 0x0A, 0x9B, &data), 0x6982);
    assert_eq!(host.sw(0x47, 0, 0x9D, &[0xAC, 3, 0x80, 1, 0x11]), 0x6982);
}
