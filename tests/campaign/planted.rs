//! Whatever stands in a path that the program writes: nothing outside is written, taken over or read
//! into place. Which paths those are is asked of the kernel.

use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use cryptkey::system::clock;
use nix::{sys::stat::Mode, unistd::mkfifo};
use serde_json::{Value, json};

use crate::{
    bench::Bench,
    extent::{amount, tell},
    flows::{ABANDON, RESEAL},
    outcome::{Outcome, judge},
    support::{Machine, TestCard, Yubikey},
    trace::{Call, calls_of_all_threads},
};

/// Every path that the program writes, makes, links or removes; as in `docs/architecture.md`.
const WRITTEN: [&str; 23] = [
    "RULES/.05-nixos-cryptkey.UNIQUE.new",
    "RULES/05-nixos-cryptkey.rules",
    "RUNTIME",
    "RUNTIME/.generations",
    "RUNTIME/.generations/vault.UNIQUE",
    "RUNTIME/.generations/vault.UNIQUE.link",
    "RUNTIME/.generations/vault.UNIQUE.mark",
    "RUNTIME/.generations/vault.UNIQUE.mark.new",
    "RUNTIME/.generations/vault.UNIQUE.pending",
    "RUNTIME/.generations/vault.UNIQUE/backup",
    "RUNTIME/.locks",
    "RUNTIME/.locks/card@READER",
    "RUNTIME/.locks/vault",
    "RUNTIME/vault",
    "STATE/.lock",
    "STATE/.pin-guard.new",
    "STATE/.readers.json.new",
    "STATE/.vault.generating.new",
    "STATE/.vault.toml.new",
    "STATE/pin-guard",
    "STATE/readers.json",
    "STATE/vault.generating",
    "STATE/vault.toml.DATE",
];

/// And the one that is linked there.
const PROFILE: &str = "STATE/vault.toml";

/// The paths that a call writes to.
fn written(call: &Call) -> Vec<PathBuf> {
    if !call.writes() || call.text.contains(") = -1 ") && !call.text.contains("EEXIST") {
        return Vec::new();
    }
    let (_, arguments) = call.text.split_once('(').unwrap();
    if ["write", "fsync", "fchmod", "fchown", "ftruncate"].contains(&&*call.name) {
        let path = arguments.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
        return path.map(|(path, _)| path.into()).into_iter().collect();
    }
    // What a symlink holds is not written to.
    let arguments = match &*call.name {
        "symlinkat" => arguments.split_once(", ").unwrap().1,
        _ => arguments,
    };
    let mut base = PathBuf::new();
    let mut paths = Vec::new();
    for argument in arguments.split(", ") {
        if let Some((_, rest)) = argument.split_once('<') {
            base = rest.split('>').next().unwrap().into();
        } else if let Some(name) = argument.strip_prefix('"') {
            paths.push(base.join(name.split('"').next().unwrap()));
        }
    }
    paths
}

/// The path without what chance and the test give it.
fn plain(machine: &Machine, card: &Yubikey, path: &Path) -> String {
    let text = path.to_str().unwrap().to_owned();
    let mut text = text
        .replace(machine.state.to_str().unwrap(), "STATE")
        .replace(machine.runtime.to_str().unwrap(), "RUNTIME")
        .replace(machine.dir().join("rules.d").to_str().unwrap(), "RULES")
        .replace(&card.reader(), "READER");
    let stem = if text.contains("05-nixos") { "cryptkey." } else { "vault." };
    if let Some((before, rest)) = text.clone().split_once(stem)
        && let Some(unique) = rest.get(..16)
        && unique.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        text = format!("{before}{stem}UNIQUE{}", &rest[16..]);
    }
    match text.split_once(".toml.2") {
        Some((undated, _)) => format!("{undated}.toml.DATE"),
        None => text,
    }
}

/// A machine and a card with a key.
pub fn bench() -> (Machine, Yubikey) {
    let machine = Machine::new(1);
    let card = Yubikey::with(&machine, 0, &["--slot-key", "9d=generate"]);
    machine.vault(&card, json!({}));
    (machine, card)
}

