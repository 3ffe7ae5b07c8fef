//! Messages of Unix sockets, with their addresses and with what comes along: descriptors and
//! credentials. sendmsg(2), recvmsg(2), unix(7).
//!
//! # Safety
//! The buffer, the header and its control messages, and the length of a pause belong to the
//! operation, on the heap. The descriptors that a send names are the operation's own duplicates.
#![allow(unsafe_code)]

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::SocketAddr;
use std::ptr;

use io_uring::{opcode, squeue, types};

use crate::buf::{Error, IoBuf, IoBufMut};
use crate::inflight::{
    Direction, Handle, Left, MOST_BYTES, Manner, MessageHeader, Op, Operation, Resource, Step,
    Turns, claim, filled, needs_room, written,
};
use crate::ring::Completion;
use crate::sys::control::{Enclosed, MOST_DESCRIPTORS, space};
use crate::sys::{self, Descriptor, SockAddr, UCred};

/// Credentials of the sender, and its process.
const SENDER: usize = space(12) + space(4);
/// Attempts of the kernel to receive that find nothing, for each of which it may write a sender.
const VAIN_ATTEMPTS: usize = 16;
/// Room for all that comes along with one message.
const ROOM: usize = space(MOST_DESCRIPTORS * 4) + (1 + VAIN_ATTEMPTS) * SENDER;

/// A message of a Unix socket with all that came along.
#[derive(Debug)]
#[non_exhaustive]
pub struct UnixMessage<B> {
    /// How many bytes came.
    pub count: usize,
    /// The buffer, with those bytes in it.
    pub buffer: B,
    /// Where it came from. Of a connection it is unnamed: its `peer_addr` tells.
    pub from: SocketAddr,
    /// It was longer than the buffer had room for, and the rest of it is lost. Never of a stream.
    pub truncated: bool,
    /// The descriptors that came along, close-on-exec. They are closed unless somebody takes them.
    pub descriptors: Vec<OwnedFd>,
    /// Who has sent it, if the socket was told to ask (`set_passcred`).
    pub credentials: Option<UCred>,
    /// The process that has sent it, if somebody has set `SO_PASSPIDFD` (Linux 6.5).
    pub pidfd: Option<OwnedFd>,
}

/// Descriptors that go along, or have come. To close the last of a socket that lingers would wait,
/// so what nobody has taken goes by the way of a file that is dropped.
#[derive(Default)]
struct Guests(Vec<Descriptor>);

impl Guests {
    fn take(&mut self) -> Vec<OwnedFd> {
        self.0.drain(..).map(OwnedFd::from).collect()
    }
}

impl Drop for Guests {
    fn drop(&mut self) {
        self.0.drain(..).for_each(|descriptor| drop(Resource::of_file(descriptor)));
    }
}

/// What came along with a message.
#[derive(Default)]
struct Luggage {
    descriptors: Guests,
    credentials: Option<UCred>,
    process: Option<Descriptor>,
    /// Descriptors were sent for which this process had no numbers left.
    is_cut_off: bool,
}

impl Luggage {
    fn keep(&mut self, enclosed: Enclosed) {
        match enclosed {
            Enclosed::Descriptors(descriptors) => self.descriptors.0.extend(descriptors),
            Enclosed::Credentials(credentials) => self.credentials = Some(credentials.into()),
            Enclosed::Process(process) => self.process = Some(process),
            Enclosed::Destination { .. }
            | Enclosed::TrafficClass(_)
            | Enclosed::SegmentLength(_) => {}
        }
    }
}

/// What a receive has brought.
pub struct Brought<B> {
    count: usize,
    buffer: B,
    from: SocketAddr,
    truncated: bool,
    luggage: Luggage,
}

/// What a receive yields of what it has brought.
pub trait Wanted: 'static {
    /// On success.
    type Output<B>;

    /// Does it want what comes along? Else the kernel closes descriptors.
    const LUGGAGE: bool = false;

    /// Chooses.
    fn of<B>(brought: Brought<B>) -> Result<Self::Output<B>, Error<B>>;
}

