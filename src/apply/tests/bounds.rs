//! Every run ends, whatever the cards say.

use std::time::Duration;

use zeroize::Zeroizing;

use super::{
    readers::{Desk, What},
    world::{CardFacts, Content, Job, KEYS, Machine, PIN, World, disk},
};
use crate::{
    apply::{Run, apply},
    error::Class,
    spec::{Key, ManagementKeySource, Mode, Overwrite},
    token::{Fault, Readers, Transport, Wait, fingerprint},
};

/// A reader in which a card changes places with another one each time that it is asked what is in its
/// slot.
struct Alternating(Desk);

struct Wires {
    first: Box<dyn Transport>,
    second: Box<dyn Transport>,
    is_first: bool,
}

impl Readers for Alternating {
    fn list(&mut self) -> Result<Vec<(String, bool)>, Fault> {
        self.0.list().map(|mut readers| readers.drain(..1).collect())
    }

    fn wait(&mut self, limit: Duration) {
        self.0.wait(limit);
    }

    fn open(&mut self, reader: &str, limit: Duration) -> Result<Box<dyn Transport>, Fault> {
        let (first, mut second) = (self.0.open(reader, limit)?, self.0.open("Reader 1", limit)?);
        let select = [0, 0xa4, 4, 0, 11, 0xa0, 0, 0, 3, 8, 0, 0, 0x10, 0, 1, 0, 0];
        second.transmit(&select, Wait::ANSWER)?;
        Ok(Box::new(Wires { first, second, is_first: false }))
    }
}

impl Transport for Wires {
    fn transmit(&mut self, command: &[u8], wait: Wait) -> Result<Zeroizing<Vec<u8>>, Fault> {
        if command[1] == 0xf7 && command[3] == 0x9d {
            self.is_first = !self.is_first;
            if !self.is_first {
                return self.second.transmit(command, wait);
            }
        }
        self.first.transmit(command, wait)
    }

    fn reset(&mut self) -> Result<(), Fault> {
        self.first.reset()
    }

    fn reset_at_end(&mut self) {
        self.first.reset_at_end();
    }
}

#[test]
fn two_cards_that_alternate_do_not_keep_a_run_going_and_lose_no_key() {
    if disk().is_none() {
        return;
    }
    let fingerprint = Some(fingerprint(&KEYS[0].1));
    let key = Key {
        mode: Mode::Overwrite,
        overwrite: Some(Overwrite { fingerprint, abandon_profile: false }),
        management_key: Some(ManagementKeySource::FactoryDefault),
        card_timeout: Duration::ZERO,
        ..Key::default()
    };
    let world = World {
        cards: [Content::Key(0), Content::Empty].map(CardFacts::good).into(),
        jobs: vec![Job { key, sealed: None, orphan: None }],
        vanishes: Vec::new(),
        comes_back: true,
        answers: false,
    };
    let machine = Machine::new(&world);
    let readers = Box::new(Alternating(machine.desk.clone()));
    let mut run = Run::new(readers, Box::new(|_, _, _| Ok(Zeroizing::new(PIN.to_vec()))));
    let (name, key) = machine.spec.keys.first_key_value().unwrap();
    let error = apply(&mut run, &machine.spec, name, key).map(drop).unwrap_err();
    assert_eq!(error.class, Class::Card, "{error}");
    assert!(error.found.contains("no end to it"), "{error}");
    assert!(machine.desk.seen().iter().all(|seen| !matches!(seen.what, What::Generated(..))));
    assert!(machine.desk.apdus() < 4000, "{} APDUs", machine.desk.apdus());
}
