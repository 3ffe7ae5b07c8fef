//! The connections of a client: for each authority those that are free, how many there are, and who
//! waits for one.
//!
//! It decides who gets which connection, and knows nothing of how one is opened or what it carries.
//! An authority is what a connection is good for: scheme, host, port, proxy, version of HTTP. All
//! calls are of one thread and none waits, so counts and lists agree at each await.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::{Rc, Weak};
use std::time::Duration;

use futures_channel::oneshot;

use super::link::{Lease, Spare};

/// What a connection is good for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) is_https: bool,
    pub(super) host: String,
    pub(super) port: u16,
    /// The URL of the proxy that stands between.
    pub(super) proxy: Option<String>,
    pub(super) protocol: Wanted,
}

/// Which version of HTTP a connection is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Wanted {
    /// What the server chooses by ALPN, and HTTP/1.1 without TLS.
    Any,
    Http1,
    Http2,
}

impl Key {
    /// Could a new connection turn out to be one that all share? Then a second one waits for it.
    fn may_be_shared(&self) -> bool {
        match self.protocol {
            Wanted::Any => self.is_https,
            Wanted::Http1 => false,
            Wanted::Http2 => true,
        }
    }
}

/// The bounds of a pool.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Connections of one authority, free or not.
    pub(super) per_host: usize,
    /// Free connections of one authority.
    pub(super) idle_per_host: usize,
    /// How long a connection stays free.
    pub(super) idle_timeout: Option<Duration>,
}

pub(super) struct Pool {
    limits: Limits,
    authorities: RefCell<HashMap<Key, Authority>>,
}

/// The connections of one authority. It exists as long as there are any, or somebody waits.
#[derive(Default)]
struct Authority {
    /// Connections that are open, are being opened, or are being closed.
    open: usize,
    /// The one that is being opened may turn out to be one that all share.
    is_probing: bool,
    /// The server speaks HTTP/1.1, as a connection has shown.
    is_http1: bool,
    /// The last one was used last.
    idle: Vec<Spare>,
    /// A connection of HTTP/2, which all share.
    shared: Option<Spare>,
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

/// What a request gets: a connection, or the right to open one.
pub(super) enum Turn {
    Reuse(Lease),
    Connect(Permit),
}

/// The right to one connection of an authority. It is somebody else's when it is dropped.
pub(super) struct Permit {
    home: Home,
    is_probe: bool,
}

/// Where a connection belongs.
#[derive(Clone)]
pub(super) struct Home {
    pool: Weak<Pool>,
    key: Key,
}

impl Pool {
    pub(super) fn new(limits: Limits) -> Rc<Pool> {
        Rc::new(Pool { limits, authorities: RefCell::default() })
    }

    /// A connection, or the right to open one, as soon as the bounds allow. Nothing is lost when
    /// the future is dropped: its turn is the next one's then.
    pub(super) async fn turn(self: &Rc<Pool>, key: &Key) -> Turn {
        let turn = {
            let mut authorities = self.authorities.borrow_mut();
            let authority = authorities.entry(key.clone()).or_default();
            match authority.take(self, key) {
                Some(turn) => Ok(turn),
                None => Err(authority.wait()),
            }
        };
        match turn {
            Ok(turn) => turn,
            // `self` lives, and with it the sender, until there is a turn.
            Err(receiver) => receiver.await.expect("a pool serves all who wait"),
        }
    }

    /// Closes all free connections of an authority: one of them turned out to be dead.
    pub(super) fn distrust(&self, key: &Key) {
        let idle = {
            let mut authorities = self.authorities.borrow_mut();
            authorities.get_mut(key).map(|authority| std::mem::take(&mut authority.idle))
        };
        drop(idle);
    }
}

impl Authority {
    /// A turn, if the bounds have one now.
    fn take(&mut self, pool: &Rc<Pool>, key: &Key) -> Option<Turn> {
        drop(self.shared.take_if(|shared| shared.is_closed()));
        if let Some(shared) = &self.shared {
            return Some(Turn::Reuse(shared.share()));
        }
        while let Some(spare) = self.idle.pop() {
            if !spare.is_closed() {
                return Some(Turn::Reuse(spare.lease()));
            }
        }
        let is_probe = key.may_be_shared() && !self.is_http1;
        if self.is_probing || self.open >= pool.limits.per_host {
            return None;
        }
        self.open += 1;
        self.is_probing = is_probe;
        let home = Home { pool: Rc::downgrade(pool), key: key.clone() };
        Some(Turn::Connect(Permit { home, is_probe }))
    }

