//! What the memory of the release binary holds after publishing and at its end, and that it can't be
//! dumped.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::{self, File},
    os::unix::fs::FileExt,
    process::Command,
};

use nix::{libc, unistd::Pid};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    flows::{Bench, CHANGE, ENROLL, Flow, PUBLISH, VERIFY},
    support::{TestCard, Yubikey, cards::virtual_card, machine::merge},
    tracer::{Stop, Then, trace},
};

/// Secrets are looked for in fragments of this many bytes.
const FRAGMENT: usize = 8;

/// The management key of the card, which is not the one that makers ship.
const MANAGEMENT_KEY: &str = "9f3a61c7d2580be4417cce05ba92f8163d7a50e9846b1fc2";

/// What is looked for: fragments, and shorter things as a whole.
#[derive(Default)]
struct Needles {
    fragments: HashMap<[u8; FRAGMENT], String>,
    whole: Vec<(Vec<u8>, String)>,
}

impl Needles {
    /// Adds a secret as it is and as arithmetic and hashes keep it.
    fn add(&mut self, what: &str, secret: &[u8]) {
        if secret.len() < 2 * FRAGMENT {
            return self.whole.push((secret.to_vec(), what.into()));
        }
        let xor = |with: u8| secret.iter().map(|byte| byte ^ with).collect::<Vec<_>>();
        let words = |length| secret.chunks(length).flat_map(|word| word.iter().rev().copied());
        for (form, bytes) in [
            ("", secret.to_vec()),
            (" in hex", base16ct::lower::encode_string(secret).into_bytes()),
            // HMAC's inner and outer key.
            (" of HMAC", xor(0x36)),
            (" of HMAC", xor(0x5c)),
            // SHA-256's words, and limbs of big integers.
            (" in words", words(4).collect()),
            (" of HMAC in words", words(4).map(|byte| byte ^ 0x36).collect()),
            (" of HMAC in words", words(4).map(|byte| byte ^ 0x5c).collect()),
            (" in limbs", words(secret.len()).collect()),
        ] {
            for window in bytes.windows(FRAGMENT) {
                let window = window.try_into().unwrap();
                self.fragments.entry(window).or_insert_with(|| format!("{what}{form}"));
            }
        }
    }

    /// What of all this is in memory, and where.
    fn found_in(&self, memory: &[Map]) -> BTreeSet<String> {
        let beginning = |bytes: &[u8]| usize::from(u16::from_le_bytes([bytes[0], bytes[1]]));
        // Nearly every place is ruled out by its first two bytes.
        let mut begins = vec![false; 1 << 16];
        let whole = self.whole.iter().map(|(needle, _)| &needle[..]);
        for needle in self.fragments.keys().map(|needle| &needle[..]).chain(whole) {
            begins[beginning(needle)] = true;
        }
        let mut found = BTreeSet::new();
        for Map { place, bytes } in memory {
            for at in (0..bytes.len() - FRAGMENT).filter(|&at| begins[beginning(&bytes[at..])]) {
                let fragment = self.fragments.get(&bytes[at..at + FRAGMENT]);
                let whole = self.whole.iter().find(|(needle, _)| bytes[at..].starts_with(needle));
                let what = fragment.into_iter().chain(whole.map(|(_, what)| what));
                found.extend(what.map(|what| format!("{what} in {place}")));
            }
        }
        found
    }
}

/// A part of a process's memory.
struct Map {
    /// What it is: a file, `[stack]`, `[heap]`.
    place: String,
    bytes: Vec<u8>,
}

/// All memory that the process can read.
fn snapshot(process: Pid) -> Vec<Map> {
    /// The kernel's own.
    const KERNEL: [&str; 4] = ["[vvar]", "[vvar_vclock]", "[vsyscall]", "[vdso]"];
    let memory = File::open(format!("/proc/{process}/mem")).unwrap();
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let number = |text| u64::from_str_radix(text, 16).unwrap();
    let mut parts = Vec::new();
    for map in maps.lines() {
        let fields: Vec<_> = map.split_whitespace().collect();
        let place = fields.get(5).copied().unwrap_or("a thread's stack or heap");
        if fields[1].starts_with('r') && !KERNEL.contains(&place) {
            let (start, end) = fields[0].split_once('-').unwrap();
            let mut bytes = vec![0; usize::try_from(number(end) - number(start)).unwrap()];
            memory
                .read_exact_at(&mut bytes, number(start))
                .unwrap_or_else(|e| panic!("{map}: {e}"));
            parts.push(Map { place: place.into(), bytes });
        }
    }
    parts
}

