//! The content of whole files, read and written in one call.

use std::io;
use std::path::Path;
use std::rc::Rc;

use super::{Durability, File};
use crate::buf::{IoBuf, IoBufMut, SharedPart};

/// What [`read`] asks for first. A file that has more is asked for its size.
const FIRST_READ: usize = 16 * 1024;
/// From that length on a file is read and written in parts, several at a time.
const LARGE: usize = 1 << 20;
/// The length of a part that is written.
const WRITTEN_PART: usize = 1 << 20;
/// Parts that are written at a time: a worker of the kernel has the next one when it is done.
const WRITTEN_AT_A_TIME: usize = 2;

/// Reads a whole file.
///
/// More than 1 MiB is read as by [`File::stream`], with several reads in flight, in place.
///
/// ```
/// # annulus::block_on(async {
/// let manifest = annulus::fs::read("Cargo.toml").await?;
/// assert!(manifest.starts_with(b"[package]"));
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # Errors
/// Those of [`File::open`] and [`File::read_at`].
pub async fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    read_open(File::open(path).await?).await
}

pub(super) async fn read_open(file: File) -> io::Result<Vec<u8>> {
    let mut content = Vec::with_capacity(FIRST_READ);
    let mut is_asked = false;
    loop {
        if content.len() == content.capacity() {
            match file.expected_rest(content.len()) {
                // One byte more, so that the end is met without growing.
                Some(rest) if !is_asked => content.try_reserve_exact(rest.saturating_add(1))?,
                _ => content.try_reserve(content.len())?,
            }
            is_asked = true;
            if content.capacity() - content.len() > LARGE {
                content = file.read_parts(content).await?;
                continue;
            }
        }
        let offset = content.len() as u64;
        let (count, slice) = file.read_at(content.spare(), offset).await?;
        content = slice.into_inner();
        if count == 0 {
            return Ok(content);
        }
    }
}

/// Reads a whole file of UTF-8 text.
///
/// # Errors
/// As [`read`], and `InvalidData` if the file is not UTF-8.
pub async fn read_to_string(path: impl AsRef<Path>) -> io::Result<String> {
    text_of(read(path).await?)
}

pub(super) fn text_of(content: Vec<u8>) -> io::Result<String> {
    String::from_utf8(content)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the file is not valid UTF-8"))
}

/// Writes a whole file, which is made if need be and else emptied first.
///
/// More than 1 MiB is written as by [`File::sink`], in parts. So if the future is dropped, what was
/// not begun is not written.
///
/// ```
/// # annulus::block_on(async {
/// let path = std::env::temp_dir().join(format!("annulus-{}", std::process::id()));
/// annulus::fs::write(&path, b"content").await?;
/// assert_eq!(annulus::fs::read(&path).await?, b"content");
/// annulus::fs::remove_file(&path).await?;
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # Errors
/// Those of [`File::create`] and [`File::write_all_at`]; part of the file may be written then.
pub async fn write(path: impl AsRef<Path>, content: impl IoBuf) -> io::Result<()> {
    write_open(File::create(path).await?, content).await
}

/// Writes it to a file that is empty.
pub(super) async fn write_open(file: File, content: impl IoBuf) -> io::Result<()> {
    if content.init_len() > LARGE {
        write_parts(&file, Rc::new(content)).await?;
    } else {
        file.write_all_at(content, 0).await?;
    }
    file.close().await
}

/// In a box, since the future of a short write would pay for its space.
async fn write_parts<B: IoBuf>(file: &File, content: Rc<B>) -> io::Result<()> {
    let write = async {
        let length = content.init_len();
        let mut sink = file.sink().depth(WRITTEN_AT_A_TIME);
        for begin in (0..length).step_by(WRITTEN_PART) {
            let end = length.min(begin + WRITTEN_PART);
            sink.write(SharedPart::new(&content, begin..end)).await?;
        }
        sink.finish(Durability::None).await?;
        Ok(())
    };
    Box::pin(write).await
}
