//! Which entries safe code may make: those that name no memory, or one buffer, wherever their
//! fields say.
//!
//! What a field means depends on the operation, and often on the file or the option that it names.
//! So there is a list, and what is not on it is refused. A field that its row does not free must
//! be 0.

use std::os::fd::RawFd;

use io_uring::{opcode, squeue};

use super::raw::{RawEntry, halves};

/// The memory of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// There is none.
    None,
    /// The kernel reads this buffer.
    Read { address: usize, length: u32 },
    /// The kernel fills this buffer, and says how much of it.
    Filled { address: usize, length: u32 },
}

/// The fields that only hold numbers.
const OFFSET: u8 = 1;
const ADDRESS: u8 = 1 << 1;
const LENGTH: u8 = 1 << 2;
const FLAGS: u8 = 1 << 3;

/// Of calls on open files and sockets that name no memory.
const WITHOUT_MEMORY: [(u8, u8); 7] = [
    (opcode::Fsync::CODE, OFFSET | LENGTH | FLAGS),
    (opcode::SyncFileRange::CODE, OFFSET | LENGTH | FLAGS),
    // The length is in the field of the address.
    (opcode::Fallocate::CODE, OFFSET | ADDRESS | LENGTH),
    (opcode::Fadvise::CODE, OFFSET | ADDRESS | LENGTH | FLAGS),
    (opcode::Ftruncate::CODE, OFFSET),
    (opcode::Shutdown::CODE, LENGTH),
    (opcode::Listen::CODE, LENGTH),
];

/// `MSG_*` that neither lend memory for longer than the operation (`MSG_ZEROCOPY`) nor count bytes
/// that are not in the buffer (`MSG_TRUNC`).
const MESSAGE_FLAGS: u32 = (libc::MSG_OOB
    | libc::MSG_PEEK
    | libc::MSG_DONTROUTE
    | libc::MSG_DONTWAIT
    | libc::MSG_EOR
    | libc::MSG_WAITALL
    | libc::MSG_CONFIRM
    | libc::MSG_NOSIGNAL
    | libc::MSG_MORE) as u32;

/// Commands of sockets, `SOCKET_URING_OP_*`. Those of other files mean anything.
const BYTES_TO_READ: u32 = 0;
const BYTES_TO_SEND: u32 = 1;
const SET_OPTION: u32 = 3;

/// Options that are attached by a pointer, or by the number of a descriptor, SO_*.
const ATTACHING: [u32; 4] = [
    libc::SO_ATTACH_FILTER as u32,
    libc::SO_ATTACH_BPF as u32,
    libc::SO_ATTACH_REUSEPORT_CBPF as u32,
    libc::SO_ATTACH_REUSEPORT_EBPF as u32,
];
/// From here on the options of IP are those of packet filters, some of which hold pointers.
const FIRST_OF_PACKET_FILTERS: u32 = 64;
/// The same of IPv6, where others follow.
const PACKET_FILTERS_OF_IPV6: [u32; 2] = [64, 65];
const LAST_OF_IPV6: u32 = 80;

