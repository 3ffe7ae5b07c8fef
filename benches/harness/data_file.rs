//! The file that is read, and the content that each block of it must have.
//!
//! The content is a function of the offset, so contenders check every read without a second copy of
//! the data. Knows nothing about how the blocks are read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::Failure;
use super::child::ReadJob;
use super::random::{Random, mix};
use super::system::{self, FileSystem};

/// What a random read takes, and the alignment of all buffers and offsets (enough for `O_DIRECT` on
/// every usual disk).
pub(crate) const BLOCK_SIZE: usize = 4096;

const WORD_SIZE: usize = 8;
/// Written and warmed in pieces of this size.
const CHUNK_SIZE: usize = 1 << 20;
/// What must stay free beside the file, so that a run never fills a disk to the brim.
const SPARE_BYTES: u64 = 64 << 20;

/// The file of the file workloads.
#[derive(Debug)]
pub(crate) struct DataFile {
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
    pub(crate) file_system: FileSystem,
    keep: bool,
}

impl DataFile {
    /// Makes the file, or takes the one of an earlier run if its size and content fit. `progress`
    /// gets bytes written.
    pub(crate) fn prepare(
        directory: &Path,
        size: u64,
        keep: bool,
        progress: impl FnMut(u64),
    ) -> Result<DataFile, Failure> {
        let shown = directory.display();
        fs::create_dir_all(directory)
            .map_err(|error| format!("cannot make the directory {shown}: {error}"))?;
        let file_system = system::file_system_of(directory)?;
        let file = DataFile { path: directory.join("data.bin"), size, file_system, keep };
        if !file.is_usable() {
            file.write_content(progress).map_err(|error| {
                let _ = fs::remove_file(&file.path);
                format!(
                    "cannot write {}: {error} (choose another place by --file-dir)",
                    file.path.display()
                )
            })?;
        }
        Ok(file)
    }

    fn is_usable(&self) -> bool {
        let Ok(mut file) = File::open(&self.path) else { return false };
        let mut block = vec![0; BLOCK_SIZE];
        file.metadata().is_ok_and(|metadata| metadata.len() == self.size)
            && file.read_exact(&mut block).is_ok()
            && is_content_of(0, &block, 0)
    }

    fn write_content(&self, mut progress: impl FnMut(u64)) -> io::Result<()> {
        // A file of an earlier run with another size gives its room back first.
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).open(&self.path)?;
        let free = system::file_system_of(&self.path)?.free_bytes;
        if free < self.size + SPARE_BYTES {
            return Err(io::Error::other(format!(
                "{} MiB are needed and {} MiB are free: give a smaller --file-size-mib",
                (self.size + SPARE_BYTES) >> 20,
                free >> 20
            )));
        }
        let mut chunk = Vec::with_capacity(CHUNK_SIZE);
        for chunk_start in (0..self.size).step_by(CHUNK_SIZE) {
            chunk.clear();
            let length = (self.size - chunk_start).min(CHUNK_SIZE as u64);
            let words = chunk_start / WORD_SIZE as u64..(chunk_start + length) / WORD_SIZE as u64;
            words.for_each(|index| chunk.extend_from_slice(&word_at(index).to_le_bytes()));
            file.write_all(&chunk)?;
            progress(length);
        }
        file.sync_all()
    }

    /// Reads the whole file once, so that its pages are cached.
    pub(crate) fn warm(&self) -> io::Result<()> {
        let mut file = File::open(&self.path)?;
        let mut chunk = vec![0; CHUNK_SIZE];
        while file.read(&mut chunk)? > 0 {}
        Ok(())
    }

    /// Lets the kernel forget the cached pages, so that direct reads have no copy of the data
    /// beside them.
    pub(crate) fn cool(&self) -> io::Result<()> {
        system::drop_cached_pages(&File::open(&self.path)?)
    }

    /// Where a contender's copy of the file goes.
    pub(crate) fn copy_path(&self, contender: &str) -> PathBuf {
        self.path.with_file_name(format!("copy-by-{contender}.bin"))
    }

    /// Why `O_DIRECT` cannot be used here, if it cannot.
    pub(crate) fn direct_refusal(&self) -> Option<String> {
        if self.file_system.is_tmpfs {
            return Some(
                "tmpfs has no disk to read from directly (choose a disk file system by --file-dir)"
                    .into(),
            );
        }
        let opened = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&self.path);
        opened.err().map(|error| format!("{} refuses O_DIRECT: {error}", self.file_system.name))
    }
}

impl Drop for DataFile {
    fn drop(&mut self) {
        if !self.keep {
            // Nothing sensible is left to do about a file that cannot be removed.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn word_at(index: u64) -> u64 {
    mix(index.wrapping_add(1))
}

/// Whether `block` is what the file holds at `offset`: its first and last word and one that `salt`
/// chooses.
///
/// Three words and no more, because the check is charged to all contenders and must stay small
/// beside the read.
fn is_content_of(offset: u64, block: &[u8], salt: u64) -> bool {
    let (first_word, words) = (offset / WORD_SIZE as u64, (block.len() / WORD_SIZE) as u64);
    let holds = |word: u64| {
        let start = word as usize * WORD_SIZE;
        block.get(start..start + WORD_SIZE) == Some(&word_at(first_word + word).to_le_bytes()[..])
    };
    words > 0 && holds(0) && holds(words - 1) && holds(salt % words)
}

/// One read to be done: where, and the salt of its check.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockChoice {
    pub(crate) offset: u64,
    pub(crate) salt: u64,
}

/// The order in which blocks are read. In a slice, all contenders draw from the same sequence.
#[derive(Debug)]
pub(crate) struct BlockOrder {
    random: Random,
    blocks: u64,
    block_size: u64,
    /// The block that is next, if they are read one after the other.
    next: Option<u64>,
}

impl BlockOrder {
    pub(crate) fn new(job: &ReadJob, seed: u64) -> BlockOrder {
        let block_size = job.block_size as u64;
        let next = job.is_sequential.then_some(0);
        BlockOrder {
            random: Random::new(seed),
            blocks: job.file_size / block_size,
            block_size,
            next,
        }
    }

    pub(crate) fn choose(&mut self) -> BlockChoice {
        let block = match &mut self.next {
            Some(next) => {
                let block = *next;
                *next = (block + 1) % self.blocks;
                block
            }
            None => self.random.below(self.blocks),
        };
        BlockChoice { offset: block * self.block_size, salt: self.random.next() }
    }
}

/// Fails if a read brought less than a block, or something else than was written.
pub(crate) fn check_block(job: &ReadJob, choice: BlockChoice, block: &[u8]) -> Result<(), Failure> {
    let is_right =
        block.len() == job.block_size && is_content_of(choice.offset, block, choice.salt);
    is_right
        .then_some(())
        .ok_or_else(|| format!("wrong content read at offset {}", choice.offset).into())
}
