//! The fleet of `docs/fleet.md`.

use serde_json::{Value, json};

use crate::{configurations::machine, recipes};

/// All hosts but the one that makes the key have the same profile, and declare no card.
#[test]
fn every_host_has_the_profile_but_the_desk() {
    let mut shipped = Vec::new();
    for host in recipes::hosts() {
        let machine = machine(&format!("fleet/{host}"));
        assert_eq!(machine.warnings, [""; 0], "{host}");
        let spec: Value = serde_json::from_str(machine.etc("cryptkey/spec.json")).unwrap();
        let vault = &spec["keys"]["vault"];
        assert_eq!(vault["cards"], json!([]), "{host}");
        let profile = vault["profile"].as_str();
        assert_eq!(profile.is_none(), host == "desk", "{host}");
        shipped.extend(profile.map(|path| machine.files[path].clone()));
    }
    assert!(shipped.len() >= 2, "it is a fleet");
    assert!(shipped.iter().all(|profile| *profile == shipped[0] && profile.contains("recovery")));
}
