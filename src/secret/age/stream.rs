//! The payload: chunks of 64 KiB, each under the file's payload key, with a counter and a mark of the last
//! one for a nonce, so that none can be changed, moved, cut off or added.

use chacha20poly1305::{AeadInOut as _, ChaCha20Poly1305, Error, KeyInit as _, Tag};
use zeroize::Zeroizing;

use super::{FILE_KEY, Fault};
use crate::kdf;

/// The bytes of a full chunk, before it is encrypted.
const CHUNK: usize = 64 << 10;
const TAG: usize = 16;
/// The bytes at the beginning that make the payload key another one for each file.
pub(super) const NONCE: usize = 16;

/// What the payload holds.
pub(super) fn opened(payload: &[u8], key: &[u8; FILE_KEY]) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let (nonce, sealed) = payload.split_first_chunk::<NONCE>().ok_or(Fault::Header)?;
    let cipher = ChaCha20Poly1305::new((&*kdf::age_payload_key(key, nonce)).into());
    let mut chunks = sealed.chunks(CHUNK + TAG).enumerate().peekable();
    let mut plain = Zeroizing::new(Vec::with_capacity(sealed.len()));
    while let Some((counter, chunk)) = chunks.next() {
        let is_last = chunks.peek().is_none();
        let (body, tag) = chunk.split_last_chunk::<TAG>().ok_or(Fault::Payload)?;
        // The last chunk is empty only where it is the only one.
        if body.is_empty() && counter > 0 {
            return Err(Fault::Payload);
        }
        let start = plain.len();
        plain.extend_from_slice(body);
        cipher
            .decrypt_inout_detached(
                &nonce_of(counter, is_last).into(),
                b"",
                (&mut plain[start..]).into(),
                &Tag::from(*tag),
            )
            .map_err(|_| Fault::Payload)?;
    }
    // Not even the empty file has no chunk.
    if sealed.is_empty() { Err(Fault::Payload) } else { Ok(plain) }
}

/// Appends the payload to a header.
pub(super) fn seal(
    plain: &[u8],
    key: &[u8; FILE_KEY],
    nonce: &[u8; NONCE],
    file: &mut Vec<u8>,
) -> Result<(), Error> {
    let cipher = ChaCha20Poly1305::new((&*kdf::age_payload_key(key, nonce)).into());
    file.extend(nonce);
    let count = plain.len().div_ceil(CHUNK).max(1);
    // What is not encrypted yet stays in this one, which is wiped.
    let mut chunk = Zeroizing::new(Vec::with_capacity(plain.len().min(CHUNK)));
    for counter in 0..count {
        let end = plain.len().min((counter + 1) * CHUNK);
        chunk.clear();
        chunk.extend_from_slice(&plain[counter * CHUNK..end]);
        let tag = cipher.encrypt_inout_detached(
            &nonce_of(counter, counter + 1 == count).into(),
            b"",
            chunk.as_mut_slice().into(),
        )?;
        file.extend_from_slice(&chunk);
        file.extend(tag);
    }
    Ok(())
}

/// A counter of 11 bytes, and whether it is the last chunk.
fn nonce_of(counter: usize, is_last: bool) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[3..11].copy_from_slice(&(counter as u64).to_be_bytes());
    nonce[11] = is_last.into();
    nonce
}
