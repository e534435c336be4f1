//! The formats of secrets, held against the tools that read them, and their public halves.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::support::{Machine, TestCard, Yubikey};

/// Secrets of each format that has a public half.
fn keys() -> Value {
    json!({
        "age": { "format": "age" },
        "age-line": { "use": "age", "format": "age", "newline": true },
        "host": { "format": "ed25519" },
        "tunnel": { "format": "wireguard" },
        "sign": { "format": "pem" },
        "agree": { "format": "pem", "algorithm": "x25519" },
        "tls": { "format": "pem", "algorithm": "p256" },
    })
}

fn machine(secrets: &Value) -> (Machine, Yubikey) {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({ "secrets": secrets }));
    (machine, card)
}

fn file(machine: &Machine, name: &str) -> PathBuf {
    machine.runtime.join("vault").join(name)
}

/// What a command prints that ends well.
fn printed(command: &mut Command, input: &[u8]) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn run(program: &str, args: &[&str], input: &[u8]) -> String {
    printed(Command::new(program).args(args), input)
}

#[test]
fn every_format_is_what_an_independent_program_computes() {
    let mut secrets = keys();
    let odd = "0123456789abcdefXYZ!";
    secrets["login"] = json!({ "format": "password" });
    secrets["pin"] = json!({ "format": "password", "alphabet": "0123456789", "length": 8 });
    secrets["strict"] = json!({ "format": "password", "alphabet": odd, "length": 4, "newline": true,
        "classes": ["upper", "lower", "digit", "symbol"] });
    secrets["longest"] = json!({ "format": "password", "length": 256 });
    let (machine, card) = machine(&secrets);
    machine.apply().exits(0);
    let private = [card.private_key("9d")];
    for (name, secret) in secrets.as_object().unwrap() {
        let usage = secret["use"].as_str().unwrap_or(name);
        let mut args = vec!["--use".to_owned(), usage.into()];
        for field in ["format", "algorithm", "alphabet"] {
            args.extend(
                secret[field].as_str().iter().flat_map(|of| [format!("--{field}"), (*of).into()]),
            );
        }
        args.extend(
            secret["length"].as_u64().iter().flat_map(|of| ["--length".into(), of.to_string()]),
        );
        let classes = secret["classes"].as_array().into_iter().flatten();
        args.extend(classes.flat_map(|of| ["--class".into(), of.as_str().unwrap().to_owned()]));
        args.extend(secret["newline"].as_bool().map(|_| "--newline".to_owned()));
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let expected = machine.expected_as("vault", &private, &args);
        assert_eq!(machine.secret("vault", name), expected, "{name}");
        // The command prints the same.
        let derived = machine.command(&[&["derive", "--key", "vault"], &*args].concat()).output();
        assert_eq!(derived.unwrap().stdout, expected, "{name}");
    }
}

#[test]
fn every_tool_takes_its_format_and_agrees_on_the_public_half() {
    let (machine, _card) = machine(&keys());
    machine.apply().exits(0);
    let secret = |name: &str| fs::read(file(&machine, name)).unwrap();
    let public = |name: &str| fs::read_to_string(file(&machine, &format!("{name}.pub"))).unwrap();
    let text = |name: &str| file(&machine, name).to_str().unwrap().to_owned();
    let message = b"what is in here".as_slice();

    assert_eq!(run("age-keygen", &["-y", &text("age-line")], b""), public("age"));
    let encrypted = machine.dir().join("message.age");
    let to = encrypted.to_str().unwrap();
    run("age", &["-r", public("age").trim_end(), "-o", to], message);
    for identity in ["age", "age-line"] {
        assert_eq!(run("age", &["-d", "-i", &text(identity), to], b"").as_bytes(), message);
    }

    assert_eq!(run("ssh-keygen", &["-y", "-f", &text("host")], b""), public("host"));
    run("ssh-keygen", &["-l", "-f", &text("host.pub")], b"");
    sshd_has(&machine, &text("host"), &public("host"));

    assert_eq!(run("wg", &["pubkey"], &secret("tunnel")), public("tunnel"));

    for name in ["sign", "agree", "tls"] {
        let halves = run("openssl", &["pkey", "-in", &text(name), "-pubout"], b"");
        assert_eq!(halves, public(name));
        run("openssl", &["pkey", "-in", &text(name), "-check", "-noout"], b"");
    }
    let signed = machine.dir().join("signature");
    let (signed, message) = (signed.to_str().unwrap(), encrypted.to_str().unwrap());
    for (name, raw) in [("sign", &["-rawin"][..]), ("tls", &["-rawin", "-digest", "sha256"])] {
        let public = text(&format!("{name}.pub"));
        let own = text(name);
        for what in [
            &["-sign", "-inkey", &own, "-out", signed][..],
            &["-verify", "-pubin", "-inkey", &public, "-sigfile", signed],
        ] {
            run("openssl", &[&["pkeyutl", "-in", message], what, raw].concat(), b"");
        }
    }
}

