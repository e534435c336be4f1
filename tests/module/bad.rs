//! Configurations that are not meant so are told what to change.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use expect_test::expect_file;
use serde::Deserialize;
use tempfile::TempDir;

use crate::{
    nix::{evaluate_expression, value},
    yields::{without_hashes, yield_dir},
};

#[derive(Deserialize)]
struct Messages {
    assertions: Vec<String>,
    warnings: Vec<String>,
}

/// Assertions and warnings, with their texts.
#[test]
fn the_module_says_what_is_wrong() {
    let store = TempDir::new().unwrap();
    let cases: BTreeMap<String, Messages> =
        value("../module/bad-messages.nix", &[], store.path()).unwrap();
    let mut text = String::new();
    for (name, case) in cases {
        writeln!(text, "# {name}").unwrap();
        for (kind, messages) in [("assertion", case.assertions), ("warning", case.warnings)] {
            // What minimal.nix is warned of anyway, and it with a unit that needs its secret.
            let usual = |message: &&String| {
                message.starts_with("security.cryptkey.keys.vault is opened")
                    || message.contains("acceptUnpinned") && !name.starts_with("unpinned")
            };
            for message in messages.iter().filter(|message| !usual(message)) {
                writeln!(text, "{kind}: {message}").unwrap();
            }
        }
        text.push('\n');
    }
    let text = text.replace(env!("CARGO_MANIFEST_DIR"), "…");
    expect_file![yield_dir().join("bad-messages.txt")].assert_eq(&text);
}

/// Values that an option refuses, with what Nix says then.
#[test]
fn options_refuse_what_is_not_of_their_type() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/module/bad-types.nix");
    let store = TempDir::new().unwrap();
    let names: Vec<String> = {
        let names = format!("{{ nixpkgs }}: builtins.attrNames (import {})", file.display());
        let names_file = store.path().join("names.nix");
        std::fs::write(&names_file, names).unwrap();
        value(names_file.to_str().unwrap(), &[], store.path()).unwrap()
    };
    let mut text = String::new();
    for name in names {
        let error = evaluate_expression(&format!("(import {}).{name}", file.display()));
        let Err(error) = error else { panic!("{name} is accepted") };
        let start = error.find("error: ").unwrap();
        let said = error[start..].split("\n(use '--show-trace'").next().unwrap().trim_end();
        write!(text, "# {name}\n{said}\n\n").unwrap();
    }
    let text = without_hashes(&text.replace(env!("CARGO_MANIFEST_DIR"), "…"));
    expect_file![yield_dir().join("bad-types.txt")].assert_eq(&text);
}
