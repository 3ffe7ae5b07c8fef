//! The system calls that neither std nor the `io-uring` crate offers in the form needed.
//!
//! Each function is one call, whose arguments are checked by Rust types. Nothing here knows a
//! queue, an operation or a task.
//!
//! # Safety
//! Every block is a system call on descriptors that the caller holds open and on memory that
//! outlives the call: the kernel keeps no pointer that it gets here. SQEs, whose memory it does
//! keep, go through `ring::Ring::push`.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::time::Duration;

use io_uring::squeue;

/// `IORING_ENTER_GETEVENTS`: run deferred work and flush overflow, io_uring_enter(2).
pub(crate) const ENTER_GETEVENTS: u32 = 1 << 0;
/// `IORING_ENTER_SQ_WAKEUP`: the kernel's submission thread sleeps and has work,
/// io_uring_sqpoll(7).
pub(crate) const ENTER_SQ_WAKEUP: u32 = 1 << 1;
/// `IORING_ENTER_SQ_WAIT`: return when that thread has made room in the full queue.
pub(crate) const ENTER_SQ_WAIT: u32 = 1 << 2;
/// `IORING_ENTER_EXT_ARG`: the argument is a [`WaitArgument`].
const ENTER_EXT_ARG: u32 = 1 << 3;
/// `IORING_ENTER_REGISTERED_RING`: the descriptor argument is an index from [`register_ring_fd`].
pub(crate) const ENTER_REGISTERED_RING: u32 = 1 << 4;
/// `IORING_ENTER_NO_IOWAIT`: a wait in this call is idle time, not I/O wait (Linux 6.15).
pub(crate) const ENTER_NO_IOWAIT: u32 = 1 << 7;

const REGISTER_BUFFERS2: libc::c_uint = 15;
const REGISTER_BUFFERS_UPDATE: libc::c_uint = 16;
/// `IORING_RSRC_REGISTER_SPARSE`.
const TABLE_IS_SPARSE: u32 = 1;
const REGISTER_RING_FDS: libc::c_uint = 20;
const UNREGISTER_RING_FDS: libc::c_uint = 21;
const REGISTER_SEND_MSG_RING: libc::c_uint = 31;

/// `struct io_uring_rsrc_update` as the two ring descriptor registrations take it.
#[repr(C)]
struct RingFdUpdate {
    offset: u32,
    reserved: u32,
    data: u64,
}

/// `struct io_uring_rsrc_register`.
#[repr(C)]
struct ResourceTable {
    places: u32,
    flags: u32,
    reserved: u64,
    data: u64,
    tags: u64,
}

/// `struct io_uring_rsrc_update2`.
#[repr(C)]
struct ResourceUpdate {
    offset: u32,
    reserved: u32,
    data: u64,
    tags: u64,
    count: u32,
    reserved2: u32,
}

/// How often a call is made that a signal interrupts, or that the kernel refuses for the moment.
const MOST_ATTEMPTS: u32 = 100;
/// How long the kernel is left alone after such a refusal.
const MOMENT: Duration = Duration::from_millis(1);

/// Makes a call again when a signal has interrupted it (`EINTR`), and when the kernel has no memory
/// for it (`EAGAIN`) or is not ready (`EBUSY`) at the moment; a hundred times at the most. For
/// calls that do not wait by themselves.
pub(crate) fn retry<T>(call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    retry_after(&[libc::EINTR, libc::EAGAIN, libc::EBUSY], call)
}

/// As [`retry`], for these reasons only.
fn retry_after<T>(reasons: &[i32], mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..MOST_ATTEMPTS {
        match call() {
            Err(error) if error.raw_os_error().is_some_and(|errno| reasons.contains(&errno)) => {
                if error.raw_os_error() != Some(libc::EINTR) {
                    std::thread::sleep(MOMENT);
                }
            }
            done => return done,
        }
    }
    call()
}

/// io_uring_enter(2) without an argument structure. `ring` is a descriptor or, with
/// [`ENTER_REGISTERED_RING`], an index.
#[inline(always)]
pub(crate) fn enter(ring: i32, to_submit: u32, min_complete: u32, flags: u32) -> io::Result<u32> {
    // SAFETY: the call takes no pointer. The memory that the submitted SQEs name was vouched for
    // when they were pushed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_io_uring_enter,
            ring,
            to_submit,
            min_complete,
            flags,
            std::ptr::null::<libc::c_void>(),
            0usize,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result as u32)
}

