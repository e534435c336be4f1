//! What each configuration yields, as `yield/` has it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use cryptkey::{polkit, spec};
use expect_test::expect_file;
use serde_json::Value;

use crate::{
    configurations::{all, machine, names},
    nix::{Machine, name_of, store_paths},
};

#[test]
fn every_configuration_yields_what_it_did() {
    for name in names() {
        expect_file![yield_dir().join(format!("{name}.txt"))].assert_eq(&written(&machine(&name)));
    }
}

#[test]
fn nothing_is_left_over_in_yield() {
    let mut wanted: BTreeSet<_> = names().into_iter().collect();
    wanted.extend(["bad-messages", "bad-types"].map(str::to_owned));
    for entry in fs::read_dir(yield_dir()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(wanted.contains(name), "{}", path.display());
    }
}

/// The module writes the rule as the program does.
#[test]
fn the_rule_is_the_programs() {
    let machine = machine("older-polkit");
    let spec = spec::read(machine.etc("cryptkey/spec.json")).unwrap();
    let rule = machine.etc("polkit-1/rules.d/05-nixos-cryptkey.rules");
    assert_eq!(rule, polkit::render(&spec.pcsc));
}

/// Good configurations are good.
#[test]
fn no_assertion_fails() {
    for name in all() {
        assert_eq!(machine(&name).assertions, [""; 0], "{name}");
    }
}

pub fn yield_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/module/yield")
}

/// What the module gave to the machine, for people to read.
fn written(machine: &Machine) -> String {
    let ours = |text: &&str| text.contains("cryptkey");
    let mut page = Page::default();
    for warning in &machine.warnings {
        page.section("warning", warning.lines());
    }
    for key in machine.keys.values() {
        let secrets = key.secrets.iter().map(|(secret, path)| format!("{secret}: {path}"));
        page.section(&format!("outputs of {}", key.unit), secrets);
    }
    let etc = machine.etc.iter().map(|(path, file)| format!("/etc/{path}: {file}"));
    page.section("files", etc.filter(|line| ours(&line.as_str())));
    page.section("tmpfiles", machine.tmpfiles.iter().map(String::as_str).filter(ours));

    // The machine's spec is the sum of those of the keys.
    let files = machine.files.iter().map(|(path, text)| (name_of(path), text));
    let files: BTreeMap<_, _> =
        files.filter(|(name, _)| ours(name) && *name != "cryptkey.json").collect();
    for (name, text) in files {
        match serde_json::from_str::<Value>(text) {
            Ok(json) => page.section(name, format!("{json:#}").lines()),
            Err(_) => page.section(name, text.lines()),
        }
    }

    // What all services of the program have is written once.
    let runs = |text: &str| text.contains("/bin/nixos-cryptkey");
    let services = machine.units.values().filter(|unit| runs(&unit.text));
    let common = services.map(|unit| settings(&unit.text)).reduce(|all, these| &all & &these);
    let common = common.unwrap_or_default();
    page.section("all services that run nixos-cryptkey", common.iter());
    for (name, unit) in &machine.units {
        let is_mount = unit.text.contains("[Mount]");
        if !is_mount && !ours(&name.as_str()) && !ours(&unit.text.as_str()) {
            continue;
        }
        let mut title = name.clone();
        for (verb, others) in [("wanted", &unit.wanted_by), ("required", &unit.required_by)] {
            if !others.is_empty() {
                write!(title, ", {verb} by {}", others.join(" ")).unwrap();
            }
        }
        let is_told = |line: &&str| {
            line.is_empty() || is_path(line) || runs(&unit.text) && common.contains(line)
        };
        let own = unit.text.lines().filter(|line| !is_told(line));
        page.section(&title, own);
    }
    without_hashes(&page.0)
}

/// The lines of a unit but for the titles of its sections.
fn settings(unit: &str) -> BTreeSet<&str> {
    unit.lines().filter(|line| line.contains('=') && !is_path(line)).collect()
}

/// NixOS gives the same search path to all services.
fn is_path(line: &str) -> bool {
    line.starts_with("Environment=\"PATH=")
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn section(&mut self, title: &str, lines: impl Iterator<Item = impl AsRef<str>>) {
        writeln!(self.0, "# {title}").unwrap();
        for line in lines {
            writeln!(self.0, "{}", line.as_ref()).unwrap();
        }
        self.0.push('\n');
    }
}

/// Which hash a path of the store has is Nix's to say.
pub fn without_hashes(text: &str) -> String {
    let mut without = text.to_owned();
    for path in store_paths(text) {
        without = without.replace(path, &format!("/nix/store/…-{}", name_of(path)));
    }
    without
}