/// Does the entry use this descriptor and this memory and nothing else? Else it says why not.
pub(crate) fn vet(
    entry: &squeue::Entry,
    fd: RawFd,
    is_socket: bool,
    memory: Memory,
) -> Result<(), &'static str> {
    let raw = RawEntry::of(entry);
    if raw.flags().bits_but_async() != 0 {
        return Err("an entry by safe code has no flag but ASYNC");
    }
    if raw.fd != fd {
        return Err("the entry must name the descriptor that its closure was given");
    }
    let code = entry.get_opcode() as u8;
    let (used, free) = match memory {
        Memory::None if code == opcode::UringCmd16::CODE => {
            let is_question =
                is_socket && matches!(halves(raw.offset), [BYTES_TO_READ | BYTES_TO_SEND, 0]);
            (None, is_question.then_some(OFFSET))
        }
        Memory::None => {
            let row = WITHOUT_MEMORY.iter().find(|(listed, _)| *listed == code);
            (None, row.map(|(_, free)| *free))
        }
        Memory::Read { address, length } if code == opcode::SetSockOpt::CODE => {
            let [level, option] = halves(raw.address);
            let may_be_set = is_socket
                && halves(raw.offset) == [SET_OPTION, 0]
                && holds_no_pointer(level, option);
            let place = (raw.address_3, raw.file_index);
            (Some((place, address, length)), may_be_set.then_some(OFFSET | ADDRESS))
        }
        Memory::Read { address, length } => {
            let free = match code {
                opcode::Write::CODE => Some(OFFSET | FLAGS),
                opcode::Send::CODE => may_be_sent(&raw).then_some(FLAGS),
                _ => None,
            };
            (Some(((raw.address, raw.length), address, length)), free)
        }
        Memory::Filled { address, length } => {
            let free = match code {
                opcode::Read::CODE => Some(OFFSET | FLAGS),
                opcode::Recv::CODE => may_be_sent(&raw).then_some(FLAGS),
                _ => None,
            };
            (Some(((raw.address, raw.length), address, length)), free)
        }
    };
    let Some(free) = free else {
        return Err("this operation, in this form, is not on the list of those for safe code");
    };
    let is_option = used.is_some() && code == opcode::SetSockOpt::CODE;
    if let Some(((address, count), start, length)) = used
        && (address != start as u64 || count > length)
    {
        return Err("the entry must name the buffer that its closure was given, or its beginning");
    }
    let is_named = |field: u8| used.is_some() && !is_option && field & (ADDRESS | LENGTH) != 0;
    let unused = [
        (raw.offset, OFFSET),
        (raw.address, ADDRESS),
        (raw.length.into(), LENGTH),
        (raw.operation_flags.into(), FLAGS),
    ];
    let is_clean =
        unused.iter().all(|(value, field)| *value == 0 || free & field != 0 || is_named(*field));
    let (last, index) = if is_option { (0, 0) } else { (raw.address_3, raw.file_index) };
    match is_clean && raw.has_nothing_else() && last == 0 && index == 0 {
        true => Ok(()),
        false => Err("a field of the entry is not 0 that its operation has no use for"),
    }
}

fn may_be_sent(raw: &RawEntry) -> bool {
    raw.operation_flags & !MESSAGE_FLAGS == 0
}

