//! cargo run --example cat -- Cargo.toml README.md
//!
//! Reading ahead: while one chunk is written, the next is being read. Without a path, or with `-`,
//! it copies standard input.

use std::fs::File as StdFile;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use annulus::fs::File;

const CHUNK_SIZE: usize = 128 * 1024;

/// Two buffers take turns: one is read into while the other is written from.
async fn cat(file: &File, mut offset: u64, output: &Arc<StdFile>) -> io::Result<()> {
    let (mut count, mut chunk) = file.read_at(Vec::with_capacity(CHUNK_SIZE), offset).await?;
    let mut spare = Vec::with_capacity(CHUNK_SIZE);
    while count > 0 {
        offset += count as u64;
        // Standard output shares its position with other programs, so it is written like any Unix
        // program writes it: by write(2), which may block. A thread of the pool does that, lest it
        // stop the loop.
        let output = Arc::clone(output);
        let write =
            annulus::spawn_blocking(move || output.as_ref().write_all(&chunk).map(|()| chunk));
        let read = file.read_at(spare, offset);
        // Both go on at once. A write that fails drops the read, which cancels it; a read that
        // fails waits for the write.
        let next;
        (spare, next) = futures_util::try_join!(async { write.await? }, async { Ok(read.await) })?;
        (count, chunk) = next?;
    }
    Ok(())
}

/// Opens a path, or takes standard input where it stands. A pipe or terminal has no position, and
/// reads do not look at the offset.
async fn open(path: &str) -> io::Result<(File, u64)> {
    if path != "-" {
        return Ok((File::open(path).await?, 0));
    }
    let mut stdin = StdFile::from(io::stdin().as_fd().try_clone_to_owned()?);
    let offset = stdin.stream_position().unwrap_or(0);
    Ok((File::from(OwnedFd::from(stdin)), offset))
}

async fn cat_all(paths: &[String]) -> io::Result<()> {
    let output = Arc::new(StdFile::from(io::stdout().as_fd().try_clone_to_owned()?));
    for path in paths {
        let copied = async {
            let (file, offset) = open(path).await?;
            cat(&file, offset, &output).await
        };
        match copied.await {
            // Whoever read our output has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            result => {
                result.map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?
            }
        }
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let mut paths: Vec<String> = std::env::args().skip(1).collect();
    if paths.is_empty() {
        paths.push("-".to_owned());
    }
    annulus::block_on(cat_all(&paths))
}
