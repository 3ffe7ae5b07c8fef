//! A program: objects, and steps on them. Steps are entries for the ring, and what the other end of
//! an object does meanwhile.
//!
//! A program is data. It prints as the code that makes it, so that one which was found at random
//! becomes a test by copying.

use std::fmt;

/// What a program works on, made anew for each run. Operations work on this end of it, peers on the
/// other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Object {
    /// This end reads.
    PipeReader,
    /// This end writes.
    PipeWriter,
    /// A pair of stream sockets.
    Unix,
    /// A pair of datagram sockets.
    Datagram,
    /// A pair of UDP sockets over loopback. This end is told the time to live and the type of
    /// service of what comes.
    Udp,
    /// A connection over loopback.
    Tcp,
    /// Listens on loopback; the peer connects.
    Listener,
    /// A TCP socket that is not connected. `Connect` takes it to a listener.
    Socket,
    /// A file with this many bytes, open for reading and writing.
    File(u32),
    /// The same, with `O_APPEND`.
    Append(u32),
    /// The same, read-only.
    ReadOnly(u32),
    /// A directory for the operations on paths.
    Directory,
    /// A number that no descriptor has.
    Bad,
}

pub(crate) use Object::{
    Append, Bad, Datagram, Directory, File, Listener, PipeReader, PipeWriter, ReadOnly, Socket,
    Tcp, Udp, Unix,
};

/// How long is it until a timeout?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// No longer than a program waits.
    Soon,
    /// Longer than any program runs.
    Never,
    /// A time that the kernel refuses.
    Negative,
}

pub(crate) use After::{Negative, Never, Soon};

/// One operation of the ring. `on` is the number of an object, `target` that of an earlier entry of
/// the program; lengths are in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    Nop,
    /// An opcode that there is not.
    Unknown,
    Read {
        on: usize,
        length: u32,
        offset: i64,
    },
    Write {
        on: usize,
        length: u32,
        offset: i64,
    },
    /// Into or from two buffers.
    Readv {
        on: usize,
        lengths: [u32; 2],
        offset: i64,
    },
    Writev {
        on: usize,
        lengths: [u32; 2],
        offset: i64,
    },
    Fsync {
        on: usize,
    },
    Truncate {
        on: usize,
        length: u64,
    },
    Recv {
        on: usize,
        length: u32,
        flags: i32,
    },
    Send {
        on: usize,
        length: u32,
        flags: i32,
    },
    SendZc {
        on: usize,
        length: u32,
    },
    RecvMsg {
        on: usize,
        length: u32,
    },
    SendMsg {
        on: usize,
        length: u32,
    },
    /// With so many bytes of room for control messages.
    RecvControl {
        on: usize,
        length: u32,
        room: u32,
    },
    /// With a control message by which UDP sends datagrams of three bytes.
    SendControl {
        on: usize,
        length: u32,
    },
    /// Into the buffers that the program provides.
    RecvProvided {
        on: usize,
        multishot: bool,
    },
    ReadProvided {
        on: usize,
        length: u32,
    },
    /// Into these, one message after the other, each behind a head.
    RecvMsgMultishot {
        on: usize,
    },
    /// The same with room for control messages in each buffer.
    RecvControlMultishot {
        on: usize,
        room: u32,
    },
    ReadMultishot {
        on: usize,
    },
    Accept {
        on: usize,
        multishot: bool,
    },
    /// To the listener `to`.
    Connect {
        on: usize,
        to: usize,
    },
    Shutdown {
        on: usize,
        how: i32,
    },
    Close {
        on: usize,
    },
    Poll {
        on: usize,
        mask: i16,
        multishot: bool,
    },
    Timeout {
        after: After,
        times: u32,
    },
    TimeoutUpdate {
        target: usize,
        after: After,
    },
    TimeoutRemove {
        target: usize,
    },
    /// Ends the entry in front of it, to which it is linked.
    LinkTimeout {
        after: After,
    },
    Cancel {
        target: usize,
    },
    CancelDescriptor {
        on: usize,
        all: bool,
    },
    CancelAll,
    /// Paths are named by letters in a directory object.
    Open {
        on: usize,
        name: char,
        flags: i32,
    },
    Stat {
        on: usize,
        name: char,
    },
    Rename {
        on: usize,
        from: char,
        to: char,
    },
    Unlink {
        on: usize,
        name: char,
    },
    MakeDirectory {
        on: usize,
        name: char,
    },
    /// By openat2(2), which follows no magic link here.
    OpenAt2 {
        on: usize,
        name: char,
        flags: i32,
    },
    HardLink {
        on: usize,
        from: char,
        to: char,
    },
    /// `name` leads to `to`, in the same directory.
    SymbolicLink {
        on: usize,
        to: char,
        name: char,
    },
    /// An extended attribute of a name, or of a file.
    SetAttributeOf {
        on: usize,
        name: char,
        length: u32,
    },
    GetAttributeOf {
        on: usize,
        name: char,
        length: u32,
    },
    SetAttribute {
        on: usize,
        length: u32,
    },
    GetAttribute {
        on: usize,
        length: u32,
    },
    /// Sets blocks aside, or gives them back: the mode is that of fallocate(2).
    Allocate {
        on: usize,
        mode: i32,
        offset: u64,
        length: u64,
    },
    Advise {
        on: usize,
    },
    WriteBack {
        on: usize,
        offset: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    None,
    Soft,
    Hard,
}

