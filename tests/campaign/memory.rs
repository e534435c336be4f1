//! What the memory of the release binary holds after publishing and at its end, and that it can't be
//! dumped.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::{self, File},
    os::unix::{ffi::OsStrExt as _, fs::FileExt},
    process::Command,
    thread,
};

use nix::{
    libc,
    sys::{signal::Signal, wait::WaitStatus},
    unistd::Pid,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    bench::Bench,
    cards::protect,
    extent::tell,
    flows::{
        ABANDON, ATTESTED, CHANGE, CHANGED_KEY, DAMAGED, ENROLL, Flow, OVERWRITE, PUBLISH, REFUSED,
        RESEAL, TYPED_PIN, VERIFY, WRONG, WRONG_ANSWER, WRONG_PIN,
    },
    support::{TestCard, Yubikey, agent::Agent, cards::virtual_card, machine::merge},
    tracer::{Stop, Then, trace},
};

/// Secrets are looked for in fragments of this many bytes.
const FRAGMENT: usize = 8;

/// The management key of the card, which is not the one that makers ship.
const MANAGEMENT_KEY: &str = "9f3a61c7d2580be4417cce05ba92f8163d7a50e9846b1fc2";

/// What is looked for: fragments, and shorter things as a whole.
#[derive(Default)]
pub struct Needles {
    fragments: HashMap<[u8; FRAGMENT], String>,
    whole: Vec<(Vec<u8>, String)>,
}

