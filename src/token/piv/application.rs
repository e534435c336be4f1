//! The PIV application (NIST SP 800-73-4, part 2, and Yubico's extensions where they say so).

use std::time::Duration;

use p256::{PublicKey, elliptic_curve::sec1::ToSec1Point};
use zeroize::Zeroizing;

use super::{
    CardName, Fault, Guid, PinPolicy, Serial, Slot, StatusWord, TouchPolicy, Transport, Wait,
    apdu::{Command, Response, exchange},
    tlv,
};

/// The PIV application's full identifier, with version: some cards refuse a truncated one.
const AID: [u8; 11] = [0xa0, 0x00, 0x00, 0x03, 0x08, 0x00, 0x00, 0x10, 0x00, 0x01, 0x00];
/// The algorithm reference of P-256 (SP 800-78-4, table 6-2).
const P256: u8 = 0x11;
/// The key reference of the application PIN.
const PIN: u8 = 0x80;

/// How many commands give way to those of others.
const HARMLESS: usize = 5;
/// How long others have between two of them.
const BETWEEN: Duration = Duration::from_millis(20);

/// The tries that the PIN has left, or why they are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinTries {
    /// So many; 0 is blocked.
    Left(u8),
    /// The card holds the PIN as verified, and counts only after a reset.
    Verified,
}

/// What became of a PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was right.
    Accepted,
    /// It was wrong, and so many tries are left.
    Rejected(u8),
}

/// A PIN as it goes over the wire: 6 to 8 bytes, padded with FF to 8 (SP 800-73-4, part 2, 2.4.3).
#[derive(Clone)]
pub struct Pin(Box<Zeroizing<[u8; 8]>>);

impl Pin {
    /// A PIN of 6 to 8 bytes; none of any other length, which no card would accept, nor one with
    /// blanks or control characters, which is a slip of whoever wrote the file.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        // In a box: a list of them that grows leaves no copies behind.
        let mut padded = Box::new(Zeroizing::new([0xff; 8]));
        let is_plain = bytes.iter().all(|byte| !matches!(byte, 0x00..=0x20 | 0x7f | 0xff));
        (is_plain && (6..=8).contains(&bytes.len())).then(|| {
            padded[..bytes.len()].copy_from_slice(bytes);
            Self(padded)
        })
    }

    /// What `derive` makes of its 8 bytes.
    pub(crate) fn derive<T>(&self, derive: impl FnOnce(&[u8; 8]) -> T) -> T {
        derive(&self.0)
    }

    /// Whether both are the same, in constant time.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        subtle::ConstantTimeEq::ct_eq(&self.0[..], &other.0[..]).into()
    }
}

/// A session with the PIV application of one card. It lasts as long as the transport's transaction.
pub struct Piv {
    transport: Box<dyn Transport>,
    /// Whether this is the end, which is not left out where the run is to end.
    ends: bool,
}

impl Piv {
    /// Selects the PIV application.
    ///
    /// # Errors
    /// [`Fault::Status`] where the card has none.
    pub fn select(transport: Box<dyn Transport>) -> Result<Self, Fault> {
        let mut piv = Self { transport, ends: false };
        piv.run(&Command::new(0xa4, 0x04, 0x00, &AID))?.ok()?;
        Ok(piv)
    }

    /// Resets the card and selects the application again.
    pub fn reset(&mut self) -> Result<(), Fault> {
        self.transport.reset()?;
        self.run(&Command::new(0xa4, 0x04, 0x00, &AID))?.ok().map(drop)
    }

    pub(super) fn run(&mut self, command: &Command) -> Result<Response, Fault> {
        if !self.ends && self.transport.is_interrupted() {
            return Err(Fault::Interrupted);
        }
        exchange(&mut *self.transport, command)
    }

    /// Whether nobody else can use the card.
    pub fn is_alone(&self) -> bool {
        self.transport.is_alone()
    }

    /// Has the card carry out what others asked of it before this session had it. pcscd has let such a
    /// command in already, and it waits for the reader like those of this session do: so some that do no
    /// harm go first, with time in between for those that were let in and do not wait yet.
    pub fn let_others_finish(&mut self) -> Result<(), Fault> {
        for _ in 0..HARMLESS {
            std::thread::sleep(BETWEEN);
            self.run(&Command::new(0x20, 0, PIN, &[]))?;
        }
        Ok(())
    }