#[test]
fn no_other_path_is_written() {
    let (machine, card) = bench();
    let rules = machine.dir().join("rules.d");
    fs::create_dir(&rules).unwrap();
    let rules = rules.to_str().unwrap();
    let mut paths = BTreeSet::new();
    let mut see = |args: &[&str], code: i32| {
        let (output, calls) = calls_of_all_threads(&machine, args);
        output.exits(code);
        for path in calls.iter().flat_map(written) {
            paths.insert(plain(&machine, &card, &path));
        }
    };
    see(&["apply"], 0);
    see(&["apply"], 0);
    let secrets = json!({ "secrets": { "backup": { "use": "other", "owner": "daemon" } } });
    machine.vault(&card, secrets);
    see(&["apply"], 0);
    see(&["status"], 0);
    see(&["plan"], 0);
    see(&["cards"], 0);
    see(&["check"], 0);
    see(&["scrub"], 0);
    machine.vault(&card, json!({ "pin": machine.secret_file("wrong.pin", "111111") }));
    see(&["apply"], 15);
    see(&["pin", "forget", "--card", Yubikey::SERIAL], 0);
    let fingerprint = card.fingerprint("9d");
    let overwrite = json!({ "fingerprint": fingerprint, "abandonProfile": true });
    machine.vault(&card, json!({ "mode": "overwrite", "overwrite": overwrite }));
    see(&["apply"], 0);
    let mut spec: Value = serde_json::from_slice(&fs::read(machine.spec_file()).unwrap()).unwrap();
    spec["pcsc"] = json!({ "users": ["alice"] });
    fs::write(machine.spec_file(), spec.to_string()).unwrap();
    see(&["polkit", "--directory", rules], 0);
    // Pipes, sockets and the terminal are no files.
    paths.retain(|path| {
        !["pipe:", "socket:", "/dev/null"].iter().any(|what| path.starts_with(what))
    });
    let mut expected: BTreeSet<_> = WRITTEN.iter().map(|path| (*path).to_owned()).collect();
    expected.insert(PROFILE.into());
    // Synced, and not written to.
    expected.extend(["STATE".to_owned(), machine.dir().to_str().unwrap().to_owned()]);
    assert_eq!(paths, expected);
}

