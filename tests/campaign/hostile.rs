//! Specs and profiles that nobody should write: a typo of root's, or the work of an enemy. A spec is
//! refused, or means what it says; a profile is refused, or means what it meant.

use std::{fs, os::unix::fs::symlink};

use cryptkey::profile::{Profile, piv::SharedX, seal};
use serde_json::{Value, json};

use crate::{
    extent::{amount, is_whole, tell},
    support::{Machine, Running, TestCard, Yubikey, published::traces},
    vectors::{self, agree, unhex},
};

/// Whether a profile opens with the card of this private key.
fn opens(profile: &Profile, private_key: &[u8; 32]) -> bool {
    let secrets: Vec<_> = profile
        .piv_providers()
        .map(|(place, params)| {
            let x: SharedX = agree(private_key, params.peer_point());
            (place, params.secret(&x))
        })
        .collect();
    let given: Vec<_> = secrets.iter().map(|(place, secret)| (*place, secret)).collect();
    seal::open(profile, &given).is_ok()
}

/// What becomes of changed texts.
#[derive(Default)]
struct Count {
    refused: usize,
    unopened: usize,
    same: usize,
}

impl Count {
    /// A changed profile is refused by the parser, does not open, or is the same profile.
    fn add(&mut self, original: &Profile, text: &[u8], opens: impl Fn(&Profile) -> bool) {
        let Some(profile) =
            std::str::from_utf8(text).ok().and_then(|text| Profile::parse(text).ok())
        else {
            self.refused += 1;
            return;
        };
        if profile == *original {
            self.same += 1;
            return;
        }
        assert!(!opens(&profile), "opens after a change:\n{}", String::from_utf8_lossy(text));
        self.unopened += 1;
    }

    fn all(&self) -> usize {
        self.refused + self.unopened + self.same
    }
}

/// Every byte changed to others, left out, doubled; cut short, and made longer.
fn changes(text: &[u8], values: usize) -> impl Iterator<Item = Vec<u8>> {
    let replaced = (0..text.len()).flat_map(move |at| {
        // Spread over all values, other ones for each place.
        (1..=values).map(move |n| {
            let mut changed = text.to_vec();
            changed[at] ^= u8::try_from(1 + (n * 255 / values + at) % 255).unwrap();
            changed
        })
    });
    let left_out = (0..text.len()).map(|at| [&text[..at], &text[at + 1..]].concat());
    let doubled = (0..text.len()).map(|at| [&text[..=at], &text[at..]].concat());
    let cut = (0..text.len()).map(|at| text[..at].to_vec());
    let longer =
        [&b"\n"[..], b"x", b"\0", b"x = 1\n", b"[[providers]]\n", b"# a word\n", b"version = 2\n"];
    let longer = longer.into_iter().map(move |more| [text, more].concat());
    replaced.chain(left_out).chain(doubled).chain(cut).chain(longer)
}

/// Each line of a profile replaced by each line of another one, and by each of its own.
fn exchanges<'a>(text: &'a str, other: &'a str) -> impl Iterator<Item = Vec<u8>> {
    let lines: Vec<&str> = text.lines().collect();
    let others: Vec<&str> = other.lines().chain(text.lines()).collect();
    (0..lines.len()).flat_map(move |at| {
        let (lines, others) = (lines.clone(), others.clone());
        others.into_iter().map(move |line| {
            let mut changed = lines.clone();
            changed[at] = line;
            (changed.join("\n") + "\n").into_bytes()
        })
    })
}

/// A profile that the program made, and a second one of the same card.
fn two_profiles(machine: &Machine, card: &Yubikey) -> [String; 2] {
    machine.spec(
        json!({ "vault": machine.key(card, json!({})), "other": machine.key(card, json!({})) }),
    );
    machine.apply().exits(0);
    ["vault", "other"].map(|key| fs::read_to_string(machine.profile(key)).unwrap())
}