    /// The card may learn something that must not outlive the session.
    pub(super) fn reset_at_end(&mut self) {
        self.transport.reset_at_end();
    }

    /// The card's serial number (Yubico, firmware 5 and later); none where the card has no such
    /// command or answers 0.
    pub fn serial(&mut self) -> Result<Option<Serial>, Fault> {
        let answer = self.run(&Command::new(0xf8, 0, 0, &[]))?;
        let number = match (answer.status, <[u8; 4]>::try_from(&answer.data[..])) {
            (StatusWord::OK, Ok(bytes)) => u32::from_be_bytes(bytes),
            _ => 0,
        };
        Ok(Serial::new(number))
    }

    /// The GUID of the card's CHUID; none where it has no CHUID or an all-zero GUID.
    pub fn guid(&mut self) -> Result<Option<Guid>, Fault> {
        let Some(chuid) = self.object(&[0x5f, 0xc1, 0x02])? else {
            return Ok(None);
        };
        let guid = tlv::find(&chuid, 0x34)?.and_then(|guid| guid.try_into().ok());
        Ok(guid.and_then(Guid::new))
    }

    /// What the card is known by.
    pub fn name(&mut self) -> Result<CardName, Fault> {
        Ok(CardName { serial: self.serial()?, guid: self.guid()? })
    }

