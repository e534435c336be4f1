//! Opening the key with the shares of its providers, and what is made of it then.

use nix::unistd::{getegid, geteuid};

use super::{Attempt, Failure, Work, out_of_order};
use crate::{
    error::{Error, Result},
    plan::Goal,
    profile::seal::{self, ProviderSecret},
    publish::{self, Entry, Holder},
    secret::{
        Made, chosen,
        public::{Proven, PublicHalves},
    },
    spec::Secret,
    system::{Deadline, memory, users},
    token::SlotState,
};

impl Work<'_> {
    /// Opens a provider's share by a key agreement.
    pub(super) fn open_share(&mut self, index: usize) -> Attempt {
        let sealed = self.known.profile.as_ref().and_then(|sealed| sealed.piv.get(&index));
        let params = sealed.ok_or_else(|| out_of_order(self.name))?.clone();
        // The planner saw to it that a key that the card tells is the enrolled one.
        let is_told = matches!(self.session()?.facts.slot, Some(SlotState::Key(_)));
        let x = self.key_agreement(params.peer_point())?;
        if self.known.goal.renews(index) {
            self.renew_card(index, &params)?;
        }
        self.session = None;
        // The next card has as much time.
        self.deadline = Deadline::after(self.patience());
        self.add_share(index, params.secret(&x), is_told)
    }

    /// Takes the secret of a provider, which has to open its share; opens the profile once there are
    /// enough. `is_told`: the card's key is known to be the enrolled one.
    pub(super) fn add_share(
        &mut self,
        index: usize,
        secret: ProviderSecret,
        is_told: bool,
    ) -> Attempt {
        let profile = self.profile.as_ref().ok_or_else(|| out_of_order(self.name))?;
        let tried = format!("key {}: opening profile {}", self.name, self.file.display());
        let wrong = |error: seal::OpenError| Failure::Final(error.into_error(&tried, is_told));
        profile.check_share(index, &secret).map_err(wrong)?;
        self.shares.push((index, secret));
        if self.opened.is_none() && self.shares.len() >= usize::from(profile.threshold()) {
            let shares: Vec<_> = self.shares.iter().map(|(at, secret)| (*at, secret)).collect();
            match seal::open(profile, &shares) {
                Ok(opened) => {
                    self.known.proven_id = Some(opened.recipient().id());
                    self.opened = Some(opened);
                }
                Err(error) => {
                    // The file is not what was sealed: no other provider makes it so.
                    self.known.failed.extend(0..profile.providers().len());
                    self.known.opened.clear();
                    return Err(wrong(error));
                }
            }
        }
        self.known.share_opened(index);
        self.forget_shares();
        self.tell_salt_id();
        Ok(())
    }

    /// Says so where the spec declares an id of the kind that there was before profiles named a recipient.
    fn tell_salt_id(&self) {
        let (Some(declared), Some(proven), Some(profile)) =
            (&self.key.profile_id, &self.known.proven_id, &self.profile)
        else {
            return;
        };
        if declared.as_str() != proven && declared.as_str() == profile.salt_id() {
            tracing::warn!(
                "key {0}: profileId is one that an earlier version printed. Anybody can make another \
                 profile with it. Set security.cryptkey.keys.{0}.profileId = \"{proven}\";",
                self.name
            );
        }
    }

    /// The shares are wanted once more only where the key is sealed to another card.
    pub(super) fn forget_shares(&mut self) {
        let is_needed = self.known.goal != Goal::Publish
            || self.known.doomed(self.key).is_some()
            || !self.known.to_join(self.key).is_empty();
        if self.known.open && !is_needed {
            self.shares.clear();
        }
    }

    /// Derives the declared secrets and publishes them. The card's session is over by now.
    pub(super) fn publish(&mut self) -> Result<()> {
        self.session = None;
        let Some((set, public)) = self.derive()? else {
            return Ok(());
        };
        memory::wipe_stack();
        // A run that was killed before it could sync may have left the profile (rule 2).
        let is_synced = self.known.enrolled || self.known.leave.shipped(self.key).is_some();
        let sync = || if is_synced { Ok(()) } else { self.store.sync(self.name) };
        self.digests = Some(publish::digests(&set));
        let (dir, may_be_missed) = (&self.spec.runtime_dir, !self.run.boots);
        self.outcome = Some(publish::publish(dir, self.name, &set, may_be_missed, sync)?);
        self.known.published = true;
        match public.keep(&mut self.store) {
            Ok(new) => self.new_public_halves = new,
            // They can be had from what is published.
            Err(error) => tracing::warn!("key {}: {error}", self.name),
        }
        Ok(())
    }
}

impl Work<'_> {
    /// The declared secrets and their public halves, if the profile is open. The key itself is gone
    /// afterwards.
    #[inline(never)]
    fn derive(&mut self) -> Result<Option<(Vec<Entry>, Proven)>> {
        let Some(opened) = self.opened.take() else {
            return Ok(None);
        };
        let (mut set, mut halves) = (Vec::new(), PublicHalves::new());
        for (name, secret) in &self.key.secrets {
            let named = |error: Error| {
                let tried = format!("key {}: publishing {name}: {}", self.name, error.tried);
                Error { tried, ..error }
            };
            let made = match &secret.file {
                Some(file) => {
                    chosen::open(file, &opened).map(|content| Made { content, public: None })
                }
                None => secret.recipe().make(&opened),
            };
            let made = made.map_err(named)?;
            let files = secret.files(name).map_err(named)?;
            let public = made.public.as_ref().map(|public| public.clone().into_bytes().into());
            let contents = [Some(made.content), public];
            for ((file, Holder { uid, gid, mode }), bytes) in
                files.into_iter().zip(contents.into_iter().flatten())
            {
                set.push(Entry { name: file, bytes, uid, gid, mode });
            }
            halves.extend(made.public.map(|public| (name.to_string(), public)));
        }
        let public = Proven::new(&self.store, self.name, halves, &opened);
        Ok(Some((set, public)))
    }
}

impl Secret {
    /// The files that it is published as, and who has them, as users and groups are now: its own, and
    /// that of its public half, if it has one.
    pub(super) fn files(&self, name: &str) -> Result<Vec<(String, Holder)>> {
        let (uid, gid) = (self.owner.resolve(users::uid)?, self.group.resolve(users::gid)?);
        let mut files = vec![(name.to_owned(), Holder { uid, gid, mode: self.mode.0 })];
        if let Some(public) = self.public_file(name) {
            let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
            files.push((public, Holder { uid, gid, mode: 0o444 }));
        }
        Ok(files)
    }
}
