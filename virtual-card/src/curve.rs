//! Private-key operations on P-256 and P-384.

use p256::ecdsa::signature::hazmat::PrehashSigner;

use crate::state::{Curve, Hex, Origin, PinPolicy, Slot, TouchPolicy};

impl Curve {
    /// The algorithm number of SP 800-78-4.
    pub fn number(self) -> u8 {
        match self {
            Self::P256 => 0x11,
            Self::P384 => 0x14,
        }
    }

    /// The curve of an algorithm number.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::P256, Self::P384].into_iter().find(|c| c.number() == number)
    }

    /// Bytes of a scalar or a coordinate.
    pub fn field_len(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }

    /// The public key of a scalar; `None` if the scalar is out of range.
    pub fn public_key(self, scalar: &[u8]) -> Option<Vec<u8>> {
        Some(match self {
            Self::P256 => point_p256(scalar)?,
            Self::P384 => {
                p384::SecretKey::from_slice(scalar).ok()?.public_key().to_sec1_bytes().into_vec()
            }
        })
    }

    /// The x-coordinate of scalar times point; `None` if the point is not on the curve.
    pub fn agree(self, scalar: &[u8], point: &[u8]) -> Option<Vec<u8>> {
        if point.len() != 2 * self.field_len() + 1 || point[0] != 4 {
            return None;
        }
        Some(match self {
            Self::P256 => {
                let secret = p256::SecretKey::from_slice(scalar).ok()?;
                let point = p256::PublicKey::from_sec1_bytes(point).ok()?;
                let shared =
                    p256::ecdh::diffie_hellman(secret.to_nonzero_scalar(), point.as_affine());
                shared.raw_secret_bytes().to_vec()
            }
            Self::P384 => {
                let secret = p384::SecretKey::from_slice(scalar).ok()?;
                let point = p384::PublicKey::from_sec1_bytes(point).ok()?;
                let shared =
                    p384::ecdh::diffie_hellman(secret.to_nonzero_scalar(), point.as_affine());
                shared.raw_secret_bytes().to_vec()
            }
        })
    }

    /// An ECDSA signature of a digest, as DER. A short digest is a number with leading zeros.
    pub fn sign(self, scalar: &[u8], digest: &[u8]) -> Option<Vec<u8>> {
        let missing = self.field_len().checked_sub(digest.len())?;
        let digest = [&vec![0; missing], digest].concat();
        Some(match self {
            Self::P256 => {
                let key = p256::ecdsa::SigningKey::from_slice(scalar).ok()?;
                let signature: p256::ecdsa::DerSignature = key.sign_prehash(&digest).ok()?;
                signature.as_bytes().to_vec()
            }
            Self::P384 => {
                let key = p384::ecdsa::SigningKey::from_slice(scalar).ok()?;
                let signature: p384::ecdsa::DerSignature = key.sign_prehash(&digest).ok()?;
                signature.as_bytes().to_vec()
            }
        })
    }
}

fn point_p256(scalar: &[u8]) -> Option<Vec<u8>> {
    Some(p256::SecretKey::from_slice(scalar).ok()?.public_key().to_sec1_bytes().into_vec())
}

impl Slot {
    /// A new random key.
    pub fn generate(algorithm: Curve, pin: PinPolicy, touch: TouchPolicy) -> Self {
        loop {
            let mut scalar = vec![0; algorithm.field_len()];
            crate::random(&mut scalar);
            if let Some(slot) = Self::from_scalar(algorithm, scalar, pin, touch, Origin::Generated)
            {
                return slot;
            }
        }
    }

    /// A key that was made elsewhere; `None` if it is not a scalar of the curve.
    pub fn import(
        algorithm: Curve,
        scalar: &[u8],
        pin: PinPolicy,
        touch: TouchPolicy,
    ) -> Option<Self> {
        let missing = algorithm.field_len().checked_sub(scalar.len())?;
        let scalar = [&vec![0; missing], scalar].concat();
        Self::from_scalar(algorithm, scalar, pin, touch, Origin::Imported)
    }

    fn from_scalar(
        algorithm: Curve,
        scalar: Vec<u8>,
        pin_policy: PinPolicy,
        touch_policy: TouchPolicy,
        origin: Origin,
    ) -> Option<Self> {
        let public_key = Hex(algorithm.public_key(&scalar)?);
        let private_key = Hex(scalar);
        Some(Self { algorithm, private_key, public_key, pin_policy, touch_policy, origin })
    }
}
