//! The catalogue of operations: one row for each, which all who ask about operations derive from.
//!
//! A row stands in the section of the family whose file executes the operation on the software
//! ring. The sections become enums, so a new row makes the compiler ask that file for its decoding.
//! The doctor, the ring for older kernels, the tests and the table of kernels on the crate's page
//! follow from the rows. How an operation works is not known here.

use std::fmt;

use io_uring::opcode;

/// A release of Linux, by the first two numbers of its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Release(u8, u8);

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// The oldest kernel that this crate runs on.
#[cfg(test)]
pub(crate) const OLDEST: Release = Release(5, 10);

/// What becomes of the crate's own entries on a kernel that lacks the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Without {
    /// The software ring executes them, while the rest stays with the kernel.
    Software,
    /// Something else stands in, or nothing does: what that costs.
    Costs(&'static str),
    /// The crate makes no such entries.
    Unused,
}

use Without::{Costs, Software, Unused};

/// Of operations that every supported kernel has: nothing stands in for them.
const ESSENTIAL: Without = Costs("whatever needs it says `Unsupported`");

/// An operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) code: u8,
    /// Its name in io_uring_enter(2), without `IORING_OP_`.
    pub(crate) name: &'static str,
    pub(crate) since: Release,
    pub(crate) without: Without,
    /// Does the software ring execute it?
    pub(crate) by_software: bool,
}

/// What a row's section says about the software ring.
macro_rules! by_software {
    (KernelOnly) => {
        false
    };
    ($family:ident) => {
        true
    };
}

/// One section for each family, one line for each operation: its type in the `io-uring` crate, its
/// name, the first kernel that has it, and what becomes of its entries on kernels without.
macro_rules! catalogue {
    ($($(#[$doc:meta])* $family:ident ($codes:ident) {
        $($code:ident $name:literal $since:tt $without:expr;)*
    })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            pub(crate) enum $codes {
                $($code,)*
            }
        )*

        /// An operation by its family.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Opcode {
            $($family($codes),)*
        }

        impl Opcode {
            /// `None`: the catalogue has no such operation.
            #[inline]
            pub(crate) fn of(code: u8) -> Option<Opcode> {
                match code {
                    $($(opcode::$code::CODE => Some(Opcode::$family($codes::$code)),)*)*
                    _ => None,
                }
            }
        }

        const ROWS: &[Row] = &[
            $($(Row {
                code: opcode::$code::CODE,
                name: $name,
                since: Release $since,
                without: $without,
                by_software: by_software!($family),
            },)*)*
        ];
    };
}

catalogue! {
    /// Between memory and a part of a file, or the next of a stream.
    Transfer(TransferCode) {
        Readv "READV" (5, 1) Costs("`read_vectored` says `Unsupported`");
        Writev "WRITEV" (5, 1) Costs("`write_vectored` says `Unsupported`");
        ReadFixed "READ_FIXED" (5, 1) Costs("reads into buffers of a `BufferPool` say `Unsupported`");
        WriteFixed "WRITE_FIXED" (5, 1) Costs("writes from buffers of a `BufferPool` say `Unsupported`");
        Read "READ" (5, 6) ESSENTIAL;
        Write "WRITE" (5, 6) ESSENTIAL;
        ReadMulti "READ_MULTISHOT" (6, 7) Costs("`chunks` of pipes read one by one");
    }
    /// On sockets.
    Socket(SocketCode) {
        SendMsg "SENDMSG" (5, 3) Costs("sending datagrams to an address says `Unsupported`");
        RecvMsg "RECVMSG" (5, 3) Costs("receiving datagrams with their address says `Unsupported`");
        Accept "ACCEPT" (5, 5) Costs("listeners say `Unsupported`");
        Connect "CONNECT" (5, 5) Costs("`connect` says `Unsupported`");
        Send "SEND" (5, 6) ESSENTIAL;
        Recv "RECV" (5, 6) ESSENTIAL;
        Shutdown "SHUTDOWN" (5, 11) Software;
        SendZc "SEND_ZC" (6, 0) Costs("`send_zc` and `send_all_zc` are plain sends");
        SendMsgZc "SENDMSG_ZC" (6, 1)
            Costs("`send_vectored_zc`, `send_all_vectored_zc` and `send_to_zc` are plain sends");
    }
    /// That wait until a descriptor is ready.
    Poll(PollCode) {
        PollAdd "POLL_ADD" (5, 1) Costs("wakes from other threads need SEND_MSG_RING");
    }
    /// On an open file as a whole.
    File(FileCode) {
        Fsync "FSYNC" (5, 1) Costs("`File::sync_all` and `sync_data` say `Unsupported`");
        SyncFileRange "SYNC_FILE_RANGE" (5, 2) Costs("`File::sync_range` says `Unsupported`");
        Fallocate "FALLOCATE" (5, 6) Costs("`File::fallocate` says `Unsupported`");
        Close "CLOSE" (5, 6) Unused;
        Fadvise "FADVISE" (5, 6) Costs("`File::advise` says `Unsupported`");
        FSetXattr "FSETXATTR" (5, 19) Software;
        FGetXattr "FGETXATTR" (5, 19) Software;
        Ftruncate "FTRUNCATE" (6, 9) Software;
    }
    /// On names.
    Path(PathCode) {
        OpenAt "OPENAT" (5, 6) Costs("opening files says `Unsupported`");
        OpenAt2 "OPENAT2" (5, 6) Costs("opening files within a `Dir` says `Unsupported`");
        Statx "STATX" (5, 6) Costs("`metadata` says `Unsupported`");
        RenameAt "RENAMEAT" (5, 11) Software;
        UnlinkAt "UNLINKAT" (5, 11) Software;
        MkDirAt "MKDIRAT" (5, 15) Software;
        SymlinkAt "SYMLINKAT" (5, 15) Software;
        LinkAt "LINKAT" (5, 15) Software;
        SetXattr "SETXATTR" (5, 19) Software;
        GetXattr "GETXATTR" (5, 19) Software;
    }
    /// That end at an instant, or move one.
    Time(TimeCode) {
        Timeout "TIMEOUT" (5, 4) Costs("no timer rings");
        TimeoutUpdate "TIMEOUT_REMOVE" (5, 5) Costs("a timer can be late");
        LinkTimeout "LINK_TIMEOUT" (5, 5) Unused;
    }
    /// That end other requests.
    Cancel(CancelCode) {
        PollRemove "POLL_REMOVE" (5, 1) Unused;
        AsyncCancel "ASYNC_CANCEL" (5, 5) Costs("nothing can be cancelled");
    }
    /// On rings alone.
    Message(MessageCode) {
        Nop "NOP" (5, 1) ESSENTIAL;
        MsgRingData "MSG_RING" (5, 18) Costs("wakes from other threads go through an eventfd");
    }
    /// That the software ring has no use for: its receives take buffers where the pool has put
    /// them.
    KernelOnly(KernelOnlyCode) {
        ProvideBuffers "PROVIDE_BUFFERS" (5, 7) Costs("`chunks` need REGISTER_PBUF_RING");
        Socket "SOCKET" (5, 19) Unused;
        FutexWait "FUTEX_WAIT" (6, 7) Costs("`futex::wait` says `Unsupported`");
        WaitId "WAITID" (6, 7) Costs("`Child::wait` polls a pidfd");
    }
}

