//! A run of the planner through a world: each step is carried out as `apply` does it, and every card
//! may vanish in the middle of it.

use super::{
    super::{Known, Next, Session, Step, Wanted, next},
    world::{Answer, Card, Content, EVEN, End, Job, KEYS, Moment, Tells, World},
};
use crate::{
    guard::{History, Rejection},
    profile::piv::same_key,
    spec::PinSource,
    token::{CardName, KeySource, SlotKey, SlotState},
};

/// No job takes more steps.
const MOST_STEPS: usize = 200;

pub struct Run<'a> {
    pub world: &'a World,
    pub cards: Vec<Card>,
    pub jobs: Vec<Job>,
    pub accepted: Vec<bool>,
    pub moments: Vec<Moment>,
    /// The cards that a new key is to be sealed to, with their keys.
    pub prepared: Vec<(usize, usize)>,
}

/// A PIN that was rejected.
pub fn rejected() -> History {
    History::Rejected(Rejection {
        card: CardName::default(),
        at: "then".into(),
        key: "vault".into(),
        left: 2,
        told: true,
    })
}

/// What a step came to.
pub enum Outcome {
    Ok,
    Vanished,
    Failed(&'static str),
    /// A step that `apply` could not carry out.
    Fault(&'static str),
}

/// Whether a card carries the step out, and may vanish before it answers.
fn is_on_card(step: Step) -> bool {
    !matches!(
        step,
        Step::FindCard
            | Step::AskPin
            | Step::RecallPin
            | Step::RecordPin
            | Step::BeginRecord(_)
            | Step::EndRecord
            | Step::AskShare(_)
            | Step::Publish
    )
}

impl Run<'_> {
    pub fn job(&mut self, index: usize, known: &mut Known) -> End {
        let key = &self.world.jobs[index].key;
        let (mut in_hand, mut answered_for) = (None, Vec::new());
        let mut foretold: Option<Next> = None;
        self.prepared.clear();
        for _ in 0..MOST_STEPS {
            let what = next(key, known);
            if let Some(foretold) = foretold.take()
                && let Some(last) = self.moments.last_mut()
            {
                last.foretold = Some((foretold, what.clone()));
            }
            let way =
                known.at_stake(key, if let Next::Step(step) = what { Some(step) } else { None });
            let step = match what {
                Next::Step(step) => step,
                Next::Done => return End::Done,
                Next::Refuse(_) if known.give_up(key, way) => continue,
                Next::Refuse(refusal) => return End::Refused(refusal),
            };
            let vanished = is_on_card(step) && self.world.vanishes.contains(&self.moments.len());
            let card = in_hand.filter(|_| known.session.is_some());
            self.moments.push(Moment {
                job: index,
                step,
                known: known.clone(),
                on_disk: self.jobs[index].clone(),
                card: card.map(|card: usize| (card, self.cards[card].clone())),
                accepted_before: card.is_some_and(|card| self.accepted[card]),
                vanished,
                foretold: None,
            });
            let mut assumed = known.clone();
            let certain = step.assume(&mut assumed);
            let outcome = match (step, card) {
                (Step::FindCard, _) => self.find(index, known, &mut in_hand),
                (Step::Publish, _) => {
                    known.published = true;
                    Outcome::Ok
                }
                (Step::EndRecord, _) => {
                    self.jobs[index].record = None;
                    known.record = None;
                    Outcome::Ok
                }
                (Step::AskShare(place), _) => self.ask(index, place, known),
                (_, None) => Outcome::Fault("a step without a card"),
                (Step::AskPin, Some(_)) if !self.world.answers_pins => {
                    (known.session, known.unanswered) = (None, true);
                    Outcome::Failed("no answer")
                }
                (Step::AskPin, Some(_)) => {
                    let asked = known.session.take().map(|session| session.card);
                    known.answered.extend(asked);
                    answered_for.extend(asked);
                    Outcome::Ok
                }
                (Step::BeginRecord(record), Some(_)) => {
                    self.jobs[index].record = Some(record);
                    known.record = Some(record);
                    Outcome::Ok
                }
                (Step::Prepare, Some(card)) if !vanished => self.prepare(card, known),
                (Step::Enroll(sealing), Some(card)) if !vanished => {
                    self.enroll(index, sealing, card, known)
                }
                (_, Some(card)) => {
                    let job = &self.world.jobs[index];
                    let outcome = self.on_card(job, step, card, &answered_for, known, vanished);
                    let dependent = self.dependent(index, card, known.session.as_ref());
                    if let (Step::InspectSlot | Step::ProbeSlot, Some(session)) =
                        (step, &mut known.session)
                    {
                        session.dependent = dependent;
                    }
                    outcome
                }
            };
            if self.world.killed == Some(self.moments.len() - 1) {
                return End::Killed;
            }
            match outcome {
                Outcome::Ok if certain => foretold = Some(next(key, &assumed)),
                Outcome::Ok => {}
                Outcome::Vanished => {
                    known.session = None;
                    if let Some(card) = card {
                        self.cards[card].inserted &= self.world.comes_back;
                    }
                }
                Outcome::Failed(_) if known.give_up(key, way) => {}
                Outcome::Failed(why) | Outcome::Fault(why) => return End::Failed(why),
            }
        }
        End::Endless
    }

    /// As `observe::find`.
    fn find(&self, index: usize, known: &mut Known, in_hand: &mut Option<usize>) -> Outcome {
        let job = &self.world.jobs[index];
        let mut inserted = (0..self.cards.len()).filter(|&card| self.cards[card].inserted);
        let wanted = known.wanted(&job.key);
        let found = match &wanted {
            Wanted::Providers(providers) => inserted.find_map(|card| {
                let (index, provider) =
                    providers.iter().find(|(_, provider)| self.is(card, provider))?;
                let is_replaced = known.doomed(&job.key) == Some(*index);
                let name = if is_replaced { self.cards[card].name } else { provider.card() };
                Some((card, name, Some(*index)))
            }),
            Wanted::Listed(_) => inserted.find_map(|card| {
                let name = self.cards[card].name;
                wanted.place_of(&name).map(|_| (card, name, None))
            }),
            Wanted::Any => inserted.next().map(|card| (card, self.cards[card].name, None)),
        };
        let Some((card, name, provider)) = found else {
            return Outcome::Failed("no card");
        };
        let slot = provider.map(|_| match self.told(card) {
            // A certificate of another key is only a hint.
            SlotState::Key(SlotKey { source: KeySource::Certificate, .. }) => SlotState::Unknown,
            told => told,
        });
        let listed = match provider {
            Some(_) => job.key.cards.iter().position(|listed| name.is(&listed.name())),
            None => wanted.place_of(&name),
        };
        *in_hand = Some(card);
        known.session = Some(Session {
            card: name,
            reader: format!("reader {card}"),
            provider,
            listed,
            pin: job.key.pin.clone(),
            management_key: job.key.management_key.clone(),
            slot,
            attestation: None,
            identity: None,
            probed: false,
            factory_management_key: None,
            orphan: None,
            dependent: None,
            tries: None,
            history: None,
            verified: false,
        });
        let dependent = self.dependent(index, card, known.session.as_ref());
        if let Some(session) = &mut known.session {
            session.dependent = dependent;
        }
        Outcome::Ok
    }

    /// As `observe::others`: whether another profile is sealed to the key that was told.
    fn dependent(&self, index: usize, card: usize, session: Option<&Session>) -> Option<String> {
        let Some(SlotState::Key(SlotKey { public: Ok(told), .. })) = session?.slot.as_ref() else {
            return None;
        };
        let others = self.sealed_by_others(index, card);
        others.iter().any(|&key| same_key(&KEYS[key], told)).then(|| "/state/other.toml".into())
    }

    /// The keys of a card that profiles of other keys are sealed to.
    pub fn sealed_by_others(&self, index: usize, card: usize) -> Vec<usize> {
        let others = self.jobs.iter().enumerate().filter(|(other, _)| *other != index);
        let profiles = others.filter_map(|(_, job)| job.profile.as_ref());
        let keys = profiles.flat_map(|profile| &profile.enrolled).filter(|(of, _)| *of == card);
        keys.map(|(_, key)| *key).chain(self.jobs[index].dependent).collect()
    }

    /// As `apply`'s `ask_share`.
    fn ask(&self, index: usize, place: usize, known: &mut Known) -> Outcome {
        let cards = self.jobs[index].profile.as_ref().map_or(0, |profile| profile.enrolled.len());
        match self.world.answers.get(place - cards).unwrap_or(&Answer::None) {
            Answer::Right => {
                known.share_opened(place);
                Outcome::Ok
            }
            Answer::Wrong => Outcome::Failed("wrong answers"),
            Answer::None => {
                known.unanswered = true;
                Outcome::Failed("no answer")
            }
        }
    }

    /// A step on the open session, as `apply` carries it out.
    fn on_card(
        &mut self,
        job: &Job,
        step: Step,
        card: usize,
        answered_for: &[CardName],
        known: &mut Known,
        vanished: bool,
    ) -> Outcome {
        let (told, attested) = (self.told(card), self.attested(card));
        let truth = &mut self.cards[card];
        let Some(session) = &mut known.session else {
            return Outcome::Fault("a step without a session");
        };
        if step == Step::PresentPin {
            if session.pin == Some(PinSource::Ask) && !answered_for.contains(&session.card) {
                return Outcome::Fault("an answer for another card");
            }
            let session_history = session.history.clone();
            known.pin_goes_out();
            // The card has decided before it vanishes.
            truth.tries = if truth.pin_is_right { 3 } else { truth.tries.saturating_sub(1) };
            if vanished {
                // The next run reads it from the counter, if there was a record.
                if !truth.pin_is_right && session_history == Some(History::Recorded) {
                    truth.memory = rejected();
                }
                return Outcome::Vanished;
            }
            if !truth.pin_is_right {
                let left = truth.tries;
                truth.memory = rejected();
                known.pin_came_back(Some(left));
                return Outcome::Failed("the PIN was rejected");
            }
            self.accepted[card] = true;
            truth.memory = History::Proven;
            known.pin_came_back(None);
            return Outcome::Ok;
        }
        if vanished {
            if matches!(step, Step::Generate(_)) {
                truth.content = Content::Key(3);
                truth.policies = (job.key.pin_policy, job.key.touch_policy);
            }
            return Outcome::Vanished;
        }
        match step {
            Step::InspectSlot => {
                session.slot = Some(told);
                session.attestation = None;
                session.orphan = job.orphan.then(|| "/state/old.toml".into());
                session.factory_management_key = truth.factory_management_key;
            }
            Step::RecallPin => session.history = Some(truth.memory.clone()),
            Step::RecordPin => session.history = Some(History::Recorded),
            Step::Attest => session.attestation = Some(attested),
            Step::CountTries => session.tries = Some(truth.tries),
            Step::ProbeSlot => {
                session.probed = true;
                session.attestation = None;
                session.slot = Some(match (truth.content, truth.tells) {
                    (Content::Key(own), _) => SlotState::Key(SlotKey {
                        public: Ok(EVEN[own]),
                        policies: None,
                        source: KeySource::KeyAgreement,
                        is_generated: false,
                    }),
                    (Content::Empty, Tells::Nothing { probe_tells_empty: true }) => {
                        SlotState::Empty
                    }
                    _ => SlotState::Unknown,
                });
            }
            Step::Generate(_) => {
                truth.content = Content::Key(3);
                truth.policies = (job.key.pin_policy, job.key.touch_policy);
                session.attestation = None;
                session.slot = Some(SlotState::Key(SlotKey {
                    public: Ok(KEYS[3]),
                    policies: Some(truth.policies),
                    source: KeySource::Metadata,
                    is_generated: true,
                }));
            }
            Step::OpenShare(index) => {
                let Some(sealed) = &known.profile else {
                    return Outcome::Fault("no profile to open");
                };
                let sealed_to = &sealed.piv[&index].public_key;
                if !matches!(truth.content, Content::Key(own) if same_key(&KEYS[own], sealed_to)) {
                    return Outcome::Failed("the share does not open");
                }
                known.session = None;
                known.share_opened(index);
            }
            _ => return Outcome::Fault("not a step on a card"),
        }
        Outcome::Ok
    }
}