/// One submission entry: an operation, and how it hangs together with the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) op: Op,
    pub(crate) link: Link,
    /// No completion if it succeeds.
    pub(crate) skip: bool,
}

impl Op {
    pub(crate) fn alone(self) -> Entry {
        Entry { op: self, link: Link::None, skip: false }
    }

    pub(crate) fn soft(self) -> Entry {
        Entry { op: self, link: Link::Soft, skip: false }
    }

    pub(crate) fn hard(self) -> Entry {
        Entry { op: self, link: Link::Hard, skip: false }
    }

    /// The object that it works on.
    pub(crate) fn object(&self) -> Option<usize> {
        match *self {
            Op::Nop | Op::Unknown | Op::CancelAll => None,
            Op::Timeout { .. }
            | Op::TimeoutUpdate { .. }
            | Op::TimeoutRemove { .. }
            | Op::LinkTimeout { .. } => None,
            Op::Cancel { .. } => None,
            Op::Read { on, .. }
            | Op::Write { on, .. }
            | Op::Readv { on, .. }
            | Op::Writev { on, .. } => Some(on),
            Op::Fsync { on } | Op::Truncate { on, .. } | Op::Close { on } => Some(on),
            Op::Recv { on, .. } | Op::Send { on, .. } | Op::SendZc { on, .. } => Some(on),
            Op::RecvMsg { on, .. } | Op::SendMsg { on, .. } => Some(on),
            Op::RecvControl { on, .. } | Op::SendControl { on, .. } => Some(on),
            Op::RecvControlMultishot { on, .. } => Some(on),
            Op::RecvProvided { on, .. } | Op::ReadProvided { on, .. } => Some(on),
            Op::RecvMsgMultishot { on } | Op::ReadMultishot { on } => Some(on),
            Op::Accept { on, .. }
            | Op::Connect { on, .. }
            | Op::Shutdown { on, .. }
            | Op::Poll { on, .. } => Some(on),
            Op::CancelDescriptor { on, .. } => Some(on),
            Op::Open { on, .. } | Op::Stat { on, .. } | Op::Rename { on, .. } => Some(on),
            Op::Unlink { on, .. } | Op::MakeDirectory { on, .. } => Some(on),
            Op::OpenAt2 { on, .. }
            | Op::HardLink { on, .. }
            | Op::SymbolicLink { on, .. }
            | Op::SetAttributeOf { on, .. }
            | Op::GetAttributeOf { on, .. } => Some(on),
            Op::SetAttribute { on, .. } | Op::GetAttribute { on, .. } => Some(on),
            Op::Allocate { on, .. } | Op::Advise { on } | Op::WriteBack { on, .. } => Some(on),
        }
    }

    /// The earlier entry that it names.
    pub(crate) fn target_mut(&mut self) -> Option<&mut usize> {
        match self {
            Op::Cancel { target }
            | Op::TimeoutUpdate { target, .. }
            | Op::TimeoutRemove { target } => Some(target),
            _ => None,
        }
    }

    /// Does it take the buffers that the program provides?
    pub(crate) fn takes_buffers(&self) -> bool {
        let messages = matches!(
            self,
            Op::RecvMsgMultishot { .. }
                | Op::RecvControlMultishot { .. }
                | Op::ReadMultishot { .. }
        );
        messages || matches!(self, Op::RecvProvided { .. } | Op::ReadProvided { .. })
    }

    /// Does it take bytes, connections or readiness from this end?
    pub(crate) fn takes(&self) -> bool {
        let waits = matches!(self, Op::Accept { .. } | Op::Poll { .. });
        self.takes_buffers()
            || waits
            || matches!(
                self,
                Op::Read { .. }
                    | Op::Readv { .. }
                    | Op::Recv { .. }
                    | Op::RecvMsg { .. }
                    | Op::RecvControl { .. }
            )
    }

