//! Making a profile: generating the card's key where there is none, and sealing a new master key.

use base16ct::mixed;
use zeroize::Zeroizing;

use super::{Attempt, Failure, Work, out_of_order};
use crate::{
    card::{
        Attestation, Fingerprint, KeySource, ManagementKey, Piv, SlotKey, SlotState, is_named_by,
    },
    error::{Class, Error},
    observe,
    plan::{Goal, Sealing},
    profile::{
        Profile, Provider, ProviderKind, change,
        generating::Generating,
        piv, plain_text,
        proof::Proof,
        seal::{NewProvider, ProviderSecret, seal},
    },
    spec::{ManagementKeySource, Mode},
    system::{Deadline, notify, secret_file::read_private},
};

/// 32 bytes in hex, and a line ending.
const LONGEST_FILE: usize = 80;

impl Work<'_> {
    /// Asks what is in the slot, without the PIN.
    pub(super) fn inspect_slot(&mut self) -> Attempt {
        let slot = self.key.slot;
        let state = self.with_card("looking at the slot", |piv| piv.inspect(slot))?;
        self.learn_slot(state)
    }

    /// Finds out by key agreements what is in the slot.
    pub(super) fn probe_slot(&mut self) -> Attempt {
        let slot = self.key.slot;
        let (tried, limit) = self.expect_touch("finding out what is in the slot");
        let (piv, _) = self.session()?;
        let state = piv.probe(slot, limit);
        let state = state.map_err(|fault| self.agreement_failure(fault, tried))?;
        // With PIN policy "always", the probe took what the PIN had allowed.
        self.pin_is_fresh = false;
        self.session()?.1.probed = true;
        self.learn_slot(state)
    }

    /// Notes what is in the slot, and what the planner has to know besides.
    pub(super) fn learn_slot(&mut self, state: SlotState) -> Attempt {
        let generates = state == SlotState::Empty || self.key.mode == Mode::Overwrite;
        if generates && self.session()?.1.management_key.is_none() {
            let what = "asking for the management key";
            let told = self.with_card(what, Piv::management_metadata)?;
            self.session()?.1.factory_management_key = told.map(|told| told.factory_default);
        }
        if self.gets_a_key() {
            // One may be sealed to the key that was found, whatever name its card had then.
            let card = self.session()?.1.card;
            let others =
                observe::others(&self.store, self.spec, self.name, self.key, card, &state)?;
            let (_, session) = self.session()?;
            (session.orphan, session.dependent) = (others.orphan, others.dependent);
        }
        let (_, session) = self.session()?;
        session.slot = Some(state);
        session.attestation = None;
        Ok(())
    }

    /// Whether the card is one that a profile is to be written for.
    pub(super) fn gets_a_key(&self) -> bool {
        let provider = self.known.session.as_ref().and_then(|session| session.provider);
        provider.is_none() || provider == self.known.doomed(self.key)
    }

    /// Records that a key is about to be generated.
    pub(super) fn begin_record(&mut self, record: Generating) -> Attempt {
        // A later run finds the record by the card's name.
        self.check_name("recording that a key is about to be generated")?;
        self.store.begin_generating(self.name, &record)?;
        self.known.record = Some(record);
        Ok(())
    }

    /// Removes the record of a generation whose key has its profile.
    pub(super) fn end_record(&mut self) {
        // The profile comes first: a run that was killed may have left it unsynced.
        let ended = self.store.sync(self.name).and_then(|()| self.store.end_generating(self.name));
        if let Err(error) = ended {
            // It does no harm, and the next run tries again.
            tracing::warn!("key {}: {error}", self.name);
        }
        self.known.record = None;
    }

    /// Generates a key in the slot, which destroys the one in it, if there is one.
    pub(super) fn generate(&mut self, destroys: Option<Fingerprint>) -> Attempt {
        let management_key = self.management_key()?;
        let what = "authenticating with the management key";
        if !self.with_card(what, |piv| piv.authenticate(&management_key))? {
            let card = self.session()?.1.card;
            return Err(Failure::Final(Error::new(
                Class::Spec,
                format!("key {}: {what} of {card}", self.name),
                "the card did not accept it",
                format!(
                    "Correct security.cryptkey.keys.{}.managementKey; `ykman piv info` says of which \
                     kind the card's is.",
                    self.name
                ),
            )));
        }
        if !self.slot_is_as_it_was()? {
            return Ok(());
        }
        let (slot, pin, touch) = (self.key.slot, self.key.pin_policy, self.key.touch_policy);
        if let Some(key) = destroys {
            tracing::warn!("key {}: destroying {key} in slot {slot}", self.name);
        }
        notify::status("generating a key on the card");
        let public = self.with_card("generating a key", |piv| piv.generate(slot, pin, touch))?;
        self.pin_is_fresh = false;
        tracing::info!(
            "key {}: generated {} in slot {slot}",
            self.name,
            crate::card::fingerprint(&public)
        );
        // What the card itself says of the new key counts, its policies above all. Where it can't
        // tell, or shows an old certificate, the answer to the generation stands.
        let told = self.with_card("looking at the new key", |piv| piv.inspect(slot))?;
        let state = match told {
            SlotState::Key(SlotKey { public: Ok(found), source, .. })
                if source != KeySource::Certificate
                    && destroys.is_some_and(|old| is_named_by(&found, old)) =>
            {
                return Err(Failure::Final(Error::new(
                    Class::Card,
                    format!("key {}: looking at the new key", self.name),
                    "the card generated a key, and still shows the old one",
                    "Nothing was written. Take the card out, insert it again and start over.",
                )));
            }
            SlotState::Key(SlotKey { public: Ok(found), source, .. })
                if source != KeySource::Certificate || piv::same_key(&found, &public) =>
            {
                told
            }
            _ => SlotState::Key(SlotKey {
                public: Ok(public),
                policies: None,
                source: KeySource::KeyAgreement,
                is_generated: true,
            }),
        };
        let (_, session) = self.session()?;
        session.slot = Some(state);
        // What was attested was not about this key.
        session.attestation = None;
        Ok(())
    }

    /// Whether the card says of the slot what it said before. What is generated over is gone, so one
    /// answer is not enough; if this one differs, the planner decides again.
    fn slot_is_as_it_was(&mut self) -> Attempt<bool> {
        let slot = self.key.slot;
        let again = self.with_card("looking at the slot again", |piv| piv.inspect(slot))?;
        let (_, session) = self.session()?;
        let was_probed = session.probed && again == SlotState::Unknown;
        if was_probed || session.slot.as_ref() == Some(&again) {
            return Ok(true);
        }
        tracing::warn!("key {}: of slot {slot} the card now says: {again}", self.name);
        self.learn_slot(again)?;
        Ok(false)
    }

    /// That the card, asked again, gives the name that it gave before.
    fn check_name(&mut self, doing: &str) -> Attempt {
        let card = self.session()?.1.card;
        let again = self.with_card("asking for its name again", Piv::name)?;
        if again == card {
            return Ok(());
        }
        let found = if again.serial.is_some() && again.serial == card.serial {
            "asked again, the card tells another GUID".to_owned()
        } else {
            format!("asked again, the card says that it is {again}")
        };
        Err(Failure::Final(Error::new(
            Class::Card,
            format!("key {}: {doing}, on {card}", self.name),
            found,
            "Nothing was written. Take the card out, insert it again and start over.",
        )))
    }

    fn management_key(&mut self) -> Attempt<ManagementKey> {
        let wrong = |tried: String, found: &str, advice: &str| {
            Failure::Final(Error::new(Class::Spec, tried, found, advice))
        };
        let source = self.session()?.1.management_key.clone();
        match source {
            Some(ManagementKeySource::File(path)) => {
                let text = read_private(&path, LONGEST_FILE, Class::Spec)?;
                let mut bytes = Zeroizing::new(vec![0; text.len() / 2]);
                mixed::decode(&text[..], &mut bytes)
                    .ok()
                    .map(drop)
                    .and_then(|()| ManagementKey::new(bytes))
                    .ok_or_else(|| {
                        wrong(
                            format!("key {}: reading management key {}", self.name, path.display()),
                            "it is not 32, 48 or 64 hex digits",
                            "Correct the file.",
                        )
                    })
            }
            Some(ManagementKeySource::Protected) => {
                let what = "reading the management key behind the PIN";
                let key = self.with_card(what, Piv::protected_management_key)?;
                key.ok_or_else(|| {
                    wrong(
                        format!("key {}: {what}", self.name),
                        "the card keeps none",
                        "Make it so with `ykman piv access change-management-key --protect`, or name a \
                         file that holds the key.",
                    )
                })
            }
            Some(ManagementKeySource::FactoryDefault) => Ok(ManagementKey::factory_default()),
            None => Err(out_of_order(self.name)),
        }
    }

    /// Has the card prove its key, to seal a new key to it and to others.
    pub(super) fn prepare(&mut self) -> Attempt {
        let provider = self.new_provider()?;
        self.check_distinct(&provider)?;
        let listed = self.session()?.1.listed;
        self.prepared.push(provider);
        self.known.settled.extend(listed);
        self.end_session();
        self.deadline = Deadline::after(self.key.card_timeout);
        Ok(())
    }

    /// Seals a master key to the card, and writes the profile.
    pub(super) fn enroll(&mut self, sealing: Sealing) -> Attempt {
        let (place, listed) = (self.session()?.1.provider, self.session()?.1.listed);
        let provider = self.new_provider()?;
        if sealing != Sealing::Same {
            self.check_distinct(&provider)?;
        }
        // What a new key was sealed to has opened it as well: other cards of the list come next.
        let own = self.prepared.iter().chain([&provider]);
        let own: Vec<_> =
            own.map(|new| (new.id.clone(), ProviderSecret::new(new.secret.as_bytes()))).collect();
        let id = provider.id.clone();
        let secrets: Vec<_> = self.shares.iter().map(|(at, s)| (*at, s)).collect();
        let (profile, opened) = match (sealing, &self.profile, place) {
            (Sealing::Same, Some(old), Some(place)) => {
                change::replaced(old, place, provider, &secrets)?
            }
            (Sealing::Added, Some(old), _) => change::added(old, provider, &secrets)?,
            (Sealing::Same | Sealing::Added, ..) => return Err(out_of_order(self.name)),
            (Sealing::New | Sealing::Renewed, ..) => {
                let mut providers = std::mem::take(&mut self.prepared);
                providers.push(provider);
                let threshold = u8::try_from(providers.len()).unwrap_or(u8::MAX);
                seal(self.name, threshold, providers)?
            }
        };
        match sealing {
            Sealing::New => self.store.save(&profile)?,
            // The command that asked for it writes it.
            Sealing::Added if self.known.goal == Goal::Join => {}
            Sealing::Added | Sealing::Same => drop(self.store.replace(self.name, &profile)?),
            Sealing::Renewed => {
                if let Some(kept) = self.store.replace(self.name, &profile)? {
                    let kept = kept.display();
                    tracing::info!("key {}: the old profile is kept as {kept}", self.name);
                }
            }
        }
        if sealing == Sealing::Added {
            let card = self.session()?.1.card;
            tracing::info!("key {}: sealed to {card} too, as {id}; no secret changes", self.name);
        }
        if matches!(sealing, Sealing::New | Sealing::Renewed) {
            self.shares.clear();
        }
        for (id, secret) in own {
            if let Some(at) = profile.providers().iter().position(|provider| provider.id() == id) {
                self.shares.retain(|(other, _)| *other != at);
                self.shares.push((at, secret));
            }
        }
        self.known.settled.extend(listed);
        self.known.profile = Some(observe::sealed(&profile, self.key));
        self.profile = Some(profile);
        self.known.open = true;
        if sealing == Sealing::Added {
            // It may be published already, and so be gone.
            drop(opened);
        } else {
            self.opened = Some(opened);
            self.known.enrolled = true;
        }
        self.forget_shares();
        self.end_session();
        Ok(())
    }

    /// Has the card of a version 1 provider prove its key, as a provider of version 2 does.
    pub(super) fn prove_anew(&mut self, index: usize, params: &piv::Params) -> Attempt {
        let id = self.profile.as_ref().and_then(|profile| profile.providers().get(index));
        let id = id.ok_or_else(|| out_of_order(self.name))?.id().to_owned();
        // Such a file need not say which card it is.
        let card = self.with_card("asking for its name", Piv::name)?;
        let (_, session) = self.session()?;
        session.card = card;
        let told = matches!(&session.slot, Some(SlotState::Key(found)) if found.public.is_ok());
        if !told {
            session.slot = Some(SlotState::Key(SlotKey {
                public: Ok(params.public_key),
                policies: None,
                source: KeySource::KeyAgreement,
                is_generated: false,
            }));
        }
        let provider = self.new_provider()?;
        self.prepared.push(NewProvider { id, ..provider });
        Ok(())
    }

    /// Has the session's card prove its key, for a provider of a profile.
    fn new_provider(&mut self) -> Attempt<NewProvider> {
        let (_, session) = self.session()?;
        let (card, reader) = (session.card, plain_text(&session.reader));
        let listed = session.listed;
        let attestation = match &session.attestation {
            Some(Attestation::Made(trust, _)) => Some(*trust),
            _ => None,
        };
        let Some(SlotState::Key(SlotKey { public: Ok(public_key), source, .. })) = session.slot
        else {
            return Err(out_of_order(self.name));
        };
        let peer = piv::Peer::random()?;
        let proof = Proof::new(peer.point(), self.key_agreement(peer.point())?)?;
        let answer = self.key_agreement(proof.challenge())?;
        let Some(x) = proof.accept(&answer, &public_key) else {
            return Err(Failure::Final(Error::new(
                Class::KeyChanged,
                format!("key {}: having {card} prove its key", self.name),
                format!("its answers are not those of the key that its {source} shows"),
                "Nothing was written. If the slot's certificate is an old one, remove it (`ykman piv \
                 certificates delete`); otherwise do not trust this card.",
            )));
        };
        // It is looked for by this name from now on.
        self.check_name("enrolling")?;
        let params = piv::Params {
            peer,
            public_key,
            slot: self.key.slot,
            serial: card.serial,
            guid: card.guid,
            card_name: reader,
            touch_policy: self.key.touch_policy,
            pin_policy: Some(self.key.pin_policy),
            key_source: Some(source),
            attestation,
        };
        let declared = listed.and_then(|place| self.key.cards.get(place)?.id.as_ref());
        Ok(NewProvider {
            id: declared.map_or_else(|| self.unused_id(), ToString::to_string),
            secret: params.secret(&x),
            kind: ProviderKind::Piv(Box::new(params)),
        })
    }

    /// Refuses a card that has the key of another one, where it is to take several cards: together the
    /// two would be one way in. The spec may name one card twice, by its serial and by its GUID.
    fn check_distinct(&self, new: &NewProvider) -> Attempt {
        let threshold = match &self.profile {
            Some(profile) => profile.threshold(),
            None => self.key.threshold.unwrap_or(1),
        };
        let ProviderKind::Piv(own) = &new.kind else { return Ok(()) };
        let prepared = self.prepared.iter().filter_map(|other| match &other.kind {
            ProviderKind::Piv(params) => Some(&**params),
            _ => None,
        });
        let sealed = self.profile.iter().flat_map(Profile::piv_providers).map(|(_, params)| params);
        let mut others = prepared.chain(sealed);
        let twin = others.find(|other| piv::same_key(&other.public_key, &own.public_key));
        let Some(twin) = twin.filter(|_| threshold > 1) else { return Ok(()) };
        Err(Failure::Final(Error::new(
            Class::Spec,
            format!("key {}: sealing it to {}", self.name, own.card()),
            format!(
                "it takes {threshold} providers to open it, and this card has the same key in slot {} as {}: \
                 together they would be one",
                self.key.slot,
                twin.card()
            ),
            format!(
                "Nothing was written. Name another card in security.cryptkey.keys.{}.cards, or take another \
                 slot.",
                self.name
            ),
        )))
    }

    /// An id for a card that the spec gives none.
    fn unused_id(&self) -> String {
        let declared = self.key.cards.iter().filter_map(|card| card.id.as_deref());
        let prepared = self.prepared.iter().map(|provider| provider.id.as_str());
        let sealed = self.profile.iter().flat_map(Profile::providers).map(Provider::id);
        let used: Vec<_> = declared.chain(prepared).chain(sealed).collect();
        let mut ids = (1..).map(|number| format!("card-{number}"));
        ids.find(|id| !used.contains(&id.as_str())).unwrap_or_default()
    }
}