/// The bytes. What there is no room for is cut off without a word, as recv(2) does.
pub enum Bytes {}

impl Wanted for Bytes {
    type Output<B> = (usize, B);

    fn of<B>(brought: Brought<B>) -> Result<(usize, B), Error<B>> {
        Ok((brought.count, brought.buffer))
    }
}

/// The bytes of a whole message, or an error.
pub enum WholeMessage {}

impl Wanted for WholeMessage {
    type Output<B> = (usize, B);

    fn of<B>(brought: Brought<B>) -> Result<(usize, B), Error<B>> {
        let Brought { count, buffer, truncated, .. } = brought;
        if truncated {
            let error = io::Error::from_raw_os_error(libc::EMSGSIZE);
            return Err(Error::new(error, buffer).with_transferred(count));
        }
        Ok((count, buffer))
    }
}

/// The bytes, and where they came from.
pub enum BytesFrom {}

impl Wanted for BytesFrom {
    type Output<B> = (usize, SocketAddr, B);

    fn of<B>(brought: Brought<B>) -> Result<(usize, SocketAddr, B), Error<B>> {
        Ok((brought.count, brought.from, brought.buffer))
    }
}

/// All of it.
pub enum Everything {}

impl Wanted for Everything {
    type Output<B> = UnixMessage<B>;

    const LUGGAGE: bool = true;

    fn of<B>(brought: Brought<B>) -> Result<UnixMessage<B>, Error<B>> {
        let Brought { count, buffer, from, truncated, mut luggage } = brought;
        if luggage.is_cut_off {
            return Err(Error::new(cut_off(), buffer).with_transferred(count));
        }
        Ok(UnixMessage {
            count,
            buffer,
            from,
            truncated,
            descriptors: luggage.descriptors.take(),
            credentials: luggage.credentials,
            pidfd: luggage.process.map(OwnedFd::from),
        })
    }
}

/// There is room for all that one message carries, so it was not for want of that.
fn cut_off() -> io::Error {
    io::Error::other(
        "some of what came along was lost: this process has no number left for a descriptor (EMFILE), or a security module refused one; those that had come are closed, and the bytes are in the buffer",
    )
}

/// Receives one message, or what has come of a stream.
pub struct ReceiveUnixMessage<B, W> {
    socket: Handle,
    buffer: B,
    header: MessageHeader,
    is_stream: bool,
    wanted: PhantomData<W>,
}

impl<B: IoBufMut, W: Wanted> ReceiveUnixMessage<B, W> {
    /// Of a socket that keeps messages apart.
    pub(crate) fn op(socket: &Handle, buffer: B) -> Op<'_, ReceiveUnixMessage<B, W>> {
        ReceiveUnixMessage::new(socket, buffer, false)
    }

    pub(crate) fn of_stream(socket: &Handle, buffer: B) -> Op<'_, ReceiveUnixMessage<B, W>> {
        ReceiveUnixMessage::new(socket, buffer, true)
    }

    fn new(socket: &Handle, buffer: B, is_stream: bool) -> Op<'_, ReceiveUnixMessage<B, W>> {
        let refused = needs_room(&buffer);
        let header = MessageHeader::for_any_address();
        let wanted = PhantomData;
        Op::settled(
            ReceiveUnixMessage { socket: socket.clone(), buffer, header, is_stream, wanted },
            refused,
        )
    }
}

// SAFETY: the buffer, the header and its control messages belong to the operation, on the heap; the
// handle keeps the descriptor open.
unsafe impl<B: IoBufMut, W: Wanted> Operation for ReceiveUnixMessage<B, W> {
    type Output = Result<W::Output<B>, Error<B>>;

    const TURNS: Option<Turns<Self>> =
        Some(Turns { claim: Self::claim, leave: Self::leave, ..Turns::of(Self::lane) });