impl Needles {
    /// Adds a secret as it is and as arithmetic and hashes keep it.
    pub fn add(&mut self, what: &str, secret: &[u8]) {
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

    /// Adds a secret as it is, of at least a fragment's length.
    pub fn add_as_it_is(&mut self, what: &str, secret: &[u8]) {
        for window in secret.windows(FRAGMENT) {
            self.fragments.entry(window.try_into().unwrap()).or_insert_with(|| what.into());
        }
    }

    /// What of all this is in memory, and where.
    pub fn found_in(&self, memory: &[Map]) -> BTreeSet<String> {
        let beginning = |bytes: &[u8]| usize::from(u16::from_le_bytes([bytes[0], bytes[1]]));
        // Nearly every place is ruled out by its first two bytes.
        let mut begins = vec![false; 1 << 16];
        let whole = self.whole.iter().map(|(needle, _)| &needle[..]);
        for needle in self.fragments.keys().map(|needle| &needle[..]).chain(whole) {
            begins[beginning(needle)] = true;
        }
        let mut found = BTreeSet::new();
        for Map { place, bytes, .. } in memory {
            for at in (0..bytes.len().saturating_sub(FRAGMENT))
                .filter(|&at| begins[beginning(&bytes[at..])])
            {
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
pub struct Map {
    /// What it is: a file, `[stack]`, `[heap]`.
    place: String,
    /// Its first address.
    start: u64,
    bytes: Vec<u8>,
}

/// All memory that the process can read; or only the heaps, and the stack of its first thread.
pub fn snapshot(process: Pid, all: bool) -> Vec<Map> {
    /// The kernel's own.
    const KERNEL: [&str; 4] = ["[vvar]", "[vvar_vclock]", "[vsyscall]", "[vdso]"];
    let memory = File::open(format!("/proc/{process}/mem")).unwrap();
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let number = |text| u64::from_str_radix(text, 16).unwrap();
    let mut parts = Vec::new();
    for map in maps.lines() {
        let fields: Vec<_> = map.split_whitespace().collect();
        let place = fields.get(5).copied().unwrap_or("a thread's stack or heap");
        let (start, end) = fields[0].split_once('-').unwrap();
        let length = usize::try_from(number(end) - number(start)).unwrap();
        let small = fields.get(5).is_none() && length <= 1 << 18;
        let wanted = all || small || ["[stack]", "[heap]"].contains(&place);
        if wanted && fields[1].starts_with('r') && !KERNEL.contains(&place) {
            let mut bytes = vec![0; length];
            let start = number(start);
            // Another thread may have given the end of it back meanwhile.
            let read = memory.read_at(&mut bytes, start).unwrap_or_default();
            assert!(read > 0 || !all, "{map}");
            bytes.truncate(read);
            parts.push(Map { place: place.into(), start, bytes });
        }
    }
    parts
}

/// Panics if calls that have returned left anything deep in the stack. What printing leaves near the
/// stack pointer is nothing secret, and wiping leaves a return address or two where it ends.
fn assert_wiped(stop: &Stop, memory: &[Map]) {
    const NEAR: u64 = 16 << 10;
    let stack = memory.iter().find(|map| map.place == "[stack]").unwrap();
    let deep = &stack.bytes[..usize::try_from(stop.stack - NEAR - stack.start).unwrap()];
    let left = deep.iter().filter(|&&byte| byte != 0).count();
    let depth = |at| NEAR + (deep.len() - at) as u64;
    let first = deep.iter().position(|&byte| byte != 0).map(depth);
    let last = deep.iter().rposition(|&byte| byte != 0).map(depth);
    assert!(left <= 128, "{left} bytes are left in the stack, {first:?} to {last:?} bytes deep");
}

/// The stops at which memory is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// Anything is sent or written, but for the result: secrets are in use.
    Working,
    /// The rename that publishes is done.
    Published,
    /// The result goes to standard output.
    Telling,
    /// The process exits.
    Exit,
}

impl Moment {
    pub fn of(stop: &Stop) -> Option<Self> {
        match stop.call {
            libc::SYS_exit_group => Some(Self::Exit),
            libc::SYS_write if stop.arguments[0] == 1 && !stop.done => Some(Self::Telling),
            libc::SYS_write | libc::SYS_sendto if !stop.done => Some(Self::Working),
            // That of a record of PINs is none of these.
            _ if stop.renames() && stop.done && stop.text(3) == "vault" => Some(Self::Published),
            _ => None,
        }
    }
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
    let mut memory: BTreeMap<Moment, Vec<Map>> = BTreeMap::new();
    let ended = trace(&bench.command(flow), |stop| {
        if let Some(moment) = Moment::of(stop) {
            let parts = snapshot(stop.process, moment != Moment::Working);
            if moment == Moment::Telling {
                assert_wiped(stop, &parts);
            }
            memory.entry(moment).or_default().extend(parts);
        }
        Then::GoOn
    });
    assert_eq!(ended.code(), Some(flow.codes[0]), "{ended:?}");
    bench.mend();
    let mut needles = Needles::default();
    needles.add("the PIN", Yubikey::PIN.as_bytes());
    needles.add("a wrong PIN", WRONG.as_bytes());
    needles.add("the management key", &hex(&bench.card.memory()["management_key"]["key"]));
    let secrets = bench.secrets().clone();
    let providers = secrets["providers"].as_array().unwrap();
    for of in [&secrets["outputs"], &secrets].into_iter().chain(providers) {
        for (what, value) in of.as_object().unwrap().iter().filter(|(_, value)| value.is_string()) {
            needles.add(what, &hex(value));
        }
    }
    // What may well be there shows that the search finds it.
    let harmless = "the state directory";
    needles.add(harmless, bench.machine.state.as_os_str().as_bytes());
    let search = |(moment, memory): (_, Vec<Map>)| (moment, needles.found_in(&memory));
    let mut found: BTreeMap<_, _> = memory.into_iter().map(search).collect();
    let told = found.get_mut(&Moment::Telling).unwrap();
    assert!(told.iter().any(|what| what.starts_with(harmless)), "{told:?}");
    for found in found.values_mut() {
        found.retain(|what| !what.starts_with(harmless));
    }
    found
}

fn hex(value: &Value) -> Vec<u8> {
    base16ct::mixed::decode_vec(value.as_str().unwrap()).unwrap()
}

/// Runs flows one after the other, and looks at the memory of each: what has to be in it while it is
/// in use, and at the end must not. How often it was looked at.
fn look_at(mut bench: Bench, flows: &[(Flow, &[&str])]) -> usize {
    for (flow, in_use) in flows {
        let found = found(&mut bench, flow);
        for what in *in_use {
            let working = &found[&Moment::Working];
            let is_found = working.iter().any(|found| found.starts_with(what));
            assert!(is_found, "{}: {what} was in use, and not found: {working:?}", flow.name);
        }
        // The outputs until the set that they replaced is gone; the PIN for the keys that come after.
        let published = found.get(&Moment::Published).into_iter().flatten();
        let mut more = published.filter(|what| !what.contains("in hex") && !what.contains("PIN"));
        assert_eq!(more.next(), None, "{}: after the rename", flow.name);
        for moment in [Moment::Telling, Moment::Exit] {
            assert_eq!(found[&moment], BTreeSet::new(), "{}: {moment:?}", flow.name);
        }
    }
    2 * flows.len()
}

/// A card that keeps its management key behind the PIN.
fn protected() -> Bench {
    let mut bench = Bench::new();
    protect(&bench.machine, &bench.card);
    bench.extra["managementKey"] = json!({ "protected": true });
    bench
}

#[test]
fn no_secret_is_left() {
    const ALL: &[&str] = &["the PIN", "the management key", "shared_x", "one in hex"];
    const PUBLISHES: &[&str] = &["the PIN", "shared_x", "one in hex", "two in hex"];
    let good = [
        (ENROLL, ALL),
        (VERIFY, &["the PIN", "shared_x"]),
        (PUBLISH, PUBLISHES),
        (CHANGE, &["the PIN", "shared_x", "one in hex", "five in hex"]),
        (TYPED_PIN, PUBLISHES),
    ];
    let errors = [
        (WRONG_PIN, &["a wrong PIN"][..]),
        (CHANGED_KEY, &[]),
        (WRONG_ANSWER, &["the PIN"]),
        (DAMAGED, &["the PIN", "shared_x"]),
        (REFUSED, &["the PIN", "shared_x"]),
    ];
    let resealed = &ALL[..3];
    let overwriting = [(OVERWRITE, ALL), (ABANDON, ALL), (RESEAL, resealed)];
    let _person = Agent::answer("cryptkey:vault", Yubikey::PIN);
    let looked: usize = thread::scope(|scope| {
        let runs = [
            scope.spawn(|| look_at(bench(), &good)),
            scope.spawn(|| look_at(bench(), &errors)),
            scope.spawn(|| look_at(bench(), &overwriting)),
            scope.spawn(|| look_at(bench(), &[(ATTESTED, ALL)])),
            scope.spawn(|| look_at(protected(), &[(ENROLL, ALL)])),
        ];
        runs.into_iter().map(|run| run.join().unwrap()).sum()
    });
    tell(&format!(
        "memory: looked at {looked} times, when the result is told and at exit, in all that the process \
         can read, of runs that enroll, verify, publish and overwrite and of {} that end with an error, \
         for the PIN, the management key (also one that the card keeps behind the PIN) and every key, \
         share and output on the way, as they are, in hex, as HMAC, SHA-256 and big integers keep them, \
         in fragments of {FRAGMENT} bytes: nothing found; while in use they were found",
        errors.len()
    ));
}

/// Ends a program with a signal at the first stop that `at` wants; whether its memory was dumped.
fn is_dumped(command: &mut Command, signal: Signal, at: impl Fn(&Stop) -> bool + Sync) -> bool {
    let place = TempDir::new().unwrap();
    let mut sent = false;
    let ended = trace(command.current_dir(place.path()), |stop| {
        if !sent && at(stop) {
            sent = true;
            return Then::Send(signal);
        }
        Then::GoOn
    });
    match ended.status {
        WaitStatus::Signaled(_, by, dumped) if by == signal => dumped,
        other => panic!("{other:?}: {ended:?}"),
    }
}

#[test]
fn memory_cannot_be_dumped() {
    let mut bench = bench();
    // The very same way to die, of a program that does nothing against it.
    let mut other = Command::new("/bin/cat");
    assert!(is_dumped(other.arg("/dev/null"), Signal::SIGABRT, |stop| stop.call == libc::SYS_read));
    (PUBLISH.prepare)(&mut bench);
    let pin = Yubikey::PIN.as_bytes();
    // The first SIGSEGV is taken by Rust's handler, which looks for an overflow of the stack.
    for signal in [Signal::SIGABRT, Signal::SIGILL, Signal::SIGFPE] {
        let mut command = bench.command(&PUBLISH);
        assert!(!is_dumped(&mut command, signal, |stop| stop.sends(pin)), "{signal}");
    }
    // Nothing of the spec, and so no secret, is read before.
    let mut steps = Vec::new();
    trace(&bench.command(&PUBLISH), |stop| {
        match (stop.call, stop.done) {
            (libc::SYS_prctl, false)
                if stop.arguments[..2] == [libc::PR_SET_DUMPABLE as u64, 0] =>
            {
                steps.push("undumpable");
            }
            (libc::SYS_prlimit64, false) if stop.arguments[1] == 4 && stop.arguments[2] != 0 => {
                assert_eq!(stop.read(stop.arguments[2], 16), [0; 16]);
                steps.push("no core");
            }
            (libc::SYS_openat, false) if stop.text(1).ends_with("spec.json") => steps.push("spec"),
            (libc::SYS_openat, false) if stop.text(1).ends_with("/pin") => steps.push("PIN"),
            _ => {}
        }
        Then::GoOn
    });
    assert_eq!(steps, ["undumpable", "no core", "spec", "PIN"]);
    tell(
        "core dumps: 3 signals that dump other programs ended it while it sent the PIN, with no limit \
         on dumps set for it: nothing was dumped; it forbids dumps before it opens its spec",
    );
}
