//! Attempts to connect to several addresses, of which the first that succeeds wins: RFC 8305,
//! "Happy Eyeballs".
//!
//! An address that does not answer delays the next one by a quarter of a second, and not by the
//! minutes that TCP tries. The resolver's order stands: getaddrinfo(3) puts IPv6 first where this
//! machine has a route for it, RFC 6724.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::address::no_address;
use crate::inflight::{Op, Resource};
use crate::op::socket::Connect;
use crate::runtime::Timer;
use crate::sys::{self, Domain, Protocol, SockAddr, Type};

/// How long an attempt is alone before the next one begins beside it: the "Connection Attempt
/// Delay" of RFC 8305, section 5.
const DELAY: Duration = Duration::from_millis(250);

/// An attempt under way. Dropped, it is cancelled, and its socket is closed.
struct Attempt {
    connect: Op<'static, Connect>,
    socket: Resource,
}

impl Attempt {
    fn to(address: SocketAddr) -> io::Result<Attempt> {
        let domain = Domain::for_address(address);
        let socket = Resource::new(sys::open_socket(domain, Type::STREAM, Some(Protocol::TCP))?);
        Ok(Attempt { connect: Connect::op(&socket, &SockAddr::from(address)), socket })
    }
}

/// The attempts at one list of addresses.
struct Race {
    waiting: VecDeque<SocketAddr>,
    running: Vec<Attempt>,
    /// Until the next one begins, if none fails before.
    delay: Timer,
    /// The next one is to begin now.
    is_due: bool,
    last_error: Option<io::Error>,
}

/// Connects to whichever of the addresses answers first. The last error stands for all.
pub(super) async fn connect_to_first(addresses: Vec<SocketAddr>) -> io::Result<Resource> {
    let mut race = Race {
        waiting: alternating(addresses),
        running: Vec::new(),
        delay: Timer::after(DELAY),
        is_due: true,
        last_error: None,
    };
    poll_fn(|context| race.poll(context)).await
}

impl Race {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Resource>> {
        loop {
            if let Some(winner) = self.poll_running(context) {
                self.running.clear();
                return Poll::Ready(Ok(winner));
            }
            if !self.is_due && !self.waiting.is_empty() {
                ready!(self.delay.poll(context));
            }
            self.is_due = false;
            match self.waiting.pop_front().map(Attempt::to) {
                Some(Ok(attempt)) => {
                    self.running.push(attempt);
                    self.delay = Timer::after(DELAY);
                }
                Some(Err(error)) => self.failed(error),
                None if self.running.is_empty() => {
                    return Poll::Ready(Err(self.last_error.take().unwrap_or_else(no_address)));
                }
                None => return Poll::Pending,
            }
        }
    }

    /// The socket of an attempt that has succeeded. Those that have failed are gone then.
    fn poll_running(&mut self, context: &mut Context<'_>) -> Option<Resource> {
        let mut index = 0;
        while let Some(attempt) = self.running.get_mut(index) {
            match Pin::new(&mut attempt.connect).poll(context) {
                Poll::Pending => index += 1,
                Poll::Ready(Ok(())) => return Some(self.running.remove(index).socket),
                Poll::Ready(Err(error)) => {
                    self.running.remove(index);
                    self.failed(error);
                }
            }
        }
        None
    }

    /// Nobody waits for an attempt that has failed.
    fn failed(&mut self, error: io::Error) {
        self.last_error = Some(error);
        self.is_due = true;
    }
}

/// The families in turn, beginning with that of the first address; RFC 8305, section 4. Within a
/// family the order stays.
fn alternating(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let first_family = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_family);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut all = VecDeque::new();
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return all;
        }
        all.extend(pair.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_turn(addresses: &[&str]) -> Vec<String> {
        let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        alternating(addresses).iter().map(SocketAddr::to_string).collect()
    }

    #[test]
    fn families_take_turns_and_the_first_address_stays_the_first() {
        assert_eq!(in_turn(&[]), [""; 0]);
        assert_eq!(in_turn(&["1.0.0.1:1", "1.0.0.2:1"]), ["1.0.0.1:1", "1.0.0.2:1"]);
        assert_eq!(
            in_turn(&["[::1]:1", "[::2]:1", "[::3]:1", "1.0.0.1:1", "1.0.0.2:1"]),
            ["[::1]:1", "1.0.0.1:1", "[::2]:1", "1.0.0.2:1", "[::3]:1"]
        );
        assert_eq!(
            in_turn(&["1.0.0.1:1", "1.0.0.2:1", "[::1]:1"]),
            ["1.0.0.1:1", "[::1]:1", "1.0.0.2:1"]
        );
    }
}
