//! The flake and the package, as far as they can be evaluated without nixpkgs' packages.

use std::{collections::BTreeMap, env, process::Command};

use serde::Deserialize;
use tempfile::TempDir;

use crate::nix::{nix_dir, value};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outputs {
    names: BTreeMap<String, Vec<String>>,
    package: Package,
    overlay: bool,
    without_flakes: bool,
    modules: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Package {
    pname: String,
    version: String,
    main_program: String,
    src: String,
    lock: String,
}

#[test]
fn the_flake_gives_what_it_should() {
    let store = TempDir::new().unwrap();
    let outputs: Outputs = value("outputs.nix", &[], store.path()).unwrap();
    let systems = ["aarch64-linux", "x86_64-linux"];
    for per_system in ["checks", "devShells", "formatter", "packages"] {
        assert_eq!(outputs.names[per_system], systems, "{per_system}");
    }
    assert_eq!(outputs.names["overlays"], ["default"]);
    assert_eq!(outputs.names["nixosModules"], ["default"]);
    assert!(outputs.overlay && outputs.without_flakes);
    let module = nix_dir().join("../../nixos-module").canonicalize().unwrap();
    assert_eq!(outputs.modules, [module.to_str().unwrap(); 2]);

    let package = outputs.package;
    assert_eq!(package.pname, env!("CARGO_PKG_NAME"));
    assert_eq!(package.main_program, env!("CARGO_PKG_NAME"));
    assert_eq!(package.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(package.lock, include_str!("../../Cargo.lock"));
    // What is built is all there, and no more.
    let src = store.path().join(&package.src[1..]);
    let mut cargo = Command::new(env::var_os("CARGO").unwrap());
    cargo.args(["metadata", "--locked", "--offline", "--no-deps", "--format-version=1"]);
    let output = cargo.current_dir(&src).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (path, is_there) in [
        ("src/main.rs", true),
        ("polkit/nixos-cryptkey.rules", true),
        ("virtual-card/Cargo.toml", true),
        ("docs/spec.md", true),
        ("tests/support/chance.rs", true),
        ("docs/options.md", false),
        ("README.md", false),
        ("nixos-module", false),
        ("tests/integration", false),
        ("target", false),
        (".git", false),
    ] {
        assert_eq!(src.join(path).exists(), is_there, "{path}");
    }
}
