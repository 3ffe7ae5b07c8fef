//! cargo run --example atomic_write -- FILE < CONTENT
//!
//! Replaces a file so that everybody finds the old content or the new one, whole, whatever happens
//! meanwhile: the end of this process, or of the machine. The four steps are one chain: each begins
//! when the one before it has done all of its work, and the first that fails ends the rest.
//!
//! A process that is killed may leave its new file behind, which has the name of the old one with a
//! dot in front and `.new` behind. The next run takes that name again.

use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;

use annulus::fs::{self, File};

async fn replace(path: &Path, content: Vec<u8>) -> io::Result<()> {
    let Some(name) = path.file_name() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "this path names no file"));
    };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let new = parent.join(format!(".{}.new", name.display()));
    let (file, directory) = futures_util::try_join!(File::create(&new), File::open(parent))?;

    let (written, synced, renamed, kept) = file
        .write_all_at(content, 0)
        .then(file.sync_data()) // before it gets the name, the content is on the disk
        .then(fs::rename(&new, path))
        .then(directory.sync_all()) // and then the name is
        .await;

    // The first that failed is the reason. Those behind it did not begin.
    let replaced = written.map(drop).map_err(io::Error::from).and(synced).and(renamed);
    if replaced.is_err() {
        // It has its first name still. The error to tell is the first one.
        let _ = fs::remove_file(&new).await;
    }
    replaced.and(kept)
}

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("usage: atomic_write FILE < CONTENT");
        return ExitCode::FAILURE;
    };
    let mut content = Vec::new();
    let read = io::stdin().read_to_end(&mut content);
    let replaced = read.and_then(|_| annulus::block_on(replace(Path::new(&path), content)));
    match replaced {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}
