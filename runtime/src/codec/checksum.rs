//! The checksum over all of an object, which stands in its own footer: XXH3 (128 bit) of all bytes,
//! with the checksum's digits as zeros.

use parquet::file::metadata::KeyValue;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::Error;

const KEY: &str = "muster.checksum";
const DIGITS: usize = 32;
const PLACEHOLDER: [u8; DIGITS] = [b'0'; DIGITS];
/// Parquet ends with the footer's length (4 bytes) and a magic word.
const TAIL_BYTES: usize = 8;
/// Between a key and its value in the footer: the value's field number with its type, and its
/// length.
const KEY_TO_VALUE_BYTES: usize = 2;

/// What stands in the footer until the object is whole.
pub(crate) fn placeholder() -> KeyValue {
    KeyValue::new(KEY.to_owned(), "0".repeat(DIGITS))
}

/// Fills the checksum of a finished object in.
pub(crate) fn sign(object: &mut [u8]) -> Result<(), Error> {
    let at = place(object)?.ok_or_else(unsigned)?;
    object[at..at + DIGITS].copy_from_slice(&PLACEHOLDER);
    let digits = format!("{:032x}", xxh3_128(object));
    object[at..at + DIGITS].copy_from_slice(digits.as_bytes());
    Ok(())
}

/// Checks an object's bytes against its checksum.
pub(crate) fn verify(object: &[u8]) -> Result<(), Error> {
    if verify_if_signed(object)? { Ok(()) } else { Err(unsigned()) }
}

/// The same, where an object without one may be right too: `false`.
pub(crate) fn verify_if_signed(object: &[u8]) -> Result<bool, Error> {
    let Some(at) = place(object)? else { return Ok(false) };
    let (before, rest) = object.split_at(at);
    let (digits, after) = rest.split_at(DIGITS);
    let stated = std::str::from_utf8(digits)
        .ok()
        .filter(|digits| digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
        .and_then(|digits| u128::from_str_radix(digits, 16).ok())
        .ok_or_else(|| foreign("its checksum is not lower-case hexadecimal".to_owned()))?;
    let mut hash = Xxh3::new();
    hash.update(before);
    hash.update(&PLACEHOLDER);
    hash.update(after);
    let found = hash.digest128();
    if found == stated {
        Ok(true)
    } else {
        Err(Error::Checksum { bytes: object.len(), found, stated })
    }
}

/// Where the digits of the checksum stand: behind the last mention of their key in the footer.
fn place(object: &[u8]) -> Result<Option<usize>, Error> {
    let end = object
        .len()
        .checked_sub(TAIL_BYTES)
        .filter(|&end| object.ends_with(b"PAR1") && end > 0)
        .ok_or_else(|| foreign(format!("its {} bytes do not end as Parquet does", object.len())))?;
    let length: [u8; 4] = object[end..end + 4].try_into().expect("the slice has four bytes");
    let footer = usize::try_from(u32::from_le_bytes(length))
        .ok()
        .and_then(|length| end.checked_sub(length))
        .ok_or_else(|| foreign("its footer is longer than the object".to_owned()))?;
    let key = KEY.as_bytes();
    let mention = object[footer..end].windows(key.len()).rposition(|window| window == key);
    let Some(mention) = mention else { return Ok(None) };
    let at = footer + mention + key.len() + KEY_TO_VALUE_BYTES;
    if at + DIGITS > end {
        return Err(foreign("its checksum is cut short".to_owned()));
    }
    Ok(Some(at))
}

fn unsigned() -> Error {
    foreign("its footer has no checksum".to_owned())
}

fn foreign(reason: String) -> Error {
    Error::Foreign { reason }
}
