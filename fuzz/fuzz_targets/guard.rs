//! The file of the PIN guard: whatever stands in it is refused, or what was rejected is not presented
//! and what was lost is noticed.
#![no_main]

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
};

use cryptkey::{
    error::Class,
    system::state_dir::StateDir,
    token::{
        CardName, Pin, Serial,
        guard::{History, PinGuard, forget, rejections},
    },
};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

thread_local! {
    // In RAM: each run writes and syncs.
    static DIR: TempDir = TempDir::new_in("/dev/shm").unwrap();
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, text)) = bytes.split_first() else { return };
    let tries = first % 16;
    let card = CardName { serial: Serial::new(90_210_001), guid: None };
    let pin = Pin::new(b"123456").unwrap();
    DIR.with(|dir| {
        let path = dir.path().join("pin-guard");
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
        file.unwrap().write_all(text).unwrap();
        let open = |tries| PinGuard::open(&StateDir::open(dir.path()).unwrap(), card, tries);
        let mut store = StateDir::open(dir.path()).unwrap();
        let told = rejections(&store);
        let mut guard = match open(tries) {
            Ok(guard) => guard,
            Err(error) => {
                assert_eq!(error.class, Class::PinRefused, "{error}");
                assert!(told.is_err(), "it is read, and not: {error}");
                assert_eq!(fs::read(&path).unwrap(), text, "it was changed: {error}");
                // It can always be forgotten.
                forget(&mut store, &card).unwrap();
                assert_eq!(open(tries).unwrap().recall(&pin, tries), History::Unproven);
                return;
            }
        };
        for rejection in told.unwrap() {
            assert!(!format!("{rejection:?}").is_empty());
        }
        match guard.recall(&pin, tries) {
            // An unchanged machine writes nothing, once a record with a key of its own was replaced.
            History::Proven => {
                guard.accepted(&pin, tries, false).unwrap();
                let before = fs::read(&path).unwrap();
                let mut guard = open(tries).unwrap();
                assert_eq!(guard.recall(&pin, tries), History::Proven);
                guard.accepted(&pin, tries, false).unwrap();
                assert_eq!(fs::read(&path).unwrap(), before);
            }
            // Nor does one that presents nothing.
            History::Rejected(_) => {
                assert!(matches!(open(tries).unwrap().recall(&pin, tries), History::Rejected(_)));
            }
            History::Unproven => {
                guard.intend(&pin, tries, "vault").unwrap();
                // The run did not live to hear that the card rejected it.
                let left = tries.saturating_sub(1);
                let again = open(left).unwrap().recall(&pin, left);
                assert_eq!(matches!(again, History::Rejected(_)), left < tries, "{again:?}");
            }
            History::Recorded => panic!("nothing was presented"),
        }
        forget(&mut store, &card).unwrap();
        assert_eq!(open(tries).unwrap().recall(&pin, tries), History::Unproven);
    });
});
