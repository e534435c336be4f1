//! The card in a reader that the test plays: it serves, counts, and outlives being killed.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, Stdio, id},
};

const SELECT: &[u8] = b"\x00\xa4\x04\x00\x0b\xa0\x00\x00\x03\x08\x00\x00\x10\x00\x01\x00\x00";
const CHUID: &[u8] = b"\x00\xcb\x3f\xff\x05\x5c\x03\x5f\xc1\x02\x00";
/// An empty VERIFY asks for the tries that are left; a full one spends one if the PIN is wrong.
const TRIES: &[u8] = b"\x00\x20\x00\x80";
const WRONG_PIN: &[u8] = b"\x00\x20\x00\x80\x08000000\xff\xff";

/// Starts the card on a slot of ours; gives both when the card has said that it is ready.
fn insert(state: &Path) -> (Child, TcpStream) {
    let reader = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut card = Command::new(env!("CARGO_BIN_EXE_nitrokey-card"))
        .arg("--state")
        .arg(state)
        .args(["--port", &reader.local_addr().unwrap().port().to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut slot = reader.accept().unwrap().0;
    let atr = exchange(&mut slot, &[4]);
    assert!(atr.starts_with(b"\x3b") && atr.windows(8).any(|w| w == b"Nitrokey"));
    let mut line = String::new();
    BufReader::new(card.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    (card, slot)
}

fn exchange(slot: &mut TcpStream, message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap();
    slot.write_all(&[&length.to_be_bytes(), message].concat()).unwrap();
    let mut length = [0; 2];
    slot.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    slot.read_exact(&mut answer).unwrap();
    answer
}

#[test]
fn the_card_outlives_its_process() {
    let state = env::temp_dir().join(format!("nitrokey-card.{}", id()));
    let (mut card, mut slot) = insert(&state);
    assert!(exchange(&mut slot, SELECT).ends_with(b"\x90\x00"));
    let chuid = exchange(&mut slot, CHUID);
    assert!(chuid.starts_with(b"\x53") && chuid.ends_with(b"\x90\x00"));
    assert_eq!(exchange(&mut slot, TRIES), b"\x63\xc3");
    assert_eq!(exchange(&mut slot, WRONG_PIN), b"\x63\xc2");
    card.kill().unwrap();
    card.wait().unwrap();

    let (mut card, mut slot) = insert(&state);
    exchange(&mut slot, SELECT);
    assert_eq!(exchange(&mut slot, CHUID), chuid);
    assert_eq!(exchange(&mut slot, TRIES), b"\x63\xc2");

    let mut control = UnixStream::connect(state.join("control.sock")).unwrap();
    control.write_all(b"count\nquit\n").unwrap();
    let answers: Vec<_> = BufReader::new(control).lines().map(Result::unwrap).collect();
    assert_eq!(answers, [r#"{"total":3,"without_get_response":3}"#, "ok"]);
    assert!(card.wait().unwrap().success());
    let log = fs::read_to_string(state.join("apdu.log")).unwrap();
    assert!(log.contains("000004 00200080 lc=8 answer=0 sw=63c2\n"), "{log}");
    assert!(!log.contains("3030"));

    let key = Command::new(env!("CARGO_BIN_EXE_nitrokey-card"))
        .arg("--state")
        .arg(&state)
        .args(["--print-key", "9e"])
        .output()
        .unwrap();
    assert_eq!(key.stdout.len(), 65, "{key:?}");
    fs::remove_dir_all(state).unwrap();
}
