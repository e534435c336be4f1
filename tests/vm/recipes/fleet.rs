//! Several hosts with one profile.

use super::{Configuration, encrypt_pin, type_in, with_a_card};
use crate::support::{
    Container,
    cryptkey::{PROFILE, UNIT},
    recipes::Recipe,
};

/// A secret that all hosts have.
const SECRET: &str = "/run/cryptkey/vault/cluster";

#[test]
fn a_fleet() {
    let (web, card) = with_a_card(&[]);
    let configuration = Configuration::new();
    configuration.switch(&web, "key.nix");
    configuration.add("vault.toml", &web.read(PROFILE));
    configuration.switch(&web, "web.nix");
    web.systemctl(&["reload", UNIT]).exits(0);
    let mut recipe = Recipe::new("A fleet with one card");
    type_in(&web, &recipe.session());

    let mut db = Container::new();
    let _card = card.carry_to(&db);
    db.boot();
    encrypt_pin(&db);
    configuration.switch(&db, "db.nix");
    type_in(&db, &recipe.session());
    assert_eq!(db.read(SECRET), web.read(SECRET));
    // Nothing is enrolled beside the profile of the configuration.
    assert!(!db.exists(PROFILE));
}
