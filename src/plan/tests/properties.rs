//! What must hold in every world, rule by rule (DESIGN.md, "What must hold").

use proptest::prelude::*;

use super::{
    super::{Refusal, Sealing, Step},
    generate::{good_world, world},
    world::{Card, Content, End, Moment, SEALED_SLOT, Tells, Trace, World, names},
};
use crate::{
    chance::cases,
    guard::History,
    spec::{Enroll, ManagementKeySource, Mode, PinSource},
    token::{KeySource, PinPolicy, SlotState},
};

/// Runs the world and judges each of its moments.
fn always(
    world: &World,
    what: &str,
    holds: impl Fn(&Moment, &Trace) -> bool,
) -> Result<(), TestCaseError> {
    let trace = world.run();
    for moment in &trace.moments {
        prop_assert!(holds(moment, &trace), "{what}: {moment:#?}\nends: {:?}", trace.ends);
    }
    Ok(())
}

/// The card in hand.
fn card(moment: &Moment) -> &Card {
    &moment.card.as_ref().expect("a step on a card").1
}

/// Whether the open key is to be sealed to one more card.
fn joins(moment: &Moment) -> bool {
    moment.known.published
}

/// Whether the PIN has a part in what this step is for.
fn takes_pin(world: &World, moment: &Moment) -> bool {
    let key = &world.jobs[moment.job].key;
    key.pin_policy != PinPolicy::Never
        || matches!(moment.step, Step::Generate(_))
            && key.management_key == Some(ManagementKeySource::Protected)
}

