//! The private key of a slot, for tests that compute what the card must answer on their own.

use std::{fs, path::Path};

use littlefs2_core::path;
use piv_authenticator::{Options, Pin, container::AsymmetricKeyReference, state::State};
use trussed::{
    config::MAX_SERIALIZED_KEY_LENGTH,
    key::{Key, Kind},
    store,
    virt::Store,
};
use trussed_core::types::{Bytes, KeyId, Location};

use crate::firmware::{CLIENT, IMAGES, with_trussed};

/// Reads the P-256 scalar of `slot` from the card of `dir`, in use or not: on a copy of its flash,
/// so neither the card nor its PIN counter notices. All keys but that of 9e are sealed under the
/// PIN; the application itself opens them here.
pub fn private_key(dir: &Path, slot: u8, pin: &str) -> Result<[u8; 32], String> {
    let copy = dir.with_extension(format!("copy.{}", std::process::id()));
    let failed = |error| format!("cannot copy {}: {error}", dir.display());
    fs::create_dir(&copy).map_err(failed)?;
    let copied =
        IMAGES.iter().try_for_each(|image| fs::copy(dir.join(image), copy.join(image)).map(drop));
    let key = copied.map_err(failed).and_then(|()| open(&copy, slot, pin));
    fs::remove_dir_all(&copy).map_err(failed)?;
    key
}

fn open(dir: &Path, slot: u8, pin: &str) -> Result<[u8; 32], String> {
    let slot = AsymmetricKeyReference::try_from(slot).map_err(|_| "no such slot".to_owned())?;
    let mut padded = [0xff; 8];
    let room = padded.get_mut(..pin.len()).ok_or("the PIN is too long")?;
    room.copy_from_slice(pin.as_bytes());
    let pin = Pin::try_from(&padded[..]).map_err(|_| "that is no PIN".to_owned())?;

    with_trussed(dir, |flash, mut client| {
        let (options, mut state) = (Options::default(), State::default());
        let card = state.load(&mut client, &options);
        let mut card = card.map_err(|status| format!("the state is damaged: {status:?}"))?;
        if !card.volatile.verify_pin(&pin, &mut client).is_verified() {
            return Err("the PIN is wrong".to_owned());
        }
        let mut scalar = None;
        let opened = card.with_valid_key(slot, &mut client, &options, true, |key, _| {
            let Some(key) = key? else { return Ok(()) };
            scalar = scalar_of(flash, key.key);
            Ok(())
        });
        opened.map_err(|status| format!("the slot does not open: {status:?}"))?;
        scalar.ok_or_else(|| "the slot has no P-256 key".to_owned())
    })
}

/// Reads a secret key where trussed's key store has it: `sec/<id>` under the client's name.
fn scalar_of(flash: Store<'_>, id: KeyId) -> Option<[u8; 32]> {
    let file = CLIENT.join(path!("sec")).join(&id.legacy_hex_path());
    [Location::Volatile, Location::External].into_iter().find_map(|location| {
        let stored: Bytes<MAX_SERIALIZED_KEY_LENGTH> = store::read(&flash, location, &file).ok()?;
        let key = Key::try_deserialize(&stored).ok()?;
        (key.kind == Kind::P256).then(|| key.material.as_slice().try_into().ok())?
    })
}
