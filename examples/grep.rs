//! cargo run --release --example grep -- TEXT [PATH]...
//!
//! Lines with a text, in all files below directories, as `grep -rnIF` finds them. The walk yields
//! files while others are read, and many are read at a time, within a bound.

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use annulus::{fs, io::stdout};
use futures_util::{StreamExt, future};
use memchr::{memchr, memchr_iter, memmem::Finder};

/// Files that are read at a time.
const FILES_AT_ONCE: usize = 64;
/// A file with a NUL byte in its beginning is none of text.
const BEGINNING: usize = 8 * 1024;

/// The lines of a file that have the text, as they are printed.
async fn matches(path: &Path, text: &Finder<'_>) -> io::Result<Vec<u8>> {
    let content = fs::read(path).await?;
    let mut found = Vec::new();
    if memchr(0, &content[..content.len().min(BEGINNING)]).is_some() {
        return Ok(found);
    }
    let (mut number, mut counted, mut from) = (1, 0, 0);
    while let Some(hit) = text.find(&content[from..]).map(|place| from + place) {
        let start = content[..hit].iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let end = memchr(b'\n', &content[hit..]).map_or(content.len(), |length| hit + length);
        number += memchr_iter(b'\n', &content[counted..start]).count();
        counted = start;
        write!(found, "{}:{number}:", path.display())?;
        found.extend_from_slice(&content[start..end]);
        found.push(b'\n');
        from = end + 1;
        if from >= content.len() {
            break;
        }
    }
    Ok(found)
}

async fn grep(text: &str, roots: &[PathBuf]) -> io::Result<ExitCode> {
    let finder = Finder::new(text);
    let files = futures_util::stream::iter(roots).flat_map(fs::walk).filter_map(|entry| {
        future::ready(match entry {
            Ok(entry) => entry.file_type().is_file().then(|| Ok(entry.path().to_owned())),
            Err(error) => Some(Err(error.to_string())),
        })
    });
    let mut results = files
        .map(async |file| {
            let path = file?;
            matches(&path, &finder).await.map_err(|error| format!("{}: {error}", path.display()))
        })
        .buffer_unordered(FILES_AT_ONCE);
    let output = stdout()?;
    let (mut found, mut failed) = (false, false);
    while let Some(result) = results.next().await {
        match result {
            Ok(lines) if lines.is_empty() => {}
            Ok(lines) => {
                found = true;
                match output.write_all(lines).await {
                    // Whoever reads has seen enough, as `head` does.
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
                    written => drop(written?),
                }
            }
            Err(error) => {
                failed = true;
                eprintln!("{error}");
            }
        }
    }
    Ok(ExitCode::from(if failed { 2 } else { u8::from(!found) }))
}

fn main() -> io::Result<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let Some(text) = arguments.next().and_then(|text| text.into_string().ok()) else {
        eprintln!("usage: grep TEXT [PATH]...");
        return Ok(ExitCode::from(2));
    };
    let mut roots: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    if roots.is_empty() {
        roots.push(".".into());
    }
    annulus::block_on(grep(&text, &roots))
}
