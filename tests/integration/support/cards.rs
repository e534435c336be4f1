//! The two cards that the tests put into readers, as one trait.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use base64ct::{Base64, Base64Unpadded, Encoding};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use virtual_card::stack::{Pcscd, Server};

use super::{Client, Machine};

/// One APDU of a card's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Apdu {
    /// CLA, INS, P1, P2 as hex.
    pub header: String,
    /// Whether it carried data.
    pub data: bool,
    /// The status word as hex; empty where the card was pulled.
    pub status: String,
}

impl Apdu {
    pub fn ins(&self) -> &str {
        &self.header[2..4]
    }

    pub fn slot(&self) -> &str {
        &self.header[6..8]
    }

    /// Whether it presents a PIN.
    pub fn verifies(&self) -> bool {
        self.ins() == "20" && self.data
    }

    /// Whether it asks how many tries the PIN has.
    pub fn counts(&self) -> bool {
        self.ins() == "20" && !self.data
    }

    /// Whether it makes a key.
    pub fn generates(&self) -> bool {
        self.ins() == "47"
    }

    /// Whether it is a key agreement.
    pub fn agrees(&self) -> bool {
        self.ins() == "87" && self.slot() != "9b"
    }
}

/// A card in a reader.
pub trait TestCard: Sized {
    /// A name for messages.
    const NAME: &str;
    /// Its PIN.
    const PIN: &str;

    /// The card whose state is in a directory, or a new one, in a reader.
    fn again(machine: &Machine, reader: usize, dir: TempDir) -> Self;
    /// Takes it out of its reader for good; what it remembers.
    fn retire(self) -> TempDir;
    /// Its directory.
    fn dir(&self) -> &Path;
    /// The private key in a slot, as hex.
    fn private_key(&self, slot: &str) -> String;

    /// A new card with an empty slot 9d, in a reader.
    fn new(machine: &Machine, reader: usize) -> Self {
        Self::again(machine, reader, TempDir::new().unwrap())
    }

    /// Sends a line to its control socket.
    fn control(&self, line: &str) -> String {
        let mut stream = UnixStream::connect(self.dir().join("control.sock")).unwrap();
        writeln!(stream, "{line}").unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        answer.trim_end().into()
    }

    /// The same, where "ok" is the only good answer.
    #[track_caller]
    fn tell(&self, line: &str) {
        assert_eq!(self.control(line), "ok", "{line}");
    }

    fn remove(&self) {
        self.tell("remove");
    }

    fn insert(&self) {
        self.tell("insert");
    }

    /// The APDUs since the last [`Self::reset_counts`], without GET RESPONSE.
    fn count(&self) -> u64 {
        let counts: Value = serde_json::from_str(&self.control("count")).unwrap();
        counts["without_get_response"].as_u64().unwrap()
    }

    fn reset_counts(&self) {
        self.tell("count reset");
    }

    /// The APDUs so far, without GET RESPONSE.
    fn log(&self) -> Vec<Apdu> {
        let log = fs::read_to_string(self.dir().join("apdu.log")).unwrap_or_default();
        log.lines().map(parse).filter(|apdu| apdu.ins() != "c0").collect()
    }

    /// What of the log came after `before`.
    fn log_since(&self, before: usize) -> Vec<Apdu> {
        self.log().split_off(before)
    }

    /// How often a PIN was presented.
    fn presented(&self) -> usize {
        self.log().iter().filter(|apdu| apdu.verifies()).count()
    }

    /// How often a key was generated.
    fn generated(&self) -> usize {
        self.log().iter().filter(|apdu| apdu.generates()).count()
    }
}

/// `7 00 87 11 9d in=71 7c45… out=38 sw=9000` or `000007 0087119d lc=71 answer=38 sw=9000`.
fn parse(line: &str) -> Apdu {
    let (_, rest) = line.split_once(' ').unwrap();
    let mut header = String::new();
    let mut rest = rest.split(' ');
    while header.len() < 8 {
        header.push_str(rest.next().unwrap());
    }
    let mut apdu = Apdu { header, data: false, status: String::new() };
    for field in rest {
        match field.split_once('=') {
            Some(("in", length)) => apdu.data = length.parse::<usize>().unwrap() > 5,
            Some(("lc", length)) => apdu.data = length.parse::<usize>().unwrap() > 0,
            Some(("sw", status)) => apdu.status = status.into(),
            _ => {}
        }
    }
    apdu
}

/// The project's virtual card, which models a `YubiKey` 5.
pub struct Yubikey {
    server: Server,
    dir: TempDir,
    reader: usize,
}

/// The program `virtual-card`; cargo builds it beside ours.
pub fn virtual_card() -> PathBuf {
    program("CRYPTKEY_VIRTUAL_CARD", "virtual-card")
}

/// The program `nitrokey-card`, a workspace of its own, which `make` builds beside ours.
pub fn nitrokey_card() -> PathBuf {
    program("CRYPTKEY_NITROKEY_CARD", "nitrokey-card")
}

/// The program that the environment variable names, or else the one of that name beside ours.
fn program(variable: &str, name: &str) -> PathBuf {
    let beside = || Path::new(env!("CARGO_BIN_EXE_nixos-cryptkey")).with_file_name(name);
    let path = env::var_os(variable).map_or_else(beside, PathBuf::from);
    assert!(path.exists(), "{} is missing: `make test` builds it", path.display());
    path
}

