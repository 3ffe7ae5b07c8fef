//! Streams, and servers that are started for a test.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use annulus::io::PollStream;
use annulus::net::{TcpListener, TcpStream, UnixStream};
use annulus::time::sleep;

/// Two ends of a Unix socket.
pub(crate) fn unix_pair() -> (PollStream<UnixStream>, PollStream<UnixStream>) {
    let (one, other) = UnixStream::pair().expect("a pair");
    (one.into_poll(), other.into_poll())
}

/// Two ends of a TCP connection over the loopback device.
pub(crate) async fn tcp_pair() -> (PollStream<TcpStream>, PollStream<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let client = TcpStream::connect(address).await.expect("a connection");
    let (server, _) = listener.accept().await.expect("a connection");
    (client.into_poll(), server.into_poll())
}

/// A program that is installed.
pub(crate) fn program(names: &[&str]) -> Option<PathBuf> {
    let directories = std::env::var("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = std::env::split_paths(&directories).collect();
    // Debian keeps those of PostgreSQL apart, by version.
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        directories.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    let places = names.iter().flat_map(|name| directories.iter().map(move |path| path.join(name)));
    let found = places.into_iter().find(|path| path.exists());
    if found.is_none() {
        println!("skipped: there is no {names:?}");
    }
    found
}

/// A command as an ordinary user, if this one is root.
pub(crate) fn as_ordinary_user(program: &Path, directory: &Path) -> Command {
    if std::fs::metadata("/proc/self").map(|me| std::os::unix::fs::MetadataExt::uid(&me)).ok()
        != Some(0)
    {
        return Command::new(program);
    }
    std::os::unix::fs::chown(directory, Some(65534), Some(65534)).expect("root may");
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]).arg(program);
    command
}

/// A server that ends with this value.
pub(crate) struct Server(Child);

impl Server {
    pub(crate) fn start(mut command: Command) -> Server {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Server(command.spawn().expect("the server starts"))
    }

    /// Connects as soon as the server listens.
    pub(crate) async fn connect(&mut self, path: &Path) -> UnixStream {
        loop {
            match UnixStream::connect(path).await {
                Ok(stream) => return stream,
                Err(error) => assert!(
                    matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                    ),
                    "{error}"
                ),
            }
            assert!(self.0.try_wait().expect("a child").is_none(), "the server has ended");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A directory that everybody may look into.
pub(crate) fn scratch() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().expect("a directory");
    let all = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.path(), all).expect("a directory");
    directory
}