/// A real sshd answers with the key, and makes none of its own.
fn sshd_has(machine: &Machine, key: &str, public: &str) {
    let config = machine.dir().join("sshd_config");
    fs::write(&config, format!("HostKey {key}\nPidFile none\nUsePAM no\n")).unwrap();
    fs::create_dir_all("/run/sshd").unwrap();
    run("/usr/sbin/sshd", &["-t", "-f", config.to_str().unwrap()], b"");
    let known = machine.dir().join("known_hosts");
    fs::write(&known, format!("host {public}")).unwrap();
    // A server for one connection, which is a pipe.
    let server = format!("/usr/sbin/sshd -i -f {}", config.display());
    let output = Command::new("ssh")
        .args(["-F", "none", "-o", "StrictHostKeyChecking=yes", "-o", "HostKeyAlias=host"])
        .args(["-o", "BatchMode=yes", "-o", &format!("ProxyCommand={server}"), "-v"])
        .args(["-o", &format!("UserKnownHostsFile={}", known.display()), "nobody@host", "true"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("matches the ED25519 host key"), "{said}");
}

#[test]
fn a_public_half_is_told_once_and_known_without_the_card() {
    let secrets = json!({ "host": { "format": "ed25519", "owner": "nobody" }, "plain": {} });
    let (machine, card) = machine(&secrets);
    let enrolled = machine.run(&["apply"]).exits(0);
    let public = fs::read_to_string(file(&machine, "host.pub")).unwrap();
    assert!(enrolled.stdout.contains(&format!("  public half of host: {public}")), "{enrolled}");
    assert_eq!(mode(&file(&machine, "host.pub")), 0o444);
    // Not again.
    let verified = machine.run(&["apply"]).exits(0);
    assert_eq!(verified.stdout, "vault: verified, unchanged\n");
    // Another secret is new, and only that one.
    let more = json!({ "host": { "format": "ed25519" }, "age": { "format": "age" } });
    machine.vault(&card, json!({ "secrets": more }));
    let added = machine.apply().exits(0);
    let halves = &added.json()["keys"]["vault"]["published"]["publicHalves"];
    let age = fs::read_to_string(file(&machine, "age.pub")).unwrap();
    assert_eq!(*halves, json!({ "age": age }), "{added}");

    // Without the card.
    card.remove();
    let asked = machine.run(&["public", "--key", "vault", "--secret", "host"]).exits(0);
    assert_eq!((&*asked.stdout, &*asked.stderr), (&*public, ""));
    let all = machine.run(&["public", "--key", "vault"]).exits(0);
    assert!(all.stdout.starts_with("age recipient of the key: age1"), "{all}");
    assert!(all.stdout.contains(&format!("public half of host: {public}")), "{all}");
    // And after a boot that it did not see.
    machine.run(&["scrub"]).exits(0);
    let asked = machine.run(&["public", "--key", "vault", "--secret", "host"]).exits(0);
    assert_eq!(asked.stdout, public);
    assert!(asked.stderr.contains("not verified"), "{asked}");
    let status = machine.run(&["status"]).exits(0);
    assert!(status.stdout.contains("public half of host (not verified"), "{status}");
    let refused = machine.run(&["public", "--key", "vault", "--secret", "plain"]);
    refused.exits(10).says(&["no secret plain with a public half", "age, host"]);
}

#[test]
fn a_public_half_that_somebody_changed_is_written_anew() {
    let (machine, _card) = machine(&json!({ "host": { "format": "ed25519" } }));
    machine.apply().exits(0);
    let kept = machine.state.join("vault.public");
    let own = fs::read_to_string(&kept).unwrap();
    for changed in [
        own.replace("ssh-ed25519 A", "ssh-ed25519 B"),
        "garbage".into(),
        own.replace("vault", "other"),
    ] {
        fs::write(&kept, &changed).unwrap();
        let again = machine.apply().exits(0);
        assert_eq!(again.result("vault"), "verified");
        again.says(&["vault.public"]);
        assert_eq!(fs::read_to_string(&kept).unwrap(), own);
    }
    let before = fs::metadata(&kept).unwrap().modified().unwrap();
    machine.apply().exits(0);
    assert_eq!(fs::metadata(&kept).unwrap().modified().unwrap(), before);
    // A secret that is gone takes its public half with it, and so does a key that is renamed.
    machine.run(&["rename", "--key", "vault", "--to", "safe"]).exits(0);
    assert!(!kept.exists());
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}
