//! Who reaches the card: those who are listed, at each moment, and nobody else.

use serde_json::json;

use crate::support::{
    Card, Container, Switched,
    container::PROGRAM,
    cryptkey::{self, RULE},
    nix, switch,
};

const POLKIT: &str = "polkit-cryptkey.service";

/// A machine whose configuration lists users and groups, and somebody else's rule.
fn listing(users: &[&str], groups: &[&str], more: &str) -> nix::Machine {
    let list = |names: &[&str]| format!("{names:?}").replace(',', "");
    let (users, groups) = (list(users), list(groups));
    let other = "security.polkit.extraConfig = ''
        polkit.addRule(function (action, subject) {
            if (action.id == \"org.freedesktop.systemd1.manage-units\" && subject.user == \"mallory\")
                return polkit.Result.YES;
        });
    '';";
    let lists = format!("security.cryptkey.pcsc = {{ users = {users}; groups = {groups}; }};");
    cryptkey::vault(json!({}), &(lists + other + more))
}

/// The same machine, off, with alice, bob and mallory, and bob in the group `desk`.
fn machine() -> (Container, Card) {
    let machine = Container::new();
    for (name, id) in [("restic", 2000), ("alice", 2001), ("bob", 2002), ("mallory", 2003)] {
        machine.user(name, id);
    }
    machine.group("desk", 3000, &["bob"]);
    let card = Card::inside(&machine, &[]);
    (machine, card)
}

/// Which of the users reach readers; pcscd may be new, and not have seen the card yet.
fn who(machine: &Container) -> Vec<&'static str> {
    let reaches = |user: &&str| {
        let cards = machine.run_as(user, &[PROGRAM, "cards"]);
        // pcscd closes the connection, which its library may take for pcscd not being there.
        assert!(matches!(cards.code, Some(0 | 11 | 18)), "{cards}");
        assert_eq!(cards.code == Some(0), cards.stdout.contains("Virtual PCD"), "{cards}");
        cards.code == Some(0)
    };
    ["alice", "bob", "mallory"].into_iter().filter(reaches).collect()
}

/// What polkit says to things that have nothing to do with cards.
fn decisions(machine: &Container) -> Vec<Option<i32>> {
    let check = |user: &str, action: &str| {
        // systemd-run makes one dollar of two.
        let check = format!("exec pkcheck --process $$$$ --action-id org.freedesktop.{action}");
        machine.run_as(user, &["sh", "-c", &check]).code
    };
    let actions = ["systemd1.manage-units", "login1.reboot", "hostname1.get-hardware-serial"];
    let each =
        ["alice", "mallory"].into_iter().flat_map(|user| actions.map(|action| (user, action)));
    each.map(|(user, action)| check(user, action)).collect()
}

/// That only the unit of the rule is reloaded, and that is all.
fn only_reloaded() -> Switched {
    Switched { reloaded: [POLKIT.to_owned()].into(), ..Switched::default() }
}

#[test]
fn those_who_are_listed_reach_the_card() {
    let (mut machine, card) = machine();
    let mut nixos = listing(&["alice"], &[], "");
    cryptkey::install_all(&machine, &nixos);
    machine.boot();
    machine.expect(POLKIT, "active");
    let cards = machine.run_as("alice", &[PROGRAM, "cards"]).exits(0).stdout;
    assert!(cards.contains(&format!("card {},", Card::SERIAL)), "{cards}");
    assert_eq!(who(&machine), ["alice"]);
    machine.says("pcscd.service", &["(user: 2003) is NOT authorized for action: access_pcsc"]);
    let decided = decisions(&machine);
    assert!(
        decided.contains(&Some(0)) && decided.iter().any(|code| *code != Some(0)),
        "{decided:?}"
    );

    // The list changes, a group comes, the list is empty, and full again.
    for (users, groups, reach) in [
        (vec!["mallory"], vec![], vec!["mallory"]),
        (vec!["alice"], vec!["desk"], vec!["alice", "bob"]),
    ] {
        assert_eq!(switch(&machine, &mut nixos, listing(&users, &groups, "")), only_reloaded());
        assert_eq!(who(&machine), reach);
    }
    assert_eq!(switch(&machine, &mut nixos, listing(&[], &[], "")), only_reloaded());
    assert_eq!(who(&machine), [""; 0]);
    assert!(!machine.exists(RULE));
    assert_eq!(decisions(&machine), decided);
    assert_eq!(switch(&machine, &mut nixos, listing(&["alice"], &[], "")), only_reloaded());
    assert_eq!(who(&machine), ["alice"]);

    // The keys have needed none of this.
    machine.systemctl(&["stop", POLKIT]).exits(0);
    assert_eq!(who(&machine), [""; 0]);
    assert!(!machine.exists(RULE));
    machine.systemctl(&["restart", cryptkey::UNIT]).exits(0);
    assert_eq!(card.tries(), 3);
}

#[test]
fn a_polkitd_that_is_older_than_the_rules_directory_is_told() {
    let (mut machine, _card) = machine();
    let more = "services.pcscd.enable = true; security.polkit.enable = true;";
    let mut nixos =
        listing(&["alice"], &[], &("security.cryptkey.enable = false;".to_owned() + more));
    cryptkey::install_all(&machine, &nixos);
    machine.boot();
    assert!(!machine.exists("/run/polkit-1/rules.d"));
    assert_eq!(who(&machine), [""; 0]);
    let since = machine.show("polkit.service", "ActiveEnterTimestampMonotonic");

    assert_eq!(switch(&machine, &mut nixos, listing(&["alice"], &[], "")), Switched::default());
    assert_eq!(who(&machine), ["alice"]);
    assert_eq!(switch(&machine, &mut nixos, listing(&["bob"], &[], "")), only_reloaded());
    assert_eq!(who(&machine), ["bob"]);
    machine.systemctl(&["stop", POLKIT]).exits(0);
    assert_eq!(who(&machine), [""; 0]);
    assert_eq!(machine.show("polkit.service", "ActiveEnterTimestampMonotonic"), since);
}

#[test]
fn the_rule_may_be_in_the_configuration() {
    let (mut machine, _card) = machine();
    let with = |users: &[&str]| {
        listing(users, &["desk"], "security.cryptkey.pcsc.rule = \"configuration\";")
    };
    let mut nixos = with(&["alice"]);
    cryptkey::install_all(&machine, &nixos);
    machine.boot();
    machine.expect(cryptkey::UNIT, "active");
    assert_eq!(machine.show(POLKIT, "LoadState"), "not-found");
    assert!(!machine.exists("/run/polkit-1/rules.d"));
    assert_eq!(who(&machine), ["alice", "bob"]);
    let decided = decisions(&machine);

    let done = switch(&machine, &mut nixos, with(&["mallory"]));
    assert_eq!(Switched::of(&done.restarted), ["polkit.service"]);
    assert_eq!(Switched::of(&done.failed), [""; 0]);
    assert_eq!(who(&machine), ["bob", "mallory"]);
    assert_eq!(decisions(&machine), decided);

    // To the other kind of rule, in one go.
    let done = switch(&machine, &mut nixos, listing(&["alice"], &[], ""));
    assert_eq!(Switched::of(&done.failed), [""; 0]);
    assert_eq!(who(&machine), ["alice"]);
    machine.systemctl(&["reload", cryptkey::UNIT]).exits(0);
}
