//! The management key: authentication (SP 800-73-4 part 2, 3.2.4) and Yubico's SET MANAGEMENT KEY.

use aes::cipher::{Block, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};

use crate::apdu::{Command, Sw};
use crate::card::{Answer, Card};
use crate::state::{Cipher, Hex, ManagementKey};
use crate::tlv;

const TEMPLATE: u32 = 0x7C;
const WITNESS: u32 = 0x80;
const CHALLENGE: u32 = 0x81;
const RESPONSE: u32 = 0x82;

/// What the card asked and waits to hear the answer of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// It sent this block and wants it encrypted: only the host proves itself.
    External(Vec<u8>),
    /// It sent this block encrypted and wants it in the clear: both prove themselves.
    Mutual(Vec<u8>),
}

impl Cipher {
    /// The algorithm number of SP 800-78-4.
    pub fn number(self) -> u8 {
        match self {
            Self::TripleDes => 0x03,
            Self::Aes128 => 0x08,
            Self::Aes192 => 0x0A,
            Self::Aes256 => 0x0C,
        }
    }

    /// The cipher of an algorithm number.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::TripleDes, Self::Aes128, Self::Aes192, Self::Aes256]
            .into_iter()
            .find(|c| c.number() == number)
    }

    /// Bytes of a key.
    pub fn key_len(self) -> usize {
        match self {
            Self::Aes128 => 16,
            Self::TripleDes | Self::Aes192 => 24,
            Self::Aes256 => 32,
        }
    }

    fn block_len(self) -> usize {
        if self == Self::TripleDes { 8 } else { 16 }
    }

    /// Encrypts one block; `None` if key or block have the wrong length.
    pub(crate) fn encrypt(self, key: &[u8], block: &[u8]) -> Option<Vec<u8>> {
        self.one_block(key, block, true)
    }

    /// Decrypts one block; `None` if key or block have the wrong length.
    pub(crate) fn decrypt(self, key: &[u8], block: &[u8]) -> Option<Vec<u8>> {
        self.one_block(key, block, false)
    }

    fn one_block(self, key: &[u8], block: &[u8], encrypt: bool) -> Option<Vec<u8>> {
        fn run<C>(key: &[u8], block: &[u8], encrypt: bool) -> Option<Vec<u8>>
        where
            C: BlockCipherEncrypt + BlockCipherDecrypt + KeyInit,
        {
            let mut block = Block::<C>::try_from(block).ok()?;
            let cipher = C::new_from_slice(key).ok()?;
            if encrypt {
                cipher.encrypt_block(&mut block);
            } else {
                cipher.decrypt_block(&mut block);
            }
            Some(block.to_vec())
        }
        match self {
            Self::TripleDes => run::<des::TdesEde3>(key, block, encrypt),
            Self::Aes128 => run::<aes::Aes128>(key, block, encrypt),
            Self::Aes192 => run::<aes::Aes192>(key, block, encrypt),
            Self::Aes256 => run::<aes::Aes256>(key, block, encrypt),
        }
    }
}

impl ManagementKey {
    fn encrypt(&self, block: &[u8]) -> Result<Vec<u8>, Sw> {
        self.algorithm.encrypt(&self.key.0, block).ok_or(Sw::WRONG_DATA)
    }

    fn random_block(&self) -> Vec<u8> {
        let mut block = vec![0; self.algorithm.block_len()];
        crate::random(&mut block);
        block
    }
}

impl Card {
    /// GENERAL AUTHENTICATE with 9B. P1 must name the cipher that the key has; 00 is 3DES.
    pub(crate) fn authenticate_management(&mut self, command: &Command) -> Answer {
        let challenge = self.session.challenge.take();
        let number = if command.p1 == 0 { 3 } else { command.p1 };
        if number != self.state.management_key.algorithm.number() {
            return Err(Sw::WRONG_DATA.into());
        }
        let template = tlv::elements(tlv::only(&command.data, TEMPLATE)?)?;
        let find = |tag| tlv::find(&template, tag);
        let key = &self.state.management_key;
        match (find(WITNESS), find(CHALLENGE), find(RESPONSE)) {
            (Some([]), None, None) => {
                let witness = key.random_block();
                let encrypted = key.encrypt(&witness)?;
                self.session.challenge = Some(Challenge::Mutual(witness));
                Ok(tlv::encode(TEMPLATE, &tlv::encode(WITNESS, &encrypted)))
            }
            (None, Some([]), None) => {
                let block = key.random_block();
                let answer = tlv::encode(TEMPLATE, &tlv::encode(CHALLENGE, &block));
                self.session.challenge = Some(Challenge::External(block));
                Ok(answer)
            }
            (Some(witness), Some(block), _) => {
                let answer = key.encrypt(block)?;
                self.check(challenge == Some(Challenge::Mutual(witness.to_vec())))?;
                Ok(tlv::encode(TEMPLATE, &tlv::encode(RESPONSE, &answer)))
            }
            (None, None, Some(response)) => {
                let block = key.algorithm.decrypt(&key.key.0, response).ok_or(Sw::WRONG_DATA)?;
                self.check(challenge == Some(Challenge::External(block)))?;
                Ok(Vec::new())
            }
            _ => Err(Sw::WRONG_DATA.into()),
        }
    }

    fn check(&mut self, right: bool) -> Result<(), Sw> {
        self.session.managed = right;
        if right { Ok(()) } else { Err(Sw::SECURITY_STATUS) }
    }

    /// Fails unless the management key was proven.
    pub(crate) fn require_management(&self) -> Result<(), Sw> {
        if self.session.managed { Ok(()) } else { Err(Sw::SECURITY_STATUS) }
    }

    /// FF: P2 is FE to demand a touch, which this card does not. Data: cipher, 9B, length, key.
    pub(crate) fn set_management_key(&mut self, command: &Command) -> Answer {
        self.require_management()?;
        if command.p1 != 0xFF || !matches!(command.p2, 0xFE | 0xFF) {
            return Err(Sw::WRONG_P1P2.into());
        }
        let (number, key) = command.data.split_first().ok_or(Sw::WRONG_DATA)?;
        let algorithm = Cipher::from_number(*number).ok_or(Sw::WRONG_DATA)?;
        let key = tlv::only(key, 0x9B)?;
        if key.len() != algorithm.key_len() {
            return Err(Sw::WRONG_DATA.into());
        }
        let default = key == ManagementKey::factory(algorithm).key.0;
        self.state.management_key = ManagementKey { algorithm, key: Hex(key.to_vec()), default };
        self.save()?;
        Ok(Vec::new())
    }
}
