//! The secret of a provider that a person remembers or keeps on paper: Argon2id v1.3 (RFC 9106), as
//! `docs/key-schedule.md` has it.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use zeroize::Zeroizing;

use super::{
    format::{self, Params as RawParams},
    seal::ProviderSecret,
};
use crate::error::{Class, Error, Result};

/// What a new provider costs whoever guesses: passes, KiB, lanes.
const COST: (u32, u32, u32) = (3, 262_144, 4);
/// What opening may cost at most. A profile that somebody else wrote could ask for anything, and the
/// integrity that covers its params is known only once it is open.
const MOST: (u32, u32, u32) = (64, 2 << 20, 64);

/// The params of an Argon2id v1.3 provider. Values below the floor of the format are raised to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argon2Params {
    /// The salt, 32 bytes.
    pub salt: [u8; 32],
    /// Passes, at least 2.
    pub time: u32,
    /// Memory in KiB, at least 19456.
    pub memory_kib: u32,
    /// Lanes, at least 1.
    pub threads: u32,
}

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
    /// does not allow; `internal` where there is not as much memory.
    #[inline(never)]
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
        let mut memory = blocks(params.block_count())?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut secret = Zeroizing::new([0; 32]);
        argon2
            .hash_password_into_with_memory(input, salt, &mut *secret, &mut **memory)
            .map_err(|error| fault(error.to_string()))?;
        Ok(ProviderSecret::new(&secret))
    }

    /// Reads the params of a provider's file.
    pub(super) fn parse(raw: &RawParams) -> std::result::Result<Self, String> {
        let number = |key: &str, default: u32, floor: u32| match raw.get(key) {
            None => Ok(default),
            Some(text) => format::decimal::<u32>(key, text).map(|value| value.max(floor)),
        };
        Ok(Self {
            salt: format::hex_param(raw, "salt")?,
            time: number("argon_time", 3, 2)?,
            memory_kib: number("argon_memory", 65536, 19456)?,
            threads: number("argon_threads", 4, 1)?,
        })
    }

    /// The params as they are written.
    pub(super) fn to_raw(&self) -> RawParams {
        RawParams::from([
            ("salt".into(), format::hex(&self.salt)),
            ("argon_time".into(), self.time.to_string()),
            ("argon_memory".into(), self.memory_kib.to_string()),
            ("argon_threads".into(), self.threads.to_string()),
        ])
    }
}

/// Memory to work in, of this many KiB. It is wiped when it is dropped.
fn blocks(count: usize) -> Result<Zeroizing<Vec<Block>>> {
    let mut blocks = Zeroizing::new(Vec::new());
    if blocks.try_reserve_exact(count).is_err() {
        return Err(Error::new(
            Class::Internal,
            "stretching a passphrase or recovery code",
            format!("there is no memory for it: it takes {} MiB", count.div_ceil(1024)),
            "Stop what else takes memory, or give the machine more, or the unit (its MemoryMax=), and \
             try again.",
        ));
    }
    blocks.resize(count, Block::new());
    Ok(blocks)
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
