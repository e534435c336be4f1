//! Rule 4 and what hangs on it, in every world: which keys are destroyed, and that a run which is killed
//! is as good as one that is not.

use proptest::prelude::*;

use super::{
    super::{Refusal, Sealing, Step},
    generate::{good_overwriting, world},
    world::{Content, End, Moment, Tells, Trace, World, names},
};
use crate::{card::Serial, chance::cases, profile::generating::Generating, spec::Enroll};

/// The key that a step destroys, with the number of its card, if it destroys one.
fn destroyed(moment: &Moment) -> Option<(usize, usize)> {
    match (moment.step, &moment.card) {
        (Step::Generate(_), Some((card, truth))) => match truth.content {
            Content::Key(key) => Some((*card, key)),
            // No fingerprint names it.
            Content::P384 => Some((*card, usize::MAX)),
            Content::Empty => None,
        },
        _ => None,
    }
}

/// All that lasts: what is on the cards and on the disk.
fn lasts(trace: &Trace) -> impl PartialEq + std::fmt::Debug {
    let cards = trace.cards.iter().map(|card| card.content);
    let jobs = trace.jobs.iter().map(|job| (job.profile.clone(), job.record));
    (cards.collect::<Vec<_>>(), jobs.collect::<Vec<_>>())
}

/// The steps that write to a card or to the disk. That another card is to get the open key is tried again
/// at each boot, where its certificate is not that of its key, and writes nothing then: see `ways`.
fn writes(moment: &Moment) -> bool {
    match moment.step {
        Step::Enroll(sealing) => sealing != Sealing::Added,
        Step::BeginRecord(_) | Step::Generate(_) | Step::EndRecord => true,
        _ => false,
    }
}

fn generations(traces: &[Trace], card: usize) -> usize {
    let moments = traces.iter().flat_map(|trace| &trace.moments);
    let on_card = |moment: &&Moment| moment.card.as_ref().is_some_and(|(of, _)| *of == card);
    moments.filter(on_card).filter(|moment| matches!(moment.step, Step::Generate(_))).count()
}

/// The world with cards that have names and keys of their own, and stay in their readers.
fn plain(mut world: World) -> World {
    world.vanishes.clear();
    for index in 0..world.cards.len() {
        world.cards[index].name.serial = Serial::new(u32::try_from(index).expect("few") + 1);
        let content = world.cards[index].content;
        if world.cards[..index].iter().any(|other| other.content == content) {
            world.cards[index].content = Content::Empty;
        }
    }
    for job in &mut world.jobs {
        let mut keys = std::collections::BTreeSet::new();
        let enrolled = job.profile.iter_mut().map(|profile| &mut profile.enrolled);
        enrolled.for_each(|enrolled| enrolled.retain(|(_, key)| keys.insert(*key)));
    }
    world
}

