//! A service that reads a secret with `LoadCredential=`.

use super::{Configuration, PACKAGES, type_in, with_a_card};
use crate::support::{leak::Secrets, recipes::Recipe};

#[test]
fn postgresql() {
    let (mut machine, card) = with_a_card(&PACKAGES);
    Configuration::new().switch(&machine, "postgresql.nix");
    let mut recipe = Recipe::new("PostgreSQL");
    type_in(&machine, &recipe.session());

    // The server does not let everybody in.
    let login = |password: &str| {
        let password = format!("PGPASSWORD={password}");
        let psql = ["psql", "-h", "127.0.0.1", "-U", "shop", "-d", "shop", "-Atc", "select 'in'"];
        machine.run(&[&["env", &password], &psql[..]].concat())
    };
    let password = String::from_utf8(machine.read("/run/cryptkey/vault/shop-db")).unwrap();
    let password = password.trim();
    assert_eq!(login(password).exits(0).stdout, "in\n");
    login("wrong").exits(2).says(&["password authentication failed"]);

    // Nor does it see the password.
    let log_all = ["psql", "-c", "alter system set log_statement = 'all'"];
    machine.run_as("postgres", &log_all).exits(0);
    machine.reboot();
    machine.says("postgresql.service", &["ALTER USER \"shop\" PASSWORD 'SCRAM-SHA-256$"]);
    machine.says("shop.service", &["shop is in"]);
    let mut secrets = Secrets::default();
    secrets.add("the password", password.as_bytes());
    assert_eq!(secrets.found_in(machine.whole_journal().as_bytes()), None);

    machine.power_off();
    card.remove();
    machine.boot();
    machine.expect("postgresql.service", "active");
    machine.expect("postgresql-password.service", "inactive");
    machine.expect("shop.service", "inactive");
}
