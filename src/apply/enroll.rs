//! Making a profile: having cards prove their keys, and sealing a master key to them.

use super::{Attempt, Failure, Work, out_of_order};
use crate::{
    error::{Class, Error},
    observe,
    plan::{Goal, Sealing},
    profile::{
        Profile, Provider, ProviderKind, Version, change, piv,
        proof::Proof,
        seal::{NewProvider, ProviderSecret, seal},
        unused_id,
    },
    system::Deadline,
    token::{Attestation, KeySource, Session, SlotKey, SlotState, plain_text, same_key},
};

impl Work<'_> {
    /// Has the card prove its key, to seal a new key to it and to others.
    pub(super) fn prepare(&mut self) -> Attempt {
        let provider = self.new_provider()?;
        self.check_distinct(&provider)?;
        let listed = self.session()?.facts.listed;
        self.prepared.push(provider);
        self.generation = None;
        self.known.settled.extend(listed);
        self.session = None;
        self.deadline = Deadline::after(self.patience());
        Ok(())
    }

    /// Seals a master key to the card, and writes the profile.
    pub(super) fn enroll(&mut self, sealing: Sealing) -> Attempt {
        let facts = &self.session()?.facts;
        let (place, listed) = (facts.provider, facts.listed);
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
            Sealing::Added if matches!(self.known.goal, Goal::Join(_)) => {}
            Sealing::Added | Sealing::Same => drop(self.store.replace(self.name, &profile)?),
            Sealing::Renewed => {
                if let Some(kept) = self.store.replace(self.name, &profile)? {
                    let kept = kept.display();
                    tracing::info!("key {}: the old profile is kept as {kept}", self.name);
                }
            }
        }
        if sealing == Sealing::Added {
            let card = self.session()?.facts.card;
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
        self.generation = None;
        self.known.settled.extend(listed);
        self.known.profile = Some(observe::sealed(&profile, self.key));
        self.profile = Some(profile);
        self.known.open = true;
        self.known.proven_id = Some(opened.recipient().id());
        if sealing == Sealing::Added {
            // It may be published already, and so be gone.
            drop(opened);
        } else {
            self.opened = Some(opened);
            self.known.enrolled = true;
        }
        self.forget_shares();
        self.session = None;
        Ok(())
    }

    /// Has the card of a provider prove its key under a fresh salt, so that it can be sealed to anew.
    pub(super) fn renew_card(&mut self, index: usize, params: &piv::Params) -> Attempt {
        let profile = self.profile.as_ref().ok_or_else(|| out_of_order(self.name))?;
        let id =
            profile.providers().get(index).ok_or_else(|| out_of_order(self.name))?.id().to_owned();
        if profile.version() == Version::V2 {
            let source = params.key_source.unwrap_or(KeySource::KeyAgreement);
            let (peer, x) = self.prove_key(&params.public_key, source)?;
            let params = piv::Params { peer, ..params.clone() };
            let secret = params.secret(&x);
            self.prepared.push(NewProvider {
                id,
                kind: ProviderKind::Piv(Box::new(params)),
                secret,
            });
            return Ok(());
        }
        // A file of version 1 need not say which card it is.
        let card = self.with_card("asking for its name", Session::identify)?;
        let session = self.session()?;
        session.facts.card = card;
        let slot = &session.facts.slot;
        if !matches!(slot, Some(SlotState::Key(found)) if found.public.is_ok()) {
            session.assume_key(params.public_key, false);
        }
        let provider = self.new_provider()?;
        self.prepared.push(NewProvider { id, ..provider });
        Ok(())
    }

    /// Draws a salt, and has the session's card prove its answer to that together with its key.
    fn prove_key(
        &mut self,
        public_key: &p256::PublicKey,
        source: KeySource,
    ) -> Attempt<(piv::Peer, piv::SharedX)> {
        let card = self.session()?.facts.card;
        let peer = piv::Peer::random()?;
        let proof = Proof::new(peer.point(), self.key_agreement(peer.point())?)?;
        let answer = self.key_agreement(proof.challenge())?;
        let Some(x) = proof.accept(&answer, public_key) else {
            return Err(Failure::Final(Error::new(
                Class::KeyChanged,
                format!("key {}: having {card} prove its key", self.name),
                format!("its answers are not those of the key that its {source} shows"),
                "Nothing was written. If the slot's certificate is an old one, remove it (`ykman piv \
                 certificates delete`); otherwise do not trust this card.",
            )));
        };
        Ok((peer, x))
    }

    /// Has the session's card prove its key, for a provider of a profile.
    fn new_provider(&mut self) -> Attempt<NewProvider> {
        let session = &self.session()?.facts;
        let (card, reader) = (session.card, plain_text(&session.reader));
        let (listed, place) = (session.listed, session.place);
        let attestation = match &session.attestation {
            Some(Attestation::Made(trust, _)) => Some(*trust),
            _ => None,
        };
        let Some(SlotState::Key(SlotKey { public: Ok(public_key), source, .. })) = session.slot
        else {
            return Err(out_of_order(self.name));
        };
        let (peer, x) = self.prove_key(&public_key, source)?;
        // It is looked for by this name from now on.
        self.check_name("enrolling")?;
        let params = piv::Params {
            peer,
            public_key,
            slot: place.slot,
            serial: card.serial,
            guid: card.guid,
            card_name: reader,
            touch_policy: place.touch_policy,
            pin_policy: Some(place.pin_policy),
            key_source: Some(source),
            attestation,
        };
        let declared = self.known.card(self.key, listed).and_then(|card| card.id.as_ref());
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
        let twin = others.find(|other| same_key(&other.public_key, &own.public_key));
        let Some(twin) = twin.filter(|_| threshold > 1) else { return Ok(()) };
        Err(Failure::Final(Error::new(
            Class::Spec,
            format!("key {}: sealing it to {}", self.name, own.card()),
            format!(
                "it takes {threshold} providers to open it, and this card has the same key in slot {} as {}: \
                 together they would be one",
                own.slot,
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
        let joins = if let Goal::Join(card) = &self.known.goal { Some(&**card) } else { None };
        let declared = self.key.cards.iter().chain(joins).filter_map(|card| card.id.as_deref());
        let prepared = self.prepared.iter().map(|provider| provider.id.as_str());
        let sealed = self.profile.iter().flat_map(Profile::providers).map(Provider::id);
        let used: Vec<_> = declared.chain(prepared).chain(sealed).collect();
        unused_id("card", &used)
    }
}
