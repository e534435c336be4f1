//! A card in the same process, and the transports to it.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use p256::{NonZeroScalar, ProjectivePoint, PublicKey, elliptic_curve::point::AffineCoordinates};
use tempfile::TempDir;
use virtual_card::{
    Card, KeySource, Options, SlotOption,
    state::{Curve, Hex, State},
};
use zeroize::Zeroizing;

use super::super::{Fault, Piv, Slot, Transport, Wait};

pub const PIN: &[u8] = b"123456";
/// The private key of the slots that [`imported`] fills: any number.
pub const SCALAR: [u8; 32] = *b"a private key that is not secret";

/// A software card, and what was done to it.
pub struct Bench {
    pub card: Rc<RefCell<Card>>,
    pub sent: Rc<RefCell<Vec<Vec<u8>>>>,
    pub resets: Rc<Cell<u32>>,
    pub reset_at_end: Rc<Cell<bool>>,
    _dir: TempDir,
}

impl Bench {
    pub fn new(options: Options) -> Self {
        Self::with_state(options, |_| {})
    }

    /// A card whose state is changed before it wakes up.
    pub fn with_state(options: Options, change: impl FnOnce(&mut State)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut state = Card::open(dir.path(), options.clone()).unwrap().state().clone();
        change(&mut state);
        state.save(dir.path()).unwrap();
        Self {
            card: Rc::new(RefCell::new(Card::open(dir.path(), options).unwrap())),
            sent: Rc::default(),
            resets: Rc::default(),
            reset_at_end: Rc::default(),
            _dir: dir,
        }
    }

    /// A session with the card.
    pub fn piv(&self) -> Piv {
        self.tampered(|_, answer| answer)
    }

    /// A session in which each answer but the first, SELECT's, goes through `tamper` with its
    /// command.
    pub fn tampered(&self, tamper: impl FnMut(&[u8], Vec<u8>) -> Vec<u8> + 'static) -> Piv {
        self.card.borrow_mut().reset();
        self.sent.borrow_mut().clear();
        Piv::select(Box::new(Wire {
            card: Rc::clone(&self.card),
            sent: Rc::clone(&self.sent),
            resets: Rc::clone(&self.resets),
            reset_at_end: Rc::clone(&self.reset_at_end),
            tamper: Box::new(tamper),
        }))
        .unwrap()
    }

    /// The public key in a slot, as the card's state has it.
    pub fn public_key(&self, slot: Slot) -> PublicKey {
        let card = self.card.borrow();
        let key = card.state().slot(slot.reference()).unwrap();
        PublicKey::from_sec1_bytes(&key.public_key.0).unwrap()
    }

    /// The x-coordinate that the slot's private key makes of a point.
    pub fn agreement(&self, slot: Slot, peer: &PublicKey) -> [u8; 32] {
        let card = self.card.borrow();
        let key = &card.state().slot(slot.reference()).unwrap().private_key.0;
        let scalar = NonZeroScalar::try_from(&key[..]).unwrap();
        let shared: ProjectivePoint = peer.to_projective() * *scalar;
        shared.to_affine().x().into()
    }

    /// How many commands with this instruction were sent.
    pub fn count(&self, ins: u8) -> usize {
        let sent = self.sent.borrow();
        sent.iter().filter(|command| command[1] == ins).count()
    }

    /// The certificate that the card makes of a slot's key.
    pub fn attestation(&self, slot: Slot) -> Vec<u8> {
        let mut card = self.card.borrow_mut();
        let aid = [0, 0xa4, 4, 0, 5, 0xa0, 0, 0, 3, 8, 0];
        card.transmit(&aid).unwrap();
        // One extended APDU, so that nothing has to be put together here.
        let apdu = [0, 0xf9, slot.reference(), 0, 0, 0, 0];
        let mut answer = card.transmit(&apdu).unwrap();
        assert_eq!(answer.split_off(answer.len() - 2), [0x90, 0]);
        answer
    }
}

/// What becomes of an answer, given its command.
type Tamper = Box<dyn FnMut(&[u8], Vec<u8>) -> Vec<u8>>;

struct Wire {
    card: Rc<RefCell<Card>>,
    sent: Rc<RefCell<Vec<Vec<u8>>>>,
    resets: Rc<Cell<u32>>,
    reset_at_end: Rc<Cell<bool>>,
    tamper: Tamper,
}

impl Transport for Wire {
    fn transmit(&mut self, command: &[u8], _: Wait) -> Result<Zeroizing<Vec<u8>>, Fault> {
        self.sent.borrow_mut().push(command.to_vec());
        let answer = self.card.borrow_mut().transmit(command);
        let answer = answer.map_err(|_| Fault::Absent)?;
        if command[1] == 0xa4 {
            return Ok(Zeroizing::new(answer));
        }
        Ok(Zeroizing::new((self.tamper)(command, answer)))
    }

    fn reset(&mut self) -> Result<(), Fault> {
        self.resets.set(self.resets.get() + 1);
        self.card.borrow_mut().reset();
        Ok(())
    }

    fn reset_at_end(&mut self) {
        self.reset_at_end.set(true);
    }
}

/// A card that is a function from commands to answers; SELECT succeeds.
pub fn scripted(answer: impl FnMut(&[u8]) -> Vec<u8> + 'static) -> Piv {
    struct Script<F>(F);

    impl<F: FnMut(&[u8]) -> Vec<u8>> Transport for Script<F> {
        fn transmit(&mut self, command: &[u8], _: Wait) -> Result<Zeroizing<Vec<u8>>, Fault> {
            let answer = match command[1] {
                0xa4 => vec![0x90, 0x00],
                _ => (self.0)(command),
            };
            Ok(Zeroizing::new(answer))
        }

        fn reset(&mut self) -> Result<(), Fault> {
            Ok(())
        }

        fn reset_at_end(&mut self) {}
    }

    Piv::select(Box::new(Script(answer))).unwrap()
}

pub fn slot(name: &str) -> Slot {
    name.parse().unwrap()
}

/// A card with a key made on it.
pub fn generated(slot: u8) -> Options {
    with_key(slot, KeySource::Generate(Curve::P256))
}

/// A card with a key brought to it, of which it makes no attestation.
pub fn imported(slot: u8) -> Options {
    with_key(slot, KeySource::Import(SCALAR.to_vec()))
}

pub fn with_key(slot: u8, key: KeySource) -> Options {
    let option = SlotOption { slot, key, pin_policy: None, touch_policy: None };
    Options { slots: vec![option], ..Options::default() }
}

/// An old card: no metadata, attestation or serial.
pub fn legacy(options: Options) -> Options {
    Options { legacy: true, ..options }
}

/// Stores what GET DATA answers inside tag 53.
pub fn put(state: &mut State, object: &str, contents: &[u8]) {
    let contents = Hex(contents.to_vec());
    state.objects.insert(object.into(), contents);
}
