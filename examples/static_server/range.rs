//! The header `Range`: which bytes of a file a client wants; RFC 9110, section 14.

use std::ops::Range;

/// Ranges of one request. Whoever asks for more gets the whole file.
const MOST_RANGES: usize = 16;

/// What a header selects of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    /// All of it: the header says nothing that is understood, or asks for too much.
    Whole,
    /// One range or several, in their order, none of them empty.
    Parts(Vec<Range<u64>>),
    /// Nothing of it: the file ends before.
    Nothing,
}

/// What the header selects of a file of that length.
pub(crate) fn select(header: &str, length: u64) -> Selection {
    // Some clients put a `Range` into each request, and an empty file is what they want, too.
    let Some(set) = set_of_bytes(header).filter(|_| length > 0) else { return Selection::Whole };
    let mut parts = Vec::new();
    for (count, spec) in set.split(',').map(str::trim).filter(|spec| !spec.is_empty()).enumerate() {
        match part(spec, length) {
            Some(part) if count < MOST_RANGES => parts.extend(part),
            _ => return Selection::Whole,
        }
    }
    let total: u64 = parts.iter().map(|part| part.end - part.start).sum();
    match parts.len() {
        0 if set.trim_matches([',', ' ', '\t']).is_empty() => Selection::Whole,
        0 => Selection::Nothing,
        _ if total > length => Selection::Whole,
        _ => Selection::Parts(parts),
    }
}

fn set_of_bytes(header: &str) -> Option<&str> {
    let (unit, set) = header.trim().split_once('=')?;
    unit.eq_ignore_ascii_case("bytes").then_some(set)
}

/// One range, without bytes if the file ends before it. `None`: it is not understood.
fn part(spec: &str, length: u64) -> Option<Option<Range<u64>>> {
    let (first, last) = spec.split_once('-')?;
    if first.is_empty() {
        let count = number(last)?.min(length);
        return Some((count > 0).then_some(length - count..length));
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    if last < first {
        return None;
    }
    Some((first < length).then(|| first..last.saturating_add(1).min(length)))
}

/// A number of digits. One that is too large lies behind the end of every file.
fn number(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}