impl Yubikey {
    pub const SERIAL: &str = "90210001";

    /// A card as these arguments of `virtual-card` make it.
    pub fn with(machine: &Machine, reader: usize, args: &[&str]) -> Self {
        Self::at(machine, reader, TempDir::new().unwrap(), args)
    }

    /// The same with the card's state in `dir`.
    pub fn at(machine: &Machine, reader: usize, dir: TempDir, args: &[&str]) -> Self {
        let mut all = vec!["--pin", Self::PIN];
        if !args.contains(&"--serial") {
            all.extend(["--serial", Self::SERIAL]);
        }
        all.extend(args);
        let server =
            Server::start(&virtual_card(), &machine.pcscd, reader, dir.path(), &all).unwrap();
        Self { server, dir, reader }
    }

    /// What the card remembers.
    pub fn memory(&self) -> Value {
        let text = fs::read_to_string(self.dir().join("card.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// Has it remember that from now on.
    #[allow(dead_code, reason = "for the campaign")]
    pub fn remember(&self, memory: &str) {
        fs::write(self.dir().join("card.json"), memory).unwrap();
        self.tell("reload");
    }

    /// The fingerprint of the key in a slot, as a spec names it.
    pub fn fingerprint(&self, slot: &str) -> String {
        /// A `SubjectPublicKeyInfo` up to its point of P-256 (RFC 5480).
        const SPKI: &str = "3059301306072a8648ce3d020106082a8648ce3d030107034200";
        let memory = self.memory();
        let public = memory["slots"][slot]["public_key"].as_str().unwrap();
        let spki = base16ct::lower::decode_vec(format!("{SPKI}{public}")).unwrap();
        let digits = Base64Unpadded::encode_string(&Sha256::digest(spki));
        format!("SHA256:{digits}")
    }

    /// Kills its process, as if card and reader were lost at once; what it remembers.
    #[allow(dead_code, reason = "for the campaign")]
    pub fn kill(self) -> TempDir {
        drop(self.server);
        self.dir
    }

    /// The card after somebody gave it another PIN, elsewhere.
    pub fn with_pin(self, machine: &Machine, pin: &str) -> Self {
        let reader = self.reader;
        let dir = self.retire();
        let file = dir.path().join("card.json");
        let hex = |pin: &str| base16ct::lower::encode_string(pin.as_bytes());
        let memory = fs::read_to_string(&file).unwrap();
        assert!(memory.contains(&hex(Self::PIN)));
        fs::write(&file, memory.replace(&hex(Self::PIN), &hex(pin))).unwrap();
        Self::at(machine, reader, dir, &[])
    }

    pub fn tries(&self) -> u64 {
        self.memory()["pin"]["tries"].as_u64().unwrap()
    }

    /// Writes the root that vouches for the card to a file; its path.
    pub fn root_file(&self, machine: &Machine) -> PathBuf {
        let memory = self.memory();
        let root = memory["attestation_root"].as_str().unwrap();
        let root = base16ct::mixed::decode_vec(root).unwrap();
        let digits = Base64::encode_string(&root);
        let path = machine.dir().join("root.pem");
        let armor = |what| format!("-----{what} CERTIFICATE-----\n");
        fs::write(&path, format!("{}{digits}\n{}", armor("BEGIN"), armor("END"))).unwrap();
        path
    }

    pub fn reader(&self) -> String {
        Pcscd::reader_name(self.reader)
    }
}

impl TestCard for Yubikey {
    const NAME: &str = "virtual card";
    const PIN: &str = "704193";

    fn again(machine: &Machine, reader: usize, dir: TempDir) -> Self {
        Self::at(machine, reader, dir, &[])
    }

    fn retire(self) -> TempDir {
        self.remove();
        self.dir
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn private_key(&self, slot: &str) -> String {
        let memory = self.memory();
        memory["slots"][slot]["private_key"].as_str().unwrap().into()
    }

    fn insert(&self) {
        self.server.insert().unwrap();
    }
}

/// The PIV application of the Nitrokey 3, which nobody here wrote.
pub struct Nitrokey {
    process: Process,
    dir: TempDir,
}

/// A process that ends with its owner.
struct Process(Child);

impl Nitrokey {
    /// The card whose state is in a directory, with its reader at this port.
    pub fn at_port(machine: &Machine, reader: usize, dir: TempDir, port: u16) -> Self {
        let mut child = Command::new(nitrokey_card())
            .arg("--state")
            .arg(dir.path())
            .args(["--port", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let process = Process(child);
        // The card sits in its reader: pcscd has yet to tell.
        Client::new(machine).ask(&format!("await {}", Pcscd::reader_name(reader)));
        Self { process, dir }
    }
}

impl TestCard for Nitrokey {
    const NAME: &str = "Nitrokey";
    const PIN: &str = "123456";

    fn again(machine: &Machine, reader: usize, dir: TempDir) -> Self {
        Self::at_port(machine, reader, dir, machine.pcscd.port(reader))
    }

    fn retire(self) -> TempDir {
        self.remove();
        drop(self.process);
        self.dir
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn private_key(&self, slot: &str) -> String {
        let output = Command::new(nitrokey_card())
            .arg("--state")
            .arg(self.dir())
            .args(["--print-key", slot, "--pin", Self::PIN])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().into()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
