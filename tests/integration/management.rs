//! Generating a key takes the card's management key, of every kind that there is.

use serde_json::json;

use crate::support::{Machine, Nitrokey, TestCard, Yubikey, cards::Apdu};

const FACTORY: &str = "010203040506070801020304050607080102030405060708";

fn ykman(machine: &Machine, args: &[&str]) {
    let output = machine
        .pcscd
        .command("ykman")
        .args(["--reader", "Yubico YubiKey CCID 0 00 00", "piv"])
        .args(args)
        .output()
        .expect("apt-get install yubikey-manager");
    assert!(output.status.success(), "{output:?}");
}

/// Gives the card a key of its own, and enrolls with it from a file.
fn from_a_file(algorithm: &str, key: &str) {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    let change = ["access", "change-management-key", "--force"];
    let keys = ["--algorithm", algorithm, "--management-key", FACTORY];
    ykman(&machine, &[&change[..], &keys, &["--new-management-key", key]].concat());
    let file = machine.secret_file("management.key", key);
    machine.vault(&card, json!({ "managementKey": file }));
    machine.apply().exits(0);
    assert_eq!(card.generated(), 1);
    let expected = machine.expected("vault", &[card.private_key("9d")], "backups");
    assert_eq!(machine.secret("vault", "backup"), expected);
}

#[test]
fn triple_des_from_a_file() {
    from_a_file("tdes", "a1b2c3d4e5f60718293a4b5c6d7e8f90a0b1c2d3e4f50617");
}

#[test]
fn aes_128_from_a_file() {
    from_a_file("aes128", "00112233445566778899aabbccddeeff");
}

#[test]
fn aes_192_from_a_file() {
    from_a_file("aes192", "A1B2C3D4E5F60718293A4B5C6D7E8F90A0B1C2D3E4F50617");
}

#[test]
fn aes_256_from_a_file() {
    let key = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4";
    from_a_file("aes256", key);
}

#[test]
fn the_factory_key_of_older_cards() {
    let machine = Machine::new(1);
    let card = Yubikey::with(&machine, 0, &["--management-key-algorithm", "3des"]);
    machine.vault(&card, json!({}));
    machine.apply().exits(0);
    assert_eq!(card.generated(), 1);
}

/// As `ykman piv access change-management-key --protect` makes it.
#[test]
fn a_key_that_the_card_keeps_behind_the_pin() {
    for policy in [json!("once"), json!("never")] {
        let machine = Machine::new(1);
        let card = Yubikey::new(&machine, 0);
        let pin = Yubikey::PIN;
        ykman(
            &machine,
            &[
                "access",
                "change-management-key",
                "--generate",
                "--protect",
                "--force",
                "--management-key",
                FACTORY,
                "--pin",
                pin,
            ],
        );
        let memory = card.memory();
        let key = memory["management_key"]["key"].as_str().unwrap();
        assert_ne!(key, FACTORY);
        machine.keep_secret("the management key", &base16ct::lower::decode_vec(key).unwrap());
        machine
            .vault(&card, json!({ "managementKey": { "protected": true }, "pinPolicy": policy }));
        machine.apply().exits(0);
        assert_eq!(card.generated(), 1);
        assert_eq!(card.memory()["slots"]["9d"]["pin_policy"], policy);
    }
}

#[test]
fn a_card_that_keeps_no_key_is_told() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({ "managementKey": { "protected": true } }));
    machine.apply().exits(10).says(&["the card keeps none", "--protect"]);
    assert_eq!((card.generated(), card.tries()), (0, 3));
}

#[test]
fn a_factory_key_that_the_spec_does_not_allow_is_refused_before_the_pin() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({ "managementKey": null }));
    let output = machine.apply().exits(10);
    output.says(&[
        "still the one that every card is shipped with",
        "ykman piv access change-management-key --protect",
        "{\"factoryDefault\": true}",
        "security.cryptkey.keys.vault.managementKey",
    ]);
    assert_eq!((card.presented(), card.generated()), (0, 0));
    let log = card.log();
    assert!(!log.iter().any(Apdu::counts), "{log:#?}");
}

#[test]
fn a_wrong_management_key_generates_nothing() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    for wrong in [
        "f1b2c3d4e5f60718293a4b5c6d7e8f90a0b1c2d3e4f50617",
        // Of a kind that the card's is not.
        "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
        "not hex at all",
    ] {
        let file = machine.secret_file("management.key", wrong);
        machine.vault(&card, json!({ "managementKey": file }));
        machine.apply().exits(10).says(&["management"]);
        assert_eq!((card.generated(), card.tries()), (0, 3));
        assert!(!machine.profile("vault").exists());
    }
}

#[test]
fn a_wrong_management_key_generates_nothing_on_a_nitrokey() {
    let machine = Machine::new(1);
    let card = Nitrokey::new(&machine, 0);
    for wrong in [
        "f1b2c3d4e5f60718293a4b5c6d7e8f90a0b1c2d3e4f50617",
        // Of another cipher than the card's, which this card does not tell.
        "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
    ] {
        let file = machine.secret_file("management.key", wrong);
        machine.vault(&card, json!({ "managementKey": file }));
        let output = machine.apply().exits(10);
        output.says(&["did not accept it", "security.cryptkey.keys.vault.managementKey"]);
        assert_eq!(card.generated(), 0);
        assert!(!machine.profile("vault").exists());
    }
}
