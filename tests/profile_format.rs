//! What the profile's file may say, and the words for what it may not.
#![allow(clippy::unwrap_used)]

use cryptkey::profile::{MAX_SIZE, Profile, ProviderKind};
use expect_test::{Expect, expect};

const V2: &str = include_str!("vectors/profiles/piv-only.toml");
const V2_MORE: &str = include_str!("vectors/profiles/piv-piv-recovery-any.toml");
const V1: &str = include_str!("vectors/profiles/piv-piv-recovery.toml");

/// Edits a file, each edit replacing its text's first occurrence, and checks the reason for which
/// it is then refused.
fn refused(text: &str, edits: &[(&str, &str)], reason: &Expect) {
    let edited = edit(text, edits);
    reason.assert_eq(&Profile::parse(&edited).unwrap_err());
}

fn edit(text: &str, edits: &[(&str, &str)]) -> String {
    edits.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    })
}

#[test]
fn fields_are_known_and_there() {
    refused("", &[], &expect!["line 1: missing field `version`"]);
    refused(
        V2,
        &[("version = 2", "version = 3")],
        &expect!["version: found 3; this program reads 1 and 2 (a newer one may have written it)"],
    );
    refused(V2, &[("version = 2", "version = 2\nversion = 2")], &expect!["line 2: duplicate key"]);
    refused(
        V2,
        &[("version = 2", "version = 2\nextra = 1")],
        &expect!["line 1: invalid type: integer `1`, expected a string"],
    );
    refused(
        V2,
        &[("  id =", "  more = \"\"\n  id =")],
        &expect![
            "line 9: unknown field `more`, expected one of `type`, `id`, `encrypted_share`, `nonce`, `share_salt`, `params`"
        ],
    );
    refused(V2, &[("    slot = \"9d\"\n", "")], &expect!["providers[0].params.slot: is missing"]);
    refused(
        V2,
        &[("\"9d\"", "9")],
        &expect!["line 21: invalid type: integer `9`, expected a string"],
    );
    refused(
        V2,
        &[("version = 2", "version = 1")],
        &expect!["providers: found 1; allowed are 2 to 255"],
    );
}

