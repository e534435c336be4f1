//! BER-TLV (ISO/IEC 7816-4, 5.2.2): reading what a card says, trusting nothing, and writing.

use zeroize::Zeroizing;

use super::Fault;

/// A tag and its value.
type Element<'a> = (u32, &'a [u8]);

/// The value of the first element with `tag`, or none. Elements with other tags are skipped, in
/// whatever order they come.
///
/// # Errors
/// [`Fault::Garbage`] where an element before the wanted one is malformed.
pub fn find(mut data: &[u8], tag: u32) -> Result<Option<&[u8]>, Fault> {
    while let Some(((found, value), rest)) = next(data)? {
        if found == tag {
            return Ok(Some(value));
        }
        data = rest;
    }
    Ok(None)
}

/// As [`find`], where the element has to be there; `what` names it.
pub fn require<'a>(data: &'a [u8], tag: u32, what: &'static str) -> Result<&'a [u8], Fault> {
    find(data, tag)?.ok_or(Fault::Garbage(what))
}

/// The first element and what follows it; none at the end of the data.
fn next(data: &[u8]) -> Result<Option<(Element<'_>, &[u8])>, Fault> {
    const CUT: Fault = Fault::Garbage("a TLV element is cut short");
    // Some cards pad with 00 or FF between and after elements; the standard allows it.
    let Some(start) = data.iter().position(|&b| b != 0x00 && b != 0xff) else {
        return Ok(None);
    };
    let data = data.get(start..).unwrap_or_default();
    let mut bytes = data.iter().copied();
    let first = bytes.next().ok_or(CUT)?;
    let mut tag = u32::from(first);
    if first & 0x1f == 0x1f {
        loop {
            let byte = bytes.next().ok_or(CUT)?;
            if tag > 0xff_ffff {
                return Err(Fault::Garbage("a TLV tag is longer than 4 bytes"));
            }
            tag = tag << 8 | u32::from(byte);
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    let length = match bytes.next().ok_or(CUT)? {
        short @ 0..=0x7f => usize::from(short),
        form @ 0x81..=0x84 => {
            let mut length = 0;
            for _ in 0..form & 0x7f {
                length = length << 8 | usize::from(bytes.next().ok_or(CUT)?);
            }
            length
        }
        _ => {
            return Err(Fault::Garbage("a TLV length has a form that ISO 7816-4 lacks"));
        }
    };
    let header = data.len() - bytes.len();
    let end = header.checked_add(length).ok_or(CUT)?;
    let value = data.get(header..end).ok_or(CUT)?;
    Ok(Some(((tag, value), data.get(end..).unwrap_or_default())))
}

/// The element with `tag` and `value`, of up to 65,535 bytes, in the shortest length form.
#[must_use]
pub fn element(tag: u8, value: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(value.len() + 4));
    out.push(tag);
    let [.., high, low] = value.len().to_be_bytes();
    match (high, low) {
        (0, 0..=0x7f) => out.push(low),
        (0, _) => out.extend([0x81, low]),
        _ => out.extend([0x82, high, low]),
    }
    out.extend_from_slice(value);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chance::cases;

    #[test]
    fn every_length_form_is_read() {
        for header in
            [&[0x01][..], &[0x81, 1], &[0x82, 0, 1], &[0x83, 0, 0, 1], &[0x84, 0, 0, 0, 1]]
        {
            let mut data = vec![0x30, 0x00, 0x82];
            data.extend_from_slice(header);
            data.push(0xaa);
            assert_eq!(find(&data, 0x82), Ok(Some(&[0xaa][..])), "{header:02x?}");
        }
    }

    #[test]
    fn long_tags_padding_and_unknown_elements_are_skipped() {
        let data = [0x00, 0xff, 0x5f, 0xc1, 0x02, 0x01, 0x55, 0x7f, 0x49, 0x00, 0x34, 0x01, 0x07];
        assert_eq!(find(&data, 0x34), Ok(Some(&[7][..])));
        assert_eq!(find(&data, 0x5f_c102), Ok(Some(&[0x55][..])));
        assert_eq!(find(&data, 0x35), Ok(None));
    }

    #[test]
    fn malformed_data_is_a_fault() {
        for data in [
            &[0x82][..],
            &[0x82, 2, 1],
            &[0x82, 0x80, 0, 0],
            &[0x82, 0x85, 0, 0, 0, 0, 1, 0],
            &[0x82, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x7f],
            &[0x7f, 0xff, 0xff, 0xff, 0xff, 0x01, 0x00],
        ] {
            assert!(matches!(find(data, 0x99), Err(Fault::Garbage(_))), "{data:02x?}");
        }
    }

    proptest! {
        #![proptest_config(cases!(256))]

        #[test]
        fn what_is_written_is_read_back(tag in 0x80_u8..0x9f, value: Vec<u8>, tail in 1_u8..0xff) {
            prop_assume!(tag & 0x1f != 0x1f);
            let mut data = element(tag, &value).to_vec();
            data.extend([tail & 0x5e | 0x40, 0]);
            prop_assert_eq!(find(&data, tag.into()), Ok(Some(&value[..])));
        }

        #[test]
        fn a_found_value_lies_within_the_data(data: Vec<u8>, tag: u8) {
            if let Ok(Some(value)) = find(&data, tag.into()) {
                prop_assert!(data.windows(value.len().max(1)).any(|w| w.starts_with(value)));
            }
        }
    }
}
