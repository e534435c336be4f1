//! The configuration on README's first screen is one that works.

use crate::nix::evaluate_expression;

#[test]
fn the_first_configuration_works() {
    let readme = include_str!("../../README.md");
    let block = readme.split("```nix\n").nth(1).unwrap().split("```").next().unwrap();
    // What the reader has around it.
    let around = "{ config, ... }: let nixos-cryptkey.nixosModules.default = { }; in ";
    let rest = "{ services.restic.backups.home = { repository = \"/b\"; paths = [ \"/h\" ]; }; }";
    let configuration = format!("{{ imports = [ ({around}{block}) {rest} ]; }}");
    let machine = evaluate_expression(&configuration).unwrap();
    assert!(machine.assertions.is_empty(), "{:?}", machine.assertions);
    // It hangs on one card, and on a profile that is yet to be named, as it says.
    let [single, unpinned] = &machine.warnings[..] else { panic!("{:?}", machine.warnings) };
    assert!(single.contains("acceptSingleCard"), "{single}");
    assert!(unpinned.contains("profileId"), "{unpinned}");
    let backup = &machine.units["restic-backups-home.service"].text;
    assert!(backup.contains("Requires=cryptkey-vault.service"), "{backup}");
    assert!(backup.contains("/run/cryptkey/vault/restic"), "{backup}");
}