/// `struct io_uring_getevents_arg`.
#[repr(C)]
struct WaitArgument {
    signal_mask: u64,
    signal_mask_size: u32,
    min_wait_microseconds: u32,
    timeout: *const Timespec,
}

/// `struct __kernel_timespec`.
#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

/// A wait without a timeout ends after its minimum, with or without completions. With one it goes
/// on to wait for the first.
static LONGEST_WAIT: Timespec = Timespec { seconds: 24 * 3600, nanoseconds: 0 };

/// io_uring_enter(2) that waits for `min_complete` completions, and after `microseconds` for one
/// (Linux 6.12).
pub(crate) fn enter_min_wait(
    ring: i32,
    to_submit: u32,
    min_complete: u32,
    flags: u32,
    microseconds: u32,
) -> io::Result<u32> {
    let argument = WaitArgument {
        signal_mask: 0,
        signal_mask_size: 0,
        min_wait_microseconds: microseconds,
        timeout: &raw const LONGEST_WAIT,
    };
    // SAFETY: the argument lies on this stack, the timeout is static, and the kernel is done with
    // both when the call returns. For the entries see `enter`.
    let result = unsafe {
        libc::syscall(
            libc::SYS_io_uring_enter,
            ring,
            to_submit,
            min_complete,
            flags | ENTER_EXT_ARG,
            &raw const argument,
            size_of::<WaitArgument>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result as u32)
}

/// Registers a ring's descriptor for the calling thread and returns its index (Linux 5.18, 16
/// places a thread, then `EBUSY`).
pub(crate) fn register_ring_fd(ring: BorrowedFd<'_>) -> io::Result<u32> {
    let mut update = RingFdUpdate { offset: u32::MAX, reserved: 0, data: ring.as_raw_fd() as u64 };
    // `EBUSY` is not for the moment here.
    retry_after(&[libc::EINTR, libc::EAGAIN], || {
        register(ring.as_raw_fd(), REGISTER_RING_FDS, &mut update, 1)
    })?;
    Ok(update.offset)
}

/// Takes the registration back. It keeps the ring alive after close(2) otherwise.
pub(crate) fn unregister_ring_fd(ring: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    let mut update = RingFdUpdate { offset: index, reserved: 0, data: 0 };
    retry(|| register(ring.as_raw_fd(), UNREGISTER_RING_FDS, &mut update, 1)).map(drop)
}

/// Makes a ring's table of registered buffers, with that many empty places (Linux 5.19).
pub(crate) fn make_buffer_table(ring: BorrowedFd<'_>, places: u32) -> io::Result<()> {
    let mut table = ResourceTable { places, flags: TABLE_IS_SPARSE, reserved: 0, data: 0, tags: 0 };
    retry(|| {
        register(ring.as_raw_fd(), REGISTER_BUFFERS2, &mut table, size_of::<ResourceTable>() as u32)
    })
    .map(drop)
}

/// Puts buffers into the table from a place on, or empties places with vectors of null; returns how
/// many the kernel took.
///
/// It pins the memory, and keeps it pinned until the place is emptied or the ring is closed.
/// Whoever pushes an entry that names the place vouches for what the kernel writes there.
pub(crate) fn update_buffer_table(
    ring: BorrowedFd<'_>,
    first: u32,
    buffers: &[libc::iovec],
) -> io::Result<usize> {
    let count = buffers.len() as u32;
    let mut update = ResourceUpdate {
        offset: first,
        reserved: 0,
        data: buffers.as_ptr() as u64,
        tags: 0,
        count,
        reserved2: 0,
    };
    let taken = retry(|| {
        register(
            ring.as_raw_fd(),
            REGISTER_BUFFERS_UPDATE,
            &mut update,
            size_of::<ResourceUpdate>() as u32,
        )
    })?;
    Ok(taken as usize)
}

/// Posts the completion that a `MSG_RING` entry describes to its target, without a ring of one's
/// own (Linux 6.13).
pub(crate) fn send_msg_ring(message: &mut squeue::Entry) -> io::Result<()> {
    register(-1, REGISTER_SEND_MSG_RING, message, 1).map(drop)
}

fn register<T>(ring: RawFd, opcode: libc::c_uint, argument: &mut T, count: u32) -> io::Result<i32> {
    // SAFETY: `argument` is one exclusively borrowed structure of the kind that `opcode` reads and
    // writes; the kernel is done with it when the call returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            ring,
            opcode,
            std::ptr::from_mut(argument),
            count,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result as i32)
}

