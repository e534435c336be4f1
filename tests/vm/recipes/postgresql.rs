use super::{Configuration, PACKAGES, type_in, with_a_card};
use crate::support::{leak::Secrets, recipes::Recipe};

#[test]
fn postgresql() {
    let (mut machine, _card) = with_a_card(&PACKAGES);
    Configuration::new().switch(&machine, "postgresql.nix");
    let mut recipe = Recipe::new("PostgreSQL");
    type_in(&machine, &recipe.session());

    // The server is not one that lets everybody in.
    let login = |password: &str| {
        let password = format!("PGPASSWORD={password}");
        machine.run(&[
            "env",
            &password,
            "psql",
            "-h",
            "127.0.0.1",
            "-U",
            "shop",
            "-d",
            "shop",
            "-Atc",
            "select 'in'",
        ])
    };
    let password = String::from_utf8(machine.read("/run/cryptkey/vault/shop-db")).unwrap();
    assert_eq!(login(password.trim()).stdout, "in\n");
    login("wrong").exits(2).says(&["password authentication failed"]);
    machine.reboot();
    machine.says("shop.service", &["shop is in"]);
    let mut secrets = Secrets::default();
    secrets.add("the password", password.trim().as_bytes());
    assert_eq!(secrets.found_in(machine.whole_journal().as_bytes()), None);
}
