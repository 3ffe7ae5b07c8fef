//! The door to the machine: its clocks, descriptors, sockets, threads and system calls.
//!
//! Only this room and those of the rings ask the machine for anything. This file only has names.

mod calls;
mod clock;
pub(crate) mod control;
mod descriptor;
mod direct;
mod events;
mod files;
mod futex;
mod large_files;
pub(crate) mod names;
pub(crate) mod option;
mod peer;
mod pipe;
mod processes;
mod signals;
mod socket;
mod standard_streams;
pub(crate) mod threads;
mod unix_address;

pub(crate) use calls::{
    ENTER_GETEVENTS, ENTER_NO_IOWAIT, ENTER_REGISTERED_RING, ENTER_SQ_WAIT, ENTER_SQ_WAKEUP,
    Status, advise_huge_pages, enter, enter_min_wait, epoll, epoll_control, epoll_wait, event,
    file_system, has_position, is_direct, limit, make_buffer_table, read_cached, register_ring_fd,
    retry, send_msg_ring, unregister_ring_fd, update_buffer_table,
};
pub(crate) use clock::{clock, monotonic_nanoseconds, now};
pub(crate) use descriptor::{Descriptor, duplicate};
pub(crate) use direct::set_direct;
pub(crate) use events::{
    add_watch, event_counter, inotify, is_of_events, read_events, remove_watch,
};
pub(crate) use files::{
    FileSystemStatus, Lock, Whence, Which, alignment_of_direct_transfers, appends, copy_range,
    file_system_status, list_attributes, lock, remove_attribute, seek, set_permissions, set_times,
    share_blocks, status,
};
pub(crate) use futex::wake_waiters;
pub(crate) use large_files::{NoSignalOfLargeFiles, limits_file_sizes, with_signal_of_large_files};
pub(crate) use option::lingers;
pub use peer::UCred;
pub(crate) use peer::{peer_cred, peer_groups, peer_pidfd};
pub(crate) use pipe::{is_pipe, make_fifo, open_pipe, signals_a_reader_gone, without_signal};
pub(crate) use processes::{open_process, wait_for_child};
pub(crate) use signals::SignalCounter;
pub(crate) use socket::{
    bind, listen, local_address, open_pair, open_socket, peer_address, send_at_once,
    set_nonblocking, shut_down,
};
pub(crate) use standard_streams::{SharedPosition, StandardStream, standard_stream};
pub(crate) use threads::{copy_file, copy_open_file, resolve, run_blocking, run_on_own_thread};
pub(crate) use unix_address::{
    kernel_unix_address, unix_address_at, unix_address_of, unnamed_unix_address,
};

/// Addresses and kinds of sockets as the kernel has them.
pub(crate) use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Type};
