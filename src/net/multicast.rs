//! The groups of a UDP socket: what it receives of them, and how it sends to them. ip(7), ipv6(7),
//! RFC 3678.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::UdpSocket;
use super::options::accessors;
use crate::sys::option::{self, GroupV4, GroupV6, SourceV4, SourceV6};

/// Groups. All of these are system calls that do not wait.
impl UdpSocket {
    /// Receives what is sent to an IPv4 group, too: `IP_ADD_MEMBERSHIP`.
    ///
    /// `interface` is the address of the interface that it comes in by; for the unspecified address
    /// the kernel chooses one. The socket must be bound to the group's port, at the group's address
    /// or the unspecified one.
    ///
    /// # Errors
    /// The kernel's: `EADDRINUSE` for a group that it is in, `EINVAL` for an address that is no
    /// group's, `ENODEV` without a suitable interface, `ENOBUFS` for more than
    /// `net.ipv4.igmp_max_memberships` groups.
    pub fn join_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        option::JOIN_V4.set(self, GroupV4(*group, *interface))
    }

    /// Leaves an IPv4 group: `IP_DROP_MEMBERSHIP`.
    ///
    /// # Errors
    /// The kernel's: `EADDRNOTAVAIL` for a group that it is not in.
    pub fn leave_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        option::LEAVE_V4.set(self, GroupV4(*group, *interface))
    }

    /// Receives what is sent to an IPv6 group, too: `IPV6_ADD_MEMBERSHIP`.
    ///
    /// `interface` is the number of the interface that it comes in by; for 0 the kernel chooses
    /// one.
    ///
    /// # Errors
    /// As [`join_multicast_v4`](Self::join_multicast_v4).
    pub fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        option::JOIN_V6.set(self, GroupV6(*group, interface))
    }

    /// Leaves an IPv6 group: `IPV6_DROP_MEMBERSHIP`.
    ///
    /// # Errors
    /// As [`leave_multicast_v4`](Self::leave_multicast_v4).
    pub fn leave_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        option::LEAVE_V6.set(self, GroupV6(*group, interface))
    }

    /// Receives what `source` sends to an IPv4 group, and nobody else:
    /// `IP_ADD_SOURCE_MEMBERSHIP`. To be called for each source that is wanted.
    ///
    /// # Errors
    /// As [`join_multicast_v4`](Self::join_multicast_v4).
    pub fn join_ssm_v4(
        &self,
        source: &Ipv4Addr,
        group: &Ipv4Addr,
        interface: &Ipv4Addr,
    ) -> io::Result<()> {
        option::JOIN_SOURCE_V4.set(self, SourceV4(*group, *interface, *source))
    }

    /// Takes [`join_ssm_v4`](Self::join_ssm_v4) back: `IP_DROP_SOURCE_MEMBERSHIP`.
    ///
    /// # Errors
    /// As [`leave_multicast_v4`](Self::leave_multicast_v4).
    pub fn leave_ssm_v4(
        &self,
        source: &Ipv4Addr,
        group: &Ipv4Addr,
        interface: &Ipv4Addr,
    ) -> io::Result<()> {
        option::LEAVE_SOURCE_V4.set(self, SourceV4(*group, *interface, *source))
    }

    /// Receives what `source` sends to an IPv6 group, and nobody else: `MCAST_JOIN_SOURCE_GROUP`.
    /// To be called for each source that is wanted.
    ///
    /// # Errors
    /// As [`join_multicast_v4`](Self::join_multicast_v4).
    pub fn join_ssm_v6(
        &self,
        source: &Ipv6Addr,
        group: &Ipv6Addr,
        interface: u32,
    ) -> io::Result<()> {
        option::JOIN_SOURCE_V6.set(self, SourceV6(*group, interface, *source))
    }

    /// Takes [`join_ssm_v6`](Self::join_ssm_v6) back: `MCAST_LEAVE_SOURCE_GROUP`.
    ///
    /// # Errors
    /// As [`leave_multicast_v4`](Self::leave_multicast_v4).
    pub fn leave_ssm_v6(
        &self,
        source: &Ipv6Addr,
        group: &Ipv6Addr,
        interface: u32,
    ) -> io::Result<()> {
        option::LEAVE_SOURCE_V6.set(self, SourceV6(*group, interface, *source))
    }

    accessors! {
        /// The interface that datagrams to IPv4 groups are sent by, named by its address:
        /// `IP_MULTICAST_IF`. The unspecified address leaves it to the routes.
        set_multicast_if_v4;
        /// The address of the interface that datagrams to IPv4 groups are sent by.
        multicast_if_v4: Ipv4Addr = MULTICAST_INTERFACE_V4;

        /// The number of the interface that datagrams to IPv6 groups are sent by:
        /// `IPV6_MULTICAST_IF`. 0 leaves it to the routes.
        set_multicast_if_v6;
        /// The number of the interface that datagrams to IPv6 groups are sent by.
        multicast_if_v6: u32 = MULTICAST_INTERFACE_V6;

        /// Whether sockets of this machine receive, too, what this one sends to IPv4 groups:
        /// `IP_MULTICAST_LOOP`. On by default.
        set_multicast_loop_v4;
        /// Do sockets of this machine receive what this one sends to IPv4 groups?
        multicast_loop_v4: bool = MULTICAST_LOOP_V4;

        /// Whether sockets of this machine receive, too, what this one sends to IPv6 groups:
        /// `IPV6_MULTICAST_LOOP`. On by default.
        set_multicast_loop_v6;
        /// Do sockets of this machine receive what this one sends to IPv6 groups?
        multicast_loop_v6: bool = MULTICAST_LOOP_V6;

        /// The time to live of datagrams to IPv4 groups, in hops: `IP_MULTICAST_TTL`. 1 by default,
        /// which is the local network.
        set_multicast_ttl_v4;
        /// The time to live of datagrams to IPv4 groups, in hops.
        multicast_ttl_v4: u32 = MULTICAST_TTL_V4;

        /// The hop limit of datagrams to IPv6 groups: `IPV6_MULTICAST_HOPS`. 1 by default, which is
        /// the local network.
        set_multicast_hops_v6;
        /// The hop limit of datagrams to IPv6 groups.
        multicast_hops_v6: u32 = MULTICAST_HOPS_V6;
    }
}
