//! A directory as a web site: from a request to its response.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use annulus::fs::{Dir, File, Metadata, OpenOptions};
use futures_util::TryStreamExt;
use http::header::{
    ACCEPT_RANGES, ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderValue,
    LAST_MODIFIED, LOCATION, RANGE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use http::response::Builder;
use http::{Method, Request, Response, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use rustix::fs::{OFlags, fcntl_setfl};

use super::conditions::{Validators, Verdict};
use super::content::Content;
use super::range::{Selection, select};

/// Up to there a file is read as a whole, into a buffer of its length.
const SMALL: u64 = 64 * 1024;
/// Names on one page of a directory.
const MOST_LISTED: usize = 10_000;
/// What stays as it is in a path: RFC 3986, section 2.3.
const ESCAPED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A directory, and how it is shown.
pub(crate) struct Site {
    pub(crate) root: Dir,
    /// Are directories listed that have no `index.html`?
    pub(crate) lists: bool,
    /// Are names shown that begin with a dot?
    pub(crate) shows_hidden: bool,
    /// Are files read around the page cache?
    pub(crate) is_direct: bool,
}

/// A name that a request asks for.
struct Target {
    names: Vec<Vec<u8>>,
    /// It ends in a slash.
    is_directory: bool,
}

impl Target {
    /// The path within the directory of the site.
    fn path(&self) -> PathBuf {
        let path = if self.names.is_empty() { b".".to_vec() } else { self.names.join(&b'/') };
        OsString::from_vec(path).into()
    }

    /// The path of its directory in a URL. It begins with one slash: two would name a host.
    fn location(&self, query: Option<&str>) -> String {
        let mut location = String::from("/");
        for name in &self.names {
            location.extend(percent_encode(name, &ESCAPED));
            location.push('/');
        }
        if let Some(query) = query {
            location.push('?');
            location.push_str(query);
        }
        location
    }
}

impl Site {
    /// The response to a request, whatever becomes of it.
    pub(crate) async fn respond<B>(&self, request: &Request<B>) -> Response<Content> {
        let is_head = request.method() == Method::HEAD;
        if !is_head && request.method() != Method::GET {
            let builder = Response::builder().header(ALLOW, "GET, HEAD");
            return page(builder, StatusCode::METHOD_NOT_ALLOWED);
        }
        let mut response = match self.find(request).await {
            Ok(response) => response,
            Err(error) => failed(request.uri().path(), &error),
        };
        if is_head {
            let length = response.body().len();
            if length > 0 {
                response.headers_mut().insert(CONTENT_LENGTH, length.into());
            }
            *response.body_mut() = Content::default();
        }
        response
    }

    async fn find<B>(&self, request: &Request<B>) -> io::Result<Response<Content>> {
        let uri = request.uri();
        let target = self.target(uri.path()).ok_or(ErrorKind::NotFound)?;
        let path = target.path();
        if target.is_directory {
            let index = path.join("index.html");
            return match self.open(&index).await {
                Ok((file, metadata)) if metadata.is_file() => {
                    self.send(request, file, &metadata, "text/html").await
                }
                Err(error) if self.lists && error.kind() == ErrorKind::NotFound => {
                    self.list(&target).await
                }
                Err(error) => Err(error),
                Ok(_) => Err(ErrorKind::NotFound.into()),
            };
        }
        let (file, metadata) = self.open(&path).await?;
        if metadata.is_dir() {
            let builder = Response::builder().header(LOCATION, target.location(uri.query()));
            return Ok(page(builder, StatusCode::MOVED_PERMANENTLY));
        }
        let kind = mime_guess::from_path(&path).first_raw().unwrap_or("application/octet-stream");
        self.send(request, file, &metadata, kind).await
    }

    /// The names of a path. `None`: nobody is shown what it leads to.
    fn target(&self, path: &str) -> Option<Target> {
        let (names, is_directory) = match path.strip_prefix('/')? {
            "" => (Vec::new(), true),
            path => match path.strip_suffix('/') {
                Some(path) => (path.split('/').collect(), true),
                None => (path.split('/').collect(), false),
            },
        };
        let decode = |name: &str| -> Vec<u8> { percent_decode_str(name).collect() };
        let names: Vec<_> = names.into_iter().map(decode).collect();
        names.iter().all(|name| self.is_shown(name)).then_some(Target { names, is_directory })
    }

    /// RFC 8615 has names that begin with a dot and are meant for everybody.
    fn is_shown(&self, name: &[u8]) -> bool {
        let is_hidden = name.starts_with(b".") && name != b".well-known";
        let is_a_name = !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/');
        is_a_name && !name.contains(&0) && (self.shows_hidden || !is_hidden)
    }

    /// Opens a file or a directory. No path leads out of the site, and none to a pipe or a device.
    async fn open(&self, path: &Path) -> io::Result<(File, Metadata)> {
        // Else a FIFO is waited for until somebody writes to it.
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NONBLOCK);
        let file = self.root.open_with(path, &options).await?;
        let metadata = file.metadata().await?;
        if metadata.is_file() {
            fcntl_setfl(&file, if self.is_direct { OFlags::DIRECT } else { OFlags::empty() })?;
        } else if !metadata.is_dir() {
            return Err(ErrorKind::NotFound.into());
        }
        Ok((file, metadata))
    }

    /// A file, or the part of it that the client wants and does not have.
    async fn send<B>(
        &self,
        request: &Request<B>,
        file: File,
        metadata: &Metadata,
        kind: &'static str,
    ) -> io::Result<Response<Content>> {
        let (headers, length) = (request.headers(), metadata.len());
        let validators = Validators::of(metadata);
        let builder = Response::builder()
            .header(ETAG, validators.etag())
            .header(LAST_MODIFIED, validators.modified())
            .header(ACCEPT_RANGES, HeaderValue::from_static("bytes"))
            .header(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        match validators.judge(headers) {
            Verdict::NotModified => return Ok(empty(builder, StatusCode::NOT_MODIFIED)),
            Verdict::Failed => return Ok(page(builder, StatusCode::PRECONDITION_FAILED)),
            Verdict::Send => {}
        }
        let range = headers.get(RANGE).and_then(|range| range.to_str().ok());
        // A `HEAD` asks for the file as a whole.
        let counts = request.method() == Method::GET && validators.range_counts(headers);
        let selection = match range.filter(|_| counts) {
            Some(range) => select(range, length),
            None => Selection::Whole,
        };
        let mut content = Content::default();
        let builder = match selection {
            Selection::Nothing => {
                let builder = builder.header(CONTENT_RANGE, format!("bytes */{length}"));
                return Ok(page(builder, StatusCode::RANGE_NOT_SATISFIABLE));
            }
            Selection::Whole => {
                if length > SMALL || self.is_direct || request.method() == Method::HEAD {
                    content.add_file(file, 0..length);
                } else if length > 0 {
                    content.add_bytes(read(&file, length as usize).await?);
                }
                builder.header(CONTENT_TYPE, HeaderValue::from_static(kind))
            }
            Selection::Parts(parts) => match &parts[..] {
                [part] => {
                    let range = format!("bytes {}-{}/{length}", part.start, part.end - 1);
                    content.add_file(file, part.clone());
                    builder
                        .header(CONTENT_TYPE, HeaderValue::from_static(kind))
                        .header(CONTENT_RANGE, range)
                        .status(StatusCode::PARTIAL_CONTENT)
                }
                parts => {
                    let boundary = boundary();
                    for part in parts {
                        content.add_bytes(format!(
                            "\r\n--{boundary}\r\nContent-Type: {kind}\r\n\
                             Content-Range: bytes {}-{}/{length}\r\n\r\n",
                            part.start,
                            part.end - 1
                        ));
                        content.add_file(file.try_clone()?, part.clone());
                    }
                    content.add_bytes(format!("\r\n--{boundary}--\r\n"));
                    builder
                        .header(CONTENT_TYPE, format!("multipart/byteranges; boundary={boundary}"))
                        .status(StatusCode::PARTIAL_CONTENT)
                }
            },
        };
        Ok(builder.body(content).expect("all headers are valid"))
    }

    /// A page with the names in a directory.
    async fn list(&self, target: &Target) -> io::Result<Response<Content>> {
        let mut entries = self.root.read_dir(target.path()).await?;
        let mut names = Vec::new();
        while let Some(entry) = entries.try_next().await? {
            let mut name = entry.file_name().as_encoded_bytes().to_vec();
            if self.is_shown(&name) && names.len() < MOST_LISTED {
                name.extend(entry.file_type().await?.is_dir().then_some(b'/'));
                names.push(name);
            }
        }
        names.sort();
        let title = escaped(&String::from_utf8_lossy(&target.names.join(&b'/')));
        let mut page = format!(
            "<!DOCTYPE html>\n<meta charset=\"utf-8\">\n<title>/{title}</title>\n\
             <h1>/{title}</h1>\n<ul>\n"
        );
        if !target.names.is_empty() {
            page.push_str("<li><a href=\"../\">../</a>\n");
        }
        for name in &names {
            // Without the dot a name with a colon would be an address.
            let link = percent_encode(name, const { &ESCAPED.remove(b'/') });
            let name = escaped(&String::from_utf8_lossy(name));
            writeln!(page, "<li><a href=\"./{link}\">{name}</a>").expect("memory takes all");
        }
        page.push_str("</ul>\n");
        let mut content = Content::default();
        content.add_bytes(page);
        let builder = Response::builder().header(CONTENT_TYPE, "text/html; charset=utf-8");
        Ok(builder.body(content).expect("all headers are valid"))
    }
}

/// A file that fits into memory, as long as it is said to be.
async fn read(file: &File, length: usize) -> io::Result<Vec<u8>> {
    use annulus::buf::IoBuf;
    let buffer = Vec::with_capacity(length).slice(..length);
    Ok(file.read_exact_at(buffer, 0).await?.into_inner())
}

/// A line between parts that none of them has, but by a chance of 2^-64.
fn boundary() -> String {
    use std::hash::{BuildHasher, Hasher};
    format!("{:016x}", std::hash::RandomState::new().build_hasher().finish())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn empty(builder: Builder, status: StatusCode) -> Response<Content> {
    builder.status(status).body(Content::default()).expect("all headers are valid")
}

/// A response that says in a line what its status is.
fn page(builder: Builder, status: StatusCode) -> Response<Content> {
    let mut response = empty(builder.header(CONTENT_TYPE, "text/plain"), status);
    response.body_mut().add_bytes(format!("{status}\n"));
    response
}

/// What a client is told of an error. Whether a name leads out of the site is nobody's business.
fn failed(path: &str, error: &io::Error) -> Response<Content> {
    let status = match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename => {
            StatusCode::NOT_FOUND
        }
        // The runtime has refused a path that leads out.
        ErrorKind::PermissionDenied if error.raw_os_error().is_none() => StatusCode::NOT_FOUND,
        ErrorKind::PermissionDenied => StatusCode::FORBIDDEN,
        _ if matches!(error.raw_os_error(), Some(libc::ELOOP)) => StatusCode::NOT_FOUND,
        _ if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
            eprintln!("{path}: {error}");
            let builder = Response::builder().header(RETRY_AFTER, "1");
            return page(builder, StatusCode::SERVICE_UNAVAILABLE);
        }
        _ => {
            eprintln!("{path}: {error}");
            StatusCode::INTERNAL_SERVER_ERROR
        }
    };
    page(Response::builder(), status)
}