/// What stands in a path.
#[derive(Clone, Copy, Debug)]
enum Plant {
    /// A symlink to a file of somebody else, to their directory, or to nothing in it.
    Link(&'static str),
    /// Another name of their file.
    HardLink,
    /// A directory with a file, a pipe, or a file of root that is no secret.
    Directory,
    Pipe,
    File,
}

const PLANTS: [Plant; 7] = [
    Plant::Link("file"),
    Plant::Link(""),
    Plant::Link("nothing"),
    Plant::HardLink,
    Plant::Directory,
    Plant::Pipe,
    Plant::File,
];

impl Plant {
    fn put(self, at: &Path, victim: &Path) {
        match self {
            Self::Link(name) => symlink(victim.join(name), at).unwrap(),
            Self::HardLink => fs::hard_link(victim.join("file"), at).unwrap(),
            Self::Directory => {
                fs::create_dir(at).unwrap();
                fs::write(at.join("file"), "mine").unwrap();
            }
            Self::Pipe => mkfifo(at, Mode::S_IRWXU).unwrap(),
            Self::File => {
                fs::write(at, "mine").unwrap();
                fs::set_permissions(at, Permissions::from_mode(0o600)).unwrap();
            }
        }
    }
}

/// Takes away whatever stands there.
fn take_away(path: &Path) {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

/// A directory of user 1000 with a file, on the file system of `near`.
fn victim(near: &Path) -> PathBuf {
    let victim = near.join("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("file"), "somebody's").unwrap();
    for path in [&victim.join("file"), &victim] {
        chown(path, Some(1000), Some(1000)).unwrap();
    }
    fs::set_permissions(victim.join("file"), Permissions::from_mode(0o664)).unwrap();
    victim
}

/// All that must not change of it.
fn looks(victim: &Path) -> Vec<String> {
    let look = |path: &Path| {
        let found = fs::symlink_metadata(path).unwrap();
        let content = fs::read(path).unwrap_or_default();
        format!("{} {}:{} {:o} {content:?}", path.display(), found.uid(), found.gid(), found.mode())
    };
    let mut looks = vec![look(victim)];
    looks.extend(fs::read_dir(victim).unwrap().map(|entry| look(&entry.unwrap().path())));
    looks.sort();
    looks
}

/// The generations of the key, and what looks like one; each with its mark.
fn generations_of(machine: &Machine) -> Vec<String> {
    let names = fs::read_dir(machine.runtime.join(".generations")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: Vec<_> = names.filter(|name| name.starts_with("vault.")).collect();
    let marked = |name: &String| names.contains(&format!("{name}.mark"));
    let is_mark_of_one = |name: &String| {
        name.strip_suffix(".mark").is_some_and(|name| names.iter().any(|other| other == name))
    };
    assert!(names.iter().all(|name| is_mark_of_one(name) || marked(name)), "{names:?}");
    names.iter().filter(|name| !is_mark_of_one(name)).cloned().collect()
}

#[test]
fn what_stands_in_the_way_is_refused_or_replaced() {
    let (machine, card) = bench();
    let ram = machine.runtime.parent().unwrap().to_owned();
    let (on_disk, in_ram) = (victim(machine.dir()), victim(&ram));
    machine.apply().exits(0);
    let reset = || {
        fs::remove_dir_all(&machine.state).unwrap();
        fs::DirBuilder::new().create(&machine.state).unwrap();
        fs::set_permissions(&machine.state, Permissions::from_mode(0o700)).unwrap();
        take_away(&machine.runtime);
    };
    let unique = "vault.0123456789abcdef";
    let state = |name: &str| machine.state.join(name);
    let runtime = |name: &str| machine.runtime.join(name);
    // With what has to be there before.
    let places = [
        state("vault.toml"),
        state(".vault.toml.new"),
        state("pin-guard"),
        state(".pin-guard.new"),
        state("readers.json"),
        state(".readers.json.new"),
        machine.runtime.clone(),
        runtime(".locks"),
        runtime(".locks/vault"),
        runtime(&format!(".locks/card@{}", card.reader())),
        runtime(".generations"),
        runtime("vault"),
        runtime(&format!(".generations/{unique}")),
        runtime(&format!(".generations/{unique}.link")),
        runtime(&format!(".generations/{unique}.mark")),
        runtime(&format!(".generations/{unique}.mark.new")),
        runtime(&format!(".generations/{unique}.pending")),
        runtime(&format!(".generations/{unique}/backup")),
    ];
    let (mut refused, mut replaced) = (0, 0);
    for place in &places {
        for plant in PLANTS {
            reset();
            for above in place
                .ancestors()
                .take_while(|above| above.starts_with(&ram))
                .collect::<Vec<_>>()
                .iter()
                .rev()
            {
                let private = above.ends_with(".locks");
                if *above != place && !above.exists() {
                    fs::create_dir(above).unwrap();
                    let mode = if private { 0o700 } else { 0o751 };
                    fs::set_permissions(above, Permissions::from_mode(mode)).unwrap();
                }
            }
            let victim = if place.starts_with(&ram) { &in_ram } else { &on_disk };
            plant.put(place, victim);
            let before = (looks(&in_ram), looks(&on_disk));
            let what = format!("{plant:?} at {}", place.display());
            let output = machine.apply();
            assert_eq!((looks(&in_ram), looks(&on_disk)), before, "{what}: {output}");
            assert_eq!(card.tries(), 3, "{what}");
            match output.code {
                Some(0) => {
                    replaced += 1;
                    let secret = fs::metadata(runtime("vault/backup")).unwrap();
                    assert_eq!(
                        (secret.uid(), secret.nlink(), secret.mode() & 0o777),
                        (0, 1, 0o400)
                    );
                    assert_eq!(secret.len(), 64, "{what}");
                    let ours = generations_of(&machine);
                    assert_eq!(ours.len(), 1, "{what}: {ours:?}");
                }
                Some(14 | 17 | 18 | 20) => refused += 1,
                other => panic!("{what}: exit {other:?}: {output}"),
            }
            let presented = card.presented();
            machine.run(&["status"]);
            machine.run(&["scrub"]);
            assert_eq!((looks(&in_ram), looks(&on_disk)), before, "{what}");
            assert_eq!(card.presented(), presented);
            take_away(place);
            let next = machine.apply();
            // A profile that had been linked to is not: it is a new one, as nobody declared the old.
            assert_eq!(next.code, Some(0), "after {what}: {next}");
        }
    }
    tell(&format!(
        "planted: {} paths, with a symlink, a hard link, a directory, a pipe or a file in each: {refused} \
         runs refused it by name, {replaced} put their own in its place; nothing outside was written, \
         taken over or read",
        places.len()
    ));
}

/// The names that the old profile may be kept under in the next minute.
fn dated(machine: &Machine) -> Vec<PathBuf> {
    let now = clock::now();
    let name = |after| format!("vault.toml.{}", clock::utc(now + Duration::from_secs(after)));
    (0..60).map(|after| machine.state.join(name(after))).collect()
}

#[test]
fn what_stands_in_the_way_of_an_overwriting_is_refused_or_replaced() {
    let places: [fn(&Machine) -> Vec<PathBuf>; 4] = [
        |machine| vec![machine.state.join("vault.generating")],
        |machine| vec![machine.state.join(".vault.generating.new")],
        |machine| vec![machine.state.join(".vault.toml.new")],
        dated,
    ];
    let (mut refused, mut replaced) = (0, 0);
    let flows = &[ABANDON, RESEAL][..amount(1, 2)];
    for flow in flows {
        let mut bench = Bench::new();
        let victim = victim(bench.machine.dir());
        (flow.prepare)(&mut bench);
        bench.machine.run(flow.args).exits(0);
        let shape = bench.shape();
        for (place, plant) in places.iter().flat_map(|p| PLANTS.map(|plant| (p, plant))) {
            (flow.prepare)(&mut bench);
            let outcome = Outcome::of(&bench);
            let paths = place(&bench.machine);
            for path in &paths {
                plant.put(path, &victim);
            }
            let before = looks(&victim);
            let case = format!("{}: {plant:?} at {}", flow.name, paths[0].display());
            let output = bench.machine.run(flow.args);
            assert_eq!(looks(&victim), before, "{case}: {output}");
            match output.code {
                Some(0) => replaced += 1,
                Some(14 | 17 | 18) => refused += 1,
                other => panic!("{case}: exit {other:?}: {output}"),
            }
            // What it put in the place of a plant is its own.
            if output.code != Some(0) || paths.len() > 1 {
                for path in &paths {
                    take_away(path);
                }
            }
            assert_eq!(looks(&victim), before, "{case}: {output}");
            judge(&mut bench, flow, &outcome, &shape, &case, |_| {});
        }
    }
    tell(&format!(
        "planted: {} paths of an overwriting, with the same in each, in {} flows: {refused} runs refused \
         it by name, {replaced} put their own in its place or beside it; nothing outside was written, \
         taken over or read",
        places.len(),
        flows.len()
    ));
}
