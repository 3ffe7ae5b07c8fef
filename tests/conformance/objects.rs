//! The objects that a program works on: pipes, sockets, files, directories, and their other ends.

use std::cell::RefCell;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use socket2::{Domain, SockAddr, Socket, Type};

use super::common::scratch_dir;
use super::program::Object;

/// A number that no descriptor has.
const NO_DESCRIPTOR: RawFd = -1;

thread_local! {
    static SCRATCH: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
}

/// A path that is not used yet, in a directory on disk that goes with the thread.
fn scratch() -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    SCRATCH.with_borrow_mut(|scratch| {
        let scratch = scratch.get_or_insert_with(scratch_dir);
        scratch.path().join(COUNT.fetch_add(1, Ordering::Relaxed).to_string())
    })
}

/// An address of this machine that nobody else uses now. Programs connect to listeners that have
/// gone, and at an address of all somebody else might have the port by then.
fn own_address() -> Ipv4Addr {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = (std::process::id() << 12).wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed));
    let [_, a, b, c] = number.to_be_bytes();
    // The first and the last of a network are special.
    Ipv4Addr::new(127, a, b, c.clamp(2, 254))
}

/// One object of a program.
#[derive(Debug)]
pub(crate) struct Thing {
    pub(super) kind: Object,
    pub(super) ours: Option<OwnedFd>,
    pub(super) peer: Option<OwnedFd>,
    /// Those who have connected to a listener.
    pub(super) clients: Vec<OwnedFd>,
    pub(super) address: Option<SockAddr>,
    pub(super) path: Option<PathBuf>,
    /// The next byte that the peer writes: neighbours differ, so that order shows.
    pub(super) next: u8,
}

impl Thing {
    pub(super) fn make(kind: Object) -> io::Result<Thing> {
        let mut thing = Thing {
            kind,
            ours: None,
            peer: None,
            clients: Vec::new(),
            address: None,
            path: None,
            next: 1,
        };
        match kind {
            Object::PipeReader | Object::PipeWriter => {
                let (reader, writer) = io::pipe()?;
                let (ours, peer): (OwnedFd, OwnedFd) = match kind {
                    Object::PipeReader => (reader.into(), writer.into()),
                    _ => (writer.into(), reader.into()),
                };
                (thing.ours, thing.peer) = (Some(ours), Some(peer));
            }
            Object::Unix => {
                let (ours, peer) = UnixStream::pair()?;
                (thing.ours, thing.peer) = (Some(ours.into()), Some(peer.into()));
            }
            Object::Datagram => {
                let (ours, peer) = UnixDatagram::pair()?;
                (thing.ours, thing.peer) = (Some(ours.into()), Some(peer.into()));
            }
            Object::Udp => {
                let (ours, peer) =
                    (UdpSocket::bind((own_address(), 0))?, UdpSocket::bind((own_address(), 0))?);
                ours.connect(peer.local_addr()?)?;
                peer.connect(ours.local_addr()?)?;
                for option in [libc::IP_RECVTTL, libc::IP_RECVTOS] {
                    let on: libc::c_int = 1;
                    // SAFETY: the value outlives the call.
                    let set = unsafe {
                        libc::setsockopt(
                            ours.as_raw_fd(),
                            libc::IPPROTO_IP,
                            option,
                            (&raw const on).cast(),
                            size_of_val(&on) as u32,
                        )
                    };
                    assert_eq!(set, 0, "{}", io::Error::last_os_error());
                }
                (thing.ours, thing.peer) = (Some(ours.into()), Some(peer.into()));
            }
            Object::Tcp => {
                let listener = TcpListener::bind((own_address(), 0))?;
                let peer = TcpStream::connect(listener.local_addr()?)?;
                let (ours, _) = listener.accept()?;
                for stream in [&ours, &peer] {
                    stream.set_nodelay(true)?;
                }
                (thing.ours, thing.peer) = (Some(ours.into()), Some(peer.into()));
            }
            Object::Listener => {
                let listener = TcpListener::bind((own_address(), 0))?;
                thing.address = Some(SockAddr::from(listener.local_addr()?));
                thing.ours = Some(listener.into());
            }
            Object::Socket => {
                thing.ours = Some(Socket::new(Domain::IPV4, Type::STREAM, None)?.into())
            }
            Object::File(length) | Object::Append(length) | Object::ReadOnly(length) => {
                let path = scratch();
                let content: Vec<u8> =
                    (0..length).map(|index| index as u8 ^ (index >> 8) as u8).collect();
                fs::write(&path, content)?;
                let file = match kind {
                    Object::Append(_) => {
                        fs::OpenOptions::new().read(true).append(true).open(&path)?
                    }
                    Object::ReadOnly(_) => fs::File::open(&path)?,
                    _ => fs::OpenOptions::new().read(true).write(true).open(&path)?,
                };
                thing.peer = Some(fs::File::open(&path)?.into());
                fs::remove_file(&path)?;
                thing.ours = Some(file.into());
            }
            Object::Directory => {
                let path = scratch();
                fs::create_dir(&path)?;
                fs::write(path.join("a"), "content of a")?;
                thing.path = Some(path);
            }
            Object::Bad => {}
        }
        if let Some(peer) = &thing.peer {
            nonblocking(peer);
        }
        Ok(thing)
    }

    pub(super) fn number(&self) -> RawFd {
        self.ours.as_ref().map_or(NO_DESCRIPTOR, AsRawFd::as_raw_fd)
    }

    /// What has not been read by the program, at either end; the whole content of a file; the names
    /// in a directory.
    pub(super) fn left(&mut self) -> Vec<Vec<u8>> {
        match self.kind {
            Object::File(_) | Object::Append(_) | Object::ReadOnly(_) => {
                let mut file =
                    fs::File::from(self.peer.take().expect("a file has a second descriptor"));
                let mut content = Vec::new();
                file.seek(SeekFrom::Start(0))
                    .and_then(|_| file.read_to_end(&mut content))
                    .expect("a file reads");
                vec![content]
            }
            Object::Directory => {
                let path = self.path.as_ref().expect("a directory has a path");
                let mut names: Vec<_> = fs::read_dir(path)
                    .expect("a directory lists")
                    .map(|entry| entry.expect("a name").file_name().as_bytes().to_vec())
                    .collect();
                names.sort();
                fs::remove_dir_all(path).expect("a directory goes");
                names
            }
            // How many connections nobody has accepted.
            Object::Listener => self.ours.take().map_or_else(Vec::new, |ours| {
                nonblocking(&ours);
                let listener = TcpListener::from(ours);
                vec![vec![std::iter::from_fn(|| listener.accept().ok()).count() as u8]]
            }),
            _ => [self.peer.take(), self.ours.take()].into_iter().flatten().map(drain).collect(),
        }
    }
}

fn nonblocking(end: &OwnedFd) {
    // SAFETY: the call takes no pointer.
    unsafe {
        libc::fcntl(
            end.as_raw_fd(),
            libc::F_SETFL,
            libc::fcntl(end.as_raw_fd(), libc::F_GETFL) | libc::O_NONBLOCK,
        )
    };
}

/// Everything that can be read without waiting.
fn drain(end: OwnedFd) -> Vec<u8> {
    nonblocking(&end);
    let mut end = fs::File::from(end);
    let mut content = Vec::new();
    let mut part = [0; 4096];
    loop {
        match end.read(&mut part) {
            Ok(0) => break,
            Ok(count) => content.extend_from_slice(&part[..count]),
            Err(_) => break,
        }
    }
    content
}
