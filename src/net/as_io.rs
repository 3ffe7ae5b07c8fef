//! Streams and their halves as readers and writers: the traits of `io`.

use std::net::Shutdown;

use super::split::{ReadHalf, WriteHalf};
use super::stream::Stream;
use super::tcp::TcpStream;
use super::unix::UnixStream;
use super::vsock::VsockStream;
use crate::io::{
    end_of_socket, into_poll, reads_by_own_methods, reads_by_polls, writes_by_own_methods,
    writes_by_polls,
};

reads_by_own_methods!([] TcpStream);
reads_by_own_methods!([] UnixStream);
reads_by_own_methods!([] VsockStream);
reads_by_own_methods!([S: Stream] ReadHalf<S>);

writes_by_own_methods!([] TcpStream, |stream| stream.shutdown(Shutdown::Write));
writes_by_own_methods!([] UnixStream, |stream| stream.shutdown(Shutdown::Write));
writes_by_own_methods!([] VsockStream, |stream| stream.shutdown(Shutdown::Write));
writes_by_own_methods!([S: Stream] WriteHalf<S>, |half| half.shutdown(Shutdown::Write));

reads_by_polls!([] TcpStream, InOrder);
reads_by_polls!([] UnixStream, InOrder);
reads_by_polls!([] VsockStream, InOrder);
reads_by_polls!([S: Stream] ReadHalf<S>, InOrder);

writes_by_polls!([] TcpStream, |stream| end_of_socket(stream.handle()));
writes_by_polls!([] UnixStream, |stream| end_of_socket(stream.handle()));
writes_by_polls!([] VsockStream, |stream| end_of_socket(stream.handle()));
writes_by_polls!([S: Stream] WriteHalf<S>, |half| end_of_socket(half.handle()));

into_poll!([] TcpStream, PollStream);
into_poll!([] UnixStream, PollStream);
into_poll!([] VsockStream, PollStream);
into_poll!([S: Stream] ReadHalf<S>, PollReader);
into_poll!([S: Stream] WriteHalf<S>, PollWriter);
