//! The public test vectors, and files of our own.

use std::{fs, path::Path};

use bech32::{Bech32, primitives::decode::CheckedHrpstring};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::chance;

/// The scalar of an identity as age writes it.
fn identity(text: &str) -> Identity {
    let text = text.to_lowercase();
    let bytes: Vec<u8> = CheckedHrpstring::new::<Bech32>(&text).unwrap().byte_iter().collect();
    Identity::new(&bytes.try_into().unwrap())
}

fn recipient(identity: &Identity) -> Recipient {
    Recipient::from(identity.public)
}

/// <https://c2sp.org/CCTV/age>: each file says what becomes of it. What only a passphrase or a hybrid key
/// opens never opens here.
#[test]
fn the_public_vectors_come_to_what_they_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/age");
    let (mut count, mut opened) = (0, 0);
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let end = bytes.windows(2).position(|two| two == b"\n\n").unwrap();
        let text = std::str::from_utf8(&bytes[..end]).unwrap();
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let mut body = bytes[end + 2..].to_vec();
        if field("compressed: ") == Some("zlib") {
            body = miniz_oxide::inflate::decompress_to_vec_zlib(&body).unwrap();
        }
        let own = field("identity: ").filter(|own| own.starts_with("AGE-SECRET-KEY-1"));
        let expected = field("expect: ").unwrap();
        let stranger = Identity::new(&[7; 32]);
        let found = decrypt(&body, own.map(identity).as_ref().unwrap_or(&stranger));
        count += 1;
        let name = path.display();
        match (own, expected, found) {
            (Some(_), "success", Ok(plain)) => {
                let digest = base16ct::lower::encode_string(&Sha256::digest(&*plain));
                assert_eq!(Some(&*digest), field("payload: "), "{name}");
                opened += 1;
            }
            (Some(_), "no match", Err(Fault::NoMatch))
            | (Some(_), "HMAC failure", Err(Fault::Mac))
            | (Some(_), "payload failure", Err(Fault::Payload))
            // Which of the two it is, is said of the binary form.
            | (Some(_), "armor failure", Err(Fault::Armor | Fault::Header))
            | (Some(_), "header failure", Err(Fault::Header))
            | (None, _, Err(_)) => {}
            (_, expected, found) => panic!("{name}: {expected}, and {:?}", found.map(|_| ())),
        }
    }
    assert!(count == 143 && opened > 15, "{opened} of {count}");
}

#[test]
fn whoever_is_named_reads_it_and_nobody_else() {
    let [one, two, stranger] = [1, 2, 3].map(|byte| Identity::new(&[byte; 32]));
    let file = encrypt(b"secret", &[recipient(&one), recipient(&two)]).unwrap();
    assert_eq!(check(&file), Ok(()));
    for own in [&one, &two] {
        assert_eq!(**decrypt(&file, own).unwrap(), *b"secret");
    }
    assert_eq!(decrypt(&file, &stranger), Err(Fault::NoMatch));
}

#[test]
fn what_is_no_age_file_is_told_from_one_for_others() {
    for file in
        [&b""[..], b"password", b"-----BEGIN AGE ENCRYPTED FILE-----\n", b"age-encryption.org/v1\n"]
    {
        assert!(matches!(check(file), Err(Fault::Header | Fault::Armor)));
    }
}

/// What is shared with a point of low order is zero, which everybody knows.
#[test]
fn nothing_is_encrypted_to_a_point_of_low_order() {
    let (mut one, mut minus_one) = ([0; 32], [0xff; 32]);
    one[0] = 1;
    (minus_one[0], minus_one[31]) = (0xec, 0x7f);
    for point in [[0; 32], one, minus_one] {
        let error = encrypt(b"secret", &[Recipient::from(point)]).unwrap_err();
        assert_eq!(error.class, Class::Spec, "{point:?}");
    }
}

#[test]
fn nothing_follows_an_armored_file() {
    let vector = include_str!("../../../tests/vectors/age/armor_x25519");
    let (text, file) = vector.split_once("\n\n").unwrap();
    let own = text.lines().find_map(|line| line.strip_prefix("identity: ")).unwrap();
    let own = identity(own);
    assert!(decrypt(file.as_bytes(), &own).is_ok());
    for twice in [format!("{file}{file}"), format!("{file}-----END AGE ENCRYPTED FILE-----\n")] {
        assert_eq!(decrypt(twice.as_bytes(), &own), Err(Fault::Armor));
    }
}

proptest! {
    #![proptest_config(chance::config("secret::age", 64))]

    #[test]
    fn what_was_sealed_opens_and_what_was_changed_does_not(
        length in prop_oneof![0_usize..200, (0_usize..4).prop_map(|chunks| chunks * 65536), 65530_usize..65550],
        scalar in any::<[u8; 32]>(),
        at in any::<proptest::sample::Index>(),
        cut in any::<proptest::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let own = Identity::new(&scalar);
        let plain: Vec<u8> = (0..length).map(|at| at.to_le_bytes()[0] ^ 0x5a).collect();
        let file = encrypt(&plain, &[recipient(&own)]).unwrap();
        prop_assert_eq!(&**decrypt(&file, &own).unwrap(), &*plain);
        let mut changed = file.clone();
        changed[at.index(file.len())] ^= 1 << bit;
        prop_assert!(decrypt(&changed, &own).is_err());
        prop_assert!(decrypt(&file[..cut.index(file.len())], &own).is_err());
    }
}