#[test]
fn a_changed_profile_is_refused_or_means_the_same() {
    let machine = Machine::new(1);
    let card = Yubikey::with(&machine, 0, &["--slot-key", "9d=generate"]);
    let [text, other] = two_profiles(&machine, &card);
    let private_key = unhex(&card.private_key("9d"));
    let original = Profile::parse(&text).unwrap();
    assert!(opens(&original, &private_key));
    let mut count = Count::default();
    let all = changes(text.as_bytes(), amount(1, 255)).chain(exchanges(&text, &other));
    for changed in all {
        count.add(&original, &changed, |profile| opens(profile, &private_key));
    }
    // A name of another key's provider, and the like, in the vectors of several providers.
    let vectors = vectors::profiles();
    for vector in &vectors {
        let original = Profile::parse(vector.text).unwrap();
        for another in &vectors {
            // Of another one each time, in the bounded part.
            for changed in exchanges(vector.text, another.text).step_by(amount(7, 1)) {
                count.add(&original, &changed, |profile| vector.open(profile).is_ok());
            }
        }
        if is_whole() {
            for changed in changes(vector.text.as_bytes(), 16) {
                count.add(&original, &changed, |profile| vector.open(profile).is_ok());
            }
        }
    }
    assert!(count.refused > 1000 && count.unopened > 100 && count.same > 100);
    tell(&format!(
        "hostile profiles: {} changes of a fresh profile and of the vectors (bytes, lengths, lines of \
         other profiles and providers): {} refused when read, {} did not open, {} were the same profile",
        count.all(),
        count.refused,
        count.unopened,
        count.same
    ));

    // The same at a real card, with the program.
    machine.vault(&card, json!({}));
    machine.apply().exits(0);
    let before = machine.published();
    let all: Vec<_> = changes(text.as_bytes(), 4).chain(exchanges(&text, &other)).collect();
    let (mut refused, mut same, runs) = (0, 0, amount(40, 600));
    for n in 0..runs {
        let changed = &all[n * all.len() / runs];
        fs::write(machine.profile("vault"), changed).unwrap();
        let output = machine.apply();
        match output.code {
            Some(0) => {
                assert!(
                    output.unchanged("vault"),
                    "{output}\n{}",
                    String::from_utf8_lossy(changed)
                );
                same += 1;
            }
            // 10 and 11: the card or the slot that it names is not here.
            Some(10 | 11 | 16 | 17 | 19) => refused += 1,
            code => panic!("exit {code:?}: {output}\n{}", String::from_utf8_lossy(changed)),
        }
        assert_eq!((card.tries(), machine.published()), (3, before.clone()), "{output}");
        assert_eq!(fs::read(machine.profile("vault")).unwrap(), *changed, "it was replaced");
    }
    tell(&format!(
        "hostile profiles: {runs} runs at a card with a changed profile: {refused} refused it by name, \
         {same} found the same meaning; 0 tries spent, what was published stood, no profile replaced"
    ));
}

/// A spec of one key, with something changed by a JSON pointer.
fn spec(machine: &Machine, card: &Yubikey, changes: &[(&str, Value)]) -> String {
    machine.vault(card, json!({}));
    let mut spec: Value = serde_json::from_slice(&fs::read(machine.spec_file()).unwrap()).unwrap();
    for (pointer, value) in changes {
        *spec.pointer_mut(pointer).unwrap() = value.clone();
    }
    spec.to_string()
}

/// Specs that are refused as such.
fn bad(good: &str) -> Vec<(&'static str, String)> {
    let named = |name: &str| good.replace("\"vault\"", &Value::from(name).to_string());
    let secret = |name: &str| good.replace("\"backup\"", &Value::from(name).to_string());
    let runtime = |path: &str| {
        let mut spec: Value = serde_json::from_str(good).unwrap();
        spec["runtimeDir"] = path.into();
        spec.to_string()
    };
    let many = (0..5000).map(|n| format!("\"x{n}\": 1")).collect::<Vec<_>>().join(",");
    let deep = |open: &str, close: &str| {
        let inside = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        good.replacen('{', &format!("{{\"x\": {inside},"), 1)
    };
    vec![
        ("nothing", String::new()),
        ("a bomb of blanks", format!("{}{good}", " ".repeat(2 << 20))),
        ("deep lists", deep("[", "]")),
        ("deep objects", deep("{\"x\":", "}")),
        ("lists without an end", "[".repeat(500_000)),
        ("many unknown fields", good.replacen('{', &format!("{{{many},"), 1)),
        (
            "a long number",
            good.replacen("\"version\":1", &format!("\"version\":{}", "9".repeat(1 << 19)), 1),
        ),
        (
            "a long string",
            good.replacen("9d", &"9d".repeat(1 << 18), 1).replacen(
                "\"version\":1",
                "\"version\":2",
                1,
            ),
        ),
        ("a key twice", good.replacen("\"keys\":{", "\"keys\":{\"vault\":{},", 1)),
        ("a field twice", good.replacen("\"version\":1", "\"version\":1,\"version\":1", 1)),
        ("two specs", format!("{good}{good}")),
        ("a byte order mark", format!("\u{feff}{good}")),
        ("a NUL in a path", runtime("/run/a\0b")),
        ("a relative path", runtime("run/cryptkey")),
        ("a path that climbs", runtime("/dev/shm/../../tmp/x")),
        ("no path", runtime("")),
        ("the key ..", named("..")),
        ("the key ../x", named("../x")),
        ("no key name", named("")),
        ("a key of the program's own", named(".locks")),
        ("a key with a slash", named("a/b")),
        ("a key with a line end", named("a\nb")),
        ("a key with an escape", named("a\u{1b}[2J")),
        ("a key from right to left", named("a\u{202e}b")),
        ("a key with a NUL", named("a\0b")),
        ("a long key", named(&"k".repeat(300))),
        ("the secret ..", secret("..")),
        ("a secret with a slash", secret("../../etc/x")),
        ("a secret of the program's own", secret(".generations")),
    ]
}

