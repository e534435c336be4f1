//! What `apply` would do: the same steps, of which only those that ask a card are carried out.

use serde::Serialize;

use super::{Attempt, Failure, Run, Work};
use crate::{
    error::{Class, Error, Result},
    plan::{self, Next, Runner, Step, Way},
    spec::{Key, Spec},
    system::{self, runtime_dir::RuntimeDir},
    token::{Facts, Pcsc, PinTries, Session, Turns},
};

/// A plan, as far as it is certain.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Preview {
    /// What was found on the way.
    pub facts: Vec<String>,
    /// What would be done.
    pub steps: Vec<String>,
    /// What decides how it goes on, where that is not certain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hangs_on: Option<String>,
    /// Why it would fail, if it would.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Error>,
}

/// Plans for one key. Changes nothing, spends nothing, waits for nothing.
#[must_use]
pub fn preview(spec: &Spec, name: &str, key: &Key) -> Preview {
    let mut preview = Preview::default();
    if let Err(error) = preview.run(spec, name, key) {
        preview.refused = Some(error);
    }
    preview
}

impl Preview {
    fn run(&mut self, spec: &Spec, name: &str, key: &Key) -> Result<()> {
        if let Some(warning) = RuntimeDir::check(&spec.runtime_dir)? {
            self.facts.push(warning);
        }
        // It presents nothing, and leaves others alone.
        let mut run = Run::new(Box::new(Pcsc::default()), Box::new(system::ask::ask));
        let mut work = Work::new(&mut run, spec, name, key, Turns::none(), Runner::Onlooker, None)?;
        work.report();
        self.facts.push(match &work.profile {
            Some(profile) => format!("profile {}", profile.id()),
            None => "no profile".into(),
        });
        // What is known of the card in hand, as far as steps went well that were not carried out.
        let mut hand = None;
        loop {
            let step = match plan::next(key, &work.known, hand.as_ref()) {
                Next::Step(step) => step,
                Next::Done => return Ok(()),
                Next::Refuse(refusal) => {
                    // What `apply` does without: other providers, or a card that only joins.
                    let way = work.known.at_stake(key, hand.as_ref(), None);
                    (work.session, hand) = (None, None);
                    let error = refusal.error(name);
                    if !work.known.give_up(key, way) {
                        return Err(error);
                    }
                    self.facts.push(format!("{}: {}", error.tried, error.found));
                    continue;
                }
            };
            let way = work.known.at_stake(key, hand.as_ref(), Some(step));
            let asked = match step {
                Step::FindCard | Step::InspectSlot => work.step(step),
                // Of a key that is yet to be made the card can't say anything.
                Step::Attest if self.steps.is_empty() => work.step(step),
                Step::CountTries => self.count_tries(&mut work),
                _ => {
                    self.steps.push(step.to_string());
                    let is_certain = step.assume(&mut work.known, &mut hand);
                    if hand.is_none() {
                        // What comes next is another card, or the same one again.
                        work.session = None;
                    }
                    if is_certain {
                        continue;
                    }
                    self.hangs_on = Some(step.to_string());
                    return Ok(());
                }
            };
            match asked {
                Ok(()) => {
                    hand = work.session.as_ref().map(|session| session.facts.clone());
                    self.note(step, hand.as_ref());
                }
                // The key is open by then, and a card that it could be sealed to is not there.
                Err(_) if matches!(way, Way::Listed(_)) => {
                    (work.session, hand) = (None, None);
                    if !work.known.give_up(key, way) {
                        return Ok(());
                    }
                }
                Err(Failure::Final(error)) if error.class == Class::NoCard => {
                    self.facts.push(error.found);
                    self.steps.push(step.to_string());
                    let goes_on = work.known.give_up(key, way);
                    self.hangs_on = Some(match plan::next(key, &work.known, None) {
                        Next::Step(step) if goes_on => {
                            format!("the card; if it stays away: {step}")
                        }
                        _ => "the card".into(),
                    });
                    return Ok(());
                }
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Card(fault, tried)) => return Err(fault.error(tried)),
            }
        }
    }

    /// Counts the tries without the reset that `apply` allows itself.
    fn count_tries(&mut self, work: &mut Work) -> Attempt {
        let tries = work.with_card("asking for the PIN's tries", Session::tries)?;
        let tries = match tries {
            PinTries::Left(left) => left,
            PinTries::Verified => {
                self.steps.push("reset the card, whose PIN another session left verified".into());
                work.key.min_tries
            }
        };
        work.session()?.facts.pin.tries = Some(tries);
        Ok(())
    }

    fn note(&mut self, step: Step, session: Option<&Facts>) {
        let Some(session) = session else { return };
        if let (Step::Attest, Some(attestation)) = (step, &session.attestation) {
            self.facts.push(format!("attestation: {attestation}"));
            return;
        }
        self.facts.push(match (step, &session.slot, session.pin.tries) {
            (Step::FindCard, Some(slot), _) => {
                format!(
                    "{} in {:?}; slot {}: {slot}",
                    session.card, session.reader, session.place.slot
                )
            }
            (Step::FindCard, None, _) => format!("{} in {:?}", session.card, session.reader),
            (_, _, Some(tries)) => format!("{tries} PIN tries left"),
            (_, Some(slot), None) => format!("slot {}: {slot}", session.place.slot),
            (_, None, None) => return,
        });
    }
}