    /// The contents of a data object (tag 53); none where it is missing or empty. `tag` is the
    /// object's BER tag.
    pub(super) fn object(&mut self, tag: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, Fault> {
        let answer = self.run(&Command::new(0xcb, 0x3f, 0xff, &tlv::element(0x5c, tag)))?;
        match answer.status {
            StatusWord::OK => {
                let contents = tlv::require(&answer.data, 0x53, "a data object lacks tag 53")?;
                Ok((!contents.is_empty()).then(|| Zeroizing::new(contents.to_vec())))
            }
            StatusWord::NOT_FOUND | StatusWord::NO_REFERENCE_DATA => Ok(None),
            other => Err(Fault::Status(other)),
        }
    }

    /// At the end: resets the card, and tells whether it has forgotten that its PIN was verified.
    pub fn forgets_by_reset(&mut self) -> Result<bool, Fault> {
        self.ends = true;
        self.reset()?;
        Ok(self.pin_tries()? != PinTries::Verified)
    }

    /// Its reader ignores resets: at the end the power is taken from it, too.
    pub fn power_off_at_end(&mut self) {
        self.transport.power_off_at_end();
    }

    /// Takes the PIN back (SP 800-73-4, part 2, 3.2.1: VERIFY with P1 = FF); whether it was.
    pub fn take_pin_back(&mut self) -> Result<bool, Fault> {
        self.ends = true;
        self.run(&Command::new(0x20, 0xff, PIN, &[]))?;
        Ok(self.pin_tries()? != PinTries::Verified)
    }

    /// Asks how many tries the PIN has left; costs none.
    pub fn pin_tries(&mut self) -> Result<PinTries, Fault> {
        let status = self.run(&Command::new(0x20, 0, PIN, &[]))?.status;
        match (status, status.tries_left()) {
            // The status word has no room for more.
            (_, Some(15)) => Ok(PinTries::Left(self.pin_metadata_tries()?.unwrap_or(15))),
            (_, Some(left)) => Ok(PinTries::Left(left)),
            (StatusWord::BLOCKED, _) => Ok(PinTries::Left(0)),
            (StatusWord::OK, _) => Ok(PinTries::Verified),
            (other, _) => Err(Fault::Status(other)),
        }
    }

    /// The tries that the PIN has left, as its metadata tell them (Yubico); none where there are none.
    fn pin_metadata_tries(&mut self) -> Result<Option<u8>, Fault> {
        let answer = self.run(&Command::new(0xf7, 0, PIN, &[]))?;
        if answer.status != StatusWord::OK {
            return Ok(None);
        }
        // All tries, and those that are left.
        Ok(tlv::find(&answer.data, 0x06)?.and_then(|tries| tries.get(1).copied()))
    }

    /// Presents the PIN. A wrong one costs a try.
    pub fn verify_pin(&mut self, pin: &Pin) -> Result<Verdict, Fault> {
        self.reset_at_end();
        let command = Command::new(0x20, 0, PIN, &pin.0[..]).once();
        let status = self.run(&command)?.status;
        match (status, status.tries_left()) {
            (StatusWord::OK, _) => Ok(Verdict::Accepted),
            (_, Some(left)) => Ok(Verdict::Rejected(left)),
            (StatusWord::BLOCKED, _) => Ok(Verdict::Rejected(0)),
            (other, _) => Err(Fault::Status(other)),
        }
    }

    /// ECDH of the slot's key with `peer`: the x-coordinate, 32 bytes. Waits for a touch up to
    /// `wait` where the key's policy wants one.
    pub fn key_agreement(
        &mut self,
        slot: Slot,
        peer: &PublicKey,
        wait: Wait,
    ) -> Result<Zeroizing<[u8; 32]>, Fault> {
        let mut request = tlv::element(0x82, &[]);
        request.extend_from_slice(&tlv::element(0x85, peer.to_sec1_point(false).as_bytes()));
        let answer = self.authenticate_with(P256, slot, &request, wait)?.ok()?;
        let template = tlv::require(&answer, 0x7c, "a key agreement lacks tag 7C")?;
        let x = tlv::require(template, 0x82, "a key agreement lacks tag 82")?;
        // Straight into the buffer that is wiped: an array would be copied on the way.
        let mut shared = Zeroizing::new([0; 32]);
        if x.len() != shared.len() {
            return Err(Fault::Garbage("a key agreement is not 32 bytes"));
        }
        shared.copy_from_slice(x);
        Ok(shared)
    }

    /// GENERAL AUTHENTICATE with any algorithm: its raw answer.
    pub(super) fn authenticate_with(
        &mut self,
        algorithm: u8,
        slot: Slot,
        template: &[u8],
        wait: Wait,
    ) -> Result<Response, Fault> {
        let data = tlv::element(0x7c, template);
        let command = Command::new(0x87, algorithm, slot.reference(), &data);
        self.run(&Command { wait, ..command })
    }

    /// Generates a P-256 key in the slot, destroying the one in it, and returns its public key.
    /// Wants the management key authenticated.
    ///
    /// That policies can be told at all is an extension by Yubico. A card that shows it has that is told
    /// them always: where they are left out, some give the new key those of the old one. Another card is
    /// told them only where they differ from what the standard gives the slot.
    pub fn generate(
        &mut self,
        slot: Slot,
        pin: PinPolicy,
        touch: TouchPolicy,
    ) -> Result<PublicKey, Fault> {
        let mut control = vec![0x80, 1, P256];
        let is_standard = (pin, touch) == (slot.standard_pin_policy(), TouchPolicy::Never);
        if !is_standard || self.has_metadata(slot)? {
            control.extend([0xaa, 1, pin.wire(), 0xab, 1, touch.wire()]);
        }
        let data = tlv::element(0xac, &control);
        let command = Command::new(0x47, 0, slot.reference(), &data).once();
        let answer = self.run(&command)?.ok()?;
        let template = tlv::require(&answer, 0x7f49, "a generated key lacks tag 7F49")?;
        let point = tlv::require(template, 0x86, "a generated key lacks tag 86")?;
        public_key(point)
    }
}

/// A point that a card returned, uncompressed: on the curve and not the identity.
pub(super) fn public_key(point: &[u8]) -> Result<PublicKey, Fault> {
    PublicKey::from_sec1_bytes(point)
        .ok()
        .filter(|_| point.len() == 65)
        .ok_or(Fault::Garbage("a public key is not a point of P-256"))
}

impl PinPolicy {
    /// Yubico's number for the policy.
    fn wire(self) -> u8 {
        match self {
            Self::Never => 1,
            Self::Once => 2,
            Self::Always => 3,
        }
    }

    /// The policy that Yubico's number names, if it is one of ours.
    pub(super) fn from_wire(number: u8) -> Option<Self> {
        [Self::Never, Self::Once, Self::Always].into_iter().find(|policy| policy.wire() == number)
    }
}

impl TouchPolicy {
    /// Yubico's number for the policy.
    fn wire(self) -> u8 {
        match self {
            Self::Never => 1,
            Self::Always => 2,
            Self::Cached => 3,
        }
    }

    /// The policy that Yubico's number names, if it is one of ours.
    pub(super) fn from_wire(number: u8) -> Option<Self> {
        [Self::Never, Self::Always, Self::Cached].into_iter().find(|policy| policy.wire() == number)
    }
}
