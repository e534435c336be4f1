//! What holds for every command: selection, chaining, GET RESPONSE, faults, counts, log, removal.

mod common;

use std::time::Duration;

use common::{FACTORY_KEY, Host, PIN, hex, some_point, unhex};
use virtual_card::{Action, Card, Event, Options, PATIENCE, Removed, Rule, TouchMode};

#[test]
fn selection_knows_the_full_and_the_truncated_aid() {
    let mut host = Host::new(Options::default());
    for aid in ["a000000308", "a000000308000010000100", "a00000030800001000"] {
        let answer = host.ok(0xA4, 4, 0, &unhex(aid));
        assert_eq!(hex(&answer), "61114f0600001000010079074f05a000000308");
    }
    assert_eq!(host.ok(0xFD, 0, 0, &[]), [5, 7, 1]);
    assert_eq!(host.ok(0xF8, 0, 0, &[]), 12_345_678_u32.to_be_bytes());
    assert_eq!(host.sw(0xA4, 4, 0, &unhex("d27600012401")), 0x6A82);
    assert_eq!(host.sw(0xFD, 0, 0, &[]), 0x6D00);
}

#[test]
fn selecting_again_keeps_the_pin_and_another_application_ends_it() {
    let mut host = Host::new(Options::default());
    host.verify(PIN);
    host.select();
    assert_eq!(host.tries(), 0x9000);
    let management = host.ok(0xA4, 4, 0, &unhex("a000000527471117"));
    assert!(String::from_utf8(management).unwrap().ends_with("5.7.1"));
    assert!(host.ok(0x1D, 0, 0, &[]).windows(6).any(|w| w == [2, 4, 0, 0xBC, 0x61, 0x4E]));
    host.select();
    assert_eq!(host.tries(), 0x63C3);
}

#[test]
fn the_guid_and_the_discovery_object_are_there() {
    let mut host = Host::new(Options::default());
    let (chuid, _) = host.get(&[0x5F, 0xC1, 2]);
    let guid = host.card.state().guid.0.clone();
    assert!(chuid.windows(18).any(|w| w[..2] == [0x34, 16] && w[2..] == guid));
    assert_eq!(hex(&host.get(&[0x7E]).0), "7e124f0ba0000003080000100001005f2f024000");
    assert_eq!(host.get(&[0x5F, 0xC1, 5]).1, 0x6A82);
}

#[test]
fn long_commands_are_chained_and_long_answers_fetched() {
    let mut host = Host::new(Options::default());
    host.manage();
    let object: Vec<u8> = (0..=255).cycle().take(1000).collect();
    assert_eq!(host.put(&[0x5F, 0xC1, 5], &object), 0x9000);
    let (answer, sw) = host.get(&[0x5F, 0xC1, 5]);
    assert_eq!((&answer[4..], sw), (object.as_slice(), 0x9000));
    // A short Le asks for a part; the rest is announced, and lost if it is not fetched.
    let get = unhex("00cb3fff055c035fc105");
    let (part, sw) = host.raw(&[get.as_slice(), &[10]].concat());
    assert_eq!((part.len(), sw), (10, 0x6100));
    assert_eq!(host.raw(&[0, 0xC0, 0, 0, 0]).0.len(), 256);
    host.ok(0xFD, 0, 0, &[]);
    assert_eq!(host.raw(&[0, 0xC0, 0, 0, 0]).1, 0x6985);
    // The last part says how long it is.
    let small = unhex("00cb3fff055c035fc10201");
    assert_eq!(host.raw(&small).1, 0x613C);
    assert_eq!(host.put(&[0x5F, 0xC1, 5], &vec![1; 3064]), 0x6A84);
    assert_eq!(host.put(&[0x5F, 0xC1, 5], &[]), 0x9000);
    assert_eq!(host.get(&[0x5F, 0xC1, 5]).1, 0x6A82);
}

