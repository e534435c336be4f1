//! Cards in the readers of a private pcscd: put in, pulled, side by side.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};

use virtual_card::stack::{Pcscd, Server};
use virtual_card::{Action, Card, Options, Rule};

fn serve(pcscd: &Pcscd, reader: usize, args: &[&str]) -> Server {
    let state = pcscd.dir().join(format!("card-{reader}"));
    let binary = Path::new(env!("CARGO_BIN_EXE_virtual-card"));
    Server::start(binary, pcscd, reader, &state, args).unwrap()
}

fn opensc_tool(pcscd: &Pcscd, args: &[&str]) -> Output {
    let output = pcscd.command("opensc-tool").args(args).output();
    output.unwrap_or_else(|e| panic!("opensc-tool: {e}: apt-get install opensc"))
}

/// Whether pcscd says that a card is in the reader.
fn has_card(pcscd: &Pcscd, reader: usize) -> bool {
    let list = String::from_utf8(opensc_tool(pcscd, &["-l"]).stdout).unwrap();
    let name = Pcscd::reader_name(reader);
    list.lines().any(|line| line.contains("Yes") && line.ends_with(&name))
}

/// Asks the card in a reader for its serial number (F8).
fn serial(pcscd: &Pcscd, reader: usize) -> String {
    let reader = Pcscd::reader_name(reader);
    let select = ["-c", "default", "-s", "00:a4:04:00:05:a0:00:00:03:08:00"];
    let ask = ["-r", &reader, "-s", "00:f8:00:00:00"];
    let output = opensc_tool(pcscd, &[&select[..], &ask].concat());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn cards_sit_side_by_side() {
    let pcscd = Pcscd::start(3).unwrap();
    let one = serve(&pcscd, 0, &["--serial", "1"]);
    let _two = serve(&pcscd, 1, &["--serial", "2"]);
    let three = serve(&pcscd, 2, &["--absent", "--serial", "3"]);
    assert_eq!([0, 1, 2].map(|reader| has_card(&pcscd, reader)), [true, true, false]);
    assert!(serial(&pcscd, 0).contains("00 00 00 01"));
    assert!(serial(&pcscd, 1).contains("00 00 00 02"));
    three.insert().unwrap();
    assert!(serial(&pcscd, 2).contains("00 00 00 03"));
    assert!(one.log().unwrap().contains(" 00 f8 00 00 in=5 00 out=4 sw=9000\n"));
    assert_eq!(one.control("count reset").unwrap(), "ok");
    serial(&pcscd, 0);
    assert_eq!(one.counts().unwrap().total, 2);
}

#[test]
fn a_card_can_live_in_the_test() {
    let mut pcscd = Pcscd::start(1).unwrap();
    let card = Card::open(&pcscd.dir().join("card"), Options::default()).unwrap();
    let link = pcscd.put(card, 0).unwrap();
    assert!(has_card(&pcscd, 0));
    link.controls().fault(Rule::at_ins(0xF8, Action::Status(0x6F42)));
    assert!(serial(&pcscd, 0).contains("SW1=0x6F, SW2=0x42"));
    assert_eq!(link.controls().counts().total, 2);
}

#[test]
fn a_card_is_pulled_and_put_back_and_outlives_the_daemon() {
    let mut pcscd = Pcscd::start(1).unwrap();
    let card = serve(&pcscd, 0, &[]);
    assert!(has_card(&pcscd, 0));
    card.remove().unwrap();
    assert!(!has_card(&pcscd, 0));
    card.insert().unwrap();
    assert!(has_card(&pcscd, 0));
    pcscd.stop();
    card.expect_ok("wait unlinked").unwrap();
    pcscd.restart().unwrap();
    card.expect_ok("wait seen").unwrap();
    assert!(has_card(&pcscd, 0));
}

#[test]
fn a_fault_pulls_the_card_under_a_client() {
    let pcscd = Pcscd::start(1).unwrap();
    let card = serve(&pcscd, 0, &["--serial", "9"]);
    card.expect_ok("fault ins f8 remove").unwrap();
    assert!(!serial(&pcscd, 0).contains("00 00 00 09"));
    card.expect_ok("wait unlinked").unwrap();
    assert!(!has_card(&pcscd, 0));
    card.insert().unwrap();
    assert!(serial(&pcscd, 0).contains("00 00 00 09"));
}

#[test]
fn a_card_that_hangs_is_released_through_its_socket() {
    let pcscd = Pcscd::start(1).unwrap();
    let card = serve(&pcscd, 0, &["--serial", "9"]);
    card.expect_ok("fault ins f8 hang").unwrap();
    std::thread::scope(|scope| {
        let client = scope.spawn(|| serial(&pcscd, 0));
        card.expect_ok("wait hang").unwrap();
        card.expect_ok("release").unwrap();
        assert!(client.join().unwrap().contains("00 00 00 09"));
    });
    assert_eq!(card.control("touch sometimes").unwrap(), "error: unknown touch mode \"sometimes\"");
    assert!(card.control("state").unwrap().contains("\"faults\":0"));
}

/// pcscd takes a card that it could not power up for present, and does not try again as long as it
/// finds one at each look: also where that is another one.
#[test]
fn a_card_after_one_that_was_lost_while_it_got_power_is_seen() {
    let pcscd = Pcscd::start(1).unwrap();
    let mut lost = loop {
        match TcpStream::connect(("127.0.0.1", pcscd.port(0))) {
            Ok(stream) => break stream,
            Err(_) => std::thread::yield_now(),
        }
    };
    // The ATR until there is power, and then no answer.
    loop {
        let mut message = [0; 3];
        lost.read_exact(&mut message).unwrap();
        match message {
            [0, 1, 4] => lost.write_all(&[0, 2, 0x3b, 0x00]).unwrap(),
            [0, 1, 1] => break,
            other => panic!("{other:?}"),
        }
    }
    let mut next = Command::new(env!("CARGO_BIN_EXE_virtual-card"));
    next.args(["--port", &pcscd.port(0).to_string()]);
    let next = Server::launch(next, &pcscd.dir().join("card-0")).unwrap();
    drop(lost);
    next.expect_ok("wait seen").unwrap();
    assert!(has_card(&pcscd, 0));
}
