//! cargo run --example pipeline -- cat Cargo.toml '|' grep = '|' wc -l
//!
//! Child processes, joined by pipes as a shell joins them: the output of each is the input of the
//! next, and all run at the same time. The last one's output is ours, and so is its exit code.

use std::io;
use std::process::ExitCode;

use annulus::process::{Child, Command, ExitStatus, Stdio};
use futures_util::future::try_join_all;

/// Starts all of them. If one cannot be started, those before it are killed.
fn start(commands: &[&[String]]) -> io::Result<Vec<Child>> {
    let mut children = Vec::new();
    let mut input = Stdio::inherit();
    for (index, words) in commands.iter().enumerate() {
        let (program, arguments) = words.split_first().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "a program is missing beside a |")
        })?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(input).kill_on_drop(true);
        let is_last = index == commands.len() - 1;
        command.stdout(if is_last { Stdio::inherit() } else { Stdio::piped() });
        let mut child = command.spawn()?;
        // We keep no end of it: a writer whose reader has gone is to hear of that.
        input = match child.stdout.take() {
            Some(output) => output.try_into()?,
            None => Stdio::null(),
        };
        children.push(child);
    }
    Ok(children)
}

async fn run(commands: &[&[String]]) -> io::Result<Option<ExitStatus>> {
    let mut children = start(commands)?;
    let statuses = try_join_all(children.iter_mut().map(Child::wait)).await?;
    for (words, status) in commands.iter().zip(&statuses) {
        if !status.success() {
            eprintln!("{}: {status}", words[0]);
        }
    }
    Ok(statuses.last().copied())
}

fn main() -> io::Result<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let commands: Vec<&[String]> = words.split(|word| word == "|").collect();
    let status = annulus::block_on(run(&commands))?;
    let code = status.and_then(|status| status.code()).unwrap_or(1);
    Ok(ExitCode::from(code as u8))
}
