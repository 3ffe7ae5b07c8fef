//! Two operations that annulus does not have: one made in a closure, one with the unsafe trait.
//!
//! ```console
//! $ cargo run --example custom_operation
//! options of a socket, set by the ring: keepalive true, no delay true
//! tee: both pipes hold "copied by the kernel"
//! ```
//!
//! Where the kernel or the ring lacks one it says `skipped`.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;

use annulus::custom::{self, Fd, opcode, squeue};
use annulus::net::{TcpListener, TcpStream};
use socket2::SockRef;

/// Sets an option of a socket that is a number. The kernel reads the value from the buffer, which
/// belongs to the operation. `URING_CMD` with `SOCKET_URING_OP_SETSOCKOPT`, since Linux 6.7.
async fn set_option(socket: &TcpStream, level: i32, option: i32, value: i32) -> io::Result<()> {
    let value = value.to_ne_bytes().to_vec();
    custom::from_buffer(socket, value, |fd, value, length| {
        opcode::SetSockOpt::new(fd, level as u32, option as u32, value.cast(), length).build()
    })
    .await?;
    Ok(())
}

/// Copies what is in one pipe to another, and leaves it in the first; tee(2).
struct Tee {
    from: Fd,
    to: Fd,
    length: u32,
}

// SAFETY: the entry names no memory. The shares keep both pipes open until the last completion.
#[allow(unsafe_code)]
unsafe impl custom::Operation for Tee {
    type Output = io::Result<u32>;

    fn entry(&mut self) -> squeue::Entry {
        opcode::Tee::new(self.from.target(), self.to.target(), self.length).build()
    }

    fn complete(self, result: io::Result<u32>, _flags: u32) -> io::Result<u32> {
        result
    }
}

async fn options() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let stream = TcpStream::connect(listener.local_addr()?).await?;
    // Two operations, and one system call for both.
    let (keep_alive, no_delay) = futures_util::join!(
        set_option(&stream, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
        set_option(&stream, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1),
    );
    keep_alive.and(no_delay)?;
    let socket = SockRef::from(&stream);
    let (keep_alive, no_delay) = (socket.keepalive()?, socket.tcp_nodelay()?);
    println!("options of a socket, set by the ring: keepalive {keep_alive}, no delay {no_delay}");
    Ok(())
}

async fn tee() -> io::Result<()> {
    const TEXT: &[u8] = b"copied by the kernel";
    let (mut first, mut writer) = io::pipe()?;
    let (mut second, end) = io::pipe()?;
    writer.write_all(TEXT)?;
    drop(writer);
    let from = Fd::from(OwnedFd::from(first.try_clone()?));
    let to = Fd::from(OwnedFd::from(end));
    custom::submit(Tee { from, to, length: TEXT.len() as u32 }).await?;
    let (mut one, mut two) = (String::new(), String::new());
    first.read_to_string(&mut one)?;
    second.read_to_string(&mut two)?;
    assert_eq!(one, two);
    println!("tee: both pipes hold {one:?}");
    Ok(())
}

fn main() -> io::Result<()> {
    annulus::block_on(async {
        for (name, result) in [("options of a socket", options().await), ("tee", tee().await)] {
            match result {
                Err(error) if error.kind() == ErrorKind::Unsupported => {
                    println!("{name}: skipped, since this ring does not know it ({error})");
                }
                other => other?,
            }
        }
        Ok(())
    })
}