/// eventfd(2), close-on-exec and non-blocking, counter 0.
pub(crate) fn event() -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointer.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Was the file opened with `O_DIRECT`? fcntl(2).
pub(crate) fn is_direct(file: BorrowedFd<'_>) -> bool {
    // SAFETY: the call takes no pointer, and changes nothing.
    let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
    flags >= 0 && flags & libc::O_DIRECT != 0
}

/// Reads what the page cache has, without a wait; preadv2(2) with `RWF_NOWAIT`. The count is less
/// than `length` only where the file ends, and its size says so too: Linux 5.10 may answer 0 where
/// a page is missing. `None`: some of it would have to be waited for, or the call failed.
///
/// # Safety
/// `length` bytes may be written at `address`.
pub(crate) unsafe fn read_cached(
    file: BorrowedFd<'_>,
    address: *mut u8,
    length: usize,
    offset: u64,
) -> Option<usize> {
    let mut done = 0;
    while done < length {
        // SAFETY: `done` is less than `length`, so this is within what the caller vouches for.
        let start = unsafe { address.add(done) };
        let part = libc::iovec { iov_base: start.cast(), iov_len: length - done };
        let position = libc::off64_t::try_from(offset.checked_add(done as u64)?).ok()?;
        // Not by libc's function, which makes the thread ready to be cancelled at each call. The
        // upper half of the position, which is there for machines of 32 bits, is in the lower one.
        // SAFETY: the caller vouches for the memory, which the kernel uses during the call only.
        let count = unsafe {
            let call = libc::SYS_preadv2;
            libc::syscall(
                call,
                file.as_raw_fd(),
                &raw const part,
                1_usize,
                position,
                0_usize,
                libc::RWF_NOWAIT,
            )
        };
        match count {
            ..0 => return None,
            0 if !ends_before(file, position) => return None,
            0 => break,
            count => done += count as usize,
        }
    }
    Some(done)
}

/// Is it a file of which the size is known, and not beyond `position`?
fn ends_before(file: BorrowedFd<'_>, position: libc::off64_t) -> bool {
    Status::of(file)
        .is_some_and(|status| status.file_type == libc::S_IFREG && status.size <= position as u64)
}

/// epoll_create1(2), close-on-exec.
pub(crate) fn epoll() -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointer.
    let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// epoll_ctl(2). `fd` is a number, since it may have been closed by now, which the call then says.
pub(crate) fn epoll_control(
    epoll: BorrowedFd<'_>,
    operation: i32,
    fd: RawFd,
    events: u32,
    data: u64,
) -> io::Result<()> {
    let mut event = libc::epoll_event { events, u64: data };
    // SAFETY: `event` is a local variable.
    if unsafe { libc::epoll_ctl(epoll.as_raw_fd(), operation, fd, &mut event) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Waits for events, without limit for `None`. Fills `events` from the front and returns how many.
/// epoll_wait(2), and epoll_pwait2(2) where milliseconds are too coarse; where one of them is
/// refused, another.
pub(crate) fn epoll_wait(
    epoll: BorrowedFd<'_>,
    events: &mut [libc::epoll_event],
    timeout: Option<Duration>,
) -> io::Result<usize> {
    let epoll = epoll.as_raw_fd();
    let result = match timeout {
        None | Some(Duration::ZERO) => wait_for_milliseconds(epoll, events, timeout),
        Some(_) => wait_precisely(epoll, events, timeout),
    };
    let result = if is_refused(result) { wait_otherwise(epoll, events, timeout) } else { result };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result as usize)
}

/// Did the kernel or a filter not know the call? A container's filter that is older than a call
/// answers EPERM. This is for calls that never answer so by themselves, with arguments as ours.
fn is_refused(result: i32) -> bool {
    result < 0
        && matches!(
            io::Error::last_os_error().raw_os_error(),
            Some(libc::ENOSYS | libc::EPERM | libc::EACCES | libc::EINVAL)
        )
}

/// By whichever of the calls is granted.
#[cold]
fn wait_otherwise(
    epoll: RawFd,
    events: &mut [libc::epoll_event],
    timeout: Option<Duration>,
) -> i32 {
    for wait in [wait_for_milliseconds, wait_for_milliseconds_masked, wait_precisely] {
        let result = wait(epoll, events, timeout);
        if !is_refused(result) {
            return result;
        }
    }
    -1
}

fn wait_precisely(
    epoll: RawFd,
    events: &mut [libc::epoll_event],
    timeout: Option<Duration>,
) -> i32 {
    let timeout = timeout.map(|timeout| {
        [i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX), i64::from(timeout.subsec_nanos())]
    });
    let timespec = timeout.as_ref().map_or(std::ptr::null(), |timeout| timeout.as_ptr());
    let (pointer, count) = (events.as_mut_ptr(), events.len() as i32);
    let no_mask = std::ptr::null::<libc::c_void>();
    // SAFETY: `events` is exclusively borrowed for the call, and `count` long; `timeout` is a local
    // variable, two 64-bit numbers as the call has them on every architecture.
    unsafe {
        libc::syscall(libc::SYS_epoll_pwait2, epoll, pointer, count, timespec, no_mask, 0usize)
            as i32
    }
}

