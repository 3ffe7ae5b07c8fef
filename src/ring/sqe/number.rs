//! Which number has which operation? `IORING_OP_*`, as far as they are decoded.

pub(super) const NOP: u8 = 0;
pub(super) const READV: u8 = 1;
pub(super) const WRITEV: u8 = 2;
pub(super) const FSYNC: u8 = 3;
pub(super) const READ_FIXED: u8 = 4;
pub(super) const WRITE_FIXED: u8 = 5;
pub(super) const POLL_ADD: u8 = 6;
pub(super) const POLL_REMOVE: u8 = 7;
pub(super) const SENDMSG: u8 = 9;
pub(super) const RECVMSG: u8 = 10;
pub(super) const TIMEOUT: u8 = 11;
pub(super) const TIMEOUT_REMOVE: u8 = 12;
pub(super) const ACCEPT: u8 = 13;
pub(super) const ASYNC_CANCEL: u8 = 14;
pub(super) const LINK_TIMEOUT: u8 = 15;
pub(super) const CONNECT: u8 = 16;
pub(super) const FALLOCATE: u8 = 17;
pub(super) const OPENAT: u8 = 18;
pub(super) const CLOSE: u8 = 19;
pub(super) const STATX: u8 = 21;
pub(super) const READ: u8 = 22;
pub(super) const WRITE: u8 = 23;
pub(super) const SEND: u8 = 26;
pub(super) const RECV: u8 = 27;
pub(super) const SHUTDOWN: u8 = 34;
pub(super) const RENAMEAT: u8 = 35;
pub(super) const UNLINKAT: u8 = 36;
pub(super) const MKDIRAT: u8 = 37;
pub(super) const MSG_RING: u8 = 40;
pub(super) const SEND_ZC: u8 = 47;
pub(super) const SENDMSG_ZC: u8 = 48;
pub(super) const READ_MULTISHOT: u8 = 49;
pub(super) const FTRUNCATE: u8 = 55;

/// All of them, for those who ask in advance.
pub(super) const KNOWN: [u8; 33] = [
    NOP,
    READV,
    WRITEV,
    FSYNC,
    READ_FIXED,
    WRITE_FIXED,
    POLL_ADD,
    POLL_REMOVE,
    SENDMSG,
    RECVMSG,
    TIMEOUT,
    TIMEOUT_REMOVE,
    ACCEPT,
    ASYNC_CANCEL,
    LINK_TIMEOUT,
    CONNECT,
    FALLOCATE,
    OPENAT,
    CLOSE,
    STATX,
    READ,
    WRITE,
    SEND,
    RECV,
    SHUTDOWN,
    RENAMEAT,
    UNLINKAT,
    MKDIRAT,
    MSG_RING,
    SEND_ZC,
    SENDMSG_ZC,
    READ_MULTISHOT,
    FTRUNCATE,
];
