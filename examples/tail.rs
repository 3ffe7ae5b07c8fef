//! cargo run --example tail -- /var/log/syslog
//!
//! The end of a file, and what is appended to it, as `tail -F`: it goes on when the file is cut,
//! and when another takes its name.

use std::io::{self, Write};
use std::path::Path;

use annulus::fs::{self, File, Inotify, WatchMask};
use futures_util::StreamExt;

/// What is shown at first is within that many bytes from the end.
const FIRST: u64 = 16 * 1024;
const FIRST_LINES: usize = 10;

/// Where the last lines begin in the first bytes that are shown.
fn last_lines(bytes: &[u8]) -> usize {
    let ends = bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    // The line that ends with the last byte begins after the end before.
    ends.map(|(place, _)| place + 1).nth(FIRST_LINES).unwrap_or(0)
}

/// Shows what there is from an offset on, and returns where that ends.
async fn show(file: &File, mut offset: u64, mut is_first: bool) -> io::Result<u64> {
    let mut buffer = Vec::with_capacity(FIRST as usize);
    loop {
        let count;
        (count, buffer) = file.read_at(buffer, offset).await?;
        if count == 0 {
            return Ok(offset);
        }
        let start = if std::mem::take(&mut is_first) { last_lines(&buffer) } else { 0 };
        io::stdout().write_all(&buffer[start..])?;
        io::stdout().flush()?;
        offset += count as u64;
    }
}

async fn tail(path: &Path) -> io::Result<()> {
    // The directory is watched, and not the file: so a new file of that name is told, too. It
    // begins before the first look, so nothing falls in between.
    let inotify = Inotify::new()?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let kinds = WatchMask::MODIFY | WatchMask::CREATE | WatchMask::MOVED_TO;
    inotify.add(directory.unwrap_or(Path::new(".")), kinds).await?;
    let mut events = inotify.events();
    let mut file = File::open(path).await?;
    let start = file.metadata().await?.len().saturating_sub(FIRST);
    let mut offset = show(&file, start, true).await?;
    loop {
        offset = show(&file, offset, false).await?;
        let own = file.metadata().await?;
        match fs::metadata(path).await {
            Ok(named) if (named.dev(), named.ino()) != (own.dev(), own.ino()) => {
                // What came between the last look and the new name.
                show(&file, offset, false).await?;
                eprintln!("tail: {} is another file now", path.display());
                (file, offset) = (File::open(path).await?, 0);
                continue;
            }
            // It has been moved away, and the next is not there yet.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        if own.len() < offset {
            eprintln!("tail: {} was cut", path.display());
            offset = 0;
            continue;
        }
        // Until something happens to the name; if events were lost, something may have.
        while let Some(event) = events.next().await {
            let event = event?;
            if event.is_overflow() || event.name() == path.file_name().map(Path::new) {
                break;
            }
        }
    }
}

fn main() -> io::Result<()> {
    let path = std::env::args_os().nth(1).unwrap_or_else(|| "Cargo.toml".into());
    let path = Path::new(&path);
    annulus::block_on(tail(path))
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}
