//! One case of every kind of operation, as a future that nobody has polled.

use std::future::Future;
use std::io::Write;
use std::net;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use annulus::custom;
use annulus::fs::{self, Dir, File, TempFile};
use annulus::io::{EventFd, PollFd};
use annulus::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream};
use annulus::process::{Command, Stdio};
use annulus::time;

use crate::common::{Pool, Tracked, poll_once};

/// An operation about to start.
pub(crate) struct Case {
    pub(crate) future: Pin<Box<dyn Future<Output = ()>>>,
    /// Makes it end if it does not by itself.
    pub(crate) trigger: Box<dyn FnOnce()>,
    /// The first poll puts an operation on the ring (and not only a timer).
    pub(crate) on_ring: bool,
}

pub(crate) type Make = fn(&Pool, &Path) -> Case;

impl Case {
    fn new(future: impl Future<Output = ()> + 'static) -> Case {
        Case { future: Box::pin(future), trigger: Box::new(|| {}), on_ring: true }
    }

    fn triggered(mut self, trigger: impl FnOnce() + 'static) -> Case {
        self.trigger = Box::new(trigger);
        self
    }
}

/// A file with 64 KiB in it that is open for reading and writing.
fn file(directory: &Path) -> File {
    let path = directory.join(name());
    std::fs::write(&path, vec![7; 64 * 1024]).expect("a file");
    File::from(std::fs::File::options().read(true).write(true).open(path).expect("open"))
}

/// A directory with a directory in it, with a file in that.
fn dir(directory: &Path) -> Dir {
    let path = directory.join(name());
    std::fs::create_dir_all(path.join("inner")).expect("a directory");
    std::fs::write(path.join("inner/file"), "content").expect("a file");
    Dir::from(OwnedFd::from(std::fs::File::open(path).expect("open")))
}

/// A name that no other case uses.
fn name() -> PathBuf {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    PathBuf::from(format!("case-{}", COUNT.fetch_add(1, Ordering::Relaxed)))
}

/// A stream whose other end is std's.
fn unix_stream() -> (UnixStream, unix::net::UnixStream) {
    let (ours, theirs) = unix::net::UnixStream::pair().expect("a pair");
    (UnixStream::from(ours), theirs)
}

fn tcp_stream() -> (TcpStream, net::TcpStream) {
    let listener = net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let theirs = net::TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
    (TcpStream::from(listener.accept().expect("accepted").0), theirs)
}

fn udp_socket() -> (UdpSocket, net::UdpSocket) {
    let ours = net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let theirs = net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    theirs.connect(ours.local_addr().expect("bound")).expect("connected");
    ours.connect(theirs.local_addr().expect("bound")).expect("connected");
    (UdpSocket::from(ours), theirs)
}

/// A stream that takes no more: the write waits until the other end is read.
fn full_stream() -> (UnixStream, unix::net::UnixStream) {
    let (ours, theirs) = unix::net::UnixStream::pair().expect("a pair");
    ours.set_nonblocking(true).expect("an option");
    while (&ours).write(&[1; 64 * 1024]).is_ok() {}
    ours.set_nonblocking(false).expect("an option");
    (UnixStream::from(ours), theirs)
}

/// Reads all that is there. The end stays open until the whole case has gone, or the write would
/// fail instead of going on.
fn drain(stream: Rc<unix::net::UnixStream>) -> impl FnOnce() {
    move || {
        stream.set_nonblocking(true).expect("an option");
        let _ = std::io::copy(&mut &*stream, &mut std::io::sink());
    }
}

fn buffers(pool: &Pool) -> Vec<Tracked> {
    vec![pool.empty(512), pool.empty(512)]
}

fn say_one(mut adder: impl Write) {
    adder.write_all(&1u64.to_ne_bytes()).expect("there is room");
}

fn say(mut stream: impl Write) {
    stream.write_all(&[9; 1024]).expect("there is room");
}