    fn entry(&mut self) -> squeue::Entry {
        let length = self.buffer.capacity().min(MOST_BYTES);
        let buffer = libc::iovec { iov_base: self.buffer.as_mut_ptr().cast(), iov_len: length };
        let mut message = self.header.message_of_one(buffer, true);
        if W::LUGGAGE {
            self.header.control().make_room(ROOM);
            message = self.header.with_control();
        }
        opcode::RecvMsg::new(self.socket.target(), message)
            .flags(libc::MSG_CMSG_CLOEXEC as u32)
            .build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(self.brought(completion).and_then(W::of))
    }
}

impl<B: IoBufMut, W: Wanted> ReceiveUnixMessage<B, W> {
    fn brought(mut self, completion: Completion) -> Result<Brought<B>, Error<B>> {
        let (count, buffer) = filled(self.buffer, completion.result())?;
        let flags = self.header.message_flags();
        let mut luggage = Luggage::default();
        if W::LUGGAGE {
            // All of the room, and not only as much as the kernel says. Where credentials are asked
            // for, each of its attempts on a stream writes some, nobody's if there is no message
            // yet, and the length that it says is that of the last attempt alone. Behind what it
            // has written there are zeroes, which are no message.
            self.header.control().take(ROOM, |enclosed| luggage.keep(enclosed));
            luggage.is_cut_off = flags & libc::MSG_CTRUNC != 0;
        }
        match sys::unix_address_of(&self.header.into_message_address()) {
            Ok(from) => {
                let truncated = flags & libc::MSG_TRUNC != 0;
                Ok(Brought { count, buffer, from, truncated, luggage })
            }
            Err(error) => Err(Error::new(error, buffer)),
        }
    }

    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        Some((&self.socket, Direction::Inbound, Manner::Alone))
    }

    fn claim(mut self) -> Step<Self> {
        let lane = self.socket.lane(Direction::Inbound);
        match lane.take_left() {
            Some(Left::Message { bytes, rest }) => match rest.downcast::<Rest>() {
                Ok(rest) => Step::Done(self.brought_before(bytes, *rest).and_then(W::of)),
                Err(_) => Step::Again(self),
            },
            // Bytes of a stream that another kind of read left, or an error.
            Some(left) => {
                lane.put_back(left);
                let Some(result) = claim(&self.socket, &mut self.buffer, 0) else {
                    return Step::Again(self);
                };
                let brought = filled(self.buffer, result).and_then(|(count, buffer)| {
                    match sys::unnamed_unix_address() {
                        Ok(from) => Ok(Brought {
                            count,
                            buffer,
                            from,
                            truncated: false,
                            luggage: Luggage::default(),
                        }),
                        Err(error) => Err(Error::new(error, buffer)),
                    }
                });
                Step::Done(brought.and_then(W::of))
            }
            None => Step::Again(self),
        }
    }

    /// What a dropped receive has left, as this one would have got it.
    fn brought_before(mut self, mut bytes: Vec<u8>, rest: Rest) -> Result<Brought<B>, Error<B>> {
        let Rest { from, mut truncated, luggage } = rest;
        let count = bytes.len().min(self.buffer.capacity());
        // SAFETY: the buffer belongs to this operation, has room for that many bytes, and is not
        // the lane's.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.buffer.as_mut_ptr(), count) };
        if count < bytes.len() && self.is_stream {
            bytes.drain(..count);
            self.socket.lane(Direction::Inbound).put_back(Left::Bytes { bytes, start: 0 });
        } else {
            truncated |= count < bytes.len();
        }
        let (count, buffer) = filled(self.buffer, Ok(count))?;
        Ok(Brought { count, buffer, from, truncated, luggage })
    }

    fn leave(self, completion: Completion) {
        let (socket, is_stream) = (self.socket.clone(), self.is_stream);
        let lane = socket.lane(Direction::Inbound);
        match self.brought(completion) {
            // The end of a stream is told each time.
            Ok(Brought { count: 0, .. }) if is_stream => {}
            Ok(Brought { count, buffer, from, truncated, luggage }) => {
                let bytes = buffer.as_init()[..count].to_vec();
                let rest = Box::new(Rest { from, truncated, luggage });
                lane.leave(Left::Message { bytes, rest });
            }
            Err(error) => lane.leave_error(error.get_ref()),
        }
    }
}