/// More than the highest code.
const CODES: usize = 64;

const BY_CODE: [Option<Row>; CODES] = {
    let (mut by_code, mut index) = ([None; CODES], 0);
    while index < ROWS.len() {
        by_code[ROWS[index].code as usize] = Some(ROWS[index]);
        index += 1;
    }
    by_code
};

/// All operations, in the order of their codes.
pub(crate) fn operations() -> impl Iterator<Item = &'static Row> {
    const { &BY_CODE }.iter().flatten()
}

/// What an operation can do since a release that no probe tells of. Another operation came with the
/// same release, and stands for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MultishotForm {
    pub(crate) name: &'static str,
    pub(crate) since: Release,
    pub(crate) shown_by: u8,
}

pub(crate) const MULTISHOT_ACCEPT: MultishotForm = MultishotForm {
    name: "multishot ACCEPT",
    since: Release(5, 19),
    shown_by: opcode::Socket::CODE,
};
pub(crate) const MULTISHOT_RECEIVE: MultishotForm =
    MultishotForm { name: "multishot RECV", since: Release(6, 0), shown_by: opcode::SendZc::CODE };

/// The first kernel that has what a ring's report calls by this name.
pub(crate) fn first_release_of(name: &str) -> Option<Release> {
    let multishots = [MULTISHOT_ACCEPT, MULTISHOT_RECEIVE];
    let multishot =
        multishots.iter().find(|multishot| multishot.name == name).map(|multishot| multishot.since);
    multishot.or_else(|| operations().find(|row| row.name == name).map(|row| row.since))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_row_is_found_by_its_code_and_by_its_name() {
        assert_eq!(operations().count(), ROWS.len());
        assert!(operations().is_sorted_by_key(|row| row.code));
        for row in ROWS {
            assert!(Opcode::of(row.code).is_some(), "{}", row.name);
            assert_eq!(first_release_of(row.name), Some(row.since));
        }
        assert_eq!(Opcode::of(opcode::EpollCtl::CODE), None);
    }

    #[test]
    fn a_multishot_came_with_the_operation_that_stands_for_it() {
        for multishot in [MULTISHOT_ACCEPT, MULTISHOT_RECEIVE] {
            let row = operations().find(|row| row.code == multishot.shown_by).expect("listed");
            assert_eq!(row.since, multishot.since);
        }
    }

    /// The lines of the table on the crate's page: the release, and what it says.
    fn kernel_table() -> Vec<(&'static str, &'static str)> {
        let page = include_str!("../lib.rs");
        let lines = page.lines().filter_map(|line| line.strip_prefix("//! | ")?.split_once(" | "));
        lines
            .filter(|(release, _)| release.starts_with(|first: char| first.is_ascii_digit()))
            .collect()
    }

    #[test]
    fn the_table_of_kernels_on_the_crates_page_names_every_operation_that_came_later() {
        let rows = operations().filter(|row| row.since > OLDEST && row.without != Unused);
        let operations = rows.map(|row| (row.since, format!("`{}`", row.name)));
        let multishots = [MULTISHOT_ACCEPT, MULTISHOT_RECEIVE]
            .map(|multishot| (multishot.since, multishot.name.replace(' ', " `") + "`"));
        let expected: BTreeSet<_> =
            operations.chain(multishots).map(|(since, name)| (since.to_string(), name)).collect();
        let table = kernel_table();
        let named = |name: &str| {
            let what = table.iter().filter(|(_, text)| {
                text.split(" | ").next().is_some_and(|what| what.contains(name))
            });
            what.map(|(release, _)| (*release).to_owned()).collect::<Vec<_>>()
        };
        for (since, name) in expected {
            assert_eq!(named(&name), [since], "the line of the table that names {name}");
        }
    }
}