#[test]
fn a_hostile_spec_harms_nothing() {
    let machine = Machine::new(1);
    let card = Yubikey::with(&machine, 0, &["--slot-key", "9d=generate"]);
    machine.vault(&card, json!({}));
    machine.apply().exits(0);
    let good = spec(&machine, &card, &[]);
    let ram = machine.runtime.parent().unwrap();
    let hostile = machine.dir().join("hostile.json");
    let stands = || [traces(&machine.state), traces(ram)].concat();
    let before = stands();
    let specs = bad(&good);
    for (name, text) in &specs {
        assert_ne!(*text, good, "{name}");
        fs::write(&hostile, text).unwrap();
        for args in [&["check"][..], &["apply"], &["plan"], &["status"], &["scrub"], &["polkit"]] {
            let output = machine.finish(Running::start(machine.command_with(args, &hostile)));
            assert_eq!(output.code, Some(10), "{name}, {args:?}: {output}");
            let said = output.stderr.len() + output.stdout.len();
            assert!(said < 128 * 1024, "{name}: it says {said} bytes");
            assert!(
                !output.stderr.contains('\u{1b}') && !output.stderr.contains('\u{202e}'),
                "{name}"
            );
        }
        assert_eq!(stands(), before, "{name}");
    }
    // Good in form: directories that trade places, or lead elsewhere.
    let (link, state, runtime) = (ram.join("link"), machine.state.clone(), machine.runtime.clone());
    symlink(&state, &link).unwrap();
    let before = stands();
    let places = [
        ("the state as the runtime directory", "/runtimeDir", json!(state)),
        ("a link to the state", "/runtimeDir", json!(link)),
        ("the profile as the runtime directory", "/runtimeDir", json!(state.join("vault.toml"))),
        ("a process's own", "/runtimeDir", json!("/proc/self/fd/0")),
        ("a process's directory", "/runtimeDir", json!("/proc/self/cwd")),
        ("a device", "/runtimeDir", json!("/dev/null")),
        ("a key's generation", "/runtimeDir", json!(runtime.join("vault"))),
        ("the profile as the state", "/stateDir", json!(state.join("vault.toml"))),
        ("a device as the state", "/stateDir", json!("/dev/null")),
        ("a process as the state", "/stateDir", json!("/proc/self")),
        ("the PIN in a device", "/keys/vault/pin/file", json!("/dev/zero")),
        ("the PIN in a directory", "/keys/vault/pin/file", json!(state)),
        ("the profile as the PIN", "/keys/vault/pin/file", json!(state.join("vault.toml"))),
    ];
    for (name, pointer, value) in &places {
        let text = spec(&machine, &card, &[(pointer, value.clone())]);
        fs::write(&hostile, text).unwrap();
        let output = machine.finish(Running::start(machine.command_with(&["apply"], &hostile)));
        let code = output.code.expect(name);
        assert!((10..=20).contains(&code), "{name}: {output}");
        assert_eq!(card.tries(), 3, "{name}");
        machine.finish(Running::start(machine.command_with(&["status"], &hostile)));
        assert_eq!(stands(), before, "{name}: {output}");
    }
    machine.vault(&card, json!({}));
    assert!(machine.apply().exits(0).unchanged("vault"));
    tell(&format!(
        "hostile specs: {} refused by every command with exit code 10, {} with directories and files \
         that are others refused by name; nothing was written, 0 tries spent",
        specs.len(),
        places.len()
    ));
}