proptest! {
    #![proptest_config(cases!(300))]

    /// Rule 4: only the very key that the spec names is destroyed, and none that a profile of another key
    /// is sealed to, whatever the card says.
    #[test]
    fn only_the_named_key_is_destroyed(world in world()) {
        for boot in world.boots(2) {
            for moment in &boot.moments {
                let Some((card, key)) = destroyed(moment) else { continue };
                prop_assert!(key < 4 && names(&world.jobs[moment.job].key, key), "{moment:#?}");
                let others = boot.jobs.iter().enumerate().filter(|(other, _)| *other != moment.job);
                let held = others.filter_map(|(_, job)| job.profile.as_ref());
                prop_assert!(!held.flat_map(|p| &p.enrolled).any(|held| *held == (card, key)));
                prop_assert!(moment.on_disk.dependent != Some(key), "{moment:#?}");
            }
        }
    }

    /// A profile that hangs on the key is opened by others first, or may be given up.
    #[test]
    fn what_hangs_on_the_key_is_opened_by_others_or_may_be_given_up(world in world()) {
        for moment in world.run().moments {
            let (Some(key), Some(profile)) = (destroyed(&moment), &moment.on_disk.profile) else {
                continue;
            };
            let (spec, place) = (&world.jobs[moment.job].key, profile.enrolled.iter().position(|(_, held)| *held == key.1));
            let Some(place) = place else { return Err(TestCaseError::fail(format!("{moment:#?}"))) };
            let others = moment.known.opened.iter().filter(|other| **other != place).count();
            let abandons = spec.overwrite.as_ref().is_some_and(|o| o.abandon_profile)
                && spec.profile_id.is_none()
                && spec.enroll == Enroll::Auto;
            let reach = profile.enrolled.len() > profile.threshold;
            prop_assert!(if reach { others >= profile.threshold } else { abandons }, "{moment:#?}");
        }
    }

    /// The record of a generation is on the disk before it, and names what is destroyed.
    #[test]
    fn a_record_comes_first(world in world()) {
        for moment in world.run().moments {
            let (Some((_, key)), Some(record)) = (destroyed(&moment), moment.on_disk.record) else {
                prop_assert!(destroyed(&moment).is_none(), "{moment:#?}");
                continue;
            };
            let Some(session) = &moment.known.session else { continue };
            let spec = &world.jobs[moment.job].key;
            prop_assert!(record.is_about(&session.card, spec.slot));
            prop_assert!(record.destroys.is_some() && names(spec, key));
        }
    }

    /// What is sealed again opens as before; a profile is given up only where it may be.
    #[test]
    fn a_profile_is_given_up_only_where_it_may_be(world in world()) {
        for moment in world.run().moments {
            if moment.step == Step::Enroll(Sealing::Renewed) {
                let spec = &world.jobs[moment.job].key;
                prop_assert!(spec.overwrite.as_ref().is_some_and(|o| o.abandon_profile));
                prop_assert!(spec.profile_id.is_none() && spec.enroll == Enroll::Auto);
            }
        }
    }

    /// It acts once: a later boot with the same spec writes nothing.
    #[test]
    fn it_acts_once(world in world()) {
        let world = plain(world);
        let boots = world.boots(3);
        for (job, end) in boots[0].ends.iter().enumerate().filter(|(_, end)| **end == End::Done) {
            // Another key may have been made in its slot meanwhile, by another job.
            if boots[1].ends[job] == End::Done {
                let later = boots[1..].iter().flat_map(|boot| &boot.moments);
                let wrote = later.filter(|moment| moment.job == job).find(|moment| writes(moment));
                prop_assert!(wrote.is_none(), "{end:?}: {wrote:#?}");
            }
        }
    }

    /// Where nothing speaks against it, the key is overwritten: else a planner that refuses would do.
    #[test]
    fn where_all_is_well_it_is_overwritten(world in good_overwriting()) {
        let trace = world.run();
        let cut_off = trace.moments.iter().any(|m| m.step == Step::PresentPin && m.vanished);
        match &trace.ends[0] {
            End::Done => {}
            End::Refused(Refusal::PinUnresolved) if cut_off => return Ok(()),
            other => prop_assert!(false, "{other:?} after {:#?}", trace.moments),
        }
        let job = &trace.jobs[0];
        let named = |key: usize| names(&job.key, key);
        let profile = job.profile.as_ref().expect("a profile");
        let is_named = |(card, _): &(usize, usize)| {
            matches!(trace.cards[*card].content, Content::Key(key) if named(key))
        };
        prop_assert!(!profile.enrolled.iter().any(is_named), "{:#?}", trace.jobs);
        let made = |(card, key): &(usize, usize)| {
            trace.cards[*card].content == Content::Key(*key) && *key == 3
        };
        prop_assert!(profile.enrolled.iter().any(made), "{:#?}", trace.jobs);
        prop_assert_eq!(job.record, None::<Generating>);
        // The others stayed what they were.
        if let Some(before) = &world.jobs[0].profile
            && before.enrolled.len() > before.threshold
        {
            prop_assert_eq!(before.enrolled.len(), profile.enrolled.len());
            prop_assert_eq!(before.threshold, profile.threshold);
        }
        prop_assert!(world.cards.iter().any(|card| !matches!(card.tells, Tells::Certificate(_))));
    }
}

proptest! {
    #![proptest_config(cases!(60))]

    /// Rule 10: killed after any step, the next boots end in what they would have ended in, and no key is
    /// generated twice.
    #[test]
    fn a_run_that_was_killed_is_as_good_as_any(world in world()) {
        let world = plain(world);
        let undisturbed = world.boots(4);
        let last = undisturbed.last().expect("boots");
        for killed in 0..undisturbed[0].moments.len() {
            let world = World { killed: Some(killed), ..world.clone() };
            let boots = world.boots(5);
            let after = boots.last().expect("boots");
            let what = &undisturbed[0].moments[killed];
            prop_assert!(lasts(after) == lasts(last), "killed after {what:#?}: {:?} {:?}", after.ends, last.ends);
            prop_assert_eq!(&after.ends, &last.ends, "killed after {:#?}", what);
            for card in 0..world.cards.len() {
                let made = generations(&boots, card);
                prop_assert!(made <= generations(&undisturbed, card), "killed after {what:#?}");
            }
        }
    }
}
