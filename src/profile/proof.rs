//! The proof at enrollment: that the card's answer and its public key belong together.
//!
//! A card that answers with anything but d·P for the d of its public key Q would seal a share that
//! no run opens again. Nobody knows the discrete logarithm of P, so the answer X can't be computed
//! a second time here. But the card can be asked once more, for r·P + e·G with an r and an e that it
//! doesn't know: d·(r·P + e·G) = r·d·P + e·Q, and the right side can be computed from X and Q.
//!
//! Why r: to P + e·G, a card that knows d could answer T + d·((P + e·G) − P) for any T that it gave
//! as X. With r, the point leaves every r as likely as any other, and an X that isn't d·P asks for
//! an answer that r decides.
//!
//! X has to be there before the card sees the second point. So a proof begins with X, and gives it
//! back only when it holds.

use p256::{
    AffinePoint, NonZeroScalar, ProjectivePoint, PublicKey,
    elliptic_curve::{
        Generate as _,
        point::{AffineCoordinates as _, DecompressPoint as _},
    },
};
use subtle::{Choice, ConstantTimeEq as _};
use zeroize::Zeroizing;

use super::piv::SharedX;
use crate::error;

/// A proof under way: the card's answer X, not yet to be used, the scalars r and e (secret until
/// the card has answered again) and the point to ask for.
pub struct Proof {
    x_of_peer: SharedX,
    r: Zeroizing<NonZeroScalar>,
    e: Zeroizing<NonZeroScalar>,
    challenge: PublicKey,
}

impl Proof {
    /// Begins a proof that `x_of_peer` is the card's answer to the peer point P: draws r and e.
    ///
    /// # Errors
    /// The operating system gives no random bytes.
    pub fn new(peer: &PublicKey, x_of_peer: SharedX) -> error::Result<Self> {
        loop {
            let r = Zeroizing::new(NonZeroScalar::try_generate().map_err(super::no_random)?);
            let e = Zeroizing::new(NonZeroScalar::try_generate().map_err(super::no_random)?);
            let point = peer.to_projective() * **r + ProjectivePoint::GENERATOR * **e;
            // The identity is no point that a card can be asked for: draw again (one in 2^256).
            if let Ok(challenge) = PublicKey::from_affine(point.to_affine()) {
                return Ok(Self { x_of_peer, r, e, challenge });
            }
        }
    }

    /// r·P + e·G, the point that the card is asked for.
    #[must_use]
    pub fn challenge(&self) -> &PublicKey {
        &self.challenge
    }

    /// Ends the proof: gives X back if `answer`, the card's to [`Self::challenge`], proves that X is
    /// its answer to P and `key` its public key. That is, if `answer` is the x-coordinate of
    /// ±r·X̂ + e·Q, where ±X̂ are the two points at X. Takes the same time whatever the answer is.
    #[must_use]
    #[inline(never)]
    pub fn accept(self, answer: &SharedX, key: &PublicKey) -> Option<SharedX> {
        let x = (*self.x_of_peer.as_bytes()).into();
        let lifted = AffinePoint::decompress(&x, Choice::from(0));
        let on_curve = lifted.is_some();
        // Where no point has this x, go on with some point, and refuse at the end.
        let lifted = ProjectivePoint::from(lifted.unwrap_or(AffinePoint::GENERATOR)) * **self.r;
        let shift = key.to_projective() * **self.e;
        let accepted = has_x(&(shift + lifted), answer) | has_x(&(shift - lifted), answer);
        bool::from(on_curve & accepted).then_some(self.x_of_peer)
    }
}

/// Whether the point is not the identity and has this x-coordinate.
fn has_x(point: &ProjectivePoint, x: &SharedX) -> Choice {
    let identity = point.ct_eq(&ProjectivePoint::IDENTITY);
    !identity & point.to_affine().x().as_slice().ct_eq(x.as_bytes())
}
