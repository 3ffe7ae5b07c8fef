//! Requests with a condition: whether a client has a file already; RFC 9110, section 13.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use annulus::fs::Metadata;
use http::HeaderMap;
use http::header::{
    HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
};

/// The last second of the year 9999, beyond which a date has another form.
const LAST_SECOND: u64 = 253_402_300_799;

/// By what a client knows a file again.
pub(crate) struct Validators {
    etag: String,
    /// In seconds since 1970, and never later than now.
    modified: u64,
    /// Could the file have changed once more within that second?
    is_fresh: bool,
}

/// What the conditions come to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The file is sent, or the part that the client wants.
    Send,
    /// The client has it: 304.
    NotModified,
    /// It is not the file that the client means: 412.
    Failed,
}

impl Validators {
    pub(crate) fn of(metadata: &Metadata) -> Validators {
        let seconds = u64::try_from(metadata.mtime()).unwrap_or(0);
        let etag = format!("\"{:x}-{:x}-{:x}\"", seconds, metadata.mtime_nsec(), metadata.len());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let modified = seconds.min(now).min(LAST_SECOND);
        Validators { etag, modified, is_fresh: modified == now }
    }

    pub(crate) fn etag(&self) -> &str {
        &self.etag
    }

    /// As the header `Last-Modified` has it.
    pub(crate) fn modified(&self) -> String {
        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(self.modified))
    }

    /// The conditions in the order of section 13.2.2.
    pub(crate) fn judge(&self, headers: &HeaderMap) -> Verdict {
        let since = |name| headers.get(name).and_then(|value| seconds(value.to_str().ok()?));
        if headers.contains_key(IF_MATCH) {
            if !self.is_listed(headers, IF_MATCH, false) {
                return Verdict::Failed;
            }
        } else if since(IF_UNMODIFIED_SINCE).is_some_and(|date| self.modified > date) {
            return Verdict::Failed;
        }
        let has_it = match headers.contains_key(IF_NONE_MATCH) {
            true => self.is_listed(headers, IF_NONE_MATCH, true),
            false => since(IF_MODIFIED_SINCE).is_some_and(|date| self.modified <= date),
        };
        if has_it { Verdict::NotModified } else { Verdict::Send }
    }

    /// Does `Range` count, since the client's part is of this very file? Without `If-Range` it
    /// does.
    pub(crate) fn range_counts(&self, headers: &HeaderMap) -> bool {
        let Some(value) = headers.get(IF_RANGE) else { return true };
        let Ok(text) = value.to_str() else { return false };
        text == self.etag || (seconds(text) == Some(self.modified) && !self.is_fresh)
    }

    /// Does a list of tags have that of the file? Weak tags count only for `If-None-Match`.
    fn is_listed(&self, headers: &HeaderMap, name: HeaderName, weak_counts: bool) -> bool {
        headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).any(|list| {
            list.trim() == "*"
                || tags(list).any(|(is_weak, tag)| tag == self.etag && (weak_counts || !is_weak))
        })
    }
}

fn seconds(date: &str) -> Option<u64> {
    let date = httpdate::parse_http_date(date).ok()?;
    date.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// The tags of a list, with their quotes, and whether each is weak. A tag may hold commas.
fn tags(mut list: &str) -> impl Iterator<Item = (bool, &str)> {
    std::iter::from_fn(move || {
        list = list.trim_start_matches([' ', '\t', ',']);
        let tag = list.strip_prefix("W/");
        let (is_weak, tag) = (tag.is_some(), tag.unwrap_or(list));
        let end = tag.strip_prefix('"')?.find('"')? + 2;
        let found;
        (found, list) = tag.split_at(end);
        Some((is_weak, found))
    })
}
