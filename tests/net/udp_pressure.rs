//! Datagrams that wait for room in the sending socket: each goes out whole, by every way to send.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;

use annulus::net::{MessageOptions, UdpSocket};

use crate::common::{in_own_process, interface, own_network, poll_in_task, run_here, turns};

/// Far more than the smallest room for what is to be sent: one fills it.
const LENGTH: usize = 20_000;
/// Behind the right end of the cable, where nobody answers who has that address.
const SOMEBODY: Ipv4Addr = Ipv4Addr::new(10, 9, 8, 99);

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// What comes out of the cable: IPv4 packets as they are.
fn packets() -> OwnedFd {
    let protocol = (libc::ETH_P_IP as u16).to_be();
    let flags = libc::SOCK_DGRAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the call takes no memory, and nobody else knows the number that it makes.
    let socket = unsafe {
        let number = libc::socket(libc::AF_PACKET, flags, protocol.into());
        assert!(number >= 0, "{}", io::Error::last_os_error());
        OwnedFd::from_raw_fd(number)
    };
    // SAFETY: zeroes are a value of this plain structure.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    address.sll_ifindex = interface("right") as i32;
    let length = size_of_val(&address) as u32;
    // SAFETY: the address is a local variable of that length.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    assert_eq!(bound, 0, "{}", io::Error::last_os_error());
    socket
}

/// The content of the datagrams that have come.
fn received(packets: &OwnedFd) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let mut bytes = vec![0; 2 * LENGTH];
        // SAFETY: the bytes are a local variable of that length.
        let count =
            unsafe { libc::recv(packets.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        let Ok(count) = usize::try_from(count) else { return all };
        // Behind the headers of IP and UDP.
        all.push(bytes[28..count].to_vec());
    }
}

fn datagram(number: u8) -> Vec<u8> {
    vec![number; LENGTH + usize::from(number)]
}

#[test]
fn datagrams_that_wait_for_room_go_out_whole() {
    in_own_process(|| {
        if !own_network() {
            return;
        }
        // So that each datagram is one packet, and the search for the neighbour takes its time.
        ip("link set left mtu 30000");
        ip("link set right mtu 30000");
        fs::write("/proc/sys/net/ipv4/neigh/left/mcast_solicit", "1000").unwrap();
        let packets = packets();
        run_here(async {
            let socket = UdpSocket::bind("10.9.8.7:0").await.unwrap();
            socket.set_send_buffer_size(0).unwrap();
            let to = SocketAddr::from((SOMEBODY, 9));
            let options = MessageOptions::new().to(to);
            socket.connect(to).await.unwrap();
            socket.send(datagram(0)).await.unwrap();

            let mut plain = socket.send(datagram(1));
            let mut addressed = socket.send_to(datagram(2), to);
            let mut message = socket.send_msg(datagram(3), &options);
            let mut batch = socket.send_batch((4..8).map(|number| (datagram(number), options)));
            assert!(poll_in_task(&mut plain).await.is_pending());
            assert!(poll_in_task(&mut addressed).await.is_pending());
            assert!(poll_in_task(&mut message).await.is_pending());
            assert!(poll_in_task(&mut batch).await.is_pending());
            turns(10).await;
            assert!(poll_in_task(&mut plain).await.is_pending(), "there is no room");
            assert!(received(&packets).is_empty());

            ip(&format!("neigh replace {SOMEBODY} lladdr 02:00:00:00:00:99 dev left"));
            assert_eq!(plain.await.unwrap(), (datagram(1).len(), datagram(1)));
            assert_eq!(addressed.await.unwrap(), (datagram(2).len(), datagram(2)));
            assert_eq!(message.await.unwrap(), (datagram(3).len(), datagram(3)));
            for (number, sent) in (4..8).zip(batch.await) {
                assert_eq!(sent.unwrap(), (datagram(number).len(), datagram(number)));
            }
            let mut all = received(&packets);
            while all.len() < 8 {
                turns(1).await;
                all.extend(received(&packets));
            }
            // Those that wait at the same time have no order among them.
            all.sort();
            for (number, bytes) in (0..8).zip(all) {
                assert!(bytes == datagram(number), "{number}: {} bytes", bytes.len());
            }
        });
    });
}