    /// A place at the end of those who wait.
    fn wait(&mut self) -> oneshot::Receiver<Turn> {
        // Those who have gone are taken out when the list would grow.
        if self.waiting.len() == self.waiting.capacity() {
            self.waiting.retain(|waiter| !waiter.is_canceled());
        }
        let (sender, receiver) = oneshot::channel();
        self.waiting.push_back(sender);
        receiver
    }

    /// Gives turns to who waits, as far as the bounds have them.
    fn serve(&mut self, pool: &Rc<Pool>, key: &Key) {
        while let Some(waiter) = self.next_waiter() {
            match self.take(pool, key) {
                Some(turn) => send(waiter, turn),
                None => {
                    self.waiting.push_front(waiter);
                    return;
                }
            }
        }
    }

    /// The first who still waits.
    fn next_waiter(&mut self) -> Option<oneshot::Sender<Turn>> {
        std::iter::from_fn(|| self.waiting.pop_front()).find(|waiter| !waiter.is_canceled())
    }

    fn is_empty(&self) -> bool {
        let none_free = self.idle.is_empty() && self.shared.is_none();
        self.open == 0 && none_free && self.waiting.iter().all(oneshot::Sender::is_canceled)
    }
}

/// Hands a turn to somebody who has just been seen to wait.
fn send(waiter: oneshot::Sender<Turn>, turn: Turn) {
    let sent = waiter.send(turn);
    debug_assert!(sent.is_ok(), "who waits on this thread cannot have gone meanwhile");
}

impl Home {
    /// Takes a connection that is ready for the next request: for who waits, else as a free one. If
    /// there are enough of those, it is closed.
    pub(super) fn put_back(&self, spare: Spare) {
        let Some(pool) = self.pool.upgrade() else { return };
        let mut authorities = pool.authorities.borrow_mut();
        let Some(authority) = authorities.get_mut(&self.key) else { return };
        if let Some(waiter) = authority.next_waiter() {
            send(waiter, Turn::Reuse(spare.lease()));
        } else if authority.idle.len() < pool.limits.idle_per_host {
            authority.idle.push(spare);
        }
    }

    /// Takes a connection out of those that are free or shared.
    pub(super) fn take_out(&self, is_it: impl Fn(&Spare) -> bool) {
        let Some(pool) = self.pool.upgrade() else { return };
        let mut authorities = pool.authorities.borrow_mut();
        let Some(authority) = authorities.get_mut(&self.key) else { return };
        authority.idle.retain(|spare| !is_it(spare));
        drop(authority.shared.take_if(|shared| is_it(shared)));
    }

    /// How long a connection may be free. `None` is for ever.
    pub(super) fn idle_timeout(&self) -> Option<Duration> {
        self.pool.upgrade()?.limits.idle_timeout
    }
}

impl Permit {
    /// Where the connection will belong.
    pub(super) fn home(&self) -> Home {
        self.home.clone()
    }

    /// The connection speaks HTTP/1.1: others need not wait to share it.
    pub(super) fn is_http1(&mut self) {
        self.settle(|authority| authority.is_http1 = true);
    }

    /// From now on all share this connection.
    pub(super) fn share(&mut self, spare: Spare) {
        self.settle(|authority| authority.shared = Some(spare));
    }

    /// Changes the authority, and gives turns to who waits for what this permit held.
    fn settle(&mut self, change: impl FnOnce(&mut Authority)) {
        let Some(pool) = self.home.pool.upgrade() else { return };
        let mut authorities = pool.authorities.borrow_mut();
        let Some(authority) = authorities.get_mut(&self.home.key) else { return };
        change(authority);
        if std::mem::take(&mut self.is_probe) {
            authority.is_probing = false;
        }
        authority.serve(&pool, &self.home.key);
        if authority.is_empty() {
            authorities.remove(&self.home.key);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.settle(|authority| authority.open -= 1);
    }
}