#[test]
fn with_t0_answers_are_fetched_and_lengths_are_exact() {
    let dir = tempfile::tempdir().unwrap();
    let mut card = Card::open(dir.path(), Options { t0: true, ..Options::default() }).unwrap();
    let mut send = |apdu: &str| hex(&card.transmit(&unhex(apdu)).unwrap());
    let application = "61114f0600001000010079074f05a000000308";
    assert_eq!(send("00a4040005a000000308"), "6113");
    assert_eq!(send("00c0000000"), "6c13");
    assert_eq!(send("00c0000010"), format!("{}6103", &application[..32]));
    assert_eq!(send("00c0000003"), format!("{}9000", &application[32..]));
    assert_eq!(send("00c0000003"), "6985");
    assert_eq!(send("00fd000000"), "6c03");
    assert_eq!(send("00fd000003"), "0507019000");
    assert_eq!(send("0020008000"), "63c3");
    assert_eq!(send("0020008008313233343536ffff"), "9000");
    // Neither an Le after data nor an extended command.
    assert_eq!(send("00a4040005a00000030800"), "6700");
    assert_eq!(send("00fd0000000000"), "6700");
    assert_eq!(send("0020008000"), "9000");
}

#[test]
fn another_command_or_a_reset_drops_a_chain() {
    let mut host = Host::new(Options::default());
    let verify = [&[0, 0x20, 0, 0x80, 4], b"56\xff\xff".as_slice()].concat();
    let begin = [&[0x10, 0x20, 0, 0x80, 4], b"1234".as_slice()].concat();
    assert_eq!(host.raw(&begin).1, 0x9000);
    assert_eq!(host.raw(&verify).1, 0x9000);
    assert_eq!(host.raw(&begin).1, 0x9000);
    host.ok(0xFD, 0, 0, &[]);
    assert_eq!(host.raw(&verify).1, 0x6A80);
    assert_eq!(host.raw(&begin).1, 0x9000);
    host.reset();
    assert_eq!(host.raw(&verify).1, 0x6A80);
    assert_eq!(host.tries(), 0x63C3);
}

#[test]
fn extended_commands_are_spoken_unless_refused() {
    let version = [0, 0xFD, 0, 0, 0, 0, 0];
    let mut host = Host::new(Options::default());
    assert_eq!(host.raw(&version), (vec![5, 7, 1], 0x9000));
    host.manage();
    assert_eq!(host.put(&[0x5F, 0xC1, 5], &[3; 600]), 0x9000);
    let get = unhex("00cb3fff0000055c035fc1050000");
    assert_eq!(host.raw(&get).0.len(), 604);
    let mut host = Host::new(Options { extended_length: false, ..Options::default() });
    assert_eq!(host.raw(&version).1, 0x6700);
}

#[test]
fn nonsense_is_answered_and_survived() {
    let mut host = Host::new(Options::default());
    for (apdu, sw) in [
        (&[][..], 0x6700),
        (&[0, 0xA4], 0x6700),
        (&[0, 0xCB, 0x3F, 0xFF, 5, 0x5C], 0x6700),
        (&[0, 0xCB, 0x3F, 0xFF, 1, 0x5C], 0x6A80),
        (&[0, 0xCB, 0x3F, 0xFF, 2, 0x5C, 0x84], 0x6A80),
        (&[0x0C, 0xA4, 4, 0], 0x6E00),
        (&[0, 0x11, 0, 0], 0x6D00),
    ] {
        assert_eq!(host.raw(apdu).1, sw, "{apdu:02x?}");
    }
    assert_eq!(host.tries(), 0x63C3);
}

#[test]
fn an_old_card_knows_no_metadata_attestation_or_serial() {
    let mut host = Host::new(Options { legacy: true, ..Options::default() });
    for ins in [0xF6, 0xF7, 0xF8, 0xF9] {
        assert_eq!(host.sw(ins, 0, 0x9D, &[]), 0x6D00);
    }
    assert_eq!(host.sw(0xA4, 4, 0, &unhex("a000000527471117")), 0x6A82);
    host.select();
    assert_eq!(host.authenticate(3, FACTORY_KEY), 0x9000);
    host.generate(0x9D, 0x11, 1, 1);
    assert_eq!(host.agree(0x9D, &some_point()).1, 0x9000);
}

