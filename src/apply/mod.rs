//! Carries a plan out: one step after the other on the open session, each result added to what is
//! known, until the planner has nothing more to ask for.

mod agree;
mod alone;
mod ask;
mod attest;
mod enroll;
mod failure;
mod generate;
mod open;
mod pin;
mod preview;
mod report;
mod skip;
#[cfg(test)]
mod tests;
mod unseal;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use zeroize::Zeroizing;

use failure::{Attempt, Failure, out_of_order};
pub use preview::{Preview, preview};
pub use report::{Done, Report};
pub use unseal::{Unsealed, unseal};

use crate::{
    error::{Class, Error, Result},
    observe,
    plan::{self, Goal, Known, Leave, Next, Runner, Step},
    profile::{
        Profile,
        seal::{NewProvider, Opened, ProviderSecret},
        store::Store,
    },
    publish::Outcome,
    secret::public::PublicHalves,
    spec::{Key, Spec},
    system::{self, Deadline, lock, runtime_dir::RuntimeDir},
    token::{self, Fault, Hunt, Pcsc, Pins, Readers, Session, Turns},
};

/// A card that is reset under us more often than this in one run is somebody else's.
const MOST_RESTARTS: usize = 8;
/// Steps that a run takes at most, for each session that it may need: more than any needs. A card that
/// says something else each time it is asked would keep it going for ever.
const MOST_STEPS: usize = 32;
/// How long another run for the same key may take before this one gives up.
pub const SIBLING_LIMIT: Duration = Duration::from_secs(120);
/// How long the turn at a card is waited for, times the keys of the machine: each may wait so long
/// for a touch that does not come (the most that `touchTimeoutSec` allows, and a minute for a card that
/// is at work still), which ends its turn.
const TURN_LIMIT: Duration = Duration::from_secs(660);

/// Asks a person: shows a prompt, and waits for the answer so long.
type Person = Box<dyn FnMut(&str, &str, Duration) -> Result<Zeroizing<Vec<u8>>>>;

/// A run of the program, over all of its keys: the readers, whoever is asked, and what was learned of
/// PINs.
#[expect(clippy::struct_excessive_bools, reason = "each is so or not")]
pub struct Run {
    readers: Box<dyn Readers>,
    person: Person,
    /// Whether nobody can have read what is published first: it is the start of the key's unit.
    pub boots: bool,
    /// Whether the card is asked also where nothing would come of it.
    pub always: bool,
    /// As [`Leave::accepts_policies`].
    pub accepts_policies: bool,
    pins: Pins,
    /// Whether a touch did not come in time, so that a card may still be waiting for it.
    awaits_touch: bool,
    /// Who uses a card beside this run, once that was told.
    others: Option<String>,
}

impl Run {
    /// A run with these readers, in which `person` gives what is asked for.
    pub fn new(readers: Box<dyn Readers>, person: Person) -> Self {
        let (boots, always, accepts_policies, awaits_touch) = (false, false, false, false);
        let pins = Pins::default();
        Self { readers, person, boots, always, accepts_policies, pins, awaits_touch, others: None }
    }
}

impl Default for Run {
    fn default() -> Self {
        Self::new(Box::new(Pcsc::alone()), Box::new(system::ask::ask))
    }
}

/// Does what the spec wants for one key; nothing where that would change nothing, as far as can be told
/// without the card, unless the run is for asking it.
///
/// # Errors
/// Every class but `internal` has its meaning here; see `docs/exit-codes.md`.
#[inline(never)]
pub fn apply(run: &mut Run, spec: &Spec, name: &str, key: &Key) -> Result<Report> {
    // The RAM file system is looked at first: no PIN is spent on what can't be published.
    if let Some(warning) = RuntimeDir::check(&spec.runtime_dir)? {
        tracing::warn!("key {name}: {warning}");
    }
    let _sibling = lock::lock(&spec.runtime_dir, name, SIBLING_LIMIT)?;
    let keys = u32::try_from(spec.keys.len() + spec.other_keys.len()).unwrap_or(u32::MAX);
    let turns = Turns::among(&spec.runtime_dir, TURN_LIMIT.saturating_mul(keys));
    let mut work = Work::new(run, spec, name, key, turns, Runner::Unit, None)?;
    work.report();
    let result = if work.is_to_be_skipped() {
        Ok(work.done(Done::Skipped))
    } else {
        let result = work.carry_out();
        work.leave_mark(result.as_ref().err().map(|error| error.class));
        result
    };
    work.run.pins = std::mem::take(&mut work.known.pins);
    result
}

