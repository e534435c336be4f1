//! The power goes while the release binary writes to a disk that loses what was not flushed. After
//! every write and every flush, with arbitrary parts of what was not flushed, the next boot ends where
//! an undisturbed run ends; and nothing was published that a power cut takes back.

use std::{collections::HashSet, fs, path::PathBuf};

use crate::{
    bench::Bench,
    chance::{Chance, seed},
    disk::{Disk, Event, Image, Mounted, after_cut, formatted},
    extent::{amount, tell},
    flows::{ABANDON, ATTESTED, ENROLL, Fate, Flow, NEW_PIN, OVERWRITE, RESEAL, WRONG, WRONG_PIN},
    outcome::{Outcome, check_end, judge},
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
    /// How the machine was before, with RAM empty as after each cut, and at the end.
    before: Outcome,
    end: Outcome,
    /// What the card remembers before it makes a key, and at the end.
    card: [String; 2],
}

/// The secrets stand.
const PUBLISHED: &str = "published";
/// The PIN is about to go to the card.
const PRESENTED: &str = "presented";
/// The card is told to make a key (GENERATE ASYMMETRIC KEY PAIR).
const GENERATED: &str = "generated";
const GENERATE: [u8; 3] = [0x00, 0x47, 0x00];

fn record(flow: &Flow) -> Recorded {
    let mut bench = Bench::new();
    let disk_at = bench.machine.dir().join("disk");
    fs::create_dir(&disk_at).unwrap();
    let disk = Disk::new(formatted(bench.machine.dir()), bench.machine.dir(), &disk_at);
    // It is made by the first run.
    bench.machine.state = disk_at.join("state");
    (flow.prepare)(&mut bench);
    bench.empty_ram();
    let before = Outcome::of(&bench);
    let card = bench.card.memory().to_string();
    let base = disk.begin();
    let mark = disk.marker();
    let ended = trace(&bench.command(flow), |stop| {
        if [Yubikey::PIN, WRONG].iter().any(|pin| stop.sends(pin.as_bytes())) {
            mark(PRESENTED);
        }
        if stop.sends(&GENERATE) {
            mark(GENERATED);
        }
        if stop.renames() && stop.done && stop.text(3) == "vault" {
            mark(PUBLISHED);
        }
        Then::GoOn
    });
    assert_eq!(ended.code(), Some(flow.codes[0]), "{ended:?}");
    let events = disk.events();
    let (shape, end) = (bench.shape(), Outcome::of(&bench));
    check_end(&mut bench, flow, &before, &shape, "an undisturbed run");
    let card = [card, bench.card.memory().to_string()];
    drop(disk);
    Recorded { bench, disk_at, base, events, shape, before, end, card }
}

/// The next boot after a power cut after so many events.
fn boot(run: &mut Recorded, flow: &Flow, cut: usize, image: &Image, case: &str) {
    let happened: HashSet<_> = run.events[..cut].iter().collect();
    let has = |mark| happened.contains(&Event::Mark(mark));
    let made = flow.generates == 0 || has(GENERATED);
    let file = run.bench.machine.dir().join("cut.img");
    // A new file each time. `mount` would take the old one's loop device where another program still
    // looks at that, with what it had cached of the last image.
    let _ = fs::remove_file(&file);
    fs::write(&file, image).unwrap();
    let mounted = Mounted::new(&file, &run.disk_at);
    let bench = &mut run.bench;
    bench.card.remember(&run.card[usize::from(made)]);
    bench.empty_ram();
    let survived = bench.profile();
    let stood = &run.before.profile;
    assert!([stood, &run.end.profile].contains(&&survived), "{case}: {survived:?}");
    // What was published does not go back, and no profile hangs on a key that is not there yet.
    assert!(!has(PUBLISHED) || survived == run.end.profile, "{case}: what was published is lost");
    assert!(made || survived == *stood, "{case}: a profile without its key");
    let generated = Outcome::of(bench).generated - if made { flow.generates } else { 0 };
    run.before.generated = generated;
    let presented = bench.presented();
    judge(bench, flow, &run.before, &run.shape, case, |_| {});
    if flow.codes != [0, 0] {
        assert_eq!(bench.presented(), presented, "a second try: {case}");
    }
    if flow.profile == Fate::Resealed {
        assert_eq!(bench.published(), run.end.published, "{case}");
    }
    drop(mounted);
}

/// Cuts the power after every event from `from` on.
fn cut_everywhere(flow: &Flow, from: Option<Event>) {
    let mut run = record(flow);
    let begin = from.map_or(0, |from| run.events.iter().position(|event| *event == from).unwrap());
    let cuts: Vec<_> = (begin..=run.events.len()).collect();
    let mut chance = Chance::of(flow.name);
    // Nothing of what was not flushed, all of it, and arbitrary parts.
    let parts = amount(3, 6);
    let step = (cuts.len() / amount(6, usize::MAX)).max(1);
    let mut boots = 0;
    for cut in cuts.into_iter().rev().step_by(step) {
        for part in 0..parts {
            let image = after_cut(&run.base, &run.events[..cut], |_| match part {
                0 => false,
                1 => true,
                _ => chance.below(2) == 0,
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

#[test]
fn power_cut_in_an_attested_enrollment() {
    cut_everywhere(&ATTESTED, None);
}

#[test]
fn power_cut_while_a_key_is_overwritten() {
    cut_everywhere(&OVERWRITE, None);
}

#[test]
fn power_cut_while_another_card_opens_what_is_overwritten() {
    cut_everywhere(&RESEAL, None);
}

#[test]
fn power_cut_while_a_profile_is_given_up() {
    cut_everywhere(&ABANDON, None);
}

/// Once the PIN is on its way, a record of that is on the disk.
#[test]
fn power_cut_with_a_wrong_pin() {
    cut_everywhere(&WRONG_PIN, Some(Event::Mark(PRESENTED)));
}