/// What waits in a lane beside the bytes of a message.
struct Rest {
    from: SocketAddr,
    truncated: bool,
    luggage: Luggage,
}

/// Sends one message, to an address or to the connected peer, perhaps with descriptors.
///
/// A socket that keeps messages apart is asked not to wait, and then polled. The kernel's ring
/// would send an empty message: it has copied the bytes when it finds that the receiver has no
/// room, and copies on where it was when it tries again.
pub struct SendUnixMessage<B> {
    socket: Handle,
    buffer: B,
    header: MessageHeader,
    /// What goes along, open until the last completion.
    duplicates: Guests,
    /// Why it is not sent at all.
    refusal: Option<io::Error>,
    kind: MessageKind,
    next: Attempt,
    /// The pause that is under way, for the kernel to read.
    pause: Option<Box<types::Timespec>>,
    /// The length of the next one.
    next_pause: u32,
}

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MessageKind {
    /// To the connected peer, among the bytes of a stream.
    InStream,
    /// To the connected peer, apart from others.
    ToPeer,
    /// To an address. Polling does not tell whether there is room.
    ToAddress,
}

/// What is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    /// `polled`: there is said to be room.
    Send {
        polled: bool,
    },
    Poll,
    Pause,
}

/// How long a receiver without room is left alone where polling does not tell, in nanoseconds: at
/// first, and after some attempts.
const SHORTEST_PAUSE: u32 = 1_000_000;
const LONGEST_PAUSE: u32 = 16_000_000;

impl<B: IoBuf> SendUnixMessage<B> {
    /// Sends a datagram to an address.
    pub(crate) fn to(
        socket: &Handle,
        buffer: B,
        address: io::Result<SockAddr>,
    ) -> Op<'_, SendUnixMessage<B>> {
        let (header, refusal) = match address {
            Ok(address) => (MessageHeader::for_address(&address), None),
            Err(error) => (MessageHeader::for_no_address(), Some(error)),
        };
        let refused = (Guests::default(), refusal);
        SendUnixMessage::start(socket, buffer, header, refused, MessageKind::ToAddress)
    }

    /// Sends a message to the connected peer.
    pub(crate) fn to_peer(socket: &Handle, buffer: B) -> Op<'_, SendUnixMessage<B>> {
        let (header, nothing) = (MessageHeader::for_no_address(), (Guests::default(), None));
        SendUnixMessage::start(socket, buffer, header, nothing, MessageKind::ToPeer)
    }

    /// Sends a message to the connected peer, with descriptors.
    pub(crate) fn with_descriptors<'h>(
        socket: &'h Handle,
        buffer: B,
        descriptors: &[impl AsFd],
        is_stream: bool,
    ) -> Op<'h, SendUnixMessage<B>> {
        let mut header = MessageHeader::for_no_address();
        let (duplicates, refusal) = if is_stream && buffer.init_len() == 0 {
            (Guests::default(), Some(nothing_to_go_along_with()))
        } else {
            match duplicate(descriptors) {
                Ok(duplicates) => (duplicates, None),
                Err(error) => (Guests::default(), Some(error)),
            }
        };
        header.control().clear();
        if !duplicates.0.is_empty() {
            header.control().push_descriptors(duplicates.0.iter().map(Descriptor::as_fd));
        }
        let kind = if is_stream { MessageKind::InStream } else { MessageKind::ToPeer };
        SendUnixMessage::start(socket, buffer, header, (duplicates, refusal), kind)
    }

    fn start(
        socket: &Handle,
        buffer: B,
        header: MessageHeader,
        (duplicates, refusal): (Guests, Option<io::Error>),
        kind: MessageKind,
    ) -> Op<'_, SendUnixMessage<B>> {
        let refused = refusal.is_some().then_some(-libc::EINVAL);
        let send = SendUnixMessage {
            socket: socket.clone(),
            buffer,
            header,
            duplicates,
            refusal,
            kind,
            next: Attempt::Send { polled: false },
            pause: None,
            next_pause: SHORTEST_PAUSE,
        };
        Op::settled(send, refused)
    }
}