/// The work on one key.
struct Work<'a> {
    run: &'a mut Run,
    name: &'a str,
    key: &'a Key,
    spec: &'a Spec,
    store: Store,
    known: Known,
    profile: Option<Profile>,
    /// Its file.
    file: PathBuf,
    /// The session with a card, while there is one.
    session: Option<Session>,
    /// The secrets of the providers that opened their share.
    shares: Vec<(usize, ProviderSecret)>,
    /// The cards that a new key is to be sealed to.
    prepared: Vec<NewProvider>,
    /// What this run did to a slot for a key that has no profile yet.
    generation: Option<generate::Generation>,
    /// What failed on the way, and was done without.
    failures: Vec<Error>,
    opened: Option<Opened>,
    outcome: Option<Outcome>,
    new_public_halves: PublicHalves,
    /// The digests of what was published.
    digests: Option<BTreeMap<String, String>>,
    /// Until when the card is waited for.
    deadline: Deadline,
    turns: Turns<'a>,
}

impl<'a> Work<'a> {
    fn new(
        run: &'a mut Run,
        spec: &'a Spec,
        name: &'a str,
        key: &'a Key,
        turns: Turns<'a>,
        runner: Runner,
        elsewhere: Option<(PathBuf, Profile)>,
    ) -> Result<Self> {
        let store = Store::open(&spec.state_dir)?;
        // What is under way, and what is in the state directory, is about the key's own profile.
        let accepts_policies = run.accepts_policies;
        let leave = Leave { runner, elsewhere: elsewhere.is_some(), accepts_policies };
        let (file, profile) = match elsewhere {
            Some((file, profile)) => (file, Some(profile)),
            None => (
                key.profile.clone().unwrap_or_else(|| store.file(name)),
                observe::profile(&store, name, key)?,
            ),
        };
        let known = Known {
            profile: profile.as_ref().map(|profile| observe::sealed(profile, key)),
            stands: profile.is_none() && observe::stands(spec, name)?,
            leave,
            state_is_in_ram: (profile.is_none() || leave.overwrites(key)) && store.is_in_ram(),
            record: if leave.elsewhere { None } else { store.generating(name)? },
            pins: std::mem::take(&mut run.pins),
            ..Known::default()
        };
        Ok(Self {
            run,
            name,
            key,
            spec,
            store,
            known,
            profile,
            file,
            session: None,
            shares: Vec::new(),
            prepared: Vec::new(),
            generation: None,
            failures: Vec::new(),
            opened: None,
            outcome: None,
            new_public_halves: PublicHalves::new(),
            digests: None,
            deadline: Deadline::after(leave.patience(key)),
            turns,
        })
    }
}

