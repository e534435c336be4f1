//! What a world's cards are sealed to, as `apply` does it.

use super::{
    super::{Known, Sealing},
    run::{Outcome, Run},
    world::{Content, KEYS, Profile},
};
use crate::{
    profile::piv::same_key,
    token::{SlotKey, SlotState},
};

impl Run<'_> {
    /// The key that a card of ours proves, if it is the one that it told.
    fn proven(&self, card: usize, known: &Known) -> Option<usize> {
        match (known.session.as_ref()?.slot.as_ref()?, self.cards[card].content) {
            (SlotState::Key(SlotKey { public: Ok(key), .. }), Content::Key(own)) => {
                same_key(key, &KEYS[own]).then_some(own)
            }
            _ => None,
        }
    }

    pub fn prepare(&mut self, card: usize, known: &mut Known) -> Outcome {
        let Some(own) = self.proven(card, known) else {
            return Outcome::Failed("the proof does not hold");
        };
        let listed = known.session.take().and_then(|session| session.listed);
        self.prepared.push((card, own));
        known.settled.extend(listed);
        Outcome::Ok
    }

    /// Seals a profile to the card, and writes it.
    pub fn enroll(
        &mut self,
        index: usize,
        sealing: Sealing,
        card: usize,
        known: &mut Known,
    ) -> Outcome {
        let Some(session) = &known.session else {
            return Outcome::Fault("a step without a session");
        };
        let Some(own) = self.proven(card, known) else {
            return Outcome::Failed("the proof does not hold");
        };
        known.settled.extend(session.listed);
        let job = &mut self.jobs[index];
        match (sealing, &mut job.profile, session.provider) {
            (Sealing::Same, Some(profile), Some(place)) => {
                let others = known.opened.iter().filter(|other| **other != place).count();
                if others < profile.threshold {
                    return Outcome::Fault("too few shares to seal it again");
                }
                profile.enrolled[place] = (card, own);
                // Each card has its own.
                profile.policies = None;
            }
            (Sealing::Added, Some(profile), None) => {
                if known.opened.len() < profile.threshold && !known.enrolled {
                    return Outcome::Fault("too few shares to seal it again");
                }
                // Places of the typed ones move: nothing is opened any more in this run.
                profile.enrolled.push((card, own));
                profile.policies = None;
            }
            (Sealing::New, Some(_), _)
            | (Sealing::Renewed, None, _)
            | (Sealing::Same | Sealing::Added, ..) => {
                return Outcome::Fault("not a profile to write");
            }
            _ => {
                let mut enrolled = std::mem::take(&mut self.prepared);
                enrolled.push((card, own));
                job.profile = Some(Profile {
                    id_is_declared: false,
                    threshold: enrolled.len(),
                    enrolled,
                    knows_source: true,
                    policies: Some((job.key.pin_policy, job.key.touch_policy)),
                    typed: 0,
                });
            }
        }
        known.profile = self.sealed(index);
        known.open = true;
        known.enrolled |= sealing != Sealing::Added;
        known.session = None;
        Outcome::Ok
    }
}
