//! The load where the kernel has no ring for it: an epoll loop, with two system calls a request.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Instant;

use super::Failure;
use super::connection::{Connection, Talk};
use super::epoll::{Epoll, Events, READABLE, WRITABLE};
use super::load::Engine;
use super::timetable::{Tally, Timetable};

/// The room for a read, at least.
const SMALLEST_READ: usize = 4096;

/// The connections of one thread, asked by epoll.
#[derive(Debug)]
pub(super) struct EpollLoad {
    epoll: Epoll,
    talk: Arc<dyn Talk>,
    connections: Vec<Connection>,
    /// The place in `connections` of each descriptor number.
    places: Vec<usize>,
}

impl EpollLoad {
    pub(super) fn new(
        connections: Vec<Connection>,
        talk: &Arc<dyn Talk>,
    ) -> Result<EpollLoad, Failure> {
        let epoll = Epoll::new()?;
        let mut places = Vec::new();
        for (place, connection) in connections.iter().enumerate() {
            epoll.add(&connection.stream, READABLE)?;
            let descriptor = connection.stream.as_raw_fd() as usize;
            if places.len() <= descriptor {
                places.resize(descriptor + 1, usize::MAX);
            }
            places[descriptor] = place;
        }
        Ok(EpollLoad { epoll, talk: Arc::clone(talk), connections, places })
    }

    fn ask(&mut self, index: usize, asked: Instant) -> Result<(), Failure> {
        self.connections[index].begin(asked);
        self.send(index)
    }

    /// Moves one connection on; `true` when its reply is complete. It reads until there is no more,
    /// since it is not told again of what it leaves.
    fn serve(&mut self, index: usize, scratch: &mut [u8]) -> Result<bool, Failure> {
        let Connection { number, sent, .. } = self.connections[index];
        if sent < self.talk.request(number).len() {
            self.send(index)?;
        }
        let connection = &mut self.connections[index];
        loop {
            match connection.stream.read(scratch) {
                Ok(0) => return Err("the server closed a connection".into()),
                Ok(count) => {
                    if self.talk.check(connection, &scratch[..count])? {
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends until the socket takes no more, and then asks to be told when it does.
    fn send(&mut self, index: usize) -> Result<(), Failure> {
        let Connection { stream, number, sent, .. } = &mut self.connections[index];
        let was_begun = *sent > 0;
        let request = self.talk.request(*number);
        while *sent < request.len() {
            match stream.write(&request[*sent..]) {
                Ok(count) => *sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(self.epoll.modify(stream, READABLE | WRITABLE)?);
                }
                Err(error) => return Err(error.into()),
            }
        }
        if was_begun {
            self.epoll.modify(stream, READABLE)?;
        }
        Ok(())
    }
}

impl Engine for EpollLoad {
    fn run(&mut self, mut timetable: Timetable) -> Result<Tally, Failure> {
        let mut events = Events::new();
        let mut scratch = vec![0; self.talk.reply_size().max(SMALLEST_READ)];
        let mut now = Instant::now();
        loop {
            while let Some((index, asked)) = timetable.next(now) {
                self.ask(index, asked)?;
            }
            if timetable.is_over() {
                return Ok(timetable.finish());
            }
            self.epoll.wait(&mut events, 0)?;
            now = Instant::now();
            if events.is_empty() {
                timetable.nothing_came(now)?;
                continue;
            }
            timetable.something_came(now);
            for ready in events.ready() {
                let index = self.places[ready as usize];
                if self.serve(index, &mut scratch)? {
                    timetable.answered(index, self.connections[index].asked.elapsed());
                }
            }
        }
    }
}
