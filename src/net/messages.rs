//! Datagrams with all that is told of them, and in batches: control messages of UDP sockets.
//! udp(7), ip(7), ipv6(7).

use std::io;

use super::UdpSocket;
use super::options::{accessors, of_family};
use crate::buf::{IoBuf, IoBufMut};
use crate::inflight::Op;
use crate::op::message::{ReceiveMessage, SendMessage};
use crate::op::{MessageOptions, Messages, SendBatch};
use crate::sys::Domain;
use crate::sys::option::{self, TELLS_DESTINATION_V4, TELLS_DESTINATION_V6};

/// Datagrams with what is told of them.
impl UdpSocket {
    /// Sends one datagram with options of its own: from a certain address or interface, with ECN,
    /// or cut into several; sendmsg(2).
    ///
    /// If the future is dropped it may be sent all the same, but not after a later one. Before
    /// Linux 5.15 it takes the software path.
    ///
    /// ```
    /// use annulus::net::{Ecn, MessageOptions, UdpSocket};
    ///
    /// # annulus::block_on(async {
    /// let (a, b) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("0.0.0.0:0").await?);
    /// b.set_recv_pktinfo(true)?;
    /// b.set_recv_tos(true)?;
    /// let to = ([127, 0, 0, 1], b.local_addr()?.port()).into();
    /// a.send_msg("ping", &MessageOptions::new().to(to).ecn(Ecn::Ect0)).await?;
    ///
    /// let (count, info, buffer) = b.recv_msg(Vec::with_capacity(1500)).await?;
    /// assert_eq!((&buffer[..count], info.ecn()), (&b"ping"[..], Some(Ecn::Ect0)));
    /// // The answer comes from the address that was asked.
    /// let answer = MessageOptions::new().to(info.from).source(info.local.expect("it is told"));
    /// b.send_msg("pong", &answer).await?;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    ///
    /// Yields `Result<(usize, B), Error<B>>`.
    ///
    /// # Errors
    /// As [`send`](UdpSocket::send); `EINVAL` or `ENETUNREACH` for a source that is no address of
    /// this machine, `EINVAL` for more segments than the kernel cuts.
    pub fn send_msg<B: IoBuf>(
        &self,
        buffer: B,
        options: &MessageOptions,
    ) -> Op<'_, SendMessage<B>> {
        SendMessage::op(self.handle(), buffer, options)
    }

    /// Receives one datagram and all that is told of it: where it came from, which address of this
    /// machine it was sent to, its ECN, the length of its segments, and whether it was cut off;
    /// recvmsg(2).
    ///
    /// [`set_recv_pktinfo`](Self::set_recv_pktinfo), [`set_recv_tos`](Self::set_recv_tos) and
    /// [`set_gro`](Self::set_gro) choose what is told. What was said of
    /// [`recv_from`](UdpSocket::recv_from) about dropping holds here: the datagram waits with all
    /// that was told of it. Before Linux 5.15 it takes the software path.
    ///
    /// Yields `Result<(usize, MessageInfo, B), Error<B>>`.
    ///
    /// # Errors
    /// As [`recv`](UdpSocket::recv).
    pub fn recv_msg<B: IoBufMut>(&self, buffer: B) -> Op<'_, ReceiveMessage<B>> {
        ReceiveMessage::op(self.handle(), buffer)
    }

    /// Sends several datagrams in one submission, each to its own address and with its own options,
    /// as sendmmsg(2) does.
    ///
    /// It yields what became of each, in the order in which they were given: one that fails does
    /// not keep the others from being sent. The kernel begins them in this order; one that must
    /// wait for room may be overtaken. If the future is dropped, each of them may be sent all the
    /// same, but not after a later send.
    ///
    /// Yields `Vec<Result<(usize, B), Error<B>>>`.
    ///
    /// ```
    /// use annulus::net::{MessageOptions, UdpSocket};
    ///
    /// # annulus::block_on(async {
    /// let (a, b) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
    /// let to = MessageOptions::new().to(b.local_addr()?);
    /// for sent in a.send_batch([("one", to), ("two", to), ("three", to)]).await {
    ///     sent?;
    /// }
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn send_batch<B: IoBuf>(
        &self,
        messages: impl IntoIterator<Item = (B, MessageOptions)>,
    ) -> SendBatch<'_, B> {
        SendBatch::new(self.handle(), messages)
    }

    /// The datagrams as they come, in buffers of the runtime, with all that is told of them; see
    /// [`Messages`].
    ///
    /// # Errors
    /// Its items: the kernel's, `ECONNREFUSED` when an earlier datagram found nobody.
    pub fn messages(&self) -> Messages<'_> {
        Messages::new(self.handle())
    }

    /// Whether the address and the interface that a datagram was sent to are told:
    /// `IP_PKTINFO`, or `IPV6_RECVPKTINFO` of an IPv6 socket.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_recv_pktinfo(&self, told: bool) -> io::Result<()> {
        of_family(self, TELLS_DESTINATION_V4, TELLS_DESTINATION_V6)?.set(self, told)
    }

    /// Are the address and the interface told that a datagram was sent to?
    ///
    /// # Errors
    /// The kernel's.
    pub fn recv_pktinfo(&self) -> io::Result<bool> {
        of_family(self, TELLS_DESTINATION_V4, TELLS_DESTINATION_V6)?.get(self)
    }

    /// Whether the traffic class or type of service of a datagram is told, of which the lowest two
    /// bits are ECN: `IP_RECVTOS`, and `IPV6_RECVTCLASS` of an IPv6 socket.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_recv_tos(&self, told: bool) -> io::Result<()> {
        if option::DOMAIN.get(self)? == Domain::IPV6 {
            option::TELLS_TRAFFIC_CLASS.set(self, told)?;
        }
        // An IPv6 socket may receive IPv4, too.
        option::TELLS_TYPE_OF_SERVICE.set(self, told)
    }

    /// Is the traffic class or type of service of a datagram told?
    ///
    /// # Errors
    /// The kernel's.
    pub fn recv_tos(&self) -> io::Result<bool> {
        option::TELLS_TYPE_OF_SERVICE.get(self)
    }

    accessors! {
        /// Whether the kernel puts datagrams of one sender together: `UDP_GRO`, udp(7).
        ///
        /// One receive then brings up to 65,535 bytes, and
        /// [`MessageInfo::segment_size`](super::MessageInfo::segment_size) tells how long each
        /// datagram is: receive by [`recv_msg`](Self::recv_msg) or [`messages`](Self::messages),
        /// with room for so much. The other receives do not tell where one datagram ends.
        set_gro;
        /// Does the kernel put datagrams of one sender together?
        gro: bool = COALESCES;
    }
}