fn wait_for_milliseconds(
    epoll: RawFd,
    events: &mut [libc::epoll_event],
    timeout: Option<Duration>,
) -> i32 {
    // SAFETY: `events` is exclusively borrowed for the call, and as long as it is told.
    unsafe {
        libc::epoll_wait(epoll, events.as_mut_ptr(), events.len() as i32, milliseconds(timeout))
    }
}

fn wait_for_milliseconds_masked(
    epoll: RawFd,
    events: &mut [libc::epoll_event],
    timeout: Option<Duration>,
) -> i32 {
    // SAFETY: as above; there is no mask.
    unsafe {
        libc::epoll_pwait(
            epoll,
            events.as_mut_ptr(),
            events.len() as i32,
            milliseconds(timeout),
            std::ptr::null(),
        )
    }
}

/// Rounded up: who wakes too early waits again, and again.
fn milliseconds(timeout: Option<Duration>) -> i32 {
    timeout.map_or(-1, |timeout| {
        i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
    })
}

/// Has the file positions to read at? Pipes, sockets, terminals, and the descriptors of events
/// (eventfd, timerfd, signalfd, inotify) have none. No file system is asked, which could wait: the
/// type of a file tells, of a device lseek(2), and of what has no type, or hides it, pread(2) of no
/// bytes, since lseek answers 0 for an eventfd.
pub(crate) fn has_position(file: BorrowedFd<'_>) -> bool {
    match Status::of(file).map(|status| status.file_type) {
        Some(libc::S_IFREG | libc::S_IFDIR | libc::S_IFBLK) => true,
        Some(libc::S_IFIFO | libc::S_IFSOCK) => false,
        // SAFETY: the call takes no memory, and changes nothing.
        Some(libc::S_IFCHR) => unsafe { libc::lseek(file.as_raw_fd(), 0, libc::SEEK_CUR) >= 0 },
        // SAFETY: the call writes no byte, so it needs no memory.
        _ => match unsafe { libc::pread(file.as_raw_fd(), std::ptr::null_mut(), 0, 0) } {
            0.. => true,
            // Another error is no answer: a file that is open for writing only may have positions.
            _ => io::Error::last_os_error().raw_os_error() != Some(libc::ESPIPE),
        },
    }
}

