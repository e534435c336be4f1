//! The secret of a provider that a person remembers or keeps on paper: Argon2id v1.3 (RFC 9106), as
//! `docs/key-schedule.md` has it.

use argon2::{Algorithm, Argon2, Params, Version};

use zeroize::Zeroizing;

use super::{Argon2Params, seal::ProviderSecret};
use crate::error::{Class, Error, Result};

/// What a new provider costs whoever guesses: passes, KiB, lanes.
const COST: (u32, u32, u32) = (3, 262_144, 4);
/// What opening may cost at most. A profile that somebody else wrote could ask for anything, and the
/// integrity that covers its params is known only once it is open.
const MOST: (u32, u32, u32) = (64, 2 << 20, 64);

impl Argon2Params {
    /// Those of a new provider: a random salt, 3 passes over 256 MiB, 4 lanes.
    ///
    /// # Errors
    /// The operating system gives no random bytes.
    pub fn random() -> Result<Self> {
        let (time, memory_kib, threads) = COST;
        let mut salt = [0; 32];
        super::random(&mut salt)?;
        Ok(Self { salt, time, memory_kib, threads })
    }

    /// The provider's secret, from what the person gave. Takes as much memory as the params say, and
    /// about a second with those of [`Self::random`].
    ///
    /// # Errors
    /// `profile` where the params ask for more than 64 passes, 2 GiB or 64 lanes, or for what Argon2
    /// does not allow.
    pub fn secret(&self, input: &[u8]) -> Result<ProviderSecret> {
        let fault = |found: String| {
            let advice = "Restore the profile from a backup: this program writes no such provider.";
            Error::new(Class::Profile, "stretching a passphrase or recovery code", found, advice)
        };
        let Self { salt, time, memory_kib, threads } = self;
        if *time > MOST.0 || *memory_kib > MOST.1 || *threads > MOST.2 {
            return Err(fault(format!(
                "the provider wants {time} passes over {memory_kib} KiB in {threads} lanes; allowed are \
                 {}, {} and {}",
                MOST.0, MOST.1, MOST.2
            )));
        }
        let params = Params::new(*memory_kib, *time, *threads, Some(32));
        let params = params.map_err(|error| fault(error.to_string()))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut secret = Zeroizing::new([0; 32]);
        argon2
            .hash_password_into(input, salt, &mut *secret)
            .map_err(|error| fault(error.to_string()))?;
        Ok(ProviderSecret::new(&secret))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // That the function is the right one, the vectors of cryptkey's profiles show (tests/vectors.rs).

    #[test]
    fn hostile_params_are_refused() {
        let params =
            |time, memory_kib, threads| Argon2Params { salt: [7; 32], time, memory_kib, threads };
        for bad in
            [params(65, 19456, 1), params(2, u32::MAX, 1), params(2, 19456, 65), params(2, 100, 64)]
        {
            assert_eq!(bad.secret(b"123456").unwrap_err().class, Class::Profile);
        }
        let (one, two) = (params(2, 19456, 1), params(3, 19456, 1));
        let secret = |params: &Argon2Params, text: &[u8]| *params.secret(text).unwrap().as_bytes();
        assert_ne!(secret(&one, b"123456"), secret(&two, b"123456"));
        assert_ne!(secret(&one, b"123456"), secret(&one, b"123457"));
        assert_ne!(Argon2Params::random().unwrap().salt, Argon2Params::random().unwrap().salt);
    }
}
