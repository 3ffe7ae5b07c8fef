//! cargo run --release --example checksum -- [--compare] PATH...
//!
//! SHA-256 of all files below directories, in the form of sha256sum. One runtime walks; one on each
//! processor reads and hashes, each file by a stream that reads ahead, so that the processors never
//! wait for the disk. `--compare` runs sha256sum on the same files, and prints the time and the CPU
//! time of both.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fmt, thread};

use annulus::fs::{self, File};
use annulus::process::{Command, Stdio};
use clap::Parser;
use futures_util::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

/// Files that each thread has open, so that one is opened while another is read.
const FILES_AT_ONCE: usize = 4;
/// Files that are found before they are hashed.
const MOST_WAITING: usize = 1024;

#[derive(Parser)]
struct Options {
    /// Run sha256sum as well, and print what both took
    #[arg(long)]
    compare: bool,
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

async fn digest(path: &Path, bar: &ProgressBar) -> io::Result<impl fmt::LowerHex> {
    let file = File::open(path).await?;
    bar.inc_length(file.metadata().await?.len());
    let mut hasher = Sha256::new();
    let mut parts = file.stream(..);
    while let Some(part) = parts.next().await {
        let part = part?;
        hasher.update(&part[..]);
        bar.inc(part.len() as u64);
    }
    Ok(hasher.finalize())
}

/// Says what is wrong, and goes on.
struct Complaints(AtomicBool);

impl Complaints {
    fn add(&self, bar: &ProgressBar, complaint: &dyn fmt::Display) {
        self.0.store(true, Ordering::Relaxed);
        bar.suspend(|| eprintln!("checksum: {complaint}"));
    }
}

async fn hash(files: flume::Receiver<PathBuf>, bar: &ProgressBar, complaints: &Complaints) {
    let hash_one = async |path: PathBuf| match digest(&path, bar).await {
        Ok(digest) => bar.suspend(|| println!("{digest:x}  {}", path.display())),
        Err(error) => complaints.add(bar, &format_args!("{}: {error}", path.display())),
    };
    files.into_stream().for_each_concurrent(FILES_AT_ONCE, hash_one).await;
}

/// Sends all files below the paths, and returns them.
async fn find(
    roots: &[PathBuf],
    files: flume::Sender<PathBuf>,
    bar: &ProgressBar,
    complaints: &Complaints,
) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut entries = futures_util::stream::iter(roots).flat_map(fs::walk);
    while let Some(entry) = entries.next().await {
        match entry {
            Ok(entry) if entry.file_type().is_file() => {
                found.push(entry.path().to_owned());
                files.send_async(entry.into_path()).await.expect("the threads hash until the end");
            }
            Ok(_) => {}
            Err(error) => complaints.add(bar, &error),
        }
    }
    found
}

/// The same by sha256sum. xargs(1) cuts the list of files into pieces that the kernel takes.
async fn by_sha256sum(files: &[PathBuf]) -> io::Result<()> {
    let mut xargs = Command::new("xargs");
    xargs.args(["-0", "sha256sum", "--"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = xargs.spawn()?;
    let stdin = child.stdin.take().expect("it is piped");
    for file in files {
        let mut name = file.as_os_str().as_encoded_bytes().to_vec();
        name.push(0);
        stdin.write_all(name).await.map_err(io::Error::from)?;
    }
    drop(stdin);
    child.wait().await?;
    Ok(())
}

/// The CPU time of this process, and that of its children that have ended; proc_pid_stat(5).
fn cpu_times() -> io::Result<[Duration; 2]> {
    const TICKS_PER_SECOND: u64 = 100;
    let text = std::fs::read_to_string("/proc/self/stat")?;
    // The fields behind the name, which stands in parentheses.
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: Vec<u64> = fields.skip(11).take(4).filter_map(|field| field.parse().ok()).collect();
    let [user, system, user_of_children, system_of_children] = ticks[..] else {
        return Err(io::Error::other("/proc/self/stat is not as expected"));
    };
    let time = |ticks: u64| Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND);
    Ok([time(user + system), time(user_of_children + system_of_children)])
}

fn main() -> io::Result<ExitCode> {
    let options = Options::parse();
    let style =
        ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {binary_bytes_per_sec}")
            .expect("the template is one");
    let bar = ProgressBar::new(0).with_style(style);
    let complaints = Complaints(AtomicBool::new(false));
    let (sender, receiver) = flume::bounded(MOST_WAITING);
    let start = Instant::now();
    let files = thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            let receiver = receiver.clone();
            scope.spawn(|| annulus::block_on(hash(receiver, &bar, &complaints)));
        }
        drop(receiver);
        annulus::block_on(find(&options.paths, sender, &bar, &complaints))
    });
    bar.finish_and_clear();
    io::stdout().flush()?;
    if options.compare {
        let (ours, [cpu, before]) = (start.elapsed(), cpu_times()?);
        let start = Instant::now();
        annulus::block_on(by_sha256sum(&files))?;
        let (theirs, [_, after]) = (start.elapsed(), cpu_times()?);
        eprintln!("checksum:  {ours:.2?}, {cpu:.2?} of CPU");
        eprintln!("sha256sum: {theirs:.2?}, {:.2?} of CPU", after - before);
    }
    Ok(ExitCode::from(u8::from(complaints.0.into_inner())))
}