impl Work<'_> {
    /// Says in what the profile differs from the spec.
    fn report(&self) {
        if let Some(profile) = &self.profile {
            observe::report(self.name, self.key, profile);
        }
    }

    /// How long a card is waited for.
    fn patience(&self) -> Duration {
        self.known.leave.patience(self.key)
    }

    fn carry_out(&mut self) -> Result<Report> {
        // What was typed for one key is not used for the next one.
        self.known.pins.forget_typed();
        let (mut restarts, mut steps) = (0, 0);
        let providers = self.profile.as_ref().map_or(0, |profile| profile.providers().len());
        let sessions = MOST_RESTARTS + 2 + providers + self.key.cards.len();
        loop {
            let facts = self.session.as_ref().map(|session| &session.facts);
            let next = plan::next(self.key, &self.known, facts);
            let step = if let Next::Step(step) = next { Some(step) } else { None };
            let way = self.known.at_stake(self.key, facts, step);
            let mut failure = match next {
                Next::Done => break,
                Next::Refuse(refusal) => refusal.error(self.name),
                Next::Step(step) if steps >= MOST_STEPS * sessions => self.endless(step),
                Next::Step(step) => {
                    steps += 1;
                    tracing::debug!("key {}: {step}", self.name);
                    match self.step(step) {
                        Ok(()) => continue,
                        // The session is gone: start over with a new one, or wait for the card.
                        Err(Failure::Card(
                            fault @ (Fault::Reset | Fault::Absent | Fault::Lost),
                            tried,
                        )) if restarts < MOST_RESTARTS => {
                            restarts += 1;
                            tracing::debug!("{tried}: {fault}; starting over");
                            self.session = None;
                            continue;
                        }
                        Err(failure) => failure.error(),
                    }
                }
            };
            self.session = None;
            if let Some(generation) = self.generation.take() {
                // Whatever it is that failed: what is gone, and what is in the slot, has to be said.
                failure.found = format!("{}; {generation}", failure.found);
            }
            if !self.known.give_up(self.key, way) {
                return Err(self.failed(failure));
            }
            self.go_on_without(failure);
            steps = 0;
        }
        Ok(self.done(if self.known.enrolled { Done::Enrolled } else { Done::Verified }))
    }

    fn step(&mut self, step: Step) -> Attempt {
        match step {
            Step::FindCard => self.find_card(),
            Step::InspectSlot => self.inspect_slot(),
            Step::Attest => self.attest(),
            Step::CountTries => self.count_tries(),
            Step::AskPin => self.ask_pin(),
            Step::RecallPin => self.recall_pin(),
            Step::RecordPin => self.record_pin(),
            Step::PresentPin => self.present_pin(),
            Step::ProbeSlot => self.probe_slot(),
            Step::TryKey => self.try_key(),
            Step::BeginRecord(record) => self.begin_record(record),
            Step::Generate(destroys) => self.generate(destroys),
            Step::Prepare => self.prepare(),
            Step::Enroll(sealing) => self.enroll(sealing),
            Step::EndRecord => {
                self.end_record();
                Ok(())
            }
            Step::OpenShare(index) => self.open_share(index),
            Step::AskShare(index) => self.ask_share(index),
            Step::Publish => self.publish().map_err(Failure::Final),
        }
    }

    fn find_card(&mut self) -> Attempt {
        let joins = self.known.open && self.known.doomed(self.key).is_none();
        // A command writes what it makes, and has looked to that.
        let writes = self.known.goal == Goal::Publish;
        let mut turns = self.turns;
        if joins && writes {
            // Cards that are to open the key some day are no reason to wait now, but for other keys
            // that are sealed to them.
            self.deadline = Deadline::after(Duration::ZERO);
            turns = turns.within(self.patience());
        }
        if self.profile.is_none() || joins || self.known.doomed(self.key).is_some() {
            if writes {
                self.store.check_writable(self.name)?;
            }
            self.roots()?;
        }
        // Whoever waits for a turn has none.
        self.session = None;
        let hunt = Hunt {
            key: self.name,
            wanted: &self.known.wanted(self.key),
            limit: self.patience(),
            deadline: &mut self.deadline,
            turns,
            attended: !writes,
        };
        let found = token::find(&mut *self.run.readers, hunt);
        let mut session = found.map_err(|error| match error.class {
            // It is not another program that holds the card: pcscd still waits for the touch.
            Class::Busy if self.run.awaits_touch => Error::new(
                Class::NoAnswer,
                error.tried,
                "the card still waits for the touch that a key before this one asked for",
                "Start the unit again and touch the card when it blinks.",
            ),
            _ => error,
        })?;
        let facts = &mut session.facts;
        tracing::debug!("key {}: {} in {:?}", self.name, facts.card, facts.reader);
        let named = || self.key.cards.iter().position(|listed| facts.card.is(&listed.name()));
        facts.listed = facts.listed.or_else(named);
        let slot = facts.slot.clone();
        self.session = Some(session);
        if !self.store.exists() {
            // The run that had the turn before may have made it.
            self.store = Store::open(&self.spec.state_dir)?;
        }
        // The slot of an enrolled card is known by now.
        match slot {
            Some(slot) if self.gets_a_key() => self.learn_slot(slot),
            _ => Ok(()),
        }
    }

    /// The open session. That there is one is the planner's doing.
    fn session(&mut self) -> Attempt<&mut Session> {
        self.session.as_mut().ok_or_else(|| out_of_order(self.name))
    }

    /// Runs `ask` on the open session; a fault is one of `what`.
    fn with_card<T>(
        &mut self,
        what: &str,
        ask: impl FnOnce(&mut Session) -> std::result::Result<T, Fault>,
    ) -> Attempt<T> {
        let name = self.name;
        let session = self.session()?;
        let card = session.facts.card;
        ask(session)
            .map_err(|fault| Failure::Card(fault, format!("key {name}: {what} with {card}")))
    }
}
