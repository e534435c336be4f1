//! Command APDUs and status words (ISO/IEC 7816-4, as SP 800-73-4 uses them).

/// A status word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sw(pub u16);

impl Sw {
    /// Done.
    pub const OK: Self = Self(0x9000);
    /// The command's length is wrong, or extended where only short is spoken.
    pub const WRONG_LENGTH: Self = Self(0x6700);
    /// PIN, management key or touch is missing.
    pub const SECURITY_STATUS: Self = Self(0x6982);
    /// No tries are left.
    pub const BLOCKED: Self = Self(0x6983);
    /// Not now, not in this state.
    pub const CONDITIONS: Self = Self(0x6985);
    /// The data field is wrong.
    pub const WRONG_DATA: Self = Self(0x6A80);
    /// No such function.
    pub const NOT_SUPPORTED: Self = Self(0x6A81);
    /// No such object or application.
    pub const NOT_FOUND: Self = Self(0x6A82);
    /// The object does not fit.
    pub const NO_SPACE: Self = Self(0x6A84);
    /// P1 or P2 is wrong.
    pub const WRONG_P1P2: Self = Self(0x6A86);
    /// No such key.
    pub const NO_REFERENCE: Self = Self(0x6A88);
    /// Unknown instruction.
    pub const UNKNOWN_INS: Self = Self(0x6D00);
    /// Unknown class.
    pub const UNKNOWN_CLA: Self = Self(0x6E00);
    /// The card itself failed (its state could not be written).
    pub const FAILURE: Self = Self(0x6F00);

    /// `63Cx`: wrong, and this many tries are left.
    pub fn tries(left: u8) -> Self {
        Self(0x63C0 | u16::from(left.min(15)))
    }

    /// The status word as it goes over the wire.
    pub fn bytes(self) -> [u8; 2] {
        self.0.to_be_bytes()
    }
}

/// A parsed command APDU, or a whole chain of them put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Class, without the chaining bit once a chain is complete.
    pub cla: u8,
    /// Instruction.
    pub ins: u8,
    /// First parameter.
    pub p1: u8,
    /// Second parameter.
    pub p2: u8,
    /// Command data.
    pub data: Vec<u8>,
    /// The longest answer that the reader asked for, if it said so.
    pub le: Option<usize>,
    /// Whether it came in the extended format.
    pub extended: bool,
}

impl Command {
    /// The bit of CLA that says "more of this command follows".
    pub const CHAINING: u8 = 0x10;

    /// Parses the four short and the three extended cases.
    pub fn parse(bytes: &[u8]) -> Result<Self, Sw> {
        let &[cla, ins, p1, p2, ref body @ ..] = bytes else {
            return Err(Sw::WRONG_LENGTH);
        };
        let extended = body.len() >= 3 && body[0] == 0;
        let (data, le) = if extended { extended_body(&body[1..])? } else { short_body(body)? };
        let data = data.to_vec();
        Ok(Self { cla, ins, p1, p2, data, le, extended })
    }

    /// Whether more parts of this command follow.
    pub fn is_chained(&self) -> bool {
        self.cla & Self::CHAINING != 0
    }

    /// P1 and P2 as one number.
    pub fn p1p2(&self) -> u16 {
        u16::from_be_bytes([self.p1, self.p2])
    }
}

fn short_body(body: &[u8]) -> Result<(&[u8], Option<usize>), Sw> {
    let short_le = |le: u8| if le == 0 { 256 } else { usize::from(le) };
    match body {
        [] => Ok((&[], None)),
        [le] => Ok((&[], Some(short_le(*le)))),
        [lc, rest @ ..] => {
            let lc = usize::from(*lc);
            match rest.split_at_checked(lc) {
                Some((data, [])) => Ok((data, None)),
                Some((data, [le])) => Ok((data, Some(short_le(*le)))),
                _ => Err(Sw::WRONG_LENGTH),
            }
        }
    }
}

fn extended_body(body: &[u8]) -> Result<(&[u8], Option<usize>), Sw> {
    let number = |high: u8, low: u8| usize::from(u16::from_be_bytes([high, low]));
    let extended_le = |high, low| match number(high, low) {
        0 => 65536,
        le => le,
    };
    match body {
        [high, low] => Ok((&[], Some(extended_le(*high, *low)))),
        [high, low, rest @ ..] => match rest.split_at_checked(number(*high, *low)) {
            Some((data, [])) => Ok((data, None)),
            Some((data, [high, low])) => Ok((data, Some(extended_le(*high, *low)))),
            _ => Err(Sw::WRONG_LENGTH),
        },
        _ => Err(Sw::WRONG_LENGTH),
    }
}
