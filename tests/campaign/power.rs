//! The power goes while the release binary writes to a disk that loses what was not flushed. After
//! every write and every flush, with arbitrary parts of what was not flushed, the next boot ends where
//! an undisturbed run ends; and nothing was published that a power cut takes back.

use std::{fs, path::PathBuf};

use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};

use crate::{
    bench::Bench,
    disk::{Disk, Event, Image, Mounted, after_cut, formatted},
    extent::{amount, seed, tell},
    flows::{ENROLL, Flow, NEW_PIN, WRONG, WRONG_PIN},
    support::{TestCard, Yubikey},
    tracer::{Then, trace},
};

/// A flow on a disk, and what became of it.
struct Recorded {
    bench: Bench,
    disk_at: PathBuf,
    base: Image,
    events: Vec<Event>,
    shape: Vec<String>,
    profile: String,
}

/// The secrets stand.
const PUBLISHED: &str = "published";
/// The PIN is about to go to the card.
const PRESENTED: &str = "presented";

fn record(flow: &Flow) -> Recorded {
    let mut bench = Bench::new();
    let disk_at = bench.machine.dir().join("disk");
    fs::create_dir(&disk_at).unwrap();
    let disk = Disk::new(formatted(bench.machine.dir()), bench.machine.dir(), &disk_at);
    // It is made by the first run.
    bench.machine.state = disk_at.join("state");
    (flow.prepare)(&mut bench);
    let base = disk.begin();
    let mark = disk.marker();
    let ended = trace(&bench.command(flow), |stop| {
        if [Yubikey::PIN, WRONG].iter().any(|pin| stop.sends(pin.as_bytes())) {
            mark(PRESENTED);
        }
        if stop.renames() && stop.done && stop.text(3) == "vault" {
            mark(PUBLISHED);
        }
        Then::GoOn
    });
    assert_eq!(ended.code(), Some(flow.codes[0]), "{ended:?}");
    let events = disk.events();
    let (shape, profile) = (bench.shape(), bench.profile().unwrap());
    drop(disk);
    Recorded { bench, disk_at, base, events, shape, profile }
}

/// The next boot after a power cut after so many events.
fn boot(run: &mut Recorded, flow: &Flow, cut: usize, image: &Image, case: &str) {
    let events = &run.events[..cut];
    let file = run.bench.machine.dir().join("cut.img");
    fs::write(&file, image).unwrap();
    let mounted = Mounted::new(&file, &run.disk_at);
    let bench = &mut run.bench;
    let survived = bench.profile();
    // Whole, or not there; and there, if anything had been published.
    assert!(survived.is_none() || survived.as_ref() == Some(&run.profile), "{case}: {survived:?}");
    let needed = flow.generates == 0 || events.contains(&Event::Mark(PUBLISHED));
    assert!(survived.is_some() || !needed, "{case}: the profile of published secrets is lost");
    let (tries, presented) = (bench.card.tries(), bench.card.presented());
    bench.empty_ram();
    let next = bench.machine.run(flow.args);
    assert!(flow.codes.map(Some).contains(&next.code), "{case}: {next}");
    if flow.codes == [0, 0] {
        assert_eq!(bench.published(), bench.expected(), "{case}: {next}");
        assert_eq!(bench.shape(), run.shape, "{case}: {next}");
        assert_eq!(bench.card.tries(), 3, "{case}: {next}");
    } else {
        assert_eq!(bench.card.tries(), tries, "{case}: {next}");
        assert_eq!(bench.card.presented(), presented, "a second try: {case}: {next}");
    }
    drop(mounted);
}

/// Cuts the power after every event from `from` on.
fn cut_everywhere(flow: &Flow, from: Option<Event>) {
    let mut run = record(flow);
    let begin = from.map_or(0, |from| run.events.iter().position(|event| *event == from).unwrap());
    let cuts: Vec<_> = (begin..=run.events.len()).collect();
    let mut random = TestRng::from_seed(
        RngAlgorithm::ChaCha,
        &[[0; 24].as_slice(), &seed().to_le_bytes()].concat(),
    );
    // Nothing of what was not flushed, all of it, and arbitrary parts.
    let parts = amount(3, 6);
    let step = (cuts.len() / amount(6, usize::MAX)).max(1);
    let mut boots = 0;
    for cut in cuts.into_iter().rev().step_by(step) {
        for part in 0..parts {
            let image = after_cut(&run.base, &run.events[..cut], |_| match part {
                0 => false,
                1 => true,
                _ => random.next_u32().is_multiple_of(2),
            });
            let case =
                format!("{}: power cut after event {cut}, part {part}, seed {}", flow.name, seed());
            boot(&mut run, flow, cut, &image, &case);
            boots += 1;
        }
    }
    let flushes = run.events.iter().filter(|event| **event == Event::Flush).count();
    let writes = run.events.iter().filter(|event| matches!(event, Event::Write(..))).count();
    tell(&format!(
        "power cuts in {}: {boots} boots, {parts} for each instant between its {writes} writes of blocks \
         and {flushes} flushes (nothing, all, and {} random parts of what was not flushed, on ext4)",
        flow.name,
        parts - 2
    ));
}

#[test]
fn power_cut_in_an_enrollment() {
    cut_everywhere(&ENROLL, None);
}

#[test]
fn power_cut_with_a_new_pin() {
    cut_everywhere(&NEW_PIN, None);
}

/// Once the PIN is on its way, a record of that is on the disk.
#[test]
fn power_cut_with_a_wrong_pin() {
    cut_everywhere(&WRONG_PIN, Some(Event::Mark(PRESENTED)));
}
