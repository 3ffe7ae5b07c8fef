//! The addresses that a name stands for.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use super::busy::turn;
use super::resolver::resolve;

/// What can stand for socket addresses: the same types as in [`std::net::ToSocketAddrs`]. Only text
/// that is not an address itself is looked up, and that is done off the loop. The trait is sealed.
///
/// ```
/// use annulus::net::TcpListener;
/// # annulus::block_on(async {
/// TcpListener::bind("127.0.0.1:0").await?;
/// TcpListener::bind(([127, 0, 0, 1], 0)).await?;
/// TcpListener::bind(("localhost", 0)).await?;
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
pub trait ToSocketAddrs: Sealed {}

mod sealed {
    use super::Question;

    pub trait Sealed {
        fn question(&self) -> Question;
    }
}

use sealed::Sealed;

/// What is to be found out.
#[derive(Debug)]
pub enum Question {
    /// Nothing.
    Answered(Vec<SocketAddr>),
    /// The addresses of `"host:port"`.
    Text(String),
    /// The addresses of a host, with a port.
    Host(String, u16),
}

/// Looks up the addresses of a host, as `"name:port"` or `("name", port)`, off the loop: by
/// getaddrinfo(3), or by what [`set_resolver`](super::set_resolver) has chosen.
///
/// ```
/// # annulus::block_on(async {
/// let addresses = annulus::net::lookup_host("localhost:80").await?;
/// assert!(addresses.iter().all(|address| address.port() == 80));
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # Errors
/// `InvalidInput` for text that is no address, else the resolver's.
pub async fn lookup_host(host: impl ToSocketAddrs) -> io::Result<Vec<SocketAddr>> {
    match host.question() {
        Question::Answered(addresses) => Ok(addresses),
        Question::Text(text) => {
            let (host, port) = host_and_port(&text)?;
            resolve(host.to_owned(), port).await
        }
        Question::Host(host, port) => resolve(host, port).await,
    }
}

/// Calls `attempt` with each address until one succeeds. The last error stands for all.
pub(super) async fn first_that_works<T, F>(
    addresses: impl ToSocketAddrs,
    mut attempt: impl FnMut(SocketAddr) -> F,
) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut last = no_address();
    for address in lookup_host(addresses).await? {
        match attempt(address).await {
            Ok(value) => return Ok(value),
            Err(error) => last = error,
        }
    }
    Err(after_a_turn(last).await)
}

/// Descriptors come back when the ring turns, so whoever tries again at once for want of one must
/// not keep it from turning.
pub(super) async fn after_a_turn(error: io::Error) -> io::Error {
    if is_want_of_descriptors(&error) {
        turn().await;
    }
    error
}

pub(super) fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "no address to use: the list is empty")
}

/// Takes `"host:port"` apart.
fn host_and_port(text: &str) -> io::Result<(&str, u16)> {
    let invalid = |sentence| io::Error::new(io::ErrorKind::InvalidInput, sentence);
    let (host, port) = text.rsplit_once(':').ok_or_else(|| invalid("an address needs a port"))?;
    let port = port.parse().map_err(|_| invalid("the port is no number from 0 to 65535"))?;
    Ok((host, port))
}

fn answered(address: impl Into<SocketAddr>) -> Question {
    Question::Answered(vec![address.into()])
}

impl Sealed for SocketAddr {
    fn question(&self) -> Question {
        answered(*self)
    }
}

impl Sealed for SocketAddrV4 {
    fn question(&self) -> Question {
        answered(*self)
    }
}

impl Sealed for SocketAddrV6 {
    fn question(&self) -> Question {
        answered(*self)
    }
}

impl<I: Into<IpAddr> + Copy + IsAddress> Sealed for (I, u16) {
    fn question(&self) -> Question {
        answered((self.0.into(), self.1))
    }
}

/// What may stand before a port and needs no look-up.
pub trait IsAddress {}

impl IsAddress for IpAddr {}
impl IsAddress for Ipv4Addr {}
impl IsAddress for Ipv6Addr {}
impl IsAddress for [u8; 4] {}
impl IsAddress for [u16; 8] {}

impl Sealed for (&str, u16) {
    fn question(&self) -> Question {
        match self.0.parse::<IpAddr>() {
            Ok(address) => answered((address, self.1)),
            Err(_) => Question::Host(self.0.to_owned(), self.1),
        }
    }
}

impl Sealed for (String, u16) {
    fn question(&self) -> Question {
        (self.0.as_str(), self.1).question()
    }
}

impl Sealed for str {
    fn question(&self) -> Question {
        match self.parse::<SocketAddr>() {
            Ok(address) => answered(address),
            Err(_) => Question::Text(self.to_owned()),
        }
    }
}

impl Sealed for String {
    fn question(&self) -> Question {
        self.as_str().question()
    }
}

impl Sealed for [SocketAddr] {
    fn question(&self) -> Question {
        Question::Answered(self.to_vec())
    }
}

impl Sealed for Vec<SocketAddr> {
    fn question(&self) -> Question {
        self.as_slice().question()
    }
}

impl<T: Sealed + ?Sized> Sealed for &T {
    fn question(&self) -> Question {
        (**self).question()
    }
}

impl<T: Sealed + ?Sized> ToSocketAddrs for T {}

fn is_want_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

pub(super) fn not_internet() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "the socket's address is neither IPv4 nor IPv6")
}
