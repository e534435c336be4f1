//! No secret in anything that any command prints.
//!
//! [`Machine::finish`] searches the output of every run of the suite. Here every command runs in
//! every way, and the search is shown to find what is there.

use std::{fmt::Write as _, fs, os::unix::net::UnixDatagram};

use serde_json::json;

use crate::support::{Machine, Running, TestCard, Yubikey};

const MANAGEMENT_KEY: &str = "a1b2c3d4e5f60718293a4b5c6d7e8f90a0b1c2d3e4f50617";

/// All ways to say something.
const WAYS: [&[&str]; 5] = [&[], &["-v"], &["-vv"], &["--json"], &["--json", "-vv"]];

/// Runs every command in every way. What was printed is searched by [`Machine::run`], and is
/// returned for a search of another kind.
fn every_command(machine: &Machine) -> String {
    let mut all = String::new();
    for command in
        ["check", "plan", "apply", "status", "cards", "apply", "scrub", "apply", "schema"]
    {
        for way in WAYS {
            let output = machine.run(&[&[command], way].concat());
            writeln!(all, "{command} {way:?}: {output}").unwrap();
        }
    }
    all
}

/// A card with a management key of its own.
fn card(machine: &Machine) -> Yubikey {
    let card = Yubikey::new(machine, 0);
    let key = "010203040506070801020304050607080102030405060708";
    let output = machine
        .pcscd
        .command("ykman")
        .args(["--reader", &card.reader(), "piv", "access", "change-management-key"])
        .args(["--force", "--management-key", key])
        .args(["--new-management-key", MANAGEMENT_KEY])
        .output()
        .expect("apt-get install yubikey-manager");
    assert!(output.status.success(), "{output:?}");
    card
}

#[test]
fn no_command_prints_a_secret_when_all_goes_well() {
    let machine = Machine::new(1);
    let card = card(&machine);
    machine
        .keep_secret("the management key", &base16ct::lower::decode_vec(MANAGEMENT_KEY).unwrap());
    let key = json!({
        "managementKey": machine.secret_file("management.key", MANAGEMENT_KEY),
        "secrets": {
            "raw": { "use": "a", "length": 64 },
            "hex": { "use": "b", "format": "hex" },
            "base64": { "use": "c", "format": "base64" },
        },
    });
    machine.vault(&card, key.clone());
    machine.apply().exits(0);
    machine.keep_secret(
        "the card's key",
        &base16ct::lower::decode_vec(card.private_key("9d")).unwrap(),
    );
    // Enrollment again and again, too.
    for way in WAYS {
        machine.lose("vault");
        machine.run(&[&["apply"], way].concat()).exits(0);
    }
    let all = every_command(&machine);

    // All that would have been found: planted where it was searched, one by one.
    let mut planted = vec![Yubikey::PIN.as_bytes().to_vec()];
    planted.push(MANAGEMENT_KEY[6..18].to_uppercase().into_bytes());
    for (_, content) in machine.published() {
        planted.push(content[4..16].to_vec());
    }
    assert_eq!(planted.len(), 5);
    for secret in planted {
        let (before, after) = all.as_bytes().split_at(all.len() / 2);
        let text = [before, &secret, after].concat();
        assert!(machine.finds_secret_in(&text), "{secret:?}");
    }
    assert!(!machine.finds_secret_in(all.as_bytes()));
}

#[test]
fn no_command_prints_a_secret_when_anything_fails() {
    let machine = Machine::new(1);
    let card = card(&machine);
    let management = machine.secret_file("management.key", MANAGEMENT_KEY);
    let wrong = |content: &str| machine.secret_file(&format!("{}.secret", content.len()), content);
    for extra in [
        // A management key that the card does not accept.
        json!({ "managementKey": wrong("b1b2c3d4e5f60718293a4b5c6d7e8f90a0b1c2d3e4f50618") }),
        json!({ "managementKey": wrong("qzjxkv-wvqzjx-kzqwvj") }),
        // PINs that are none, or are in a file of another kind.
        json!({ "pin": wrong("12ab"), "managementKey": management }),
        json!({ "pin": wrong("qvxzjk-wkqzxv-jqzvkx-zzqj"), "managementKey": management }),
        // One that is wrong, once.
        json!({ "pin": wrong("583920"), "managementKey": management }),
        json!({ "slot": "9c", "managementKey": management }),
        json!({ "cards": [{ "serial": "90210009" }], "cardTimeoutSec": 0, "softFail": true }),
    ] {
        machine.vault(&card, extra.clone());
        let pin_is_wrong = extra["pin"]["file"].as_str().is_some_and(|f| f.contains("583920"));
        if pin_is_wrong {
            machine.apply().exits(15);
            continue;
        }
        every_command(&machine);
        assert!(machine.published().is_empty(), "{extra}");
    }
}

#[test]
fn systemd_hears_no_secret() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    let path = machine.dir().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_nonblocking(true).unwrap();
    let wrong = machine.secret_file("wrong.pin", "583920");
    for (key, code, status) in [
        (json!({}), 0, "PIN tries left: 3"),
        (json!({}), 0, "PIN tries left: 3"),
        (json!({ "pin": wrong }), 15, "rejected the PIN; tries left: 2"),
        (json!({ "pin": { "file": "/nonexistent" } }), 14, "PIN tries left: 2"),
    ] {
        machine.vault(&card, key);
        let mut command = machine.command(&["apply", "--json", "-vv"]);
        command.env("NOTIFY_SOCKET", &path);
        machine.finish(Running::start(command)).exits(code);
        let mut heard = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(length) = systemd.recv(&mut buffer) {
            heard.extend_from_slice(&buffer[..length]);
            heard.push(b'\n');
        }
        machine.no_secret_in("what systemd hears", &heard);
        let heard = String::from_utf8(heard).unwrap();
        assert!(heard.contains(status), "{heard}");
    }
}

/// What is on disk afterwards holds nothing of what opens it.
#[test]
fn no_secret_reaches_the_disk() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({}));
    machine.apply().exits(0);
    machine.keep_secret(
        "the card's key",
        &base16ct::lower::decode_vec(card.private_key("9d")).unwrap(),
    );
    let files = fs::read_dir(&machine.state).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = files.collect();
    // The profile, the lock, the record of the card's PINs, and what is known of the reader.
    assert_eq!(files.len(), 4);
    for file in files {
        machine.no_secret_in(&file.display().to_string(), &fs::read(&file).unwrap());
    }
}

/// Journald sees lines with priorities, and they hold no secret either.
#[test]
fn arguments_and_environment_hold_no_secret() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    card.remove();
    machine.vault(&card, json!({ "cardTimeoutSec": 600 }));
    let mut running = machine.start();
    running.wait_for("waiting for");
    for file in ["cmdline", "environ", "comm", "status"] {
        let path = format!("/proc/{}/{file}", running.pid());
        machine.no_secret_in(file, &fs::read(path).unwrap());
    }
    card.insert();
    machine.finish(running).exits(0);
}
