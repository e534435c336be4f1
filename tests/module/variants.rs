//! Machines of other kinds, as `variants.nix` has them.

use serde::Deserialize;
use tempfile::TempDir;

use crate::nix::value;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Variants {
    changed: Vec<String>,
    specialisation: bool,
    disabled: bool,
}

#[test]
fn the_module_yields_the_same_on_other_machines() {
    let store = TempDir::new().unwrap();
    let found: Variants = value("../module/variants.nix", &[], store.path()).unwrap();
    // They are warned of hibernation.
    let changed = ["resumes", "swaps"].map(String::from).to_vec();
    let wanted = Variants { changed, specialisation: true, disabled: true };
    assert_eq!(found, wanted);
}
