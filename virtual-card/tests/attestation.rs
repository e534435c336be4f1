//! The certificates that say where a key was made.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::Host;
use virtual_card::{Options, tlv};
use x509_cert::Certificate;
use x509_cert::der::Decode;

fn extension(certificate: &Certificate, last: u8) -> Vec<u8> {
    let oid = format!("1.3.6.1.4.1.41482.3.{last}");
    let extensions = certificate.tbs_certificate().extensions().unwrap();
    let found = extensions.iter().find(|e| e.extn_id.to_string() == oid).unwrap();
    found.extn_value.as_bytes().to_vec()
}

/// Has openssl verify a certificate with a chain.
fn verify(root: &[u8], intermediate: &[u8], leaf: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    let pem = |name: &str, der: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, common::openssl(&["x509", "-inform", "DER"], der)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (root, middle, leaf) = (pem("root", root), pem("middle", intermediate), pem("leaf", leaf));
    common::openssl(&["verify", "-CAfile", &root, "-untrusted", &middle, &leaf], &[]);
}

#[test]
fn a_generated_key_is_attested_by_the_chain() {
    let serial = 0xF000_0001;
    let mut host = Host::new(Options { serial, ..Options::default() });
    host.manage();
    for (algorithm, pin, touch) in [(0x11, 2, 3), (0x14, 1, 1)] {
        let point = host.generate(0x9D, algorithm, pin, touch);
        let leaf = host.ok(0xF9, 0x9D, 0, &[]);
        let object = host.get(&[0x5F, 0xFF, 1]).0;
        let object = tlv::elements(tlv::only(&object, 0x53).unwrap()).unwrap();
        let intermediate = tlv::find(&object, 0x70).unwrap();
        verify(&host.card.state().attestation_root.0, intermediate, &leaf);

        let leaf = Certificate::from_der(&leaf).unwrap();
        let key = leaf.tbs_certificate().subject_public_key_info();
        assert_eq!(key.subject_public_key.raw_bytes(), point);
        assert_eq!(extension(&leaf, 3), [5, 7, 1]);
        assert_eq!(extension(&leaf, 7), [2, 5, 0, 0xF0, 0, 0, 1]);
        assert_eq!(extension(&leaf, 8), [pin, touch]);
        assert_eq!(extension(&leaf, 9), [1]);
        assert_eq!(leaf.tbs_certificate().subject().to_string(), "CN=YubiKey PIV Attestation 9d");
    }
}

#[test]
fn an_imported_key_and_an_empty_slot_are_not_attested() {
    let mut host = Host::new(Options::default());
    assert_eq!(host.sw(0xF9, 0x9D, 0, &[]), 0x6A82);
    host.manage();
    host.ok(0xFE, 0x11, 0x9D, &tlv::encode(6, &[5; 32]));
    assert_eq!(host.sw(0xF9, 0x9D, 0, &[]), 0x6A80);
}
