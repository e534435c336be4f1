//! The card held against clients that others wrote: `yubico-piv-tool`, `ykman`, OpenSC. They reach
//! it through a real pcscd and vpcd.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::{FACTORY_KEY, openssl};
use virtual_card::stack::{Pcscd, Server};
use virtual_card::tlv;

const INSTALL: &str =
    "apt-get install pcscd vsmartcard-vpcd opensc yubico-piv-tool yubikey-manager";
const PKCS11: &str = "/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so";

/// A card in a reader of a private pcscd.
struct Stage {
    // Before the daemon: it goes first.
    server: Server,
    pcscd: Pcscd,
}

impl Stage {
    fn new(args: &[&str]) -> Self {
        let pcscd = Pcscd::start(1).unwrap();
        let state = pcscd.dir().join("card");
        let server = Server::start(binary(), &pcscd, 0, &state, args).unwrap();
        Self { server, pcscd }
    }

    /// Serves the same card again, otherwise.
    fn restart(&mut self, args: &[&str]) {
        let state = self.server.state().to_owned();
        // The port has room for one card: the old one goes first.
        self.server.expect_ok("remove").unwrap();
        self.server = Server::start(binary(), &self.pcscd, 0, &state, args).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.pcscd.dir().join(name).to_str().unwrap().to_owned()
    }

