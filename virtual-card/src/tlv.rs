//! BER-TLV, the little of it that PIV and DER certificates need.

use crate::apdu::Sw;

/// Encodes one element; `tag` is written without leading zero bytes.
pub fn encode(tag: u32, value: &[u8]) -> Vec<u8> {
    let mut out = tag_bytes(tag);
    let len = value.len();
    let len_bytes: Vec<u8> = len.to_be_bytes().into_iter().skip_while(|b| *b == 0).collect();
    if len < 0x80 {
        out.push(len_bytes.last().copied().unwrap_or(0));
    } else {
        // There are at most eight length bytes.
        out.push(0x80 | u8::try_from(len_bytes.len()).unwrap_or(8));
        out.extend(len_bytes);
    }
    out.extend(value);
    out
}

/// The bytes of a tag.
pub fn tag_bytes(tag: u32) -> Vec<u8> {
    let bytes: Vec<u8> = tag.to_be_bytes().into_iter().skip_while(|b| *b == 0).collect();
    if bytes.is_empty() { vec![0] } else { bytes }
}

/// Splits the first element off: its tag, its value and what follows.
pub fn split(bytes: &[u8]) -> Result<(u32, &[u8], &[u8]), Sw> {
    let (tag, rest) = split_tag(bytes)?;
    let (&first, rest) = rest.split_first().ok_or(Sw::WRONG_DATA)?;
    let (len, rest) = match first {
        0..=0x7F => (usize::from(first), rest),
        0x81..=0x83 => {
            let (len, rest) =
                rest.split_at_checked(usize::from(first & 0x7F)).ok_or(Sw::WRONG_DATA)?;
            (len.iter().fold(0, |n, b| n << 8 | usize::from(*b)), rest)
        }
        _ => return Err(Sw::WRONG_DATA),
    };
    let (value, rest) = rest.split_at_checked(len).ok_or(Sw::WRONG_DATA)?;
    Ok((tag, value, rest))
}

fn split_tag(bytes: &[u8]) -> Result<(u32, &[u8]), Sw> {
    let (&first, mut rest) = bytes.split_first().ok_or(Sw::WRONG_DATA)?;
    let mut tag = u32::from(first);
    if first & 0x1F == 0x1F {
        loop {
            let (&next, after) = rest.split_first().ok_or(Sw::WRONG_DATA)?;
            rest = after;
            tag = tag.checked_mul(256).ok_or(Sw::WRONG_DATA)? | u32::from(next);
            if next & 0x80 == 0 {
                break;
            }
        }
    }
    Ok((tag, rest))
}

/// All elements of a constructed value.
pub fn elements(mut bytes: &[u8]) -> Result<Vec<(u32, &[u8])>, Sw> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (tag, value, rest) = split(bytes)?;
        found.push((tag, value));
        bytes = rest;
    }
    Ok(found)
}

/// The value of the first element with this tag.
pub fn find<'a>(elements: &[(u32, &'a [u8])], tag: u32) -> Option<&'a [u8]> {
    elements.iter().find(|(t, _)| *t == tag).map(|(_, v)| *v)
}

/// The value of an element that must have this tag and be alone.
pub fn only(bytes: &[u8], tag: u32) -> Result<&[u8], Sw> {
    match split(bytes)? {
        (t, value, []) if t == tag => Ok(value),
        _ => Err(Sw::WRONG_DATA),
    }
}