#[test]
fn counts_fit() {
    refused(
        V2,
        &[("threshold = 1", "threshold = 0")],
        &expect!["threshold: found 0; allowed are 1 to the number of providers, 1"],
    );
    refused(
        V2,
        &[("threshold = 1", "threshold = 2")],
        &expect!["threshold: found 2; allowed are 1 to the number of providers, 1"],
    );
    refused(
        V2,
        &[("threshold = 1", "threshold = 300")],
        &expect!["line 3: invalid value: integer `300`, expected u8"],
    );
    refused(
        V1,
        &[("threshold = 2", "threshold = 1")],
        &expect!["threshold: found 1; allowed are 2 to the number of providers, 3"],
    );
    refused(
        V1,
        &[("threshold = 2", "threshold = 4")],
        &expect!["threshold: found 4; allowed are 2 to the number of providers, 3"],
    );
    refused(&V2[..V2.find("\n[[").unwrap()], &[], &expect!["line 1: missing field `providers`"]);
    refused(
        V2_MORE,
        &[("card-2", "card-1")],
        &expect!["providers[1].id: another provider has the same"],
    );
    refused(
        V2_MORE,
        &[("index = \"2\"", "index = \"1\"")],
        &expect!["providers[1].params.share_index: another provider has the same"],
    );
    refused(
        V2_MORE,
        &[("index = \"2\"", "index = \"0\"")],
        &expect!["providers[1].params.share_index: found 0; allowed are 1 to 255"],
    );
    refused(
        V2_MORE,
        &[("index = \"2\"", "index = \"02\"")],
        &expect![[r#"providers[1].params.share_index: found "02"; allowed is a decimal number"#]],
    );
    refused(
        V2_MORE,
        &[("index = \"2\"", "index = \"256\"")],
        &expect![[r#"providers[1].params.share_index: found "256"; allowed is a decimal number"#]],
    );
}

#[test]
fn values_have_one_form() {
    refused(
        V2,
        &[("bbceb6", "BBceb6")],
        &expect!["output_salt: allowed are 64 lower-case hex digits; found 64 bytes of text"],
    );
    refused(
        V2,
        &[("bbceb6", "bbceb")],
        &expect!["output_salt: allowed are 64 lower-case hex digits; found 63 bytes of text"],
    );
    refused(
        V2,
        &[("salt = \"4079892a", "salt = \"4079892")],
        &expect![
            "providers[0].params.salt: allowed are 64 lower-case hex digits; found 63 bytes of text"
        ],
    );
    refused(
        V2,
        &[("e48c2b0d", "")],
        &expect![
            "providers[0].encrypted_share: allowed are 98 lower-case hex digits; found 90 bytes of text"
        ],
    );
    refused(
        V2,
        &[("key = \"044e", "key = \"044f")],
        &expect!["providers[0].params.public_key: not an uncompressed point of P-256"],
    );
    refused(
        V2,
        &[("key = \"044e", "key = \"034e")],
        &expect!["providers[0].params.public_key: not an uncompressed point of P-256"],
    );
    refused(
        V2,
        &[("\"9d\"", "\"9D\"")],
        &expect![[r#"providers[0].params.slot: found "9D"; allowed is "9d""#]],
    );
    refused(
        V2,
        &[("\"9d\"", "\"9c\"")],
        &expect![
            "providers[0].params.slot: slot 9c is refused: the standard keeps it for signatures, and this key must agree on keys; allowed are 9a, 9d, 9e and 82 to 95"
        ],
    );
}

#[test]
fn values_make_sense() {
    refused(
        V2,
        &[("\"10000001\"", "\"0\"")],
        &expect![[
            r#"providers[0].params.serial: found serial "0"; allowed is the decimal number that `nixos-cryptkey cards` prints"#
        ]],
    );
    refused(
        V2,
        &[("    serial = \"10000001\"\n", "")],
        &expect!["providers[0].params: neither serial nor guid names the card"],
    );
    refused(
        V2,
        &[("\"never\"", "\"Never\"")],
        &expect![
            "providers[0].params.touch_policy: unknown variant `Never`, expected one of `never`, `always`, `cached`"
        ],
    );
    refused(
        V2,
        &[("hash-to-curve", "salt-derived")],
        &expect!["providers[0].params.scheme: allowed is hash-to-curve"],
    );
    refused(
        V2,
        &[("    scheme = \"hash-to-curve\"\n", "")],
        &expect!["providers[0].params.scheme: is missing"],
    );
    refused(
        V2,
        &[("Virtual", "\\u0007")],
        &expect!["providers[0].params.card_name: holds a control character"],
    );
    refused(
        V2,
        &[("\"piv-only\"", "\"a\\nb\"")],
        &expect!["name: is empty or holds a control character"],
    );
    refused(
        V2,
        &[("\"card-1\"", "\"\"")],
        &expect!["providers[0].id: is empty or holds a control character"],
    );
    refused(
        V2,
        &[("card_name =", "\"card=name\" =")],
        &expect!["providers[0].params: a name holds more than letters, digits, _ and -"],
    );
    let guid = "guid = \"00112233-4455-6677-8899-AABBCCDDEEFF\"";
    refused(
        V2,
        &[("card_name =", &format!("{guid}\n    card_name ="))],
        &expect![[
            r#"providers[0].params.guid: found "00112233-4455-6677-8899-AABBCCDDEEFF"; allowed is "00112233445566778899aabbccddeeff""#
        ]],
    );
    let source = "key_source = \"guess\"";
    refused(
        V2,
        &[("card_name =", &format!("{source}\n    card_name ="))],
        &expect![[
            r#"providers[0].params.key_source: found "guess"; allowed are metadata, attestation, certificate and key-agreement"#
        ]],
    );
    refused(
        V2_MORE,
        &[("time = \"2\"", "time = \"+2\"")],
        &expect![[r#"providers[2].params.argon_time: found "+2"; allowed is a decimal number"#]],
    );
}

#[test]
fn a_file_that_is_too_long_is_refused() {
    refused(&" ".repeat(MAX_SIZE + 1), &[], &expect!["it is longer than 262144 bytes"]);
    assert!(Profile::parse(&format!("{}{V2}", "\n".repeat(MAX_SIZE - V2.len()))).is_ok());
}

#[test]
fn optional_params_are_read() {
    let edits = [
        ("    serial = \"10000001\"", "    guid = \"00112233445566778899aabbccddeeff\""),
        ("    pin_policy", "    key_source = \"key-agreement\"\n    pin_policy"),
    ];
    let profile = Profile::parse(&edit(V2, &edits)).unwrap();
    let (_, params) = profile.piv_providers().next().unwrap();
    assert_eq!(params.serial, None);
    assert_eq!(params.guid.unwrap().to_string(), "00112233445566778899aabbccddeeff");
    assert_eq!(params.key_source.unwrap().to_string(), "key-agreement");
    assert_eq!(params.attestation, None);
}

/// Who vouched for the card, and the card's own attestation key: both or none.
#[test]
fn an_attestation_is_two_params() {
    const ROOT: &str = "SHA256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    let [root, key] = ["attestation", "attestation_key"]
        .map(|param| format!("    {param} = \"{ROOT}\"\n    pin_policy"));
    let both = root.replace("    pin_policy", &key);
    let profile = Profile::parse(&edit(V2, &[("    pin_policy", &both)])).unwrap();
    let (_, params) = profile.piv_providers().next().unwrap();
    let trust = params.attestation.unwrap();
    assert_eq!([trust.root, trust.card_key].map(|found| found.to_string()), [ROOT, ROOT]);
    for one in [&root, &key] {
        let together = "providers[0].params: attestation and attestation_key go together";
        let told = Profile::parse(&edit(V2, &[("    pin_policy", one)])).unwrap_err();
        assert!(told.contains(together), "{told}");
    }
    let other = both.replacen("SHA256", "SHA1", 1);
    let told = Profile::parse(&edit(V2, &[("    pin_policy", &other)])).unwrap_err();
    assert!(told.contains("params.attestation: found fingerprint"), "{told}");
}

#[test]
fn version_1_may_leave_the_card_open_and_know_other_providers() {
    for serial in ["", "0"] {
        let text = edit(V1, &[("\"10000001\"", &format!("\"{serial}\""))]);
        let profile = Profile::parse(&text).unwrap();
        assert_eq!(profile.piv_providers().next().unwrap().1.serial, None);
    }
    let profile = Profile::parse(&edit(V1, &[("\"recovery\"", "\"fido2\"")])).unwrap();
    assert_eq!(profile.providers()[2].kind(), &ProviderKind::Unknown("fido2".into()));
    let index = ("    slot =", "    share_index = \"1\"\n    slot =");
    refused(V1, &[index], &expect!["providers[0].params.share_index: version 1 has no such param"]);
    refused(V1, &[("\"recovery\"", "\"a:b\"")], &expect!["providers[2].type: holds a colon"]);
}

#[test]
fn argon2_has_defaults_and_floors() {
    let argon2 = |edits: &[(&str, &str)]| {
        let profile = Profile::parse(&edit(V1, edits)).unwrap();
        let ProviderKind::Recovery(argon2) = profile.providers()[2].kind().clone() else {
            panic!("no recovery code");
        };
        (argon2.time, argon2.memory_kib, argon2.threads)
    };
    let low = [
        ("time = \"2\"", "time = \"1\""),
        ("memory = \"19456\"", "memory = \"8\""),
        ("threads = \"1\"", "threads = \"0\""),
    ];
    assert_eq!(argon2(&low), (2, 19456, 1));
    let missing = [
        ("    argon_time = \"2\"\n", ""),
        ("    argon_memory = \"19456\"\n", ""),
        ("    argon_threads = \"1\"\n", ""),
    ];
    assert_eq!(argon2(&missing), (3, 65536, 4));
}

/// What a later version may add is kept, and is not taken for anything else.
#[test]
fn later_fields_params_and_types_are_kept() {
    let later = [
        ("integrity =", "later = \"a \\\"text\\\"\"\nintegrity ="),
        ("    slot =", "    sloth = \"\"\n    slot ="),
        ("type = \"recovery\"", "type = \"fido2\""),
    ];
    let read = Profile::parse(&edit(V2_MORE, &later)).unwrap();
    let kept = read.to_toml();
    assert!(kept.contains("later = \"a \\\"text\\\"\"\n") && kept.contains("    sloth = \"\"\n"));
    assert!(matches!(read.providers()[2].kind(), ProviderKind::Unknown(name) if name == "fido2"));
    assert_eq!(Profile::parse(&kept).unwrap(), read);
    refused(
        V2,
        &[("integrity =", "\"a.b\" = \"\"\nintegrity =")],
        &expect!["fields: a name holds more than letters, digits, _ and -"],
    );
    refused(
        V2,
        &[("integrity =", "later = \"\\n\"\nintegrity =")],
        &expect!["fields.later: holds a control character"],
    );
    refused(
        V2,
        &[("integrity =", "recipient = \"age1\"\nintegrity =")],
        &expect!["recipient: it is no age recipient"],
    );
    refused(
        V1,
        &[("integrity =", "recipient = \"age1\"\nintegrity =")],
        &expect!["recipient: version 1 has no such field"],
    );
}

#[test]
fn without_a_recipient_the_id_hangs_on_the_output_salt_alone() {
    let id = Profile::parse(V2).unwrap().id();
    expect!["072163d9b82f5f5692cba84cfbe4089d"].assert_eq(&id);
    assert_eq!(Profile::parse(&edit(V2, &[("piv-only", "other")])).unwrap().id(), id);
    assert_ne!(Profile::parse(&edit(V2, &[("bbceb6", "cbceb6")])).unwrap().id(), id);
}

/// A version 1 file is a secret: neither its errors nor its debug output may quote it.
#[test]
fn sealed_data_is_never_quoted() {
    let share = "6fa6952ca403c8a8";
    let errors = [
        edit(V1, &[(share, "6FA6952ca403c8a8")]),
        edit(V1, &[("  encrypted_share = \"", "  encrypted_share = ")]),
        edit(V1, &[("  encrypted_share = \"", "  encrypted_shard = \"")]),
        edit(V1, &[("  encrypted_share =", "  encrypted_share = 7\n  encrypted_share =")]),
    ];
    for text in errors {
        let error = Profile::parse(&text).unwrap_err();
        assert!(!error.to_lowercase().contains("6fa6952c"), "{error}");
        assert!(!error.to_lowercase().contains("a403c8a8"), "{error}");
    }
    let shown = format!("{:?}", Profile::parse(V1).unwrap());
    expect![[r#"Profile { version: V1, name: "piv-piv-recovery", id: "d808fddf5472ab5d847cde2705d7fdf3", providers: [piv:card-1, piv:card-2, recovery:recovery-1], .. }"#]].assert_eq(&shown);
}
