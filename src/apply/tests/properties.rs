//! What must hold in every world, rule by rule (`docs/design.md`, "What must hold").

use proptest::{collection::vec, prelude::*};

use super::{
    readers::{Held, Seen, What},
    world::{CardFacts, Content, Job, Machine, Sealed, World, disk, serial, world},
};
use crate::{
    chance::cases,
    error::Class,
    spec::{self, Enroll, Key, Mode},
    token::PinPolicy,
};

/// Rules 4, 5, 6 and 9, of what the cards were told.
fn judge(world: &World, seen: &[Seen]) -> Result<(), TestCaseError> {
    for (at, moment) in seen.iter().enumerate() {
        let card = &world.cards[moment.card];
        let generated = |other: &Seen| matches!(other.what, What::Generated(..));
        let is_new = seen[..at].iter().any(|o| o.card == moment.card && generated(o));
        match &moment.what {
            // Rule 9: nobody else finds a verified PIN.
            What::End => prop_assert!(!moment.is_verified, "{moment:?}"),
            What::Pin => {
                prop_assert!(moment.tries >= 2, "rule 5: {moment:?}");
                prop_assert!(card.memory != Some(false), "rule 5: {moment:?}");
                let is_for = |job: &&Job| may_spend(job, moment.card, card);
                prop_assert!(
                    is_new || world.jobs.iter().any(|job| is_for(&job)),
                    "rule 6: {moment:?}"
                );
            }
            What::Generated(slot, Held::Nothing) => {
                let uses = |job: &Job| job.place(moment.card).slot.reference() == *slot;
                let may = |job: &Job| uses(job) && job.key.management_key.is_some();
                prop_assert!(world.jobs.iter().any(may), "{moment:?}");
            }
            // Rule 4: the very key that the spec names, and none that another profile hangs on.
            What::Generated(slot, Held::Key(key)) => {
                let names =
                    |job: &Job| job.names(key) && job.place(moment.card).slot.reference() == *slot;
                prop_assert!(world.jobs.iter().any(names), "rule 4: {moment:?}");
                let hangs = |job: &Job| !job.names(key) && job.is_sealed_to(moment.card, key);
                prop_assert!(!world.jobs.iter().any(hangs), "rule 4: {moment:?}");
                let orphans = world.jobs.iter().filter_map(|job| job.orphan);
                let hangs = |orphan: usize| card.content == Content::Key(orphan) && !is_new;
                prop_assert!(!orphans.into_iter().any(hangs), "rule 4: {moment:?}");
            }
            What::Generated(_, Held::Other) => prop_assert!(false, "rule 4: {moment:?}"),
            What::Agreed(_) | What::Asked => {}
        }
    }
    Ok(())
}

/// Whether the PIN of a card may be spent for a key, as far as the card tells without it.
fn may_spend(job: &Job, at: usize, card: &CardFacts) -> bool {
    let place = job.place(at);
    let agrees = place.policies() == card.policies;
    place.pin_policy != PinPolicy::Never
        && match card.content {
            _ if card.is_mute => true,
            Content::P384 => false,
            Content::Empty => job.key.management_key.is_some(),
            Content::Key(key) => {
                let destroys = job.key.overwrite.is_some() && job.key.mode == Mode::Overwrite;
                let is_named = destroys && job.key.management_key.is_some();
                let enrolled = job.sealed.iter().flat_map(|sealed| &sealed.enrolled);
                let opens = enrolled.into_iter().any(|(_, sealed)| *sealed == key);
                let joins = job.key.cards.iter().any(|c| c.serial == serial(at).serial);
                is_named || agrees && (opens || job.sealed.is_none() || joins)
            }
        }
}

fn generations(seen: &[Seen]) -> usize {
    seen.iter().filter(|moment| matches!(moment.what, What::Generated(..))).count()
}

proptest! {
    #![proptest_config(cases!(100))]

    #[test]
    fn the_rules_hold_in_every_world(world in world()) {
        if disk().is_none() {
            return Ok(());
        }
        let machine = Machine::new(&world);
        let before: Vec<_> = (0..world.jobs.len()).map(|job| machine.profile(job)).collect();
        let mut pins = vec![0; world.cards.len()];
        let mut all_is_well = world.vanishes.is_empty();
        for boot in 0..3 {
            let disturbed = if boot == 0 { &*world.vanishes } else { &[] };
            let files = || (0..world.jobs.len()).map(|job| std::fs::read(machine.file(job)).ok());
            let files_before: Vec<_> = files().collect();
            machine.desk.disturb(disturbed, world.comes_back, None);
            let results = machine.boot().expect("nobody kills it");
            let seen = machine.desk.seen();
            judge(&world, &seen)?;
            // Every run ends, and soon.
            prop_assert!(machine.desk.apdus() < 400, "{} APDUs", machine.desk.apdus());
            for moment in seen.iter().filter(|moment| moment.what == What::Pin) {
                pins[moment.card] += 1;
            }
            for (number, (job, result)) in world.jobs.iter().zip(&results).enumerate() {
                let internal = result.as_ref().err().filter(|e| e.class == Class::Internal);
                prop_assert!(internal.is_none(), "{:?}", internal);
                let (was, now) = (&before[number], machine.profile(number));
                // Rule 3: nothing is enrolled where that is not allowed, or beside an orphan.
                let is_orphaned = job.orphan.is_some() && world.cards.len() == 1;
                if was.is_none() && (job.key.enroll == Enroll::Never || is_orphaned) {
                    prop_assert!(now.is_none() && result.is_err(), "rule 3: {job:?}");
                }
                // Rule 3: one key never becomes another, unless it may be given up.
                let abandons = job.key.overwrite.as_ref().is_some_and(|o| o.abandon_profile);
                if let Some(was) = was {
                    let is_same = now.is_some_and(|now| now.id() == was.id());
                    prop_assert!(is_same || abandons && job.key.profile_id.is_none(), "rule 3: {job:?}");
                }
                let is_other = job.sealed.as_ref().is_some_and(|s| s.is_declared == Some(false));
                prop_assert!(!is_other || result.is_err());
                // What is made is on the disk, and nothing is left to be done.
                if let Ok(report) = result {
                    let id = machine.profile(number).map(|profile| profile.id());
                    prop_assert_eq!(id.as_deref(), Some(&*report.profile_id));
                }
            }
            // An unchanged machine writes nothing, and destroys nothing.
            if boot > 0 && all_is_well {
                prop_assert_eq!(generations(&seen), 0);
                prop_assert_eq!(files().collect::<Vec<_>>(), files_before);
                prop_assert!(results.iter().all(Result::is_ok), "{:?}", world);
            }
            all_is_well &= results.iter().all(Result::is_ok);
        }
        // Rule 5: a wrong PIN costs one try, over all boots.
        for (pins, card) in pins.iter().zip(&world.cards) {
            prop_assert!(card.pin_is_right || *pins <= 1, "rule 5: {pins} times {card:?}");
        }
    }
}

