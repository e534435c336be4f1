//! The card itself: the firmware's PIV application behind the firmware's own APDU dispatcher, on a
//! trussed platform whose flash is two image files.
//!
//! One [`powered`] call is one power-up: whatever the card holds in RAM (the verified PIN above
//! all, which `deselect` does not forget) is gone when it returns.

use std::{cell::RefCell, fs, io, path::Path, rc::Rc};

use apdu_dispatch::{dispatch::ApduDispatch, interchanges};
use littlefs2_core::path;
use piv_authenticator::{Authenticator, Options};
use rand_core::OsRng;
use trussed::{
    ClientImplementation, Platform, Service,
    pipe::{ServiceEndpoint, TrussedChannel},
    platform::Syscall,
    types::CoreContext,
    virt::{StorageConfig, Store, StoreConfig, UserInterface},
};

use crate::backends::{BACKENDS, Backend, Backends, Contexts};

/// Trussed keeps everything of a client under this name; it is the one of the Nitrokey's firmware.
pub const CLIENT: &littlefs2_core::Path = path!("piv");

/// The two halves of the card's flash, as files of a state directory.
pub const IMAGES: [&str; 2] = ["internal.img", "external.img"];

/// What a card answers to a reset: T=1, and "Nitrokey" as the issuer, as on the real one.
pub const ATR: &[u8] = b"\x3b\x8f\x01\x80\x5dNitrokey\0\0\0\0\0\x6a";

/// The answer to an APDU that no card gives: the firmware crashed on it.
pub const CRASHED: &[u8] = &[0x6f, 0x00];

/// A trussed platform with the operating system's randomness; that of `trussed::virt` is constant.
struct Machine<'a> {
    rng: OsRng,
    store: Store<'a>,
    ui: UserInterface,
}

impl<'a> Platform for Machine<'a> {
    type R = OsRng;
    type S = Store<'a>;
    type UI = UserInterface;

    fn rng(&mut self) -> &mut OsRng {
        &mut self.rng
    }

    fn store(&self) -> Store<'a> {
        self.store
    }

    fn user_interface(&mut self) -> &mut UserInterface {
        &mut self.ui
    }
}

type Trussed<'a> = (Service<Machine<'a>, Backends>, [ServiceEndpoint<'a, Backend, Contexts>; 1]);

/// A system call is served at once, on the caller's stack: no second thread, no polling.
pub struct Direct<'a>(Rc<RefCell<Trussed<'a>>>);

impl Syscall for Direct<'_> {
    fn syscall(&mut self) {
        let (service, endpoints) = &mut *self.0.borrow_mut();
        service.process(endpoints);
    }
}

/// The PIV application's view of trussed.
pub type Client<'a> = ClientImplementation<'a, Direct<'a>, Backends>;

/// Mounts the flash images of `dir`, blank ones if there are none, and runs `f` on them.
pub fn with_trussed<R>(dir: &Path, f: impl FnOnce(Store<'_>, Client<'_>) -> R) -> R {
    let mut flash = StoreConfig {
        internal: StorageConfig::filesystem(dir.join(IMAGES[0])),
        external: StorageConfig::filesystem(dir.join(IMAGES[1])),
        volatile: StorageConfig::ram(),
    };
    flash.with_store(|store| {
        let machine = Machine { rng: OsRng, store, ui: UserInterface::new() };
        let channel = TrussedChannel::new();
        let (requester, responder) = channel.split().expect("a new channel");
        let service = Service::with_dispatch(machine, Backends::default());
        let endpoint = ServiceEndpoint::new(responder, CoreContext::new(CLIENT.into()), BACKENDS);
        let direct = Direct(Rc::new(RefCell::new((service, [endpoint]))));
        f(store, Client::new(requester, direct, None))
    })
}

/// A card with power.
pub struct Card<'t, 'd> {
    app: Authenticator<Client<'t>>,
    dispatch: ApduDispatch<'d>,
    reader: interchanges::Requester<'d>,
}

impl Card<'_, '_> {
    /// Hands the card a command APDU, and gives its answer with the status word at the end.
    pub fn exchange(&mut self, apdu: &[u8]) -> Vec<u8> {
        let Ok(request) = interchanges::Data::from_slice(apdu) else {
            return vec![0x67, 0x00]; // longer than the firmware's buffer
        };
        self.reader.request(request).expect("the card is idle");
        self.dispatch.poll(&mut [&mut self.app]);
        let response = self.reader.take_response();
        response.expect("the card answers at once").to_vec()
    }
}

/// Powers the card of `dir` up, runs `f` with it, and powers it down.
pub fn powered<R>(dir: &Path, f: impl FnOnce(&mut Card<'_, '_>) -> R) -> R {
    let (contact, contactless) = (interchanges::Channel::new(), interchanges::Channel::new());
    let (reader, contact) = contact.split().expect("a new channel");
    let (_, contactless) = contactless.split().expect("a new channel");
    with_trussed(dir, |_, client| {
        f(&mut Card {
            app: Authenticator::new(client, Options::default()),
            dispatch: ApduDispatch::new(contact, contactless),
            reader,
        })
    })
}

/// Makes the card of `dir` if there is none: formatted, with its CHUID, its PIN and the key that
/// slot 9e has from the factory. It appears under its name only when it is whole.
pub fn manufacture(dir: &Path) -> io::Result<()> {
    if dir.exists() {
        return Ok(());
    }
    let blank = dir.with_extension("new");
    if blank.exists() {
        fs::remove_dir_all(&blank)?;
    }
    fs::create_dir_all(&blank)?;
    let answer = powered(&blank, |card| {
        card.exchange(b"\x00\xa4\x04\x00\x0b\xa0\x00\x00\x03\x08\x00\x00\x10\x00\x01\x00\x00");
        card.exchange(b"\x00\xcb\x3f\xff\x05\x5c\x03\x5f\xc1\x02\x00")
    });
    if !answer.ends_with(b"\x90\x00") {
        return Err(io::Error::other(format!("no CHUID: {answer:02x?}")));
    }
    fs::rename(blank, dir)
}
