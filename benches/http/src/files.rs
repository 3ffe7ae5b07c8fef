//! The files that are served: written before the servers start, removed after.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::harness::Failure;
use crate::harness::system;

/// So many that a slice does not ask for one twice.
const COLD_FILES: usize = 4096;
const MOST_COLD_BYTES: usize = 256 << 20;
const CACHED_FILES: usize = 64;
/// Files of a subdirectory.
const PER_DIRECTORY: usize = 256;

/// Files of one size in a directory.
#[derive(Debug)]
pub(crate) struct Files {
    root: PathBuf,
    /// Contents are windows into it, so that each file has other bytes.
    pattern: Vec<u8>,
    size: usize,
    open: Vec<File>,
}

impl Files {
    /// In cargo's target directory, as far as that is where the executable lies: in the directory
    /// for temporary files there may be no disk under them.
    pub(crate) fn write(size: usize, is_cached: bool) -> Result<Files, Failure> {
        let executable = std::env::current_exe()?;
        let directory = executable.parent().ok_or("the executable lies in a directory")?;
        static ROWS: AtomicU64 = AtomicU64::new(0);
        let row = ROWS.fetch_add(1, Ordering::Relaxed);
        let root = directory.join(format!("http-files-{}-{row}", std::process::id()));
        let count = if is_cached { CACHED_FILES } else { COLD_FILES.min(MOST_COLD_BYTES / size) };
        system::allow_open_files(2 * count as u64 + 256)?;
        let pattern = (0..size + count).map(|place| (place % 251) as u8).collect();
        let mut files = Files { root, pattern, size, open: Vec::new() };
        for index in 0..count {
            let path = files.root.join(name(index));
            fs::create_dir_all(path.parent().ok_or("a file lies in a directory")?)?;
            let mut file = File::create(&path)?;
            file.write_all(files.content(index))?;
            files.open.push(File::open(&path)?);
        }
        // Pages that are not written yet cannot be dropped.
        let synced = Command::new("sync").arg("-f").arg(&files.root).status()?;
        if !synced.success() {
            return Err(format!("sync(1) of the files: {synced}").into());
        }
        Ok(files)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn count(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn path_in_url(&self, index: usize) -> String {
        format!("/{}", name(index))
    }

    pub(crate) fn content(&self, index: usize) -> &[u8] {
        &self.pattern[index..index + self.size]
    }

    /// All of them have to come from the disk then. Names and inodes stay known.
    pub(crate) fn drop_cached_pages(&self) -> Result<(), Failure> {
        Ok(self.open.iter().try_for_each(system::drop_cached_pages)?)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // Nothing sensible is left to do about files that cannot be removed.
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn name(index: usize) -> String {
    format!("{}/{}.bin", index / PER_DIRECTORY, index % PER_DIRECTORY)
}