proptest! {
    #![proptest_config(cases!(1500))]

    /// Rule 3: where enrolling is not allowed, no card is even looked for, and nothing is made.
    #[test]
    fn rule_3_nothing_is_enrolled_where_that_is_not_allowed(world in world()) {
        always(&world, "enrolled", |moment, _| {
            let job = &world.jobs[moment.job];
            let makes = matches!(moment.step, Step::Generate(_) | Step::Enroll(_));
            let allowed = job.profile.is_none()
                && job.key.profile_id.is_none()
                && job.key.enroll == Enroll::Auto;
            if job.profile.is_none() && !allowed {
                return false;
            }
            // Of a profile that is replaced, see `overwriting`; of one that gets a card more, `ways`.
            let replaces = moment.known.doomed(&job.key).is_some();
            !makes || allowed && !job.orphan || replaces || joins(moment)
        })?;
    }

    /// Rule 3, for the PIN: it is not spent on a slot that an orphaned profile is sealed to.
    #[test]
    fn rule_3_no_pin_is_spent_beside_an_orphan(world in world()) {
        always(&world, "presented", |moment, _| {
            let job = &world.jobs[moment.job];
            moment.step != Step::PresentPin || job.profile.is_some() || !job.orphan
        })?;
    }

    /// Rule 3, the other way round: only the declared profile is opened, only with the declared slot,
    /// and only if its cards can do it; else no card is even looked for.
    #[test]
    fn rule_3_another_profile_than_the_declared_one_is_not_opened(world in world()) {
        always(&world, "opened", |moment, _| {
            let job = &world.jobs[moment.job];
            job.profile.as_ref().is_none_or(|profile| {
                (job.key.profile_id.is_none() || profile.id_is_declared)
                    && (job.key.slot == SEALED_SLOT || moment.card.is_none() || joins(moment))
                    && (profile.enrolled.len() + profile.typed >= profile.threshold
                        || moment.known.doomed(&job.key).is_some()
                        || moment.known.enrolled)
            })
        })?;
    }

    /// Rule 4: without mode "overwrite", a key is generated only where there is none, whatever the card
    /// says. See also `overwriting`.
    #[test]
    fn rule_4_keys_are_generated_in_empty_slots_only(world in world()) {
        always(&world, "generated", |moment, _| {
            !matches!(moment.step, Step::Generate(_))
                || card(moment).content == Content::Empty
                || world.jobs[moment.job].key.mode == Mode::Overwrite
        })?;
    }

    /// Rule 5: per card and run, one presentation of a PIN that the card has not accepted.
    #[test]
    fn rule_5_each_card_sees_at_most_one_pin_that_it_has_not_accepted(world in world()) {
        always(&world, "presented", |moment, trace| {
            let is_risk = |moment: &&Moment| {
                moment.step == Step::PresentPin && !moment.accepted_before
            };
            let same = |other: &&Moment| {
                other.card.as_ref().map(|c| c.0) == moment.card.as_ref().map(|c| c.0)
            };
            moment.card.is_none() || trace.moments.iter().filter(is_risk).filter(same).count() <= 1
        })?;
    }

    /// Rule 5: the last try is never ours.
    #[test]
    fn rule_5_no_pin_is_presented_with_fewer_than_2_tries(world in world()) {
        always(&world, "presented", |moment, _| {
            moment.step != Step::PresentPin || card(moment).tries >= 2
        })?;
    }

    /// Rule 5: a PIN that the guard knows to be rejected is not presented, and one that it does not know
    /// to be right only once that is on the disk.
    #[test]
    fn rule_5_no_pin_is_presented_without_its_history(world in world()) {
        always(&world, "presented", |moment, _| {
            let session = moment.known.session.as_ref();
            let history = session.and_then(|session| session.history.as_ref());
            moment.step != Step::PresentPin || match card(moment).memory {
                History::Proven => history == Some(&History::Proven),
                History::Unproven => history == Some(&History::Recorded),
                _ => false,
            }
        })?;
    }

    /// Rule 5, over several boots: a wrong PIN costs one try; two if the guard took it for right and the
    /// card vanished in that instant.
    #[test]
    fn rule_5_a_wrong_pin_costs_one_try_in_all_boots(world in world()) {
        let boots = world.boots(4);
        for (index, was) in world.cards.iter().enumerate().filter(|(_, card)| !card.pin_is_right) {
            let presented = |moment: &&Moment| {
                let card = moment.card.as_ref().map(|(card, _)| *card);
                moment.step == Step::PresentPin && card == Some(index)
            };
            let moments = boots.iter().flat_map(|boot| &boot.moments);
            let proven = usize::from(was.memory == History::Proven);
            prop_assert!(moments.filter(presented).count() <= 1 + proven);
        }
    }

    /// Rule 5: after a PIN that was rejected or never answered, that card sees none any more.
    #[test]
    fn rule_5_no_pin_follows_one_that_was_rejected_or_not_resolved(world in world()) {
        let trace = world.run();
        let mut burnt = Vec::new();
        for moment in trace.moments.iter().filter(|moment| moment.step == Step::PresentPin) {
            let (index, card) = moment.card.as_ref().expect("a step on a card");
            prop_assert!(!burnt.contains(index), "{moment:#?}");
            if !card.pin_is_right || moment.vanished && !moment.accepted_before {
                burnt.push(*index);
            }
        }
    }

    /// Rule 6: what the card can tell without the PIN is known, and right, before the PIN.
    #[test]
    fn rule_6_the_slot_is_known_and_right_before_the_pin(world in world()) {
        always(&world, "presented", |moment, _| {
            if !matches!(moment.step, Step::AskPin | Step::PresentPin) {
                return true;
            }
            let Some(session) = &moment.known.session else { return false };
            let (job, card) = (&world.jobs[moment.job], card(moment));
            let Tells::Truth { policies } = card.tells else { return session.slot.is_some() };
            let overwrites = job.key.mode == Mode::Overwrite;
            // A key that was made in this run is recorded as ours.
            let ours = moment.on_disk.record.is_some();
            let named = |key| names(&job.key, key);
            let right = match (&job.profile, session.provider, card.content) {
                (Some(profile), Some(index), Content::Key(key)) => {
                    profile.enrolled[index].1 == key || overwrites && ours
                }
                (_, None, Content::Key(key)) => !overwrites || ours || named(key),
                (_, None, Content::Empty) => job.key.management_key.is_some(),
                (Some(profile), Some(index), Content::Empty) => named(profile.enrolled[index].1),
                _ => false,
            };
            let declared = (job.key.pin_policy, job.key.touch_policy);
            let destroyed = matches!(card.content, Content::Key(key) if named(key));
            let agree = !policies
                || card.content == Content::Empty
                || card.policies == declared
                || destroyed;
            session.slot != Some(SlotState::Unknown) && right && agree
        })?;
    }

    /// Rule 6: keys whose policies are known to be others are neither used nor enrolled.
    #[test]
    fn rule_6_keys_with_other_policies_are_not_used(world in world()) {
        always(&world, "used", |moment, _| {
            if !matches!(moment.step, Step::Enroll(_) | Step::OpenShare(_)) {
                return true;
            }
            let (key, card) = (&world.jobs[moment.job].key, card(moment));
            card.tells != (Tells::Truth { policies: true })
                || card.policies == (key.pin_policy, key.touch_policy)
        })?;
    }

    /// Rule 6: the PIN comes before a key is generated or used, in the same session.
    #[test]
    fn rule_6_the_pin_comes_before_the_key(world in world()) {
        always(&world, "came first", |moment, _| {
            let uses = matches!(
                moment.step,
                Step::ProbeSlot | Step::Generate(_) | Step::Enroll(_) | Step::OpenShare(_)
            );
            let verified = moment.known.session.as_ref().is_some_and(|s| s.verified);
            !uses || !takes_pin(&world, moment) || verified
        })?;
    }

    /// Rule 6: where no PIN takes part, none is presented. Of keys that want none, only those that
    /// have to be generated with a management key behind the PIN take it.
    #[test]
    fn rule_6_no_pin_is_presented_where_none_is_needed(world in world()) {
        always(&world, "presented", |moment, _| {
            let key = &world.jobs[moment.job].key;
            let generates = moment.known.session.as_ref().is_some_and(|session| {
                session.slot == Some(SlotState::Empty)
                    || matches!(card(moment).content, Content::Key(held) if names(key, held))
            });
            moment.step != Step::PresentPin
                || key.pin_policy != PinPolicy::Never
                || key.management_key == Some(ManagementKeySource::Protected) && generates
        })?;
    }

    /// Rule 7: "I don't know" never leads to a key being generated: the card has to say "empty", or which
    /// key it holds.
    #[test]
    fn rule_7_only_what_is_known_leads_to_generate(world in world()) {
        always(&world, "generated", |moment, _| {
            let slot = moment.known.session.as_ref().and_then(|s| s.slot.as_ref());
            match (moment.step, slot) {
                (Step::Generate(None), slot) => slot == Some(&SlotState::Empty),
                (Step::Generate(Some(_)), Some(SlotState::Key(found))) => {
                    found.source != KeySource::Certificate
                }
                (Step::Generate(Some(_)), _) => false,
                _ => true,
            }
        })?;
    }

    /// Every run ends, and soon: for each card and each time one vanished a handful of steps.
    #[test]
    fn every_run_ends(world in world()) {
        let trace = world.run();
        for (job, end) in trace.ends.iter().enumerate() {
            let moments = trace.moments.iter().filter(|moment| moment.job == job);
            let vanished = moments.clone().filter(|moment| moment.vanished).count();
            let cards = world.jobs[job].profile.as_ref().map_or(1, |p| p.threshold);
            let steps = moments.count();
            prop_assert!(*end != End::Endless);
            prop_assert!(steps <= 22 * (cards + 1 + vanished) + 1, "{steps} steps, {vanished} vanished");
        }
    }

    /// The card is looked for first, and once per session; the slot is looked at once.
    #[test]
    fn finding_the_card_comes_first_and_no_step_is_done_twice(world in world()) {
        let trace = world.run();
        for job in 0..world.jobs.len() {
            let moments: Vec<_> = trace.moments.iter().filter(|m| m.job == job).collect();
            if let Some(first) = moments.first() {
                prop_assert!(matches!(first.step, Step::FindCard | Step::AskShare(_)));
            }
            for pair in moments.windows(2) {
                let gave_up = pair[0].known.failed != pair[1].known.failed
                    || pair[0].known.settled != pair[1].known.settled;
                let again = pair[0].vanished || gave_up;
                prop_assert!(again || pair[0].step != pair[1].step, "{:?}", pair);
                let searches = pair[1].step == Step::FindCard;
                let has_session = pair[1].known.session.is_some();
                let needs_card =
                    !matches!(pair[1].step, Step::Publish | Step::EndRecord | Step::AskShare(_));
                prop_assert_eq!(searches, !has_session && needs_card);
            }
        }
    }

    /// Publishing comes when the key is open and not before; the end comes after publishing.
    #[test]
    fn publish_only_what_is_open_and_end_only_when_published(world in world()) {
        let trace = world.run();
        for (job, end) in trace.ends.iter().enumerate() {
            let moments = || trace.moments.iter().filter(|moment| moment.job == job);
            let published = moments().filter(|m| m.step == Step::Publish).count();
            prop_assert!(moments().all(|m| m.step != Step::Publish || m.known.open));
            prop_assert_eq!(published, usize::from(*end == End::Done));
            if let (End::Done, Some(profile)) = (end, &world.jobs[job].profile) {
                let opened = moments().map(|moment| moment.known.opened.len()).max();
                let renewed = moments().any(|m| m.step == Step::Enroll(Sealing::Renewed));
                prop_assert!(renewed || opened == Some(profile.threshold));
            }
        }
    }

    /// Steps come in an order that `apply` can carry out: never one without its session.
    #[test]
    fn no_step_comes_before_what_it_rests_on(world in world()) {
        for end in world.run().ends {
            let faults = ["a step without a card", "a step without a session", "no profile to open",
                "not a step on a card", "an answer for another card",
                "too few shares to seal it again", "not a profile to write"];
            prop_assert!(!matches!(end, End::Failed(why) if faults.contains(&why)), "{end:?}");
        }
    }

    /// What nothing speaks against is done: else a planner that refuses everything would do.
    #[test]
    fn where_all_is_well_it_gets_done(world in good_world()) {
        let trace = world.run();
        let cut_off = trace.moments.iter().any(|m| m.step == Step::PresentPin && m.vanished);
        match &trace.ends[0] {
            End::Done => {}
            End::Refused(Refusal::PinUnresolved) if cut_off => {}
            other => prop_assert!(false, "{other:?} after {:#?}", trace.moments),
        }
    }

    /// What `plan` prints is what `apply` does: where a step foretells what follows, that follows.
    #[test]
    fn what_is_foretold_comes(world in world()) {
        always(&world, "foretold", |moment, _| {
            moment.foretold.as_ref().is_none_or(|(foretold, came)| {
                // After a person was asked, the card is found again, which nobody wants printed.
                // So has a PIN a history that it is not printed for.
                foretold == came || matches!(moment.step, Step::AskPin | Step::RecallPin)
            })
        })?;
    }

    /// A person is asked only where the spec says so, and once for each card.
    #[test]
    fn a_person_is_asked_once_per_card(world in world()) {
        let trace = world.run();
        let mut asked = Vec::new();
        for moment in trace.moments.iter().filter(|moment| moment.step == Step::AskPin) {
            prop_assert_eq!(&world.jobs[moment.job].key.pin, &Some(PinSource::Ask));
            let this = (moment.job, moment.known.session.as_ref().expect("a session").card);
            prop_assert!(!asked.contains(&this));
            asked.push(this);
        }
    }
}
