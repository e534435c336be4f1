//! The specs that configurations yield are what the program means.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use cryptkey::spec::{self, Spec};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::{
    configurations::{all, machine},
    nix::Machine,
    options,
};

/// The specs of a machine: their paths and texts.
pub fn specs(machine: &Machine) -> impl Iterator<Item = (&str, &str)> {
    let is_spec = |path: &str| Path::new(path).extension().is_some_and(|suffix| suffix == "json");
    let files = machine.files.iter().map(|(path, text)| (path.as_str(), text.as_str()));
    files.filter(move |(path, _)| is_spec(path))
}

#[test]
fn check_accepts_every_spec() {
    for name in all() {
        let machine = machine(&name);
        let root = TempDir::new().unwrap();
        machine.install(root.path(), |_| false);
        for (path, text) in specs(&machine) {
            // Shipped profiles are below the root.
            let below = format!("{}/nix/store", root.path().display());
            let file = root.path().join("spec.json");
            fs::write(&file, text.replace("/nix/store", &below)).unwrap();
            let output = check(&file);
            assert_eq!(output, "The spec is good.\n", "{name}: {path}");
        }
    }
}

/// What `check` says of a spec, on both of its outputs.
fn check(spec: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nixos-cryptkey"));
    let output = command.args(["check", "--spec"]).arg(spec).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    text(output.stdout) + &text(output.stderr)
}

/// Nothing is left to the program's defaults: what it reads is, written again, what was there.
#[test]
fn the_program_reads_every_spec_as_it_is_written() {
    let defaults = serde_json::to_value(Spec::default()).unwrap();
    for name in all() {
        for (path, text) in specs(&machine(&name)) {
            let read =
                spec::read(text).unwrap_or_else(|faults| panic!("{name}: {path}: {faults:?}"));
            let written = without_nulls(serde_json::to_value(read).unwrap());
            let mut wanted: Value = serde_json::from_str(text).unwrap();
            // Not every spec has these.
            for field in ["otherKeys", "otherProfiles", "pcsc"] {
                let fields = wanted.as_object_mut().unwrap();
                fields.entry(field).or_insert_with(|| defaults[field].clone());
            }
            assert_eq!(wanted, written, "{name}: {path}");
        }
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
            fields.map(|(name, value)| (name, without_nulls(value))).collect::<Map<_, _>>().into()
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// Each key has a spec, which both of its units name; the machine has one with all of them, and with
/// the units that read their secrets. That one alone is what the restarter is given.
#[test]
fn the_machines_spec_is_the_sum_of_the_others() {
    for name in all() {
        let machine = machine(&name);
        let named = |text: &str| {
            let named = specs(&machine).filter(|(path, _)| text.contains(path));
            let named: Vec<_> = named.collect();
            assert_eq!(named.len(), 1, "{name}: {text}");
            serde_json::from_str::<Value>(named[0].1).unwrap()
        };
        let command = |unit: &str, setting: &str| {
            let mut lines = machine.units[unit].text.lines();
            named(lines.find(|line| line.starts_with(setting)).unwrap())
        };
        let whole: Value = serde_json::from_str(machine.etc("cryptkey/spec.json")).unwrap();
        let mut sum = whole.clone();
        let keys = std::mem::take(&mut sum["keys"]);
        let keys = keys.as_object().unwrap();
        for (key, wanted) in keys {
            let mut wanted = wanted.clone();
            for secret in wanted["secrets"].as_object_mut().unwrap().values_mut() {
                let secret = secret.as_object_mut().unwrap();
                secret.retain(|field, _| !["restartUnits", "reloadUnits"].contains(&&**field));
            }
            let (unit, reload) =
                (format!("cryptkey-{key}.service"), format!("cryptkey-reload@{key}.service"));
            let spec = command(&unit, "ExecStart=");
            assert_eq!(spec["keys"], json!({ key: wanted }), "{name}");
            assert_eq!(spec, command(&unit, "ExecStopPost="), "{name}");
            assert_eq!(spec, command(&reload, "ExecStart="), "{name}");
            assert_eq!(whole, command(&reload, "ExecStopPost=+"), "{name}");
        }
        let runs = machine.units.values().filter(|unit| unit.text.contains(" apply --restart "));
        assert_eq!(runs.count(), 2 * keys.len(), "{name}");
        if machine.units.contains_key("polkit-cryptkey.service") {
            sum["keys"] = json!({});
            assert_eq!(sum, command("polkit-cryptkey.service", "ExecStart="), "{name}");
        }
    }
}

/// Fields of the spec that are no options, and why.
const NOT_OPTIONS: [(&str, &str); 3] = [
    ("version", "the module writes the version that it knows"),
    ("otherKeys", "the module knows the keys of the machine"),
    ("otherProfiles", "the module knows the keys of the machine"),
];

/// Options that are no fields of the spec: they are NixOS' to carry out.
const NOT_IN_THE_SPEC: [&str; 16] = [
    "enable",
    "keys.<name>.acceptSingleCard",
    "keys.<name>.acceptUnpinned",
    "keys.<name>.enable",
    "keys.<name>.secrets.<name>.before",
    "keys.<name>.secrets.<name>.path",
    "keys.<name>.secrets.<name>.requiredBy",
    "keys.<name>.unit",
    "package",
    "pcsc",
    "pcsc.enable",
    "pcsc.rule",
    "runtimeFileSystem.size",
    "runtimeFileSystem.type",
    "verbosity",
    "warnOfHibernation",
];

/// The module has an option for each field of the spec, and no other.
#[test]
fn every_field_of_the_spec_is_an_option() {
    let schema = spec::schema();
    let mut fields = BTreeSet::new();
    collect(&schema, &schema, "", &mut fields);
    for (field, _) in NOT_OPTIONS {
        assert!(fields.remove(field), "{field}");
    }
    fields.extend(NOT_IN_THE_SPEC.map(str::to_owned));
    fields.remove("pcsc");
    fields.remove("keys.<name>.overwrite");
    fields.remove("keys.<name>.attestation");
    let options: BTreeSet<_> =
        options::all().iter().map(|option| option.short_name().to_owned()).collect();
    assert_eq!(fields, options);
}

/// The names of a schema's fields, as options are named.
fn collect(root: &Value, schema: &Value, at: &str, found: &mut BTreeSet<String>) {
    if let Some(target) = schema["$ref"].as_str() {
        return collect(root, root.pointer(&target[1..]).unwrap(), at, found);
    }
    for either in schema["anyOf"].as_array().into_iter().flatten() {
        collect(root, either, at, found);
    }
    if schema["items"].is_object() {
        collect(root, &schema["items"], &format!("{at}*."), found);
    }
    for (_, named) in schema["patternProperties"].as_object().into_iter().flatten() {
        collect(root, named, &format!("{at}<name>."), found);
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        found.insert(format!("{at}{name}"));
        collect(root, field, &format!("{at}{name}."), found);
    }
}
