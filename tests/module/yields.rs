//! What each configuration yields, as `yield/` has it.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

use expect_test::expect_file;
use serde_json::Value;

use crate::{
    configurations::{machine, names},
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
    let mut wanted: BTreeSet<_> = names().into_iter().map(|name| name + ".txt").collect();
    wanted.extend(["bad-messages.txt".into(), "bad-types.txt".into(), "fleet".into()]);
    for entry in
        fs::read_dir(yield_dir()).unwrap().chain(fs::read_dir(yield_dir().join("fleet")).unwrap())
    {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(yield_dir()).unwrap().to_str().unwrap();
        assert!(wanted.contains(name), "{name}");
    }
}

/// Good configurations are good.
#[test]
fn no_assertion_fails() {
    for name in names() {
        assert_eq!(machine(&name).assertions, [""; 0], "{name}");
    }
}

pub fn yield_dir() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/module/yield")
}

/// What the module gave to the machine, for people to read.
fn written(machine: &Machine) -> String {
    let mut text = String::new();
    let units: Vec<_> = machine.units.iter().filter(|(_, unit)| is_ours(&unit.text)).collect();
    let common = common_lines(units.iter().map(|(_, unit)| unit.text.as_str()));

    for warning in &machine.warnings {
        section(&mut text, "warning", warning);
    }
    let keys: Vec<_> =
        machine.keys.values().map(|key| format!("{}: {:?}", key.unit, key.secrets)).collect();
    section(&mut text, "keys", &keys.join("\n"));
    let etc = machine.etc.iter().filter(|(path, _)| path.contains("cryptkey"));
    section(
        &mut text,
        "/etc",
        &etc.map(|(path, file)| format!("{path}: {file}")).collect::<Vec<_>>().join("\n"),
    );
    section(&mut text, "tmpfiles", &machine.tmpfiles.join("\n"));
    for (path, file) in machine.files.iter().filter(|(path, _)| name_of(path).contains("cryptkey"))
    {
        let file = match serde_json::from_str::<Value>(file) {
            Ok(json) => format!("{json:#}"),
            Err(_) => file.clone(),
        };
        section(&mut text, name_of(path), &file);
    }
    section(
        &mut text,
        "all services that run nixos-cryptkey",
        &common.iter().copied().collect::<Vec<_>>().join("\n"),
    );
    for (name, unit) in units {
        let links = [("wanted", &unit.wanted_by), ("required", &unit.required_by)];
        let mut title = name.clone();
        for (verb, others) in links.iter().filter(|(_, others)| !others.is_empty()) {
            write!(title, ", {verb} by {}", others.join(" ")).unwrap();
        }
        let runs = unit.text.contains("/bin/nixos-cryptkey");
        let lines = unit.text.lines().filter(|line| {
            !line.is_empty()
                && !line.starts_with("Environment=\"PATH=")
                && !(runs && common.contains(line))
        });
        section(&mut text, &title, &lines.collect::<Vec<_>>().join("\n"));
    }
    without_hashes(&text)
}

/// The module has a hand in this unit. (It turns pcscd and polkit on, but does not change them.)
fn is_ours(text: &str) -> bool {
    ["cryptkey", "smart card", "-of-cards"].iter().any(|word| text.contains(word))
}

/// The lines that all services of the program have.
fn common_lines<'a>(units: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let lines =
        |unit: &'a str| unit.lines().filter(|line| line.contains('=')).collect::<BTreeSet<_>>();
    let services = units.filter(|unit| unit.contains("/bin/nixos-cryptkey")).map(lines);
    services.reduce(|all, these| &all & &these).unwrap_or_default()
}

fn section(text: &mut String, title: &str, body: &str) {
    write!(text, "# {title}\n{}\n\n", body.trim_end()).unwrap();
}

/// Which store path a file has is Nix's to say; that it is one is ours.
pub fn without_hashes(text: &str) -> String {
    let mut text = text.to_owned();
    for path in store_paths(&text.clone()) {
        text = text.replace(path, &format!("/nix/store/…-{}", name_of(path)));
    }
    text
}