/// One key that three cards and a passphrase may open; of each card any part may be wrong.
fn open_to_many() -> impl Strategy<Value = World> {
    let parts = (1_usize..=3, 1_usize..=3, 0_usize..=1, any::<bool>(), any::<bool>());
    (parts, vec(0_usize..12, 3)).prop_map(|((cards, threshold, typed, ask, answers), wrong)| {
        let card = |at: usize| {
            let good = CardFacts::good(Content::Key(at));
            match wrong[at] {
                0 => CardFacts { is_inserted: false, ..good },
                1 => CardFacts { content: Content::Empty, ..good },
                2 => CardFacts { content: Content::P384, ..good },
                3 => CardFacts { pin_is_right: false, ..good },
                4 => CardFacts { tries: 1, ..good },
                5 => CardFacts { memory: Some(false), pin_is_right: false, ..good },
                6 => CardFacts { policies: (PinPolicy::Always, good.policies.1), ..good },
                _ => good,
            }
        };
        let listed = |at| spec::Card { serial: serial(at).serial, ..spec::Card::default() };
        let key = Key {
            ask,
            cards: (0..cards).map(listed).collect(),
            card_timeout: std::time::Duration::ZERO,
            ..Key::default()
        };
        let enrolled = (0..cards).map(|at| (at, at)).collect();
        let threshold = threshold.min(cards + typed);
        let sealed = Some(Sealed { threshold, enrolled, typed, is_declared: Some(true) });
        let jobs = vec![Job { key, sealed, orphan: None }];
        let cards = (0..cards).map(card).collect();
        World { cards, jobs, vanishes: Vec::new(), comes_back: true, answers }
    })
}

proptest! {
    #![proptest_config(cases!(60))]

    /// As many good providers as it takes open the key, whatever is wrong with the others; fewer never
    /// do. People are asked only where the cards do not do.
    #[test]
    fn enough_good_providers_open_it_and_fewer_do_not(world in open_to_many()) {
        if disk().is_none() {
            return Ok(());
        }
        let machine = Machine::new(&world);
        let results = machine.boot().expect("nobody kills it");
        judge(&world, &machine.desk.seen())?;
        let (job, policies) = (&world.jobs[0], Key::default().place(None).policies());
        let sealed = job.sealed.as_ref().expect("a profile");
        let is_good = |(at, card): &(usize, &CardFacts)| {
            card.is_inserted
                && card.content == Content::Key(*at)
                && card.pin_is_right
                && card.tries == 3
                && card.policies == policies
        };
        let cards = world.cards.iter().enumerate().filter(is_good).count();
        let typed = if job.key.ask && world.answers { sealed.typed } else { 0 };
        let opens = cards + typed >= sealed.threshold;
        prop_assert_eq!(results[0].is_ok(), opens, "{:?}", results[0].as_ref().err());
    }
}

proptest! {
    #![proptest_config(cases!(60))]

    /// Rule 10: killed before any APDU, the next boots end in what they would have ended in, and no key
    /// is generated twice.
    #[test]
    fn a_run_that_was_killed_is_as_good_as_any(world in world(), when in 0_usize..30) {
        if disk().is_none() {
            return Ok(());
        }
        let boots = |killed| {
            let machine = Machine::new(&world);
            machine.desk.disturb(&[], true, killed);
            let mut results = machine.boot();
            let mut seen = machine.desk.seen();
            for _ in 0..3 {
                machine.desk.disturb(&[], true, None);
                results = machine.boot();
                seen.extend(machine.desk.seen());
            }
            let ends = results.expect("nobody kills it").into_iter();
            let ends: Vec<_> = ends.map(|end| end.map(drop).map_err(|error| error.class)).collect();
            let lasts = (0..world.jobs.len()).map(|job| {
                let profile = machine.profile(job);
                let of = |profile: &crate::profile::Profile| (profile.threshold(), profile.providers().len());
                (profile.as_ref().map(of), machine.is_generating(job))
            });
            (ends, lasts.collect::<Vec<_>>(), seen)
        };
        let (undisturbed, killed) = (boots(None), boots(Some(when)));
        judge(&world, &killed.2)?;
        prop_assert_eq!(&killed.0, &undisturbed.0);
        prop_assert_eq!(&killed.1, &undisturbed.1);
        prop_assert!(generations(&killed.2) <= generations(&undisturbed.2));
    }
}
