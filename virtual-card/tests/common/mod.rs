//! The host's side of the card, and independent arithmetic through openssl.

#![allow(dead_code, reason = "every test file uses another part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::io::Write;
use std::process::{Command, Stdio};

use tempfile::TempDir;
use virtual_card::tlv;
use virtual_card::{Card, Options};

pub const FACTORY_KEY: &str = "010203040506070801020304050607080102030405060708";
pub const PIN: &[u8] = b"123456";

/// A card in a temporary directory.
pub struct Host {
    pub card: Card,
    pub dir: TempDir,
}

impl Host {
    pub fn new(options: Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let card = Card::open(dir.path(), options).unwrap();
        let mut host = Self { card, dir };
        host.select();
        host
    }

    /// One APDU; data and status word.
    pub fn raw(&mut self, apdu: &[u8]) -> (Vec<u8>, u16) {
        split(self.card.transmit(apdu).unwrap())
    }

    /// A command: chained if it must be, its answer collected.
    pub fn send(&mut self, ins: u8, p1: u8, p2: u8, data: &[u8]) -> (Vec<u8>, u16) {
        let mut rest = data;
        while rest.len() > 255 {
            let (part, after) = rest.split_at(255);
            let (_, sw) = self.raw(&[&[0x10, ins, p1, p2, 255], part].concat());
            assert_eq!(sw, 0x9000);
            rest = after;
        }
        let apdu = match rest.len() {
            0 => vec![0, ins, p1, p2, 0],
            n => [&[0, ins, p1, p2, u8::try_from(n).unwrap()], rest, &[0]].concat(),
        };
        let (mut answer, mut sw) = self.raw(&apdu);
        while sw >> 8 == 0x61 {
            let (more, next) = self.raw(&[0, 0xC0, 0, 0, sw.to_be_bytes()[1]]);
            answer.extend(more);
            sw = next;
        }
        (answer, sw)
    }

    /// A command that must succeed.
    #[track_caller]
    pub fn ok(&mut self, ins: u8, p1: u8, p2: u8, data: &[u8]) -> Vec<u8> {
        let (answer, sw) = self.send(ins, p1, p2, data);
        assert_eq!(sw, 0x9000, "{sw:04x} for {ins:02x} {p1:02x} {p2:02x}");
        answer
    }

    /// The status word of a command.
    pub fn sw(&mut self, ins: u8, p1: u8, p2: u8, data: &[u8]) -> u16 {
        self.send(ins, p1, p2, data).1
    }

    pub fn select(&mut self) {
        self.ok(0xA4, 4, 0, &[0xA0, 0, 0, 3, 8, 0, 0, 0x10, 0, 1, 0]);
    }

    pub fn reset(&mut self) {
        self.card.reset();
        self.select();
    }

    pub fn verify(&mut self, pin: &[u8]) -> u16 {
        self.sw(0x20, 0, 0x80, &padded(pin))
    }

    /// Tries as VERIFY tells them: `9000` is "verified already".
    pub fn tries(&mut self) -> u16 {
        self.sw(0x20, 0, 0x80, &[])
    }

    /// Mutual authentication with the management key; the status word of its last step.
    pub fn authenticate(&mut self, algorithm: u8, key: &str) -> u16 {
        let (answer, sw) = self.send(0x87, algorithm, 0x9B, &[0x7C, 2, 0x80, 0]);
        if sw != 0x9000 {
            return sw;
        }
        let witness = tlv::only(tlv::only(&answer, 0x7C).unwrap(), 0x80).unwrap();
        let challenge: Vec<u8> = (0xA0..).take(witness.len()).collect();
        let data = [
            tlv::encode(0x80, &cipher(algorithm, key, witness, false)),
            tlv::encode(0x81, &challenge),
        ];
        let (answer, sw) = self.send(0x87, algorithm, 0x9B, &tlv::encode(0x7C, &data.concat()));
        if sw == 0x9000 {
            let response = tlv::only(tlv::only(&answer, 0x7C).unwrap(), 0x82).unwrap();
            assert_eq!(response, cipher(algorithm, key, &challenge, true));
        }
        sw
    }

    /// Authenticates with the factory's management key.
    pub fn manage(&mut self) {
        assert_eq!(self.authenticate(0x0A, FACTORY_KEY), 0x9000);
    }

    /// Generates a key; its point.
    pub fn generate(&mut self, slot: u8, algorithm: u8, pin: u8, touch: u8) -> Vec<u8> {
        let wanted = [0xAC, 9, 0x80, 1, algorithm, 0xAA, 1, pin, 0xAB, 1, touch];
        let answer = self.ok(0x47, 0, slot, &wanted);
        tlv::only(tlv::only(&answer, 0x7F49).unwrap(), 0x86).unwrap().to_vec()
    }