/// Whether what a call writes has these bytes in it.
fn sends(stop: &Stop, bytes: &[u8]) -> bool {
    let sends = [libc::SYS_write, libc::SYS_sendto].contains(&stop.call) && !stop.done;
    let length = usize::try_from(stop.arguments[2]).unwrap_or(0).min(4096);
    sends && stop.read(stop.arguments[1], length).windows(bytes.len()).any(|part| part == bytes)
}

/// The stops at which memory is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    /// The PIN goes to the card.
    Presenting,
    /// A secret is written to its file.
    Writing,
    /// The rename that publishes is done.
    Published,
    /// The result goes to standard output.
    Telling,
    /// The process exits.
    Exit,
}

fn moment(stop: &Stop, pin: &str) -> Option<Moment> {
    let renames = [libc::SYS_renameat, libc::SYS_renameat2].contains(&stop.call);
    match stop.call {
        libc::SYS_exit_group => Some(Moment::Exit),
        libc::SYS_write if stop.arguments[0] == 1 && !stop.done => Some(Moment::Telling),
        // 32 bytes in hex.
        libc::SYS_write if stop.arguments[2] == 64 && !stop.done => Some(Moment::Writing),
        // That of a record of PINs is none of these.
        _ if renames && stop.done && path(stop, 3) == "vault" => Some(Moment::Published),
        _ if sends(stop, pin.as_bytes()) => Some(Moment::Presenting),
        _ => None,
    }
}

/// The path that an argument points to.
fn path(stop: &Stop, argument: usize) -> String {
    let bytes = stop.read(stop.arguments[argument], 64);
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// A machine with a card whose management key is its own.
fn bench() -> Bench {
    let dir = TempDir::new().unwrap();
    let init = ["--init-only", "--port", "1", "--serial", Yubikey::SERIAL, "--pin", Yubikey::PIN];
    let mut command = Command::new(virtual_card());
    assert!(command.arg("--state").arg(dir.path()).args(init).status().unwrap().success());
    let file = dir.path().join("card.json");
    let mut memory: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    merge(&mut memory["management_key"], json!({ "key": MANAGEMENT_KEY, "default": false }));
    fs::write(&file, memory.to_string()).unwrap();
    let mut bench = Bench::with(dir);
    bench.extra["managementKey"] = bench.machine.secret_file("management.key", MANAGEMENT_KEY);
    bench
}

/// Runs the flow and looks at its memory; what was found, by the moment.
fn found(bench: &mut Bench, flow: &Flow) -> BTreeMap<Moment, BTreeSet<String>> {
    (flow.prepare)(bench);
    let mut snapshots = BTreeMap::new();
    let ended = trace(&bench.command(flow), |stop| {
        if let Some(moment) = moment(stop, Yubikey::PIN) {
            snapshots.insert(moment, snapshot(stop.process));
        }
        Then::GoOn
    });
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    let mut needles = Needles::default();
    needles.add("the PIN", Yubikey::PIN.as_bytes());
    needles.add("the management key", &hex(&json!(MANAGEMENT_KEY)));
    let secrets = bench.secrets().clone();
    for (what, value) in secrets["outputs"].as_object().unwrap() {
        needles.add(&format!("the output {what}"), &hex(value));
    }
    for (what, value) in secrets["providers"][0].as_object().unwrap() {
        needles.add(what, &hex(value));
    }
    for (what, value) in secrets.as_object().unwrap().iter().filter(|(_, value)| value.is_string())
    {
        needles.add(what, &hex(value));
    }
    let search = |(moment, memory): (_, Vec<Map>)| (moment, needles.found_in(&memory));
    snapshots.into_iter().map(search).collect()
}

fn hex(value: &Value) -> Vec<u8> {
    base16ct::mixed::decode_vec(value.as_str().unwrap()).unwrap()
}

#[test]
fn nothing_is_left() {
    let mut bench = bench();
    for flow in [ENROLL, VERIFY, PUBLISH, CHANGE] {
        println!("{} {:#?}", flow.name, found(&mut bench, &flow));
    }
}
