//! The adapters of the crate over sockets and pipes, and what is at the other end.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use annulus::io::{PipeReader, PipeWriter, PollRead, PollStream, PollWrite};
use annulus::net::{TcpStream, UnixStream};
use socket2::{Domain, SockAddr, Socket, Type};

use super::assert_conforms;
use super::common::run;
use super::run::Patience;
use super::subject::{Abilities, Peer, Reading, Real, Remade, Subject, Taken, Whole, Writing};

const PROGRAMS: u64 = 400;

/// What comes, comes at once; only what never comes takes so long.
const PATIENCE: Patience = Patience::Time(Duration::from_secs(10));

impl<S: IntoPoll> Whole for Real<PollStream<S>> {
    fn split(self: Box<Self>) -> (Box<dyn Reading>, Box<dyn Writing>) {
        let (reader, writer) = self.0.into_split();
        (Box::new(Real(reader)), Box::new(Real(writer)))
    }

    fn remake(self: Box<Self>) -> Remade {
        Box::pin(async {
            let stream = self.0.into_inner().await?;
            Ok(Box::new(Real(stream.into_poll())) as Box<dyn Whole>)
        })
    }
}

trait IntoPoll: PollRead + PollWrite {
    fn into_poll(self) -> PollStream<Self>
    where
        Self: Sized;
}

impl IntoPoll for TcpStream {
    fn into_poll(self) -> PollStream<TcpStream> {
        self.into_poll()
    }
}

impl IntoPoll for UnixStream {
    fn into_poll(self) -> PollStream<UnixStream> {
        self.into_poll()
    }
}

/// The other end of a socket; nothing once it is closed.
struct OtherSocket(Option<Socket>);

impl OtherSocket {
    fn boxed(socket: Socket) -> Box<dyn Peer> {
        socket.set_nonblocking(true).expect("a socket");
        Box::new(OtherSocket(Some(socket)))
    }
}

impl Peer for OtherSocket {
    fn send(&mut self, bytes: &[u8]) -> usize {
        self.0.as_ref().map_or(0, |mut socket| sent(socket.write(bytes)))
    }

    fn receive(&mut self, most: usize) -> Taken {
        self.0.as_ref().map_or(Taken::Nothing, |mut socket| taken(&mut socket, most))
    }

    fn finish(&mut self) {
        // Who has been reset has no direction to end.
        let _ = self.0.as_ref().expect("it is open").shutdown(Shutdown::Write);
    }

    fn close(&mut self) {
        self.0 = None;
    }

    fn reset(&mut self) {
        let socket = self.0.take().expect("it is open");
        socket.set_linger(Some(Duration::ZERO)).expect("an option of TCP");
    }
}

/// The other end of a pipe.
enum OtherPipe {
    Reads(io::PipeReader),
    Writes(io::PipeWriter),
    Closed,
}

impl OtherPipe {
    fn boxed(self) -> Box<dyn Peer> {
        match &self {
            OtherPipe::Reads(end) => rustix::io::ioctl_fionbio(end, true),
            OtherPipe::Writes(end) => rustix::io::ioctl_fionbio(end, true),
            OtherPipe::Closed => Ok(()),
        }
        .expect("a pipe");
        Box::new(self)
    }
}

impl Peer for OtherPipe {
    fn send(&mut self, bytes: &[u8]) -> usize {
        match self {
            OtherPipe::Writes(end) => sent(end.write(bytes)),
            _ => 0,
        }
    }

    fn receive(&mut self, most: usize) -> Taken {
        match self {
            OtherPipe::Reads(end) => taken(end, most),
            _ => Taken::Nothing,
        }
    }

    fn finish(&mut self) {
        self.close();
    }

    fn close(&mut self) {
        *self = OtherPipe::Closed;
    }

    fn reset(&mut self) {
        unreachable!("pipes have no reset");
    }
}

