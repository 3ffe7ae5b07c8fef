//! The methods that get and set the options of internet sockets, written once.
//!
//! The rows of the options are in `sys/option.rs`. The macros here are the table of their methods;
//! each type says which of them it has.

use std::io;
use std::net::Ipv6Addr;
use std::os::fd::AsFd;

use crate::sys::Domain;
use crate::sys::option::{self, FlowLabel, Name, SocketOption};

/// Declares a setter and a getter for each option.
macro_rules! accessors {
    ($(
        $(#[doc = $set:literal])+
        $setter:ident;
        $(#[doc = $get:literal])+
        $getter:ident: $value:ty = $row:ident;
    )*) => {$(
        $(#[doc = $set])+
        ///
        /// # Errors
        /// The kernel's.
        pub fn $setter(&self, value: $value) -> std::io::Result<()> {
            $crate::sys::option::$row.set(self, value)
        }

        $(#[doc = $get])+
        ///
        /// # Errors
        /// The kernel's.
        pub fn $getter(&self) -> std::io::Result<$value> {
            $crate::sys::option::$row.get(self)
        }
    )*};
}

/// The options of any internet socket, for a type that is `AsFd`.
macro_rules! internet_options {
    () => {
        $crate::net::options::accessors! {
            /// Asks for that many bytes of room for what waits to be sent: `SO_SNDBUF`, socket(7).
            ///
            /// The kernel doubles it, for its own books, and allows at most `net.core.wmem_max`. A
            /// TCP socket does not adapt its room by itself any more.
            set_send_buffer_size;
            /// The bytes of room for what waits to be sent, with the kernel's own books.
            send_buffer_size: u32 = SEND_BUFFER;

            /// Asks for that many bytes of room for what was received: `SO_RCVBUF`, socket(7).
            ///
            /// The kernel doubles it, for its own books, and allows at most `net.core.rmem_max`. A
            /// TCP socket does not adapt its room by itself any more; of a listener, connections
            /// take it over.
            set_recv_buffer_size;
            /// The bytes of room for what was received, with the kernel's own books.
            recv_buffer_size: u32 = RECEIVE_BUFFER;

            /// The time to live of its IPv4 packets, in hops: `IP_TTL`, ip(7).
            set_ttl;
            /// The time to live of its IPv4 packets, in hops.
            ttl: u32 = TIME_TO_LIVE;

            /// The hop limit of its IPv6 packets: `IPV6_UNICAST_HOPS`, ipv6(7).
            set_unicast_hops_v6;
            /// The hop limit of its IPv6 packets.
            unicast_hops_v6: u32 = HOPS_V6;

            /// The type of service of its IPv4 packets: `IP_TOS`, ip(7). The lowest two bits are
            /// ECN, which TCP sets by itself.
            set_tos_v4;
            /// The type of service of its IPv4 packets.
            tos_v4: u32 = TYPE_OF_SERVICE;

            /// The traffic class of its IPv6 packets: `IPV6_TCLASS`, ipv6(7).
            set_tclass_v6;
            /// The traffic class of its IPv6 packets.
            tclass_v6: u32 = TRAFFIC_CLASS;

            /// Gives its IPv6 packets a flow label that is made of their addresses and ports:
            /// `IPV6_AUTOFLOWLABEL`. On by default as `net.ipv6.auto_flowlabels` says.
            set_auto_flow_label;
            /// Have its IPv6 packets such a flow label?
            auto_flow_label: bool = AUTO_FLOW_LABEL;

            /// Whether an IPv6 socket leaves IPv4 alone: `IPV6_V6ONLY`, ipv6(7). To be set before
            /// the socket is bound.
            set_only_v6;
            /// Does an IPv6 socket leave IPv4 alone?
            only_v6: bool = ONLY_V6;

            /// The priority of its packets in the queues of the device: `SO_PRIORITY`, socket(7).
            /// Above 6 it takes `CAP_NET_ADMIN`.
            set_priority;
            /// The priority of its packets in the queues of the device.
            priority: u32 = PRIORITY;

            /// The mark of its packets, for routing and filters: `SO_MARK`, socket(7). It takes
            /// `CAP_NET_ADMIN`, or `CAP_NET_RAW` since Linux 5.17.
            set_mark;
            /// The mark of its packets.
            mark: u32 = MARK;
        }

        /// Only packets of that interface are received, and packets are sent by it:
        /// `SO_BINDTODEVICE`, socket(7). `None` ends that.
        ///
        /// # Errors
        /// `InvalidInput` for a name over 15 bytes or with a zero inside; else the kernel's:
        /// `ENODEV` when there is no such interface, `EPERM` for an ordinary user who changes an
        /// earlier choice.
        pub fn bind_device(&self, interface: Option<&[u8]>) -> std::io::Result<()> {
            $crate::net::options::bind_device(self, interface)
        }

        /// The interface that it is bound to, if any.
        ///
        /// # Errors
        /// The kernel's.
        pub fn device(&self) -> std::io::Result<Option<Vec<u8>>> {
            let name = $crate::sys::option::DEVICE.get(self)?;
            Ok(Some(name.as_bytes().to_vec()).filter(|name| !name.is_empty()))
        }

        /// Lets packets to an address carry a flow label of 20 bits: `IPV6_FLOWLABEL_MGR` and
        /// `IPV6_FLOWINFO_SEND`.
        ///
        /// It is used where the address names it, in the order of bytes of the network:
        /// `SocketAddrV6::new(address, port, label.to_be(), 0)`. A label that was not allowed is
        /// refused with `EINVAL` while any socket of the machine has a label for itself alone.
        ///
        /// # Errors
        /// `InvalidInput` for a label of more than 20 bits, and for 0; else the kernel's: `ENOBUFS`
        /// for too many labels.
        pub fn allow_flow_label(
            &self,
            label: u32,
            address: std::net::Ipv6Addr,
        ) -> std::io::Result<()> {
            $crate::net::options::allow_flow_label(self, label, address)
        }

        /// Allows it to be bound to an address that no interface has (yet): `IP_FREEBIND`, or
        /// `IPV6_FREEBIND` of an IPv6 socket.
        ///
        /// # Errors
        /// The kernel's.
        pub fn set_freebind(&self, freebind: bool) -> std::io::Result<()> {
            use $crate::sys::option::{FREE_BIND_V4, FREE_BIND_V6};
            $crate::net::options::of_family(self, FREE_BIND_V4, FREE_BIND_V6)?.set(self, freebind)
        }

        /// May it be bound to an address that no interface has?
        ///
        /// # Errors
        /// The kernel's.
        pub fn freebind(&self) -> std::io::Result<bool> {
            use $crate::sys::option::{FREE_BIND_V4, FREE_BIND_V6};
            $crate::net::options::of_family(self, FREE_BIND_V4, FREE_BIND_V6)?.get(self)
        }

        /// Makes it a transparent proxy's, which receives and sends with addresses of others:
        /// `IP_TRANSPARENT`, or `IPV6_TRANSPARENT` of an IPv6 socket; ip(7). It takes
        /// `CAP_NET_ADMIN` or `CAP_NET_RAW`.
        ///
        /// # Errors
        /// The kernel's.
        pub fn set_transparent(&self, transparent: bool) -> std::io::Result<()> {
            use $crate::sys::option::{TRANSPARENT_V4, TRANSPARENT_V6};
            let option = $crate::net::options::of_family(self, TRANSPARENT_V4, TRANSPARENT_V6)?;
            option.set(self, transparent)
        }

        /// Is it a transparent proxy's?
        ///
        /// # Errors
        /// The kernel's.
        pub fn transparent(&self) -> std::io::Result<bool> {
            use $crate::sys::option::{TRANSPARENT_V4, TRANSPARENT_V6};
            $crate::net::options::of_family(self, TRANSPARENT_V4, TRANSPARENT_V6)?.get(self)
        }

        /// Of sockets that share a port, the kernel prefers this one for packets that this
        /// processor receives: `SO_INCOMING_CPU`, socket(7).
        ///
        /// # Errors
        /// The kernel's.
        pub fn set_incoming_cpu(&self, cpu: u32) -> std::io::Result<()> {
            $crate::sys::option::INCOMING_CPU.set(self, cpu)
        }

        /// The processor that received its last packet, or that it was set to, if there is one.
        ///
        /// # Errors
        /// The kernel's.
        pub fn incoming_cpu(&self) -> std::io::Result<Option<u32>> {
            let cpu = $crate::sys::option::INCOMING_CPU.get(self)?;
            Ok(Some(cpu).filter(|cpu| *cpu != u32::MAX))
        }

        /// How long a receive looks at the network card by itself before it waits, in whole
        /// microseconds; zero for not at all: `SO_BUSY_POLL`, socket(7). To raise it takes
        /// `CAP_NET_ADMIN`.
        ///
        /// # Errors
        /// The kernel's.
        pub fn set_busy_poll(&self, time: std::time::Duration) -> std::io::Result<()> {
            $crate::sys::option::BUSY_POLL.set(self, $crate::sys::option::Microseconds(time))
        }

        /// How long a receive looks at the network card by itself before it waits.
        ///
        /// # Errors
        /// The kernel's.
        pub fn busy_poll(&self) -> std::io::Result<std::time::Duration> {
            Ok($crate::sys::option::BUSY_POLL.get(self)?.0)
        }
    };
}

/// The options of TCP sockets, for a type that is `AsFd`. Connections take over those of their
/// listener.
macro_rules! tcp_options {
    () => {
        $crate::net::options::accessors! {
            /// Sends small writes at once instead of collecting them: `TCP_NODELAY`, tcp(7).
            set_nodelay;
            /// Are small writes sent at once?
            nodelay: bool = NO_DELAY;

            /// Sends full packets only, until this is taken back or 200 ms have passed: `TCP_CORK`,
            /// tcp(7).
            set_cork;
            /// Are only full packets sent?
            cork: bool = CORK;

            /// Acknowledges at once what is received: `TCP_QUICKACK`, tcp(7). The kernel goes back
            /// to delayed acknowledgements by itself, so set it again after each receive.
            set_quickack;
            /// Is what is received acknowledged at once, now?
            quickack: bool = QUICK_ACK;

            /// What closing does with bytes that are not sent yet: `SO_LINGER`, socket(7). Zero
            /// resets the connection; the kernel counts whole seconds.
            set_linger;
            /// What closing does with bytes that are not sent yet.
            linger: Option<std::time::Duration> = LINGER;

            /// Asks a silent peer now and then whether it is still there: `SO_KEEPALIVE`,
            /// socket(7). The first question is by default after two hours.
            set_keepalive;
            /// Is a silent peer asked whether it is still there?
            keepalive: bool = KEEP_ALIVE;

            /// How many questions without an answer end the connection: `TCP_KEEPCNT`, tcp(7).
            set_keepalive_retries;
            /// How many questions without an answer end the connection.
            keepalive_retries: u32 = KEEP_ALIVE_RETRIES;
        }

        /// How long a peer is silent before it is first asked, in whole seconds, at least one:
        /// `TCP_KEEPIDLE`, tcp(7). It does not turn [`set_keepalive`](Self::set_keepalive) on.
        ///
        /// # Errors
        /// The kernel's: `EINVAL` for zero and for more than 32767 seconds.
        pub fn set_keepalive_time(&self, time: std::time::Duration) -> std::io::Result<()> {
            $crate::sys::option::KEEP_ALIVE_TIME.set(self, $crate::sys::option::Seconds(time))
        }

        /// How long a peer is silent before it is first asked.
        ///
        /// # Errors
        /// The kernel's.
        pub fn keepalive_time(&self) -> std::io::Result<std::time::Duration> {
            Ok($crate::sys::option::KEEP_ALIVE_TIME.get(self)?.0)
        }

        /// The time between two questions, in whole seconds, at least one: `TCP_KEEPINTVL`,
        /// tcp(7).
        ///
        /// # Errors
        /// The kernel's: `EINVAL` for zero and for more than 32767 seconds.
        pub fn set_keepalive_interval(&self, time: std::time::Duration) -> std::io::Result<()> {
            $crate::sys::option::KEEP_ALIVE_INTERVAL.set(self, $crate::sys::option::Seconds(time))
        }

        /// The time between two questions.
        ///
        /// # Errors
        /// The kernel's.
        pub fn keepalive_interval(&self) -> std::io::Result<std::time::Duration> {
            Ok($crate::sys::option::KEEP_ALIVE_INTERVAL.get(self)?.0)
        }

        /// How long what was sent may go without an acknowledgement before the connection ends with
        /// `ETIMEDOUT`, in whole milliseconds; `None` for as long as the system's settings say:
        /// `TCP_USER_TIMEOUT`, tcp(7).
        ///
        /// # Errors
        /// The kernel's.
        pub fn set_user_timeout(&self, time: Option<std::time::Duration>) -> std::io::Result<()> {
            let time = time.unwrap_or_default();
            $crate::sys::option::USER_TIMEOUT.set(self, $crate::sys::option::Milliseconds(time))
        }

        /// How long what was sent may go without an acknowledgement.
        ///
        /// # Errors
        /// The kernel's.
        pub fn user_timeout(&self) -> std::io::Result<Option<std::time::Duration>> {
            let time = $crate::sys::option::USER_TIMEOUT.get(self)?.0;
            Ok(Some(time).filter(|time| !time.is_zero()))
        }

        /// The way in which it controls congestion, for example `"bbr"`: `TCP_CONGESTION`, tcp(7).
        ///
        /// # Errors
        /// `InvalidInput` for a name over 15 bytes; else the kernel's: `ENOENT` for one that it
        /// does not have, `EPERM` for one that ordinary users may not choose.
        pub fn set_congestion(&self, name: &str) -> std::io::Result<()> {
            let name = $crate::net::options::name(name.as_bytes())?;
            $crate::sys::option::CONGESTION.set(self, name)
        }

        /// The way in which it controls congestion.
        ///
        /// # Errors
        /// The kernel's.
        pub fn congestion(&self) -> std::io::Result<String> {
            let name = $crate::sys::option::CONGESTION.get(self)?;
            Ok(String::from_utf8_lossy(name.as_bytes()).into_owned())
        }
    };
}

/// The option of the socket's family.
pub(super) fn of_family<T>(
    socket: &impl AsFd,
    v4: SocketOption<T>,
    v6: SocketOption<T>,
) -> io::Result<SocketOption<T>> {
    Ok(if option::DOMAIN.get(socket)? == Domain::IPV6 { v6 } else { v4 })
}

pub(super) fn allow_flow_label(
    socket: &impl AsFd,
    label: u32,
    address: Ipv6Addr,
) -> io::Result<()> {
    if label == 0 || label >= 1 << 20 {
        let sentence = "a flow label has 20 bits, of which one at least is set";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, sentence));
    }
    option::FLOW_LABEL.set(socket, FlowLabel(label, address))?;
    option::SENDS_FLOW_LABEL.set(socket, true)
}

pub(super) fn bind_device(socket: &impl AsFd, interface: Option<&[u8]>) -> io::Result<()> {
    option::DEVICE.set(socket, name(interface.unwrap_or_default())?)
}

pub(super) fn name(name: &[u8]) -> io::Result<Name> {
    Name::new(name).ok_or_else(|| {
        let sentence = "a name of an option has at most 15 bytes, and no zero among them";
        io::Error::new(io::ErrorKind::InvalidInput, sentence)
    })
}

pub(super) use {accessors, internet_options, tcp_options};