    /// Does it concern a file as a whole, beyond its length?
    pub(crate) fn is_on_whole_file(&self) -> bool {
        matches!(
            self,
            Op::SetAttribute { .. }
                | Op::GetAttribute { .. }
                | Op::Allocate { .. }
                | Op::Advise { .. }
                | Op::WriteBack { .. }
        )
    }

    /// Does it end others?
    pub(crate) fn cancels(&self) -> bool {
        matches!(self, Op::Cancel { .. } | Op::CancelDescriptor { .. } | Op::CancelAll)
    }

    /// Does it put bytes into this end?
    pub(crate) fn gives(&self) -> bool {
        matches!(
            self,
            Op::Write { .. }
                | Op::Writev { .. }
                | Op::Send { .. }
                | Op::SendZc { .. }
                | Op::SendMsg { .. }
                | Op::SendControl { .. }
                | Op::Poll { .. }
        )
    }
}

impl Entry {
    pub(crate) fn skip(mut self) -> Entry {
        self.skip = true;
        self
    }

    pub(crate) fn is_linked(&self) -> bool {
        self.link != Link::None
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Submits these entries at once.
    Submit(Vec<Entry>),
    /// The next step begins before the last has come to rest: it was submitted, and no completion
    /// taken.
    Rush,
    /// Makes as many buffers of this length and gives them to the ring, in order. Once in a
    /// program.
    Provide {
        buffers: u16,
        length: u32,
    },
    /// Gives all buffers back that came with completions, in their order.
    Return,
    /// The peer of an object writes.
    PeerWrites {
        on: usize,
        length: u32,
    },
    /// The peer reads what there is, up to this length.
    PeerReads {
        on: usize,
        length: u32,
    },
    /// The peer says that it will write no more.
    PeerShuts {
        on: usize,
    },
    /// The peer says that it will read no more.
    PeerStopsReading {
        on: usize,
    },
    PeerCloses {
        on: usize,
    },
    /// The peer of a TCP connection closes it in a hurry.
    PeerResets {
        on: usize,
    },
    /// Somebody connects to a listener.
    PeerConnects {
        on: usize,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) objects: Vec<Object>,
    pub(crate) steps: Vec<Step>,
}

pub(crate) fn program(
    objects: impl IntoIterator<Item = Object>,
    steps: impl IntoIterator<Item = Step>,
) -> Program {
    Program { objects: objects.into_iter().collect(), steps: steps.into_iter().collect() }
}

impl Object {
    /// Is it a thing that only workers work on?
    pub(crate) fn is_file(self) -> bool {
        matches!(self, File(_) | Append(_) | ReadOnly(_) | Directory)
    }
}

impl Program {
    /// May a worker thread of the kernel carry it out?
    pub(crate) fn has_worker(objects: &[Object], op: &Op) -> bool {
        op.object().is_some_and(|on| objects[on].is_file())
            || matches!(
                op,
                Op::Fsync { .. } | Op::Truncate { .. } | Op::Shutdown { .. } | Op::Connect { .. }
            )
            || op.is_on_whole_file()
    }

    /// Does anything stand behind an operation of a worker in a chain? Then the worker may carry
    /// that out, too.
    pub(crate) fn keeps_workers_busy(&self) -> bool {
        self.steps.iter().any(|step| match step {
            Step::Submit(entries) => entries
                .windows(2)
                .any(|pair| pair[0].is_linked() && Program::has_worker(&self.objects, &pair[0].op)),
            _ => false,
        })
    }

    /// All entries in the order of their numbers.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.steps.iter().flat_map(|step| match step {
            Step::Submit(entries) => entries.as_slice(),
            _ => &[],
        })
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let link = match self.link {
            Link::None => "alone",
            Link::Soft => "soft",
            Link::Hard => "hard",
        };
        write!(f, "{:?}.{link}()", self.op)?;
        if self.skip { write!(f, ".skip()") } else { Ok(()) }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "program(\n    {:?},\n    [", self.objects)?;
        for step in &self.steps {
            match step {
                Step::Submit(entries) => {
                    let entries: Vec<_> = entries.iter().map(Entry::to_string).collect();
                    writeln!(f, "        Submit(vec![{}]),", entries.join(", "))?;
                }
                other => writeln!(f, "        {other:?},")?,
            }
        }
        write!(f, "    ],\n)")
    }
}