/// close(2). The number is given up whatever the outcome; an error is that of the file's flush.
pub(crate) fn close(descriptor: OwnedFd) -> io::Result<()> {
    // SAFETY: the descriptor belongs to the caller, who gives it up.
    match unsafe { libc::close(descriptor.into_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What `Status::of` tells.
pub(crate) struct Status {
    /// `S_IFMT` of the file's mode.
    pub(crate) file_type: u32,
    /// Of the device that it is, major and minor.
    pub(crate) is_device: (u32, u32),
    /// Of the device that it is on.
    pub(crate) on_device: (u32, u32),
    /// The mount, by a number that is never used again where the kernel has such (Linux 6.8).
    pub(crate) mount: u64,
    pub(crate) size: u64,
}

/// `STATX_MNT_ID_UNIQUE`.
const MOUNT_FOR_EVER: u32 = 0x4000;

impl Status {
    /// statx(2), with what is known here: no network or user-space file system is asked.
    pub(crate) fn of(descriptor: BorrowedFd<'_>) -> Option<Status> {
        let mut status = std::mem::MaybeUninit::<libc::statx>::uninit();
        let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
        let mask = libc::STATX_TYPE | libc::STATX_SIZE | libc::STATX_MNT_ID | MOUNT_FOR_EVER;
        // SAFETY: the path is static, and the structure a local variable, which is read only if the
        // call has filled it in.
        let status = unsafe {
            if libc::statx(descriptor.as_raw_fd(), c"".as_ptr(), flags, mask, status.as_mut_ptr())
                < 0
            {
                return None;
            }
            status.assume_init()
        };
        Some(Status {
            file_type: u32::from(status.stx_mode) & libc::S_IFMT,
            is_device: (status.stx_rdev_major, status.stx_rdev_minor),
            on_device: (status.stx_dev_major, status.stx_dev_minor),
            mount: status.stx_mnt_id,
            size: status.stx_size,
        })
    }
}

/// Fills in the value of an option, which is as many C integers; getsockopt(2).
pub(crate) fn socket_option(
    socket: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: &mut [libc::c_int],
) -> io::Result<()> {
    let mut length = size_of_val(value) as libc::socklen_t;
    // SAFETY: `value` is exclusively borrowed for the call, and as long as it is told.
    if unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &mut length)
    } < 0
    {
        return Err(io::Error::last_os_error());
    }
    debug_assert!(length as usize <= size_of_val(value), "the kernel has no more for it");
    Ok(())
}

/// Sets the value of an option, which is as many C integers; setsockopt(2).
pub(crate) fn set_socket_option(
    socket: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: &[libc::c_int],
) -> io::Result<()> {
    let length = size_of_val(value) as libc::socklen_t;
    // SAFETY: `value` is borrowed for the call, and as long as it is told.
    if unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), length) }
        < 0
    {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The number of the file's file system, statfs(2). Network and user-space file systems are asked,
/// and take their time.
pub(crate) fn file_system(file: BorrowedFd<'_>) -> Option<u32> {
    let mut status = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the structure is a local variable, which is read only if the call has filled it in.
    let filled = unsafe { libc::fstatfs(file.as_raw_fd(), status.as_mut_ptr()) } == 0;
    // SAFETY: as above.
    filled.then(|| unsafe { status.assume_init() }.f_type as u32)
}

/// The soft and the hard limit of a resource, `u64::MAX` for none; getrlimit(2).
pub(crate) fn limit(resource: libc::__rlimit_resource_t) -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is exclusively borrowed for the call.
    if unsafe { libc::getrlimit(resource, &mut limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Asks for huge pages under a block of memory, which then costs one page fault in place of
/// hundreds; madvise(2). A refusal changes nothing.
pub(crate) fn advise_huge_pages(block: std::ptr::NonNull<u8>, length: usize) {
    // SAFETY: this advice changes no content and no permission of any mapping, whoever owns it.
    unsafe { libc::madvise(block.as_ptr().cast(), length, libc::MADV_HUGEPAGE) };
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_cached_read_of_nothing_is_the_end_only_where_the_size_says_so() {
        let file = std::fs::File::open(file!()).expect("this file");
        let size = file.metadata().expect("known").len();
        for (position, is_end) in [(0, false), (size - 1, false), (size, true), (size + 1, true)] {
            assert_eq!(ends_before(file.as_fd(), position as i64), is_end, "{position} of {size}");
        }
        // Every read of it brings nothing, and it has no size.
        let null = std::fs::File::open("/dev/null").expect("it is everywhere");
        assert!(!ends_before(null.as_fd(), 0));
        let mut byte = 0;
        // SAFETY: the byte is a local variable.
        assert_eq!(unsafe { read_cached(null.as_fd(), &raw mut byte, 1, 0) }, None);
        // SAFETY: as above.
        assert_eq!(unsafe { read_cached(file.as_fd(), &raw mut byte, 1, size) }.unwrap_or(0), 0);
    }
}