/// Borrowed descriptors might be closed, and their numbers used again, before the kernel looks them
/// up: when the socket has room.
fn duplicate(descriptors: &[impl AsFd]) -> io::Result<Guests> {
    if descriptors.len() > MOST_DESCRIPTORS {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a message takes at most 253 descriptors along",
        ));
    }
    let mut guests = Guests::default();
    for descriptor in descriptors {
        guests.0.push(descriptor.as_fd().try_clone_to_owned()?.into());
    }
    Ok(guests)
}

fn nothing_to_go_along_with() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "descriptors go along with the bytes of a stream: there must be a byte at least",
    )
}

// SAFETY: the buffer, the header and its control messages belong to the operation, on the heap; the
// handle keeps the descriptor open, and the descriptors that go along are the operation's.
unsafe impl<B: IoBuf> Operation for SendUnixMessage<B> {
    type Output = Result<(usize, B), Error<B>>;

    const TURNS: Option<Turns<Self>> = Some(Turns::of(Self::lane));

    fn entry(&mut self) -> squeue::Entry {
        match self.next {
            Attempt::Send { .. } => {}
            Attempt::Poll => {
                return opcode::PollAdd::new(self.socket.target(), libc::POLLOUT as u32).build();
            }
            Attempt::Pause => {
                let pause = types::Timespec::new().nsec(self.next_pause);
                self.next_pause = LONGEST_PAUSE.min(self.next_pause * 2);
                let pause: *const types::Timespec = &raw const **self.pause.insert(Box::new(pause));
                return opcode::Timeout::new(pause).build();
            }
        }
        let length = self.buffer.init_len().min(MOST_BYTES);
        let buffer =
            libc::iovec { iov_base: self.buffer.as_init_ptr().cast_mut().cast(), iov_len: length };
        let mut message = self.header.message_of_one(buffer, self.kind == MessageKind::ToAddress);
        if !self.duplicates.0.is_empty() {
            message = self.header.with_control();
        }
        // Of a stream without MSG_WAITALL: before Linux 6.7 the descriptors would go along with
        // each part.
        let waits = if self.kind == MessageKind::InStream { 0 } else { libc::MSG_DONTWAIT };
        opcode::SendMsg::new(self.socket.target(), message)
            .flags((libc::MSG_NOSIGNAL | waits) as u32)
            .build()
    }

    fn complete(mut self, completion: Completion) -> Step<Self> {
        let (no_room, is_over) = (-libc::EAGAIN, -libc::ETIME);
        self.next = match (self.next, completion.result) {
            (Attempt::Send { polled: true }, result)
                if result == no_room && self.kind == MessageKind::ToAddress =>
            {
                Attempt::Pause
            }
            (Attempt::Send { .. }, result) if result == no_room => Attempt::Poll,
            (Attempt::Poll, 0..) => Attempt::Send { polled: true },
            (Attempt::Pause, result) if result == is_over => Attempt::Poll,
            _ => {
                self.header.control().clear();
                let result = self.refusal.take().map_or(completion.result(), Err);
                return Step::Done(written(self.buffer, result));
            }
        };
        Step::Again(self)
    }
}

impl<B: IoBuf> SendUnixMessage<B> {
    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        let manner = match self.kind {
            MessageKind::InStream => Manner::Alone,
            MessageKind::ToPeer | MessageKind::ToAddress => Manner::AfterDropped,
        };
        Some((&self.socket, Direction::Outbound, manner))
    }
}