#[test]
fn the_card_comes_back_from_its_directory() {
    let mut host = Host::new(Options::default());
    host.manage();
    host.generate(0x9D, 0x11, 1, 1);
    let before = host.agree(0x9D, &some_point());
    let other = Options { serial: 1, pin: "999999".to_owned(), ..Options::default() };
    host.card = Card::open(host.dir.path(), other).unwrap();
    host.select();
    assert_eq!(host.agree(0x9D, &some_point()), before);
    assert_eq!(host.card.state().serial, 12_345_678);
    assert_eq!(host.verify(PIN), 0x9000);
}

#[test]
fn a_touch_is_awaited_given_withheld_or_late() {
    let mut host = Host::new(Options::default());
    let controls = host.card.controls();
    host.manage();
    host.generate(0x9D, 0x11, 1, 2);
    controls.touch(TouchMode::Withhold);
    assert_eq!(host.agree(0x9D, &some_point()).1, 0x6982);
    controls.touch(TouchMode::Give);
    assert_eq!(host.agree(0x9D, &some_point()).1, 0x9000);
    controls.touch(TouchMode::Wait);
    let finger = std::thread::spawn({
        let controls = controls.clone();
        move || {
            assert!(controls.wait(Event::Touch, PATIENCE));
            controls.touch(TouchMode::Once);
        }
    });
    assert_eq!(host.agree(0x9D, &some_point()).1, 0x9000);
    finger.join().unwrap();
    let mut host = Host::new(Options { touch_timeout: Duration::ZERO, ..Options::default() });
    host.manage();
    host.generate(0x9D, 0x11, 1, 2);
    assert_eq!(host.agree(0x9D, &some_point()).1, 0x6982);
}

#[test]
fn a_cached_touch_lasts_until_a_reset() {
    let mut host = Host::new(Options::default());
    let controls = host.card.controls();
    host.manage();
    host.generate(0x9D, 0x11, 1, 3);
    controls.touch(TouchMode::Give);
    assert_eq!(host.agree(0x9D, &some_point()).1, 0x9000);
    controls.touch(TouchMode::Withhold);
    assert_eq!(host.agree(0x9D, &some_point()).1, 0x9000);
    host.reset();
    assert_eq!(host.agree(0x9D, &some_point()).1, 0x6982);
}

#[test]
fn a_card_can_be_pulled_while_it_waits_for_a_touch() {
    let mut host = Host::new(Options::default());
    let controls = host.card.controls();
    host.manage();
    host.generate(0x9D, 0x11, 1, 2);
    let hand = std::thread::spawn({
        let controls = controls.clone();
        move || {
            assert!(controls.wait(Event::Touch, PATIENCE));
            controls.remove();
        }
    });
    let data = virtual_card::tlv::encode(0x85, &some_point());
    let data = virtual_card::tlv::encode(0x7C, &[&[0x82, 0], data.as_slice()].concat());
    let length = u8::try_from(data.len()).unwrap();
    let apdu = [&[0, 0x87, 0x11, 0x9D, length], data.as_slice(), &[0]].concat();
    assert_eq!(host.card.transmit(&apdu), Err(Removed));
    hand.join().unwrap();
    assert_eq!(host.card.transmit(&apdu), Err(Removed));
    controls.insert();
    assert_eq!(host.raw(&apdu).1, 0x6D00);
}

