//! What the commands have in common that share a key anew: which providers stay.

use std::{collections::BTreeSet, fmt::Write as _};

use clap::Args;

use crate::{
    apply::Unsealed,
    error::{Class, Error, Result},
    observe,
    profile::{
        Profile, Provider, ProviderKind, piv,
        seal::{NewProvider, ProviderSecret},
    },
    spec::{Key, Spec},
    token::same_key,
};

/// The providers that stay.
#[derive(Args)]
pub(super) struct KeepArgs {
    /// Leaves this provider out, which need not be there; may be given several times
    #[arg(long, value_name = "ID")]
    without: Vec<String>,
}

/// Those of a profile.
#[derive(Default)]
pub(super) struct Kept {
    /// Their places in the profile.
    pub places: BTreeSet<usize>,
    /// The ids of the others.
    pub left_out: Vec<String>,
    /// Those of them that nothing here can open, as "id (type)".
    pub foreign: Vec<String>,
}

impl KeepArgs {
    /// Whether any provider is to be left out.
    pub fn is_used(&self) -> bool {
        !self.without.is_empty()
    }

    /// The providers that stay, of which `threshold` are to open the key. All of them can be opened
    /// here, as far as that is known before it is tried.
    ///
    /// # Errors
    /// `bad-spec` where one that is to be left out is not there, where the spec does not list the card
    /// of one that stays, where fewer than the threshold stay, and where two cards that stay have the
    /// same key, and more than one provider is to open it.
    pub fn of(&self, name: &str, key: &Key, profile: &Profile, threshold: u8) -> Result<Kept> {
        let refused = |found: String, advice: String| {
            let tried = format!("key {name}: choosing the providers that stay");
            Err(Error::new(Class::Spec, tried, found, advice))
        };
        let providers = profile.providers();
        if let Some(id) = self.without.iter().find(|id| providers.iter().all(|p| p.id() != **id)) {
            let ids: Vec<_> = providers.iter().map(Provider::id).collect();
            return refused(
                format!("the profile has no provider {id}"),
                format!("It has: {}.", ids.join(", ")),
            );
        }
        let sealed = observe::sealed(profile, key);
        let mut kept = Kept::default();
        for (place, provider) in providers.iter().enumerate() {
            let id = provider.id();
            match provider.kind() {
                _ if self.without.iter().any(|without| without == id) => {
                    kept.left_out.push(id.into());
                    continue;
                }
                ProviderKind::Unknown(name) => {
                    kept.left_out.push(id.into());
                    kept.foreign.push(format!("{id} ({name})"));
                    continue;
                }
                ProviderKind::Piv(params) if !sealed.piv.contains_key(&place) => {
                    return refused(
                        format!("provider {id} is {}, which `cards` does not list", params.card()),
                        format!(
                            "Add it to security.cryptkey.keys.{name}.cards, or leave it out: --without {id}."
                        ),
                    );
                }
                _ => {}
            }
            kept.places.insert(place);
        }
        if let Some((one, other)) = twins(profile, &kept.places).filter(|_| threshold > 1) {
            return refused(
                format!(
                    "{one} and {other} are cards with the same key: together they would be one"
                ),
                format!("Leave one of them out: --without {other}."),
            );
        }
        let count = kept.places.len();
        if threshold == 0 || count < threshold.into() {
            return refused(
                format!("{count} stay, and {threshold} are to open the key"),
                "Keep more providers, or take another threshold (`--threshold`; `nixos-cryptkey reseal` \
                 changes that of a profile)."
                    .into(),
            );
        }
        Ok(kept)
    }
}

/// The ids of two of these providers whose cards have the same key.
fn twins<'a>(profile: &'a Profile, places: &BTreeSet<usize>) -> Option<(&'a str, &'a str)> {
    let kept = profile.piv_providers().filter(|(place, _)| places.contains(place));
    let kept: Vec<_> = kept.collect();
    let id = |place: usize| profile.providers()[place].id();
    kept.iter().enumerate().find_map(|(at, (one, own))| {
        let same =
            |(_, other): &&(usize, &piv::Params)| same_key(&own.public_key, &other.public_key);
        kept[at + 1..].iter().find(same).map(|(other, _)| (id(*one), id(*other)))
    })
}

/// Those that stay, to be sealed to once more, in their order. All of them are open.
pub(super) fn again(unsealed: &mut Unsealed, kept: &Kept) -> Result<(Profile, Vec<NewProvider>)> {
    let mut renewed = unsealed.renewed();
    let profile = unsealed.profile()?.clone();
    let mut secrets = unsealed.secrets();
    secrets.sort_by_key(|(place, _)| *place);
    let secrets = secrets.into_iter().filter(|(place, _)| kept.places.contains(place));
    let is_renewal = !renewed.is_empty();
    let mut providers = Vec::new();
    for (place, secret) in secrets {
        let Some(provider) = profile.providers().get(place) else { continue };
        match renewed.iter().position(|renewed| renewed.id == provider.id()) {
            Some(at) => providers.push(renewed.swap_remove(at)),
            None if !is_renewal => providers.push(provider.again(secret)),
            // Its old salt would let old answers open the new profile.
            None => {
                return Err(Error::new(
                    Class::Internal,
                    format!("sealing to {} anew", provider.id()),
                    "it was opened, and has no fresh salt",
                    "Nothing was written. This is a fault of the program: report it.",
                ));
            }
        }
    }
    Ok((profile, providers))
}

/// The secrets of these providers, with their places among them.
pub(super) fn secrets(providers: &[NewProvider]) -> Vec<ProviderSecret> {
    providers.iter().map(|new| ProviderSecret::new(new.secret.as_bytes())).collect()
}

/// Who opens a profile, as a phrase: "any 2 of card-1, card-2, recovery-1 open it".
pub(super) fn who_opens(profile: &Profile) -> String {
    let ids: Vec<_> = profile.providers().iter().map(Provider::id).collect();
    let all = ids.join(", ");
    match (profile.threshold(), ids.len()) {
        (1, 1) => format!("{all} opens it"),
        (1, _) => format!("any of {all} opens it"),
        (threshold, count) if usize::from(threshold) == count => format!("{all} together open it"),
        (threshold, _) => format!("any {threshold} of {all} open it"),
    }
}

/// What of the spec does not fit the profile, in lines for people: its threshold; and that no start of
/// the unit can open the key.
pub(super) fn misfits(name: &str, spec: &Spec, profile: &Profile) -> String {
    let Some(key) = spec.keys.get(name) else { return String::new() };
    let (mut lines, threshold) = (String::new(), profile.threshold());
    // Writing to a string never fails.
    if key.threshold.is_some_and(|declared| declared != threshold) {
        let _ = writeln!(
            lines,
            "  Set in configuration.nix: security.cryptkey.keys.{name}.threshold = {threshold};"
        );
    }
    let usable = observe::sealed(profile, key).usable(key.ask);
    if usable < threshold.into() {
        let _ = writeln!(
            lines,
            "  As configuration.nix is, no start of the unit opens the key: {usable} of these providers can be \
             used\n  there, and {threshold} open it. List their cards in \
             security.cryptkey.keys.{name}.cards, or set\n  security.cryptkey.keys.{name}.ask = true;"
        );
    }
    lines
}
