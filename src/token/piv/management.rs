//! The management key (9B): finding out its kind, and mutual authentication with it (SP 800-73-4,
//! part 2, 3.2.4 and appendix A.1).

use aes::cipher::{Block, BlockCipherDecrypt, BlockCipherEncrypt, BlockSizeUser, KeyInit};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{Fault, StatusWord, apdu::Command, application::Piv, tlv};

/// The key reference of the management key.
const REFERENCE: u8 = 0x9b;
/// The key that makers ship: the same for 3DES and AES-192.
const FACTORY: [u8; 24] = [1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8];

/// The cipher of a management key, by its algorithm reference (SP 800-78-4, table 6-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Cipher {
    /// Three-key triple DES, 24 bytes.
    TripleDes = 0x03,
    /// AES-128, 16 bytes.
    Aes128 = 0x08,
    /// AES-192, 24 bytes.
    Aes192 = 0x0a,
    /// AES-256, 32 bytes.
    Aes256 = 0x0c,
}

/// What a card with metadata says of its management key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManagementMetadata {
    /// Its cipher.
    pub cipher: Cipher,
    /// Whether it is still the one that the maker shipped.
    pub factory_default: bool,
}

/// A management key: 16, 24 or 32 bytes.
pub struct ManagementKey(Zeroizing<Vec<u8>>);

impl ManagementKey {
    /// A key of 16, 24 or 32 bytes; none of any other length.
    #[must_use]
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Option<Self> {
        matches!(bytes.len(), 16 | 24 | 32).then_some(Self(bytes))
    }

    /// The key that makers ship.
    #[must_use]
    pub fn factory_default() -> Self {
        Self(Zeroizing::new(FACTORY.to_vec()))
    }

    /// The cipher where the card does not tell: 24 bytes are 3DES, as the standard began.
    fn likely_cipher(&self) -> Cipher {
        match self.0.len() {
            16 => Cipher::Aes128,
            32 => Cipher::Aes256,
            _ => Cipher::TripleDes,
        }
    }
}

impl Cipher {
    fn from_reference(reference: u8) -> Option<Self> {
        [Self::TripleDes, Self::Aes128, Self::Aes192, Self::Aes256]
            .into_iter()
            .find(|cipher| *cipher as u8 == reference)
    }

    /// Length of a key in bytes.
    fn key_length(self) -> usize {
        match self {
            Self::Aes128 => 16,
            Self::TripleDes | Self::Aes192 => 24,
            Self::Aes256 => 32,
        }
    }

    /// Block length in bytes.
    fn block(self) -> usize {
        if self == Self::TripleDes { 8 } else { 16 }
    }

    /// Encrypts (or decrypts) one block in place.
    fn apply(self, key: &ManagementKey, block: &mut [u8], encrypt: bool) -> Result<(), Fault> {
        match self {
            Self::TripleDes => one_block::<des::TdesEde3>(key, block, encrypt),
            Self::Aes128 => one_block::<aes::Aes128>(key, block, encrypt),
            Self::Aes192 => one_block::<aes::Aes192>(key, block, encrypt),
            Self::Aes256 => one_block::<aes::Aes256>(key, block, encrypt),
        }
    }
}

fn one_block<C>(key: &ManagementKey, block: &mut [u8], encrypt: bool) -> Result<(), Fault>
where
    C: KeyInit + BlockCipherEncrypt + BlockCipherDecrypt + BlockSizeUser,
{
    const LENGTH: Fault = Fault::Garbage("the management key's length does not fit its cipher");
    let cipher = C::new_from_slice(&key.0).map_err(|_| LENGTH)?;
    let block: &mut Block<C> = block.try_into().map_err(|_| LENGTH)?;
    if encrypt {
        cipher.encrypt_block(block);
    } else {
        cipher.decrypt_block(block);
    }
    Ok(())
}

impl Piv {
    /// What the card says of its management key (Yubico); none where it has no such command, or
    /// answers with nothing.
    pub fn management_metadata(&mut self) -> Result<Option<ManagementMetadata>, Fault> {
        let answer = self.run(&Command::new(0xf7, 0, REFERENCE, &[]))?;
        let Ok(data) = answer.ok() else {
            return Ok(None);
        };
        let cipher = match tlv::find(&data, 0x01)? {
            Some(&[reference]) => Cipher::from_reference(reference),
            _ => None,
        };
        let factory_default = matches!(tlv::find(&data, 0x05)?, Some([1]));
        Ok(cipher.map(|cipher| ManagementMetadata { cipher, factory_default }))
    }

    /// The management key that the card keeps behind its PIN, if it does (as `ykman piv access
    /// change-management-key --protect` makes it). The PIN comes first.
    pub fn protected_management_key(&mut self) -> Result<Option<ManagementKey>, Fault> {
        const PRINTED: [u8; 3] = [0x5f, 0xc1, 0x09];
        let Some(printed) = self.object(&PRINTED)? else {
            return Ok(None);
        };
        let Some(protected) = tlv::find(&printed, 0x88)? else {
            return Ok(None);
        };
        let key = tlv::find(protected, 0x89)?.map(|key| Zeroizing::new(key.to_vec()));
        Ok(key.and_then(ManagementKey::new))
    }

    /// Authenticates with the management key, mutually: the card proves that it holds the key too.
    /// Returns whether the card accepted it.
    pub fn authenticate(&mut self, key: &ManagementKey) -> Result<bool, Fault> {
        let cipher = match self.management_metadata()? {
            Some(metadata) => metadata.cipher,
            None => key.likely_cipher(),
        };
        if key.0.len() != cipher.key_length() {
            return Ok(false);
        }
        self.reset_at_end();
        let answer = self.run(&Command::new(0x87, cipher as u8, REFERENCE, &[0x7c, 2, 0x80, 0]))?;
        // Of a card that does not tell its cipher, the key's length was a guess.
        if answer.status == StatusWord::WRONG_PARAMETERS {
            return Ok(false);
        }
        let answer = answer.ok()?;
        let template = tlv::require(&answer, 0x7c, "a witness lacks tag 7C")?;
        let witness = tlv::require(template, 0x80, "a witness lacks tag 80")?;
        let mut witness = Zeroizing::new(witness.to_vec());
        cipher.apply(key, &mut witness, false)?;

        let mut challenge = vec![0; cipher.block()];
        getrandom::fill(&mut challenge).map_err(|_| Fault::Garbage("no randomness"))?;
        let mut template = tlv::element(0x80, &witness);
        template.extend_from_slice(&tlv::element(0x81, &challenge));
        let data = tlv::element(0x7c, &template);
        let answer = self.run(&Command::new(0x87, cipher as u8, REFERENCE, &data))?;
        // 6982 and 6A80 are both in use for "wrong key".
        let Ok(answer) = answer.ok() else {
            return Ok(false);
        };
        let template = tlv::require(&answer, 0x7c, "a proof lacks tag 7C")?;
        let proof = tlv::require(template, 0x82, "a proof lacks tag 82")?;
        cipher.apply(key, &mut challenge, true)?;
        Ok(challenge.ct_eq(proof).into())
    }
}