pub(crate) const ALL: &[(&str, Make)] = &[
    ("no_op", |_, _| Case::new(async { drop(annulus::no_op().await) })),
    ("read_at", |pool, directory| {
        let (file, buffer) = (file(directory), pool.empty(4096));
        Case::new(async move { drop(file.read_at(buffer, 0).await) })
    }),
    ("read_exact_at", |pool, directory| {
        let (file, buffer) = (file(directory), pool.empty(4096));
        Case::new(async move { drop(file.read_exact_at(buffer, 0).await) })
    }),
    ("read_vectored_at", |pool, directory| {
        let (file, buffers) = (file(directory), buffers(pool));
        Case::new(async move { drop(file.read_vectored_at(buffers, 0).await) })
    }),
    ("write_at", |pool, directory| {
        let (file, buffer) = (file(directory), pool.filled([1; 4096]));
        Case::new(async move { drop(file.write_at(buffer, 0).await) })
    }),
    ("write_all_at", |pool, directory| {
        let (file, buffer) = (file(directory), pool.filled([1; 4096]));
        Case::new(async move { drop(file.write_all_at(buffer, 0).await) })
    }),
    ("write_vectored_at", |pool, directory| {
        let (file, buffers) = (file(directory), vec![pool.filled([1; 512]), pool.filled([2; 512])]);
        Case::new(async move { drop(file.write_vectored_at(buffers, 0).await) })
    }),
    ("sync_all", |_, directory| {
        let file = file(directory);
        Case::new(async move { drop(file.sync_all().await) })
    }),
    ("sync_data", |_, directory| {
        let file = file(directory);
        Case::new(async move { drop(file.sync_data().await) })
    }),
    ("set_len", |_, directory| {
        let file = file(directory);
        Case::new(async move { drop(file.set_len(100).await) })
    }),
    // A device is asked by a worker, where a file of this machine is asked at once.
    ("file_metadata", |_, _| {
        let file = File::from(std::fs::File::open("/dev/null").expect("it is everywhere"));
        Case::new(async move { drop(file.metadata().await) })
    }),
    // With a dropped read in flight, since a close waits for nothing else.
    ("file_close", |pool, directory| {
        let (file, buffer) = (file(directory), pool.empty(8));
        Case::new(async move {
            assert!(poll_once(Box::pin(file.read_at(buffer, 0)).as_mut()).is_pending());
            drop(file.close().await);
        })
    }),
    ("metadata", |_, directory| {
        let path = directory.to_owned();
        Case::new(async move { drop(fs::metadata(path).await) })
    }),
    ("open", |_, directory| {
        let path = directory.join(name());
        std::fs::write(&path, "content").expect("a file");
        Case::new(async move { drop(File::open(path).await) })
    }),
    ("create", |_, directory| {
        let path = directory.join(name());
        Case::new(async move { drop(File::create(path).await) })
    }),
    ("fs_write", |pool, directory| {
        let (path, content) = (directory.join(name()), pool.filled("content"));
        Case::new(async move { drop(fs::write(path, content).await) })
    }),
    ("fs_read", |_, directory| {
        let path = directory.join(name());
        std::fs::write(&path, vec![1; 40_000]).expect("a file");
        Case::new(async move { drop(fs::read(path).await) })
    }),
    ("rename", |_, directory| {
        let (from, to) = (directory.join(name()), directory.join(name()));
        std::fs::write(&from, "content").expect("a file");
        Case::new(async move { drop(fs::rename(from, to).await) })
    }),
    ("unlink", |_, directory| {
        let path = directory.join(name());
        std::fs::write(&path, "content").expect("a file");
        Case::new(async move { drop(fs::remove_file(path).await) })
    }),
    ("mkdir", |_, directory| {
        let path = directory.join(name());
        Case::new(async move { drop(fs::create_dir(path).await) })
    }),
    ("hard_link", |_, directory| {
        let (original, link) = (directory.join(name()), directory.join(name()));
        std::fs::write(&original, "content").expect("a file");
        Case::new(async move { drop(fs::hard_link(original, link).await) })
    }),
    ("symlink", |_, directory| {
        let link = directory.join(name());
        Case::new(async move { drop(fs::symlink("anywhere", link).await) })
    }),
    ("try_exists", |_, directory| {
        let path = directory.to_owned();
        Case::new(async move { drop(fs::try_exists(path).await) })
    }),
    ("dir_open", |_, directory| {
        let directory = dir(directory);
        Case::new(async move { drop(directory.open("inner/file").await) })
    }),
    ("dir_create", |_, directory| {
        let directory = dir(directory);
        Case::new(async move { drop(directory.create(Path::new("inner").join(name())).await) })
    }),
    ("dir_metadata", |_, directory| {
        let directory = dir(directory);
        Case::new(async move { drop(directory.metadata("inner/file").await) })
    }),
    ("dir_rename", |_, directory| {
        let directory = dir(directory);
        let to = Path::new("inner").join(name());
        Case::new(async move { drop(directory.rename("inner/file", &directory, to).await) })
    }),
    ("dir_mkdir", |_, directory| {
        let (directory, path) = (dir(directory), Path::new("inner").join(name()));
        Case::new(async move { drop(directory.create_dir(path).await) })
    }),
    ("dir_unlink", |_, directory| {
        let directory = dir(directory);
        Case::new(async move { drop(directory.remove_file("inner/file").await) })
    }),
    ("dir_link", |_, directory| {
        let (directory, path) = (dir(directory), Path::new("inner").join(name()));
        Case::new(async move { drop(directory.hard_link("inner/file", &directory, path).await) })
    }),
    ("dir_symlink", |_, directory| {
        let (directory, path) = (dir(directory), Path::new("inner").join(name()));
        Case::new(async move { drop(directory.symlink("file", path).await) })
    }),
    ("tempfile", |_, directory| {
        let path = directory.to_owned();
        Case::new(async move { drop(fs::tempfile_in(path).await) })
    }),
    ("persist", |_, directory| {
        let directory = directory.to_owned();
        Case::new(async move {
            if let Ok(mut file) = TempFile::new_in(&directory).await {
                drop(file.persist(directory.join(name())).await);
            }
        })
    }),
    ("tcp_accept", |_, _| {
        let listener = net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let listener = TcpListener::from(listener);
        Case::new(async move { drop(listener.accept().await) }).triggered(move || {
            drop(net::TcpStream::connect(address).expect("the backlog has room"))
        })
    }),
    ("unix_accept", |_, _| {
        // An abstract name: it leaves no file, and is never too long.
        let label = format!("annulus-{}-{}", std::process::id(), name().display());
        let address = unix::net::SocketAddr::from_abstract_name(label).expect("a short name");
        let listener = UnixListener::from(
            unix::net::UnixListener::bind_addr(&address).expect("a name of our own"),
        );
        Case::new(async move { drop(listener.accept().await) }).triggered(move || {
            drop(unix::net::UnixStream::connect_addr(&address).expect("the backlog has room"))
        })
    }),
    ("tcp_connect", |_, _| {
        let listener = net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        Case::new(async move {
            drop(TcpStream::connect(address).await);
            drop(listener);
        })
    }),
    ("tcp_read", |pool, _| {
        let ((stream, theirs), buffer) = (tcp_stream(), pool.empty(4096));
        Case::new(async move { drop(stream.read(buffer).await) }).triggered(move || say(theirs))
    }),
    ("unix_read", |pool, _| {
        let ((stream, theirs), buffer) = (unix_stream(), pool.empty(4096));
        Case::new(async move { drop(stream.read(buffer).await) }).triggered(move || say(theirs))
    }),
    ("read_append", |pool, _| {
        let ((stream, theirs), buffer) = (unix_stream(), pool.empty(4096));
        Case::new(async move { drop(stream.read_append(buffer).await) })
            .triggered(move || say(theirs))
    }),
    ("tcp_read_exact", |pool, _| {
        let ((stream, theirs), buffer) = (tcp_stream(), pool.empty(4096));
        // The end of the stream comes before the buffer is full.
        Case::new(async move { drop(stream.read_exact(buffer).await) })
            .triggered(move || say(theirs))
    }),
    ("read_vectored", |pool, _| {
        let ((stream, theirs), buffers) = (unix_stream(), buffers(pool));
        Case::new(async move { drop(stream.read_vectored(buffers).await) })
            .triggered(move || say(theirs))
    }),
    ("write", |pool, _| {
        let ((stream, theirs), buffer) = (unix_stream(), pool.filled([1; 4096]));
        Case::new(async move {
            drop(stream.write(buffer).await);
            drop(theirs);
        })
    }),
    ("write_that_waits", |pool, _| {
        let ((stream, theirs), buffer) = (full_stream(), pool.filled([1; 4096]));
        let theirs = Rc::new(theirs);
        let kept = Rc::clone(&theirs);
        Case::new(async move {
            drop(stream.write(buffer).await);
            drop(kept);
        })
        .triggered(drain(theirs))
    }),
    ("write_all_that_waits", |pool, _| {
        let ((stream, theirs), buffer) = (full_stream(), pool.filled(vec![1; 100_000]));
        let theirs = Rc::new(theirs);
        let kept = Rc::clone(&theirs);
        Case::new(async move {
            drop(stream.write_all(buffer).await);
            drop(kept);
        })
        .triggered(drain(theirs))
    }),
    ("write_vectored", |pool, _| {
        let ((stream, theirs), buffers) =
            (unix_stream(), vec![pool.filled([1; 512]), pool.filled([2; 512])]);
        Case::new(async move {
            drop(stream.write_vectored(buffers).await);
            drop(theirs);
        })
    }),
    ("send_with_fds", |pool, _| {
        let ((stream, theirs), buffer) = (unix_stream(), pool.filled([1; 512]));
        let (reader, _) = std::io::pipe().expect("a pipe");
        Case::new(async move {
            drop(stream.send_with_fds(buffer, &[&reader]).await);
            drop(theirs);
        })
    }),
    ("send_with_fds_that_waits", |pool, _| {
        let ((stream, theirs), buffer) = (full_stream(), pool.filled([1; 4096]));
        let (reader, _) = std::io::pipe().expect("a pipe");
        let theirs = Rc::new(theirs);
        let kept = Rc::clone(&theirs);
        Case::new(async move {
            drop(stream.send_with_fds(buffer, &[&reader]).await);
            drop(kept);
        })
        .triggered(drain(theirs))
    }),
    ("recv_with_fds", |pool, _| {
        let ((stream, theirs), buffer) = (unix_stream(), pool.empty(4096));
        Case::new(async move { drop(stream.recv_with_fds(buffer).await) })
            .triggered(move || say(theirs))
    }),
    ("unix_recv_from", |pool, _| {
        let (ours, theirs) = unix::net::UnixDatagram::pair().expect("a pair");
        let (ours, buffer) = (UnixDatagram::from(ours), pool.empty(4096));
        Case::new(async move { drop(ours.recv_from(buffer).await) })
            .triggered(move || drop(theirs.send(b"datagram")))
    }),
    ("unix_send_to", |pool, _| {
        let label = format!("annulus-{}-{}", std::process::id(), name().display());
        let address = unix::net::SocketAddr::from_abstract_name(label).expect("a short name");
        let theirs = unix::net::UnixDatagram::bind_addr(&address).expect("a name of our own");
        let (ours, buffer) = (UnixDatagram::unbound().expect("a socket"), pool.filled("datagram"));
        Case::new(async move {
            drop(ours.send_to_addr(buffer, &address).await);
            drop(theirs);
        })
    }),
    ("chain_of_a_file", |pool, directory| {
        let (file, first, second) =
            (file(directory), pool.filled(vec![1; 512]), pool.filled(vec![2; 512]));
        let buffer = pool.empty(1024);
        Case::new(async move {
            let write = file.write_all_at(first, 0).then(file.write_at(second, 512));
            drop(write.then(file.sync_data()).then(file.read_exact_at(buffer, 0)).await);
        })
    }),
    ("chain_of_a_stream", |pool, _| {
        let ((stream, theirs), request) = (unix_stream(), pool.filled([1; 64]));
        let (header, body) = (pool.empty(8), pool.empty(8));
        let theirs = Rc::new(theirs);
        let peer = Rc::clone(&theirs);
        Case::new(async move {
            let asked = stream.write_all(request).then(stream.read_exact(header));
            drop(asked.then(stream.read_exact(body)).await);
            drop(theirs);
        })
        .triggered(move || (&*peer).write_all(&[2; 16]).expect("room"))
    }),
    ("custom_receive", |pool, _| {
        let ((stream, theirs), buffer) = (unix_stream(), pool.empty(64));
        let theirs = Rc::new(theirs);
        let peer = Rc::clone(&theirs);
        Case::new(async move {
            let receive = custom::into_buffer(&stream, buffer, |fd, bytes, capacity| {
                custom::opcode::Recv::new(fd, bytes, capacity).build()
            });
            drop(receive.await);
            drop(theirs);
        })
        .triggered(move || (&*peer).write_all(&[2; 16]).expect("room"))
    }),
    ("shutdown", |_, _| {
        let (stream, theirs) = tcp_stream();
        Case::new(async move {
            drop(stream.shutdown(net::Shutdown::Write).await);
            drop(theirs);
        })
    }),
    ("stream_close", |pool, _| {
        let ((stream, theirs), buffer) = (tcp_stream(), pool.empty(8));
        Case::new(async move {
            assert!(poll_once(Box::pin(stream.read(buffer)).as_mut()).is_pending());
            drop(stream.close().await);
            drop(theirs);
        })
    }),
    ("send_to", |pool, _| {
        let ((socket, theirs), buffer) = (udp_socket(), pool.filled("datagram"));
        let address = theirs.local_addr().expect("bound");
        Case::new(async move {
            drop(socket.send_to(buffer, address).await);
            drop(theirs);
        })
    }),
    ("recv_from", |pool, _| {
        let ((socket, theirs), buffer) = (udp_socket(), pool.empty(4096));
        Case::new(async move { drop(socket.recv_from(buffer).await) })
            .triggered(move || drop(theirs.send(b"datagram")))
    }),
    ("udp_send", |pool, _| {
        let ((socket, theirs), buffer) = (udp_socket(), pool.filled("datagram"));
        Case::new(async move {
            drop(socket.send(buffer).await);
            drop(theirs);
        })
    }),
    ("udp_recv", |pool, _| {
        let ((socket, theirs), buffer) = (udp_socket(), pool.empty(4096));
        Case::new(async move { drop(socket.recv(buffer).await) })
            .triggered(move || drop(theirs.send(b"datagram")))
    }),
    ("read_with_a_timeout", |pool, _| {
        let ((stream, theirs), buffer) = (unix_stream(), pool.empty(4096));
        Case::new(async move { drop(stream.read(buffer).timeout(Duration::from_secs(1000)).await) })
            .triggered(move || say(theirs))
    }),
    ("poll_fd_readable", |_, _| {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let descriptor = PollFd::new(reader);
        Case::new(async move { drop(descriptor.readable().await) }).triggered(move || say(writer))
    }),
    ("event_fd_read", |_, _| {
        let event = EventFd::new(0).expect("a counter");
        let adder = event.as_fd().try_clone_to_owned().expect("a descriptor");
        Case::new(async move { drop(event.read().await) })
            .triggered(move || say_one(std::fs::File::from(adder)))
    }),
    ("child_wait", |_, _| {
        let mut command = Command::new("cat");
        command.stdin(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("it is everywhere");
        let input = child.stdin.take();
        Case::new(async move { drop(child.wait().await) }).triggered(move || drop(input))
    }),
    ("sleep", |_, _| Case { on_ring: false, ..Case::new(time::sleep(Duration::from_micros(1))) }),
    ("long_sleep", |_, _| Case {
        on_ring: false,
        ..Case::new(time::sleep(Duration::from_secs(1000)))
    }),
    ("timeout", |pool, _| {
        let ((stream, theirs), buffer) = (unix_stream(), pool.empty(4096));
        Case::new(async move {
            drop(time::timeout(Duration::from_secs(1000), stream.read(buffer)).await)
        })
        .triggered(move || say(theirs))
    }),
];
