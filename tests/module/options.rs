//! `docs/options.md`, the reference of the module, is made of the module's options.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path, sync::LazyLock};

use expect_test::expect_file;
use serde::Deserialize;
use tempfile::TempDir;

use crate::{
    configurations::{names, path},
    nix::value,
};

/// An option, its values written as in a configuration.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Opt {
    name: String,
    description: String,
    r#type: String,
    read_only: bool,
    default: Option<String>,
    example: Option<String>,
}

impl Opt {
    /// The name after `security.cryptkey.`
    pub fn short_name(&self) -> &str {
        self.name.strip_prefix("security.cryptkey.").unwrap()
    }

    /// The part of the reference that it is in, and its name there. A card's sources are as the
    /// key's, and in the key's parts.
    fn place(&self) -> (&'static str, String) {
        let mut name = self.short_name().to_owned();
        for source in ["pin", "managementKey"] {
            name = name.replace(&format!(".cards.*.{source}."), &format!(".{source}."));
        }
        let inside = |part: &str| name.strip_prefix(part).map(str::to_owned);
        let places = PARTS.iter().filter_map(|(part, _)| Some((*part, inside(part)?)));
        places.max_by_key(|(part, _)| part.len()).unwrap()
    }
}

/// All options, in the order of their names.
pub fn all() -> &'static [Opt] {
    static OPTIONS: LazyLock<Vec<Opt>> = LazyLock::new(|| {
        let store = TempDir::new().unwrap();
        value("options.nix", &[], store.path()).unwrap()
    });
    &OPTIONS
}

/// The parts of the reference: how names begin, and of what they are options.
const PARTS: [(&str, &str); 7] = [
    ("", "The machine"),
    ("pcsc.", "Who may reach the card"),
    ("keys.<name>.", "A key"),
    ("keys.<name>.cards.*.", "A card"),
    ("keys.<name>.pin.", "Where a PIN comes from"),
    ("keys.<name>.managementKey.", "Where a management key comes from"),
    ("keys.<name>.secrets.<name>.", "A secret"),
];

#[test]
fn the_reference_is_of_these_options() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/options.md");
    expect_file![file].assert_eq(&reference());
}

/// So the reference need not have them twice.
#[test]
fn a_cards_sources_are_as_the_keys() {
    for source in ["pin", "managementKey"] {
        let of = |owner: &str| {
            let inside = format!("security.cryptkey.keys.<name>.{owner}{source}.");
            let options = all().iter().filter_map(move |option| {
                let name = option.name.strip_prefix(&inside)?.to_owned();
                Some((name, &option.r#type, &option.description, &option.default, &option.example))
            });
            options.collect::<Vec<_>>()
        };
        assert!(!of("").is_empty());
        assert_eq!(of("cards.*."), of(""));
    }
}

/// What a reader needs to use an option without asking.
#[test]
fn every_option_teaches() {
    for option in all() {
        assert!(option.description.len() > 20, "{} has no description", option.name);
        assert!(option.default.is_some(), "{} has no default", option.name);
        assert!(option.read_only || option.example.is_some(), "{} has no example", option.name);
    }
}

/// Each option is set by some configuration; the program's own package is the tests' to choose.
#[test]
fn the_configurations_have_every_option() {
    let texts: Vec<_> =
        names().iter().map(|name| fs::read_to_string(path(name)).unwrap()).collect();
    let words: BTreeSet<_> =
        texts.iter().flat_map(|text| text.split(|c: char| !c.is_ascii_alphanumeric())).collect();
    for option in all().iter().filter(|option| !option.read_only) {
        let own = option.name.rsplit('.').next().unwrap();
        assert!(own == "package" || words.contains(own), "{}", option.name);
    }
}

fn reference() -> String {
    let mut text = String::from(
        "# The options of the NixOS module\n\n\
         Made of the descriptions in `nixos-module/`; `UPDATE_EXPECT=1 cargo test --test module` writes it.\n",
    );
    for (part, title) in PARTS {
        write!(text, "\n## {title}: `security.cryptkey.{part}*`\n").unwrap();
        let mut seen = BTreeSet::new();
        for option in all() {
            let (place, name) = option.place();
            if place == part && seen.insert(name.clone()) {
                describe(&mut text, &name, option);
            }
        }
    }
    text
}

fn describe(text: &mut String, name: &str, option: &Opt) {
    write!(text, "\n### `{name}`\n\n{}\n", option.description.trim()).unwrap();
    write!(text, "\n- Type: `{}`\n", option.r#type).unwrap();
    if option.read_only {
        text.push_str("- Read only\n");
    }
    for (what, value) in [("Default", &option.default), ("Example", &option.example)] {
        match value.as_deref().map(str::trim_end) {
            Some(value) if value.contains('\n') => {
                write!(text, "- {what}:\n\n```nix\n{value}\n```\n").unwrap();
            }
            Some(value) => writeln!(text, "- {what}: `{value}`").unwrap(),
            None => {}
        }
    }
}
