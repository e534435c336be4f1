//! Who vouches for a card's attestation key: roots that are trusted, and certificates on the way.
//!
//! Dates are ignored: there is no clock at boot. So a root is trusted until it is taken out of its
//! file.

use base64ct::{Base64, Encoding};

use super::{
    certificate::{Certificate, plain},
    signature,
};
use crate::token::Fingerprint;

/// The most issuers of a chain, the card's attestation key and the root among them. Yubico's have
/// up to four.
const MOST_ISSUERS: usize = 8;

/// The certificates of the makers: roots, and what is between them and the cards.
#[derive(Clone, Debug, Default)]
pub struct Roots {
    /// The self-signed ones: they are trusted.
    anchors: Vec<Certificate>,
    /// The others are trusted only where an anchor vouches for them.
    others: Vec<Certificate>,
}

impl Roots {
    /// Adds the certificates of a PEM file (RFC 7468); other text in it is skipped.
    ///
    /// # Errors
    /// Where there is none, or one is malformed, or claims to be self-signed and is not.
    pub fn add(&mut self, pem: &str) -> Result<(), String> {
        let mut count = 0;
        for block in pem.split("-----BEGIN CERTIFICATE-----").skip(1) {
            count += 1;
            let at = |why: String| format!("certificate {count}: {why}");
            let certificate = block
                .split_once("-----END CERTIFICATE-----")
                .map(|(text, _)| text.split_ascii_whitespace().collect::<String>())
                .and_then(|digits| Base64::decode_vec(&digits).ok())
                .ok_or_else(|| at("it is no PEM".into()))
                .and_then(|der| Certificate::parse(&der).map_err(at))?;
            if certificate.subject() == certificate.issuer() {
                signature::check(&certificate, &certificate).map_err(at)?;
                self.anchors.push(certificate);
            } else {
                self.others.push(certificate);
            }
        }
        if count == 0 { Err("it has no certificate".into()) } else { Ok(()) }
    }

    /// Whether no root is among the certificates, so that nothing is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    /// The fingerprint of the key of the root that vouches for the card's attestation key.
    ///
    /// # Errors
    /// Why none does.
    pub(super) fn vouch(&self, authority: &Certificate) -> Result<Fingerprint, String> {
        self.climb(&mut vec![authority])?.fingerprint()
    }

    /// The anchor of the chain that goes up through these issuers, the last one being the highest so
    /// far, whose signature for the one before it was checked.
    fn climb<'a>(&'a self, chain: &mut Vec<&'a Certificate>) -> Result<&'a Certificate, String> {
        let below = chain.len() - 1;
        let Some(&top) = chain.last() else { return Err("there is no chain".into()) };
        let about = |why: String| format!("{}: {why}", top.name());
        top.check_critical().map_err(about)?;
        top.check_issuer(below).map_err(about)?;
        if let Some(anchor) = self.anchors.iter().find(|anchor| anchor.is(top)) {
            return Ok(anchor);
        }
        if chain.len() == MOST_ISSUERS {
            return Err(about("the chain is longer than any that is trusted".into()));
        }
        let mut why = about(format!("its issuer, {}, is not among the roots", plain(top.issuer())));
        for issuer in self.anchors.iter().chain(&self.others) {
            let is_new = !chain.iter().any(|other| other.is(issuer));
            if issuer.subject() != top.issuer() || !is_new {
                continue;
            }
            if let Err(wrong) = signature::check(top, issuer) {
                why = about(wrong);
                continue;
            }
            chain.push(issuer);
            match self.climb(chain) {
                Ok(anchor) => return Ok(anchor),
                Err(wrong) => why = wrong,
            }
            chain.pop();
        }
        Err(why)
    }
}
