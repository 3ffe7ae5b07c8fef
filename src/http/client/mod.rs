//! The client: requests, a pool of connections, and what stands between.
//!
//! A request goes through these files from the top to the bottom, and comes back.

mod arriving;
mod builder;
mod connect;
#[cfg(feature = "http-decompression")]
mod decode;
#[cfg(not(feature = "http-decompression"))]
#[path = "undecoded.rs"]
mod decode;
mod link;
mod outgoing;
mod pool;
mod proxy;
mod redirect;
mod request;
mod response;
mod send;

use std::fmt;
use std::rc::Rc;

use http::Method;

pub use builder::ClientBuilder;
pub use redirect::Redirects;
pub use request::RequestBuilder;
pub use response::Response;

use self::builder::Settings;
use self::connect::Connectors;
use self::pool::Pool;
use self::request::Request;
use super::body::Body;
use super::error::Error;

/// A client for HTTP/1.1 and HTTP/2, with and without TLS.
///
/// It has a pool of connections, so a program makes one and clones it, which is cheap. All clones
/// live on the thread of their runtime.
///
/// ```
/// use annulus::http::Client;
///
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let url = format!("http://{}/", listener.local_addr()?);
/// # std::thread::spawn(move || {
/// #     use std::io::{Read, Write};
/// #     let (mut peer, _) = listener.accept().unwrap();
/// #     peer.read(&mut [0; 1024]).unwrap();
/// #     peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").unwrap();
/// # });
/// # annulus::block_on(async {
/// let client = Client::new();
/// let response = client.get(&url).send().await?.error_for_status()?;
/// assert_eq!(response.text().await?, "hello");
/// # Ok::<(), annulus::http::Error>(()) }).unwrap();
/// # std::io::Result::Ok(())
/// ```
///
/// # Dropping
/// With the last clone all connections are closed that no request uses. Requests and responses go
/// on, and theirs are closed behind them.
#[derive(Clone)]
pub struct Client {
    shared: Rc<Shared>,
}

struct Shared {
    settings: Settings,
    connectors: Connectors,
    pool: Rc<Pool>,
}

impl Client {
    /// A client with the settings by default.
    ///
    /// # Panics
    /// Not by itself: [`builder`](Client::builder) says what can be wrong with settings.
    pub fn new() -> Client {
        Client::builder().build().expect("the settings by default are usable")
    }

    /// The settings, to be changed.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    /// A request of the method GET: RFC 9110, section 9.3, for this and the others.
    pub fn get(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::GET, url)
    }

    /// A request of the method HEAD.
    pub fn head(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::HEAD, url)
    }

    /// A request of the method POST.
    pub fn post(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::POST, url)
    }

    /// A request of the method PUT.
    pub fn put(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::PUT, url)
    }

    /// A request of the method PATCH: RFC 5789.
    pub fn patch(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::PATCH, url)
    }

    /// A request of the method DELETE.
    pub fn delete(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::DELETE, url)
    }

    /// A request of any method. The URL is absolute, of http or https. A name and a password in it
    /// become a header.
    pub fn request(&self, method: Method, url: impl AsRef<str>) -> RequestBuilder {
        RequestBuilder::new(self.clone(), method, url.as_ref())
    }

    /// Sends a request as the crate `http` has it, for example one that a server has received. Its
    /// URI is absolute.
    ///
    /// # Errors
    /// As [`RequestBuilder::send`].
    pub async fn execute<B: Into<Body>>(
        &self,
        request: http::Request<B>,
    ) -> Result<Response, Error> {
        let (head, body) = request.into_parts();
        let mut request = Request::new(head.method, &head.uri.to_string())?;
        request.headers.extend(head.headers);
        request.body = body.into();
        send::send(self.clone(), request).await
    }
}

impl Default for Client {
    fn default() -> Client {
        Client::new()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