    /// Key agreement with P-256.
    pub fn agree(&mut self, slot: u8, point: &[u8]) -> (Vec<u8>, u16) {
        let data = [tlv::encode(0x82, &[]), tlv::encode(0x85, point)].concat();
        let (answer, sw) = self.send(0x87, 0x11, slot, &tlv::encode(0x7C, &data));
        if sw != 0x9000 {
            return (answer, sw);
        }
        (tlv::only(tlv::only(&answer, 0x7C).unwrap(), 0x82).unwrap().to_vec(), sw)
    }

    pub fn get(&mut self, tag: &[u8]) -> (Vec<u8>, u16) {
        self.send(0xCB, 0x3F, 0xFF, &tlv::encode(0x5C, tag))
    }

    pub fn put(&mut self, tag: &[u8], object: &[u8]) -> u16 {
        let data = [tlv::encode(0x5C, tag), tlv::encode(0x53, object)].concat();
        self.sw(0xDB, 0x3F, 0xFF, &data)
    }

    /// The elements of a slot's metadata.
    pub fn metadata(&mut self, slot: u8, tag: u32) -> Vec<u8> {
        let answer = self.ok(0xF7, 0, slot, &[]);
        tlv::find(&tlv::elements(&answer).unwrap(), tag).unwrap().to_vec()
    }

    /// The private key of a slot, from the state file.
    pub fn private_key(&self, slot: &str) -> Vec<u8> {
        let text = std::fs::read_to_string(self.dir.path().join("card.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        unhex(json["slots"][slot]["private_key"].as_str().unwrap())
    }
}

pub fn split(mut answer: Vec<u8>) -> (Vec<u8>, u16) {
    let sw = answer.split_off(answer.len() - 2);
    (answer, u16::from_be_bytes([sw[0], sw[1]]))
}

pub fn padded(pin: &[u8]) -> Vec<u8> {
    let mut pin = pin.to_vec();
    pin.resize(8, 0xFF);
    pin
}

pub fn unhex(text: &str) -> Vec<u8> {
    base16ct::mixed::decode_vec(text).unwrap()
}

pub fn hex(bytes: &[u8]) -> String {
    base16ct::lower::encode_string(bytes)
}

/// A point that is not the card's: the generator of P-256 times 2, from a textbook.
pub fn some_point() -> Vec<u8> {
    unhex(concat!(
        "04",
        "7cf27b188d034f7e8a52380304b51ac3c08969e277f21b35a60b48fc47669978",
        "07775510db8ed040293d9ac69f7430dbba7dade63ce982299e04b79d227873d1"
    ))
}

/// One block through openssl's ciphers.
pub fn cipher(algorithm: u8, key: &str, block: &[u8], encrypt: bool) -> Vec<u8> {
    let name = match algorithm {
        3 => "-des-ede3",
        8 => "-aes-128-ecb",
        0x0A => "-aes-192-ecb",
        _ => "-aes-256-ecb",
    };
    let way = if encrypt { "-e" } else { "-d" };
    openssl(&["enc", name, way, "-nopad", "-K", key], block)
}

/// ECDH on P-256 by openssl: the card's private key with somebody's point.
pub fn independent_agreement(scalar: &[u8], public: &[u8], peer: &[u8]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let curve = [0x06, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 3, 1, 7];
    let ec = [0x06, 7, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 2, 1];
    let bits = |point: &[u8]| tlv::encode(3, &[&[0], point].concat());
    let key = [
        tlv::encode(2, &[1]),
        tlv::encode(4, scalar),
        tlv::encode(0xA0, &curve),
        tlv::encode(0xA1, &bits(public)),
    ];
    let algorithm = tlv::encode(0x30, &[ec.as_slice(), &curve].concat());
    let peer = tlv::encode(0x30, &[algorithm, bits(peer)].concat());
    let (key_file, peer_file) = (dir.path().join("key"), dir.path().join("peer"));
    std::fs::write(&key_file, tlv::encode(0x30, &key.concat())).unwrap();
    std::fs::write(&peer_file, peer).unwrap();
    let (key_file, peer_file) = (key_file.to_str().unwrap(), peer_file.to_str().unwrap());
    let args = ["pkeyutl", "-derive", "-inkey", key_file, "-keyform", "DER"];
    openssl(&[&args[..], &["-peerkey", peer_file, "-peerform", "DER"]].concat(), &[])
}

/// Runs openssl and gives what it wrote.
pub fn openssl(args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("openssl")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("apt-get install openssl");
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {args:?}");
    output.stdout
}
