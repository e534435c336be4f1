//! A backup whose password is a secret.

use super::{Configuration, PACKAGES, type_in, with_a_card};
use crate::support::{
    cryptkey::{self, PROFILE},
    recipes::Recipe,
};

#[test]
fn a_restic_backup() {
    let (mut machine, card) = with_a_card(&PACKAGES);
    machine.write("/home/alice/letter", 0o600, "Dear Bob,\n");
    Configuration::new().switch(&machine, "restic.nix");
    let mut recipe = Recipe::new("A restic backup");
    type_in(&machine, &recipe.session());
    let profile = machine.read(PROFILE);

    // What another program computes is the password.
    machine.write("/root/expected", 0o600, cryptkey::expected(&machine, &card));
    let snapshots = ["restic", "-r", "/backup", "--password-file", "/root/expected", "snapshots"];
    assert!(machine.run(&snapshots).exits(0).stdout.ends_with("\n1 snapshots\n"));

    // The machine was off when the timer would have started it.
    let stamp = "/var/lib/systemd/timers/stamp-restic-backups-home.timer";
    machine.run(&["touch", "--date=2 days ago", stamp]).exits(0);
    machine.reboot();
    assert!(machine.run(&snapshots).exits(0).stdout.ends_with("\n2 snapshots\n"));
    type_in(&machine, &recipe.session());
    assert_eq!(machine.read(PROFILE), profile);

    machine.power_off();
    card.remove();
    machine.boot();
    type_in(&machine, &recipe.session());

    card.insert();
    card.tell("wait seen");
    type_in(&machine, &Recipe::new("The card is back").session());
    assert!(machine.run(&snapshots).exits(0).stdout.ends_with("\n3 snapshots\n"));
}
