//! What `status` and `provider list` show of a profile.

use std::fmt;

use serde::Serialize;

use crate::{
    observe,
    profile::{Profile, Provider, ProviderKind, Version, piv},
    spec::Key,
    token::{CardName, PinPolicy, ReaderView, Slot, TouchPolicy},
};

/// A profile, and in what the spec declares something else.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProfileView {
    id: String,
    /// What the key's age recipient is, if the profile says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient: Option<String>,
    /// Whether the spec declares the id, so that nobody can have put another recipient there.
    declared: bool,
    version: u8,
    threshold: u8,
    /// Where it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    declared_threshold: Option<u8>,
    providers: Vec<ProviderView>,
    /// The cards that the spec lists and the profile does not know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_enrolled: Vec<NotEnrolled>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProviderView {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    /// Where the polynomial was taken for its share; none in version 1 profiles.
    #[serde(skip_serializing_if = "Option::is_none")]
    share_index: Option<u8>,
    #[serde(flatten)]
    piv: Option<PivView>,
}

/// What is known of a card.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PivView {
    card: String,
    #[serde(flatten)]
    name: CardName,
    slot: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pin_policy: Option<PinPolicy>,
    touch_policy: TouchPolicy,
    /// The reader in which it was enrolled.
    reader: String,
    /// Whether the spec lets it open the key.
    listed: bool,
    /// Whether it is there, where readers were asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    present: Option<bool>,
}

#[derive(Serialize)]
struct NotEnrolled {
    card: String,
    #[serde(flatten)]
    name: CardName,
    /// What enrolls it, as a phrase.
    #[serde(skip)]
    how: &'static str,
}

impl ProfileView {
    /// `readers`: where they were asked, what is in them.
    pub fn of(key: &Key, profile: &Profile, readers: Option<&[ReaderView]>) -> Self {
        let how = match (profile.version(), &key.profile) {
            (Version::V1, _) => {
                "`nixos-cryptkey import` has to make version 2 of the profile first"
            }
            (_, Some(_)) => {
                "`nixos-cryptkey provider add piv` enrolls it, into a profile to be shipped"
            }
            _ => "the next start at which it is there enrolls it",
        };
        let not_enrolled = |card: &crate::spec::Card| NotEnrolled {
            card: card.name().to_string(),
            name: card.name(),
            how,
        };
        Self {
            id: profile.id(),
            recipient: profile.recipient().map(|recipient| recipient.to_string()),
            declared: key.profile_id.as_ref().is_some_and(|id| id.as_str() == profile.id()),
            version: profile.version() as u8,
            threshold: profile.threshold(),
            declared_threshold: key.threshold.filter(|it| *it != profile.threshold()),
            providers: profile.providers().iter().map(|p| provider(key, p, readers)).collect(),
            not_enrolled: observe::not_enrolled(key, profile).map(not_enrolled).collect(),
        }
    }
}

fn provider(key: &Key, provider: &Provider, readers: Option<&[ReaderView]>) -> ProviderView {
    ProviderView {
        id: provider.id().to_owned(),
        kind: provider.kind().type_name().to_owned(),
        share_index: provider.share_index(),
        piv: match provider.kind() {
            ProviderKind::Piv(params) => Some(piv_view(key, params, readers)),
            _ => None,
        },
    }
}

fn piv_view(key: &Key, params: &piv::Params, readers: Option<&[ReaderView]>) -> PivView {
    let name = params.card();
    let slot: Slot = params.slot;
    PivView {
        card: name.to_string(),
        name,
        slot: slot.to_string(),
        pin_policy: params.pin_policy,
        touch_policy: params.touch_policy,
        reader: params.card_name.clone(),
        listed: observe::is_listed(key, &name),
        present: readers.map(|readers| readers.iter().any(|reader| reader.holds(&name))),
    }
}

/// With `{:#}`, all that the profile says of each provider.
impl fmt::Display for ProfileView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, recipient, declared, version, threshold, .. } = self;
        let Self { declared_threshold, providers, not_enrolled, .. } = self;
        let count = providers.len();
        writeln!(f, "  profile: {id}, version {version}, opened by {threshold} of {count}")?;
        if let Some(recipient) = recipient {
            let unproven = if *declared { "" } else { " (not verified: no profileId declares it)" };
            writeln!(f, "  recipient: {recipient}{unproven}")?;
        }
        if let Some(declared) = declared_threshold {
            writeln!(
                f,
                "  threshold: the spec declares {declared}; `nixos-cryptkey reseal` changes the \
                 profile's"
            )?;
        }
        for ProviderView { id, kind, share_index, piv } in providers {
            write!(f, "  provider {id}: {kind}")?;
            if let Some(PivView { card, slot, .. }) = piv {
                write!(f, ", {card}, slot {slot}")?;
            }
            if f.alternate() {
                if let Some(PivView { name, pin_policy, touch_policy, reader, .. }) = piv {
                    if let (Some(_), Some(guid)) = (name.serial, name.guid) {
                        write!(f, ", GUID {guid}")?;
                    }
                    if let Some(policy) = pin_policy {
                        write!(f, ", PIN {policy}")?;
                    }
                    write!(f, ", touch {touch_policy}, enrolled in {reader:?}")?;
                }
                if let Some(index) = share_index {
                    write!(f, ", share {index}")?;
                }
            }
            let piv = piv.as_ref();
            match piv.and_then(|piv| piv.present) {
                Some(true) => write!(f, ", present")?,
                Some(false) => write!(f, ", absent")?,
                None => {}
            }
            if piv.is_some_and(|piv| !piv.listed) {
                write!(f, "; not used, as `cards` does not list it")?;
            }
            writeln!(f)?;
        }
        not_enrolled.iter().try_for_each(|NotEnrolled { card, how, .. }| {
            writeln!(f, "  not enrolled: {card}; {how}")
        })
    }
}
