//! Who looks names up: getaddrinfo(3) on the pool, or what the program has chosen for its thread.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;

use crate::blocking::spawn_blocking;
use crate::sys;

/// Finds the addresses of a host.
///
/// Whoever wants to ask DNS servers, a table, or a cache writes one, and hands it to
/// [`set_resolver`]. From then on all calls of that thread ask it that take a name:
/// [`lookup_host`](super::lookup_host), `connect` and `bind`. Text that is an address itself is
/// looked up by nobody. The method may use sockets, files and timers of this crate; what it awaits
/// stops nobody else. If it calls one of those functions with a name it asks itself, so it falls
/// back on [`SystemResolver`].
///
/// For a single call no setting is needed: `connect` takes the addresses that a resolver has found.
///
/// ```
/// use std::io;
/// use std::net::SocketAddr;
/// use annulus::net::{Resolver, SystemResolver, TcpListener, TcpStream, set_resolver};
///
/// struct Table;
///
/// impl Resolver for Table {
///     async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
///         match host {
///             "database.internal" => Ok(vec![([127, 0, 0, 1], port).into()]),
///             _ => SystemResolver.resolve(host, port).await,
///         }
///     }
/// }
///
/// # annulus::block_on(async {
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let port = listener.local_addr()?.port();
/// // For one call:
/// TcpStream::connect(Table.resolve("database.internal", port).await?).await?;
/// // For all calls of this thread:
/// set_resolver(Table);
/// TcpStream::connect(("database.internal", port)).await?;
/// # set_resolver(SystemResolver);
/// # io::Result::Ok(()) }).unwrap();
/// ```
// The future need not be `Send`: runtimes of this crate have one thread.
#[allow(async_fn_in_trait)]
pub trait Resolver {
    /// The addresses of `host`, each with `port`, the best one first. An empty list is no error
    /// here; `connect` and `bind` make one of it.
    ///
    /// The future is dropped with the call that asks.
    ///
    /// # Errors
    /// Its own. They come out of the call that asks.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// What looks names up unless [`set_resolver`] says otherwise: getaddrinfo(3), which reads
/// `/etc/hosts` and asks the servers of `/etc/resolv.conf`.
///
/// It waits, so it runs on the pool of [`spawn_blocking`](crate::spawn_blocking). If the future is
/// dropped it goes on there to its end, and nobody takes its result.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        by_system(host.to_owned(), port).await
    }
}

/// As [`Resolver`], behind a pointer.
trait AnyResolver {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a>;
}

type Resolving<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + 'a>>;

impl<R: Resolver> AnyResolver for R {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a> {
        Box::pin(Resolver::resolve(self, host, port))
    }
}

thread_local! {
    static CHOSEN: RefCell<Option<Rc<dyn AnyResolver>>> = const { RefCell::new(None) };
}

/// Chooses who looks names up for this thread, from the next look-up on; those under way go on as
/// they are. It stays chosen until the thread ends, or until the next call:
/// `set_resolver(SystemResolver)` goes back.
///
/// The choice is the thread's, and not a setting of each call, so that it also holds in libraries
/// that call `connect` with a name. It need not be `Send`, since all runtimes of a thread stay
/// there; each thread makes its own choice. See [`Resolver`] for an example.
pub fn set_resolver(resolver: impl Resolver + 'static) {
    // The one before is dropped with nothing borrowed, since that is user code.
    drop(CHOSEN.replace(Some(Rc::new(resolver))));
}

/// Looks a name up as this thread has chosen.
pub(super) async fn resolve(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    let chosen = CHOSEN.with_borrow(Clone::clone);
    match chosen {
        None => by_system(host, port).await,
        Some(resolver) => resolver.resolve(&host, port).await,
    }
}

async fn by_system(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    spawn_blocking(move || sys::resolve((host.as_str(), port))).await?
}
