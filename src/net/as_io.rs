//! Streams and their halves as readers and writers: the traits of `io`.

use std::net::Shutdown;

use super::split::{ReadHalf, WriteHalf};
use super::stream::Stream;
use super::tcp::TcpStream;
use super::unix::UnixStream;
use super::vsock::VsockStream;
use crate::io::{polls, polls_reads, polls_writes, reads_by_own_methods, writes_by_own_methods};

reads_by_own_methods!([] TcpStream);
reads_by_own_methods!([] UnixStream);
reads_by_own_methods!([] VsockStream);
reads_by_own_methods!([S: Stream] ReadHalf<S>);

writes_by_own_methods!([] TcpStream, |stream| stream.shutdown(Shutdown::Write));
writes_by_own_methods!([] UnixStream, |stream| stream.shutdown(Shutdown::Write));
writes_by_own_methods!([] VsockStream, |stream| stream.shutdown(Shutdown::Write));
writes_by_own_methods!([S: Stream] WriteHalf<S>, |half| half.shutdown(Shutdown::Write));

polls!([] TcpStream);
polls!([] UnixStream);
polls!([] VsockStream);
polls_reads!([S: Stream] ReadHalf<S>);
polls_writes!([S: Stream] WriteHalf<S>);
