//! Asking a card what it attests, and reading who vouches for it.

use std::path::Path;

use super::{Attempt, Work};
use crate::{
    error::{Class, Error, Result},
    spec::AttestationPolicy,
    system::config_file,
    token::Roots,
};

/// The makers' files are of some 20 KB.
const LONGEST_FILE: usize = 1 << 20;

impl Work<'_> {
    /// The makers' certificates. They are read before a card is looked for, too, so that a fault in
    /// them costs nothing.
    pub(super) fn roots(&self) -> Result<Roots> {
        let mut roots = Roots::default();
        if self.key.attestation.policy == AttestationPolicy::Off {
            return Ok(roots);
        }
        let wrong = |file: &Path, found: String| {
            Error::new(
                Class::Spec,
                format!("key {}: reading attestation roots {}", self.name, file.display()),
                found,
                format!(
                    "Correct the file, or security.cryptkey.keys.{}.attestation.roots. Yubico's roots \
                     are at https://developers.yubico.com/PKI/.",
                    self.name
                ),
            )
        };
        for file in &self.key.attestation.roots {
            let bytes = config_file::read(file, LONGEST_FILE)
                .map_err(|error| wrong(file, error.to_string()))?;
            // PEM has no other bytes than UTF-8, and other text is skipped.
            roots.add(&String::from_utf8_lossy(&bytes)).map_err(|why| wrong(file, why))?;
        }
        if let (true, Some(file)) = (roots.is_empty(), self.key.attestation.roots.first()) {
            let found = "none of its certificates, nor those of the other files, is self-signed";
            return Err(wrong(file, found.into()));
        }
        Ok(roots)
    }

    /// Asks what the card attests of the slot, and who vouches for it.
    pub(super) fn attest(&mut self) -> Attempt {
        let roots = self.roots()?;
        self.with_card("asking for its attestation", |session| session.attest(&roots))?;
        let name = self.name;
        if let Some(told) = &self.session()?.facts.attestation {
            tracing::debug!("key {name}: attestation: {told}");
        }
        Ok(())
    }
}
