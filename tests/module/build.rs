//! A bad spec fails the build of the machine: the derivations of the specs, built in a private store
//! with the program that is tested.

use std::{fs, path::Path};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    configurations::{machine, path},
    nix::{self, name_of, nix_dir, nixpkgs},
    specs::specs,
};

/// Builds what the units of a configuration (an expression) name. Ok is the text of the units, Err
/// what Nix says.
fn build(store: &Path, configuration: &str) -> Result<String, String> {
    build_with(store, configuration, &[])
}

/// The same with more arguments for Nix.
fn build_with(store: &Path, configuration: &str, more: &[&str]) -> Result<String, String> {
    let mut command = nix::nix("nix-build");
    for (variable, dir) in
        [("NIX_STORE_DIR", "store"), ("NIX_STATE_DIR", "state"), ("NIX_LOG_DIR", "log")]
    {
        command.env(variable, store.join(dir));
    }
    command.arg(nix_dir().join("build.nix")).arg("--no-out-link");
    command.arg("--arg").arg("nixpkgs").arg(nixpkgs());
    command.args(["--arg", "configuration", configuration]);
    command.args(["--argstr", "program", env!("CARGO_BIN_EXE_nixos-cryptkey")]);
    command.args(more);
    let output = command.output().expect("nix-build is needed: apt install nix-bin");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_owned()).unwrap();
    if output.status.success() {
        Ok(fs::read_to_string(text(&output.stdout).trim()).unwrap())
    } else {
        Err(text(&output.stderr))
    }
}

#[test]
fn good_specs_are_built_as_they_are() {
    let dir = TempDir::new().unwrap();
    let store = dir.path().join("store");
    let named = build(dir.path(), path("everything").to_str().unwrap()).unwrap();
    for (path, text) in specs(&machine("everything")) {
        let found = named.split_ascii_whitespace().find(|word| {
            word.starts_with(store.to_str().unwrap()) && name_of(word) == name_of(path)
        });
        let built = fs::read_to_string(found.expect(path)).unwrap();
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(json(&built), json(text), "{path}");
    }
}

/// What no type and no assertion knows of is the program's to find.
#[test]
fn a_bad_spec_fails_the_build() {
    let dir = TempDir::new().unwrap();
    let good = path("minimal");
    let good = good.to_str().unwrap();
    let shipped = |text| format!("keys.vault.profile = builtins.toFile \"vault.toml\" ''{text}'';");
    for (bad, message) in [
        (r#"keys.vault.secrets."a b" = { };"#, r#"keys.vault.secrets."a b": "#),
        (
            r#"keys.other = { touchPolicy = "always"; pin.ask = true; };"#,
            "keys.vault.touchPolicy: ",
        ),
        (r#"stateDir = "/run/cryptkey/state";"#, "stateDir: "),
        (
            r#"keys.vault.cards = map (serial: { inherit serial; id = "desk"; }) [ 1 2 ];"#,
            "keys.vault.cards[1].id: ",
        ),
        (&shipped("= providers"), "keys.vault.profile: "),
        (&shipped("providers = 3"), "keys.vault.profile: "),
        (&shipped("providers = [ \\0 ]"), "keys.vault.profile: "),
    ] {
        let configuration = format!("{{ imports = [ {good} ]; security.cryptkey = {{ {bad} }}; }}");
        let said = build(dir.path(), &configuration).unwrap_err();
        assert!(said.contains(message), "{said}");
        assert!(said.contains("failed with exit code 10"), "{said}");
    }
    build(dir.path(), good).unwrap();
}

/// Where the machine's own program does not run, the one of the machine that builds checks its specs.
#[test]
fn a_cross_build_checks_specs() {
    let dir = TempDir::new().unwrap();
    let good = path("minimal");
    let cross = ["--arg", "cross", "true"];
    build_with(dir.path(), good.to_str().unwrap(), &cross).unwrap();
    let bad = format!(
        "{{ imports = [ {} ]; security.cryptkey.stateDir = \"/run/cryptkey/state\"; }}",
        good.display()
    );
    let said = build_with(dir.path(), &bad, &cross).unwrap_err();
    assert!(said.contains("stateDir: "), "{said}");
}
