//! Without the feature `http-decompression`: bodies stay as they come.

use http::{HeaderMap, HeaderValue};

use super::arriving::Arriving;

/// The body of a response, as the program gets it.
pub(super) type Content = Arriving;

/// Asks for nothing.
pub(super) fn accepted() -> Option<HeaderValue> {
    None
}

/// The body as it came.
pub(super) fn content(body: Arriving, _headers: &mut HeaderMap, _is_wanted: bool) -> Content {
    body
}