fn sent(result: io::Result<usize>) -> usize {
    match result {
        Ok(count) => count,
        Err(error) => {
            let usual = [ErrorKind::WouldBlock, ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
            assert!(usual.contains(&error.kind()), "the peer cannot send: {error}");
            0
        }
    }
}

fn taken(from: &mut impl Read, most: usize) -> Taken {
    let mut bytes = vec![0; most];
    match from.read(&mut bytes) {
        Ok(0) => Taken::End,
        Ok(count) => {
            bytes.truncate(count);
            Taken::Bytes(bytes)
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Taken::Nothing,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Taken::Broken,
        Err(error) => panic!("the peer cannot receive: {error}"),
    }
}

/// Two ends of a TCP connection over the loopback device.
pub(crate) fn tcp_pair() -> (TcpStream, Socket) {
    let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let listener = socket();
    let any: SockAddr = std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into();
    listener.bind(&any).and_then(|()| listener.listen(1)).expect("a port");
    let ours = socket();
    ours.connect(&listener.local_addr().expect("an address")).expect("a connection");
    let (theirs, _) = listener.accept().expect("a connection");
    theirs.set_tcp_nodelay(true).expect("an option of TCP");
    ours.set_tcp_nodelay(true).expect("an option of TCP");
    (TcpStream::from_std(ours.into()).expect("a stream"), theirs)
}

pub(crate) fn unix_pair() -> (UnixStream, Socket) {
    let (ours, theirs) = Socket::pair(Domain::UNIX, Type::STREAM, None).expect("a pair");
    (UnixStream::from_std(ours.into()).expect("a stream"), theirs)
}

#[test]
fn a_tcp_stream_conforms() {
    run(async || {
        assert_conforms(PROGRAMS, Abilities::ALL, PATIENCE, async |_| {
            let (ours, theirs) = tcp_pair();
            (Subject::Whole(Box::new(Real(ours.into_poll()))), OtherSocket::boxed(theirs))
        })
        .await;
    });
}

const UNIX: Abilities = Abilities { resets: false, ..Abilities::ALL };

#[test]
fn a_unix_stream_conforms() {
    run(async || {
        assert_conforms(PROGRAMS, UNIX, PATIENCE, async |_| {
            let (ours, theirs) = unix_pair();
            (Subject::Whole(Box::new(Real(ours.into_poll()))), OtherSocket::boxed(theirs))
        })
        .await;
    });
}

#[test]
fn the_halves_of_a_stream_conform() {
    let halves = Abilities { splits: false, ..UNIX };
    run(async || {
        assert_conforms(PROGRAMS, halves, PATIENCE, async |_| {
            let (ours, theirs) = unix_pair();
            let (reading, writing) = ours.into_split();
            let reading = Box::new(Real(reading.into_poll()));
            let writing = Box::new(Real(writing.into_poll()));
            (Subject::Halves(Some(reading), Some(writing)), OtherSocket::boxed(theirs))
        })
        .await;
    });
}

#[test]
fn a_pipe_to_read_from_conforms() {
    let reads =
        Abilities { reads: true, writes: false, splits: false, resets: false, ..Abilities::ALL };
    run(async || {
        assert_conforms(PROGRAMS, reads, PATIENCE, async |_| {
            let (reader, writer) = io::pipe().expect("a pipe");
            let reader = PipeReader::from(reader);
            let reading = Box::new(Real(reader.into_poll()));
            (Subject::Halves(Some(reading), None), OtherPipe::Writes(writer).boxed())
        })
        .await;
    });
}

#[test]
fn a_pipe_to_write_to_conforms() {
    let writes = Abilities {
        reads: false,
        splits: false,
        resets: false,
        half_closes: false,
        ..Abilities::ALL
    };
    run(async || {
        assert_conforms(PROGRAMS, writes, PATIENCE, async |_| {
            let (reader, writer) = io::pipe().expect("a pipe");
            let writer = PipeWriter::from(writer);
            let writing = Box::new(Real(writer.into_poll()));
            (Subject::Halves(None, Some(writing)), OtherPipe::Reads(reader).boxed())
        })
        .await;
    });
}