#[test]
fn faults_happen_where_they_are_asked_for_and_once() {
    let mut host = Host::new(Options::default());
    let controls = host.card.controls();
    controls.fault("ins fd sw 6f42".parse().unwrap());
    controls.fault(Rule::at(2, Action::Raw(vec![1, 2, 3])));
    assert_eq!(host.raw(&[0, 0xF8, 0, 0, 0]).1, 0x9000);
    assert_eq!(host.card.transmit(&[0, 0xF8, 0, 0, 0]), Ok(vec![1, 2, 3]));
    assert_eq!(host.raw(&[0, 0xFD, 0, 0, 0]).1, 0x6F42);
    assert_eq!(host.raw(&[0, 0xFD, 0, 0, 0]).1, 0x9000);
    host.manage();
    controls.fault("ins 47 p2 9d remove-after".parse().unwrap());
    let generate = [0, 0x47, 0, 0x9D, 5, 0xAC, 3, 0x80, 1, 0x11, 0];
    assert_eq!(host.card.transmit(&generate), Err(Removed));
    controls.insert();
    host.select();
    assert_eq!(host.metadata(0x9D, 3), [1]);
    controls.fault("nth 2 remove".parse().unwrap());
    controls.clear_faults();
    assert_eq!(host.raw(&[0, 0xFD, 0, 0, 0]).1, 0x9000);
    assert_eq!(host.raw(&[0, 0xFD, 0, 0, 0]).1, 0x9000);
    for wrong in ["", "ins fd", "ins remove", "nth 0 hang", "hang now", "sw 1x"] {
        assert!(wrong.parse::<Rule>().is_err(), "{wrong:?}");
    }
}

#[test]
fn answers_are_damaged_and_sessions_forgotten() {
    let mut host = Host::new(Options::default());
    let serial = 12_345_678_u32.to_be_bytes();
    let mut faulty = |fault: &str| {
        host.card.controls().fault(fault.parse().unwrap());
        host.card.transmit(&[0, 0xF8, 0, 0, 0]).unwrap()
    };
    assert_eq!(faulty("cut 5"), [&serial[..], &[0x90]].concat());
    assert!(faulty("cut 0").is_empty());
    assert_eq!(faulty("short 1"), [serial[0], 0x90, 0]);
    assert_eq!(faulty("flip 1 ff"), [serial[0], !serial[1], serial[2], serial[3], 0x90, 0]);
    assert_eq!(faulty("flip 9 01")[0], serial[0] ^ 1);
    host.verify(PIN);
    host.card.controls().fault("forget".parse().unwrap());
    assert_eq!(host.raw(&[0, 0x20, 0, 0x80]).1, 0x6D00);
    host.select();
    assert_eq!(host.tries(), 0x63C3);
}

#[test]
fn a_card_becomes_what_its_file_says() {
    let mut host = Host::new(Options::default());
    let file = host.dir.path().join("card.json");
    let before = std::fs::read_to_string(&file).unwrap();
    assert_eq!(host.raw(&unhex("002000800839393939393939ff")).1, 0x63C2);
    std::fs::write(&file, before).unwrap();
    host.card.controls().reload();
    host.select();
    assert_eq!(host.tries(), 0x63C3);
}

#[test]
fn a_card_that_hangs_goes_on_when_released() {
    let mut host = Host::new(Options::default());
    let controls = host.card.controls();
    controls.fault(Rule::at_ins(0xFD, Action::Hang));
    let helper = std::thread::spawn({
        let controls = controls.clone();
        move || {
            assert!(controls.wait(Event::Hang, PATIENCE));
            controls.release();
        }
    });
    assert_eq!(host.ok(0xFD, 0, 0, &[]), [5, 7, 1]);
    helper.join().unwrap();
}

#[test]
fn apdus_are_counted_and_logged_without_secrets() {
    let mut host = Host::new(Options::default());
    host.manage();
    host.put(&[0x5F, 0xC1, 9], &[0x5A; 300]);
    host.verify(PIN);
    let controls = host.card.controls();
    controls.reset_counts();
    host.get(&[0x5F, 0xC1, 9]);
    assert_eq!(controls.counts().total, 2);
    assert_eq!(controls.counts().without_get_response, 1);
    let log = std::fs::read_to_string(host.dir.path().join("apdu.log")).unwrap();
    assert!(!log.contains("5a5a") && !log.contains("313233343536"), "{log}");
    assert!(log.contains(" 00 20 00 80 in=14 *** out=0 sw=9000\n"), "{log}");
    assert!(log.contains(" 00 cb 3f ff in=11 055c035fc10900 out=256 sw=6130\n"), "{log}");
    assert!(log.starts_with("1 00 a4 04 00 in=17 0ba000000308000010000100"), "{log}");
}