fn holds_no_pointer(level: u32, option: u32) -> bool {
    match level as i32 {
        libc::SOL_SOCKET => !ATTACHING.contains(&option),
        libc::IPPROTO_TCP | libc::IPPROTO_UDP => true,
        libc::IPPROTO_IP => option < FIRST_OF_PACKET_FILTERS,
        libc::IPPROTO_IPV6 => option <= LAST_OF_IPV6 && !PACKET_FILTERS_OF_IPV6.contains(&option),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use io_uring::types::Fd;

    use super::*;

    const FD: RawFd = 7;
    const AT: *mut u8 = 0x1000 as *mut u8;
    const READ: Memory = Memory::Read { address: 0x1000, length: 100 };
    const FILLED: Memory = Memory::Filled { address: 0x1000, length: 100 };

    fn is_let_through(entry: squeue::Entry, memory: Memory) -> bool {
        vet(&entry, FD, true, memory).is_ok()
    }

    fn option(level: i32, option: i32, at: *const u8, length: u32) -> squeue::Entry {
        opcode::SetSockOpt::new(Fd(FD), level as u32, option as u32, at.cast(), length).build()
    }

    #[test]
    fn what_is_on_the_list_is_let_through_for_its_memory_only() {
        let fd = Fd(FD);
        let plain = [
            opcode::Fsync::new(fd).build(),
            opcode::SyncFileRange::new(fd, 5).offset(9).flags(7).build(),
            opcode::Fallocate::new(fd, 1 << 40).offset(1 << 50).mode(3).build(),
            opcode::Fadvise::new(fd, 10, 4).offset(3).build(),
            opcode::Ftruncate::new(fd, 77).build(),
            opcode::Shutdown::new(fd, 1).build(),
            opcode::Listen::new(fd, 128).build(),
            opcode::UringCmd16::new(fd, 0).build(),
            opcode::UringCmd16::new(fd, 1).build(),
            opcode::Fsync::new(fd).build().flags(squeue::Flags::ASYNC),
        ];
        let read = [
            opcode::Write::new(fd, AT, 100).offset(5).rw_flags(libc::RWF_APPEND).build(),
            opcode::Send::new(fd, AT, 99).flags(libc::MSG_MORE).build(),
            option(libc::SOL_SOCKET, libc::SO_KEEPALIVE, AT, 4),
            option(libc::IPPROTO_TCP, libc::TCP_NODELAY, AT, 4),
            option(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, AT, 4),
        ];
        let filled = [
            opcode::Read::new(fd, AT, 100).offset(5).build(),
            opcode::Recv::new(fd, AT, 1).flags(libc::MSG_PEEK).build(),
        ];
        for (entries, own) in [(&plain[..], Memory::None), (&read[..], READ), (&filled[..], FILLED)]
        {
            for entry in entries {
                for memory in [Memory::None, READ, FILLED] {
                    assert_eq!(is_let_through(entry.clone(), memory), memory == own, "{entry:?}");
                }
            }
        }
    }

    #[test]
    fn what_names_anything_else_is_refused() {
        let fd = Fd(FD);
        let other = AT.wrapping_add(1);
        let refused = [
            (opcode::Fsync::new(Fd(8)).build(), Memory::None),
            (opcode::Fsync::new(fd).build().flags(squeue::Flags::IO_LINK), Memory::None),
            (opcode::Fsync::new(fd).build().flags(squeue::Flags::SKIP_SUCCESS), Memory::None),
            (opcode::Fsync::new(fd).build().flags(squeue::Flags::FIXED_FILE), Memory::None),
            (opcode::Fsync::new(fd).build().personality(1), Memory::None),
            (opcode::Close::new(fd).build(), Memory::None),
            (opcode::PollAdd::new(fd, 1).multi(true).build(), Memory::None),
            (opcode::UringCmd16::new(fd, 0).addr(Some(1)).build(), Memory::None),
            (opcode::UringCmd16::new(fd, 0).cmd([1; 16]).build(), Memory::None),
            (opcode::UringCmd16::new(fd, 2).build(), Memory::None),
            (opcode::UringCmd16::new(fd, 0).buf_index(Some(1)).build(), Memory::None),
            (opcode::Write::new(fd, other, 10).build(), READ),
            (opcode::Write::new(fd, AT, 101).build(), READ),
            (opcode::Write::new(fd, AT, 10).ioprio(1).build(), READ),
            (opcode::Send::new(fd, AT, 10).flags(libc::MSG_ZEROCOPY).build(), READ),
            (opcode::Send::new(fd, AT, 10).dest_addr(AT.cast()).dest_addr_len(16).build(), READ),
            (opcode::SendZc::new(fd, AT, 10).build(), READ),
            (opcode::Writev::new(fd, AT.cast(), 1).build(), READ),
            (opcode::Recv::new(fd, AT, 10).flags(libc::MSG_TRUNC).build(), FILLED),
            (opcode::Recv::new(fd, AT, 10).build().flags(squeue::Flags::BUFFER_SELECT), FILLED),
            (opcode::Read::new(fd, AT, 10).buf_group(1).build(), FILLED),
            (option(libc::SOL_SOCKET, libc::SO_KEEPALIVE, other, 4), READ),
            (option(libc::SOL_SOCKET, libc::SO_KEEPALIVE, AT, 101), READ),
            (option(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, AT, 16), READ),
            (option(libc::IPPROTO_IP, 64, AT, 16), READ),
            (option(libc::IPPROTO_IPV6, 64, AT, 16), READ),
            (option(libc::SOL_XDP, 4, AT, 16), READ),
        ];
        for (entry, memory) in refused {
            assert!(!is_let_through(entry.clone(), memory), "{entry:?}");
        }
        let command = opcode::UringCmd16::new(fd, 0).build();
        assert!(
            vet(&command, FD, false, Memory::None).is_err(),
            "only sockets have these commands"
        );
        let keep_alive = option(libc::SOL_SOCKET, libc::SO_KEEPALIVE, AT, 4);
        assert!(vet(&keep_alive, FD, false, READ).is_err(), "likewise");
    }
}