    /// What the card remembers.
    fn state(&self) -> serde_json::Value {
        let text = fs::read(self.server.state().join("card.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    fn output(&self, program: &str, args: &[&str]) -> Output {
        let mut command: Command = self.pcscd.command(program);
        // ykman is Python, which wants to know that files are UTF-8.
        command.args(args).env("LC_ALL", "C.UTF-8");
        command.output().unwrap_or_else(|e| panic!("{program}: {e}: {INSTALL}"))
    }

    /// What a client that must succeed says, on both its outputs.
    #[track_caller]
    fn run(&self, program: &str, args: &[&str]) -> String {
        let output = self.output(program, args);
        let text = said(&output);
        let log = self.server.log().unwrap();
        assert!(output.status.success(), "{program} {args:?}: {text}\n{log}");
        text
    }

    #[track_caller]
    fn piv_tool(&self, args: &[&str]) -> String {
        self.run("yubico-piv-tool", &[&["-r", "YubiKey"], args].concat())
    }

    #[track_caller]
    fn ykman(&self, args: &[&str]) -> String {
        self.run("ykman", &[&["--reader", &Pcscd::reader_name(0), "piv"], args].concat())
    }
}

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_virtual-card"))
}

fn said(output: &Output) -> String {
    let both = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[test]
fn yubico_piv_tool_finds_its_card() {
    let stage = Stage::new(&["--serial", "11111111"]);
    let status = stage.piv_tool(&["-a", "status"]);
    assert!(status.contains("Version:\t5.7.1"), "{status}");
    assert!(status.contains("Serial Number:\t11111111"), "{status}");
    assert!(status.contains("PIN tries left:\t3"), "{status}");
}

#[test]
fn yubico_piv_tool_generates_attests_and_computes() {
    // This version of the tool knows no AES management keys.
    let stage = Stage::new(&["--management-key-algorithm", "3des"]);
    let (key, certificate) = (stage.path("key.pem"), stage.path("certificate.pem"));
    let policies = ["--pin-policy=once", "--touch-policy=cached"];
    let generate = ["-a", "generate", "-s", "9d", "-A", "ECCP256", "-o", &key];
    stage.piv_tool(&[&generate[..], &policies].concat());
    stage.piv_tool(&["-a", "attest", "-s", "9d", "-o", &certificate]);
    let attested = openssl(&["x509", "-in", &certificate, "-noout", "-pubkey"], &[]);
    assert_eq!(attested, fs::read(&key).unwrap());

    stage.piv_tool(&["-a", "import-certificate", "-s", "9d", "-i", &certificate]);
    let read = stage.piv_tool(&["-a", "read-certificate", "-s", "9d"]);
    assert_eq!(read, fs::read_to_string(&certificate).unwrap());

    // The tool computes the other side by itself and compares.
    stage.server.expect_ok("touch once").unwrap();
    let compute = ["-a", "verify-pin", "-P", "123456", "-a", "test-decipher", "-s", "9d"];
    let said = stage.piv_tool(&[&compute[..], &["-i", &certificate]].concat());
    assert!(said.contains("Successfully performed ECDH exchange with card."), "{said}");
    let compute = ["-a", "verify-pin", "-P", "123456", "-a", "test-signature", "-s", "9d"];
    stage.server.expect_ok("touch give").unwrap();
    let said = stage.piv_tool(&[&compute[..], &["-i", &certificate]].concat());
    assert!(said.contains("Successful ECDSA verification."), "{said}");
}

#[test]
fn yubico_piv_tool_manages_pins_and_the_management_key() {
    let stage = Stage::new(&["--management-key-algorithm", "3des"]);
    stage.piv_tool(&["-a", "change-pin", "-P", "123456", "-N", "654321"]);
    let wrong = ["-r", "YubiKey", "-a", "verify-pin", "-P", "123456"];
    let wrong = stage.output("yubico-piv-tool", &wrong);
    assert!(!wrong.status.success());
    assert!(said(&wrong).contains("2 tries left"), "{}", said(&wrong));
    stage.piv_tool(&["-a", "verify-pin", "-P", "654321"]);
    stage.piv_tool(&["-a", "unblock-pin", "-P", "12345678", "-N", "111111"]);
    stage.piv_tool(&["-a", "change-puk", "-P", "12345678", "-N", "87654321"]);
    let key = "0102030405060708010203040506070801020304050607ff";
    stage.piv_tool(&["-a", "set-mgm-key", "-n", key]);
    let key = format!("--key={key}");
    stage.piv_tool(&[&key, "-a", "set-chuid"]);
    stage.piv_tool(&[
        &key,
        "-a",
        "verify-pin",
        "-P",
        "111111",
        "-a",
        "pin-retries",
        "--pin-retries",
        "5",
        "--puk-retries",
        "5",
    ]);
    assert!(stage.piv_tool(&["-a", "status"]).contains("PIN tries left:\t5"));
}

#[test]
fn ykman_finds_its_card() {
    let stage = Stage::new(&["--serial", "22222222"]);
    let info = stage.run("ykman", &["--reader", &Pcscd::reader_name(0), "info"]);
    assert!(info.contains("Serial number: 22222222"), "{info}");
    assert!(info.contains("Firmware version: 5.7.1"), "{info}");
    let info = stage.ykman(&["info"]);
    assert!(info.contains("PIN tries remaining: 3/3"), "{info}");
    assert!(info.contains("WARNING: Using default PIN!"), "{info}");
    assert!(info.contains("Management key algorithm: AES192"), "{info}");
}

#[test]
fn ykman_changes_the_management_key_to_every_algorithm() {
    let stage = Stage::new(&[]);
    let mut old = FACTORY_KEY.to_owned();
    for (algorithm, length) in [("TDES", 24), ("AES128", 16), ("AES192", 24), ("AES256", 32)] {
        let new = common::hex(&(0x10..).take(length).collect::<Vec<u8>>());
        stage.ykman(&["access", "change-management-key", "-m", &old, "-n", &new, "-a", algorithm]);
        let info = stage.ykman(&["info"]);
        assert!(info.contains(&format!("Management key algorithm: {algorithm}")), "{info}");
        stage.ykman(&["keys", "generate", "-m", &new, "-a", "ECCP384", "9e", "-"]);
        old = new;
    }
}

#[test]
fn ykman_protects_the_management_key_with_the_pin() {
    let stage = Stage::new(&[]);
    let access = ["access", "change-management-key", "--protect", "-P", "123456"];
    stage.ykman(&[&access[..], &["-m", FACTORY_KEY, "--generate", "-a", "AES256"]].concat());
    let info = stage.ykman(&["info"]);
    assert!(info.contains("Management key is stored on the YubiKey, protected by PIN."), "{info}");
    // From here on the PIN is enough.
    let (key, certificate) = (stage.path("key.pem"), stage.path("certificate.pem"));
    let policies = ["--pin-policy", "once", "--touch-policy", "never"];
    let generate = ["keys", "generate", "-P", "123456", "-a", "ECCP256"];
    stage.ykman(&[&generate[..], &policies, &["9d", &key]].concat());
    stage.ykman(&["keys", "attest", "9d", &certificate]);
    let attested = openssl(&["x509", "-in", &certificate, "-noout", "-pubkey"], &[]);
    assert_eq!(attested, fs::read(&key).unwrap());
    stage.ykman(&["certificates", "generate", "-P", "123456", "-s", "CN=test", "9d", &key]);
    stage.ykman(&["certificates", "export", "9d", &certificate]);
    openssl(&["verify", "-CAfile", &certificate, &certificate], &[]);

    let json = stage.state();
    assert_eq!(json["management_key"]["algorithm"], "aes256");
    let key = json["management_key"]["key"].as_str().unwrap();
    assert_eq!(json["objects"]["5fc109"], format!("88228920{key}"));
}

#[test]
fn ykman_resets_the_card() {
    let stage = Stage::new(&["--slot-key", "9d=generate", "--pin", "999999"]);
    stage.ykman(&["reset", "-f"]);
    let info = stage.ykman(&["info"]);
    assert!(info.contains("WARNING: Using default PIN!"), "{info}");
    assert!(stage.state()["slots"].get("9d").is_none());
}

#[test]
fn opensc_agrees_as_openssl_does() {
    let mut stage = Stage::new(&["--slot-key", "9d=generate"]);
    // OpenSC uses a key only if a certificate says that there is one: the attestation will do.
    let certificate = stage.path("certificate.pem");
    stage.ykman(&["keys", "attest", "9d", &certificate]);
    stage.ykman(&["certificates", "import", "-m", FACTORY_KEY, "9d", &certificate]);
    // And its own short APDUs are enough for it.
    stage.restart(&["--short-only"]);

    let algorithm = common::unhex("301306072a8648ce3d020106082a8648ce3d030107");
    let point = tlv::encode(3, &[&[0], common::some_point().as_slice()].concat());
    let (peer, secret) = (stage.path("peer.der"), stage.path("secret"));
    fs::write(&peer, tlv::encode(0x30, &[algorithm, point].concat())).unwrap();
    let login = ["--module", PKCS11, "--login", "--pin", "123456"];
    let derive = ["--derive", "-m", "ECDH1-DERIVE", "--id", "03", "-i", &peer, "-o", &secret];
    stage.run("pkcs11-tool", &[&login[..], &derive].concat());

    let slot = stage.state()["slots"]["9d"].clone();
    let field = |name: &str| common::unhex(slot[name].as_str().unwrap());
    let (scalar, public) = (field("private_key"), field("public_key"));
    let expected = common::independent_agreement(&scalar, &public, &common::some_point());
    assert_eq!(fs::read(&secret).unwrap(), expected);
}

#[test]
fn opensc_tool_speaks_to_the_card() {
    let stage = Stage::new(&["--short-only"]);
    let name = stage.run("opensc-tool", &["--name"]);
    assert!(name.contains("Personal Identity Verification Card"), "{name}");
    let select = ["-c", "default", "-s", "00:a4:04:00:05:a0:00:00:03:08:00"];
    stage.server.expect_ok("fault ins fd p2 00 sw 6581").unwrap();
    let answer = stage.run("opensc-tool", &[&select[..], &["-s", "00:fd:00:00:00"]].concat());
    assert!(answer.contains("(SW1=0x65, SW2=0x81)"), "{answer}");
    let answer = stage.run("opensc-tool", &[&select[..], &["-s", "00:fd:00:00:00"]].concat());
    assert!(answer.contains("(SW1=0x90, SW2=0x00):\n05 07 01"), "{answer}");
}
