//! What kind of file a name leads to.

use std::fmt;

/// The kind of a file, in the shape of [`std::fs::FileType`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileType {
    /// `S_IFMT` of the mode.
    kind: u32,
}

impl FileType {
    pub(super) fn of_mode(mode: u32) -> FileType {
        FileType { kind: mode & libc::S_IFMT }
    }

    /// Is it a regular file?
    pub fn is_file(&self) -> bool {
        self.kind == libc::S_IFREG
    }

    /// Is it a directory?
    pub fn is_dir(&self) -> bool {
        self.kind == libc::S_IFDIR
    }

    /// Is it a symbolic link?
    pub fn is_symlink(&self) -> bool {
        self.kind == libc::S_IFLNK
    }

    /// Is it a block device?
    pub fn is_block_device(&self) -> bool {
        self.kind == libc::S_IFBLK
    }

    /// Is it a character device?
    pub fn is_char_device(&self) -> bool {
        self.kind == libc::S_IFCHR
    }

    /// Is it a FIFO?
    pub fn is_fifo(&self) -> bool {
        self.kind == libc::S_IFIFO
    }

    /// Is it a Unix socket?
    pub fn is_socket(&self) -> bool {
        self.kind == libc::S_IFSOCK
    }
}

impl fmt::Debug for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.kind {
            libc::S_IFREG => "file",
            libc::S_IFDIR => "directory",
            libc::S_IFLNK => "symbolic link",
            libc::S_IFBLK => "block device",
            libc::S_IFCHR => "character device",
            libc::S_IFIFO => "FIFO",
            libc::S_IFSOCK => "socket",
            _ => "unknown",
        };
        write!(f, "FileType({name})")
    }
}
