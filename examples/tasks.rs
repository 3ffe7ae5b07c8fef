//! cargo run --example tasks
//!
//! Tasks wait at the same time. Two of them sleep for one second each, on one thread, and both are
//! done after one second.

use std::io;
use std::time::{Duration, Instant};

use annulus::time;

/// Awaiting lets the other tasks run until there is something to go on with.
async fn work(name: &'static str, start: Instant) -> &'static str {
    println!("{name} starts to wait");
    time::sleep(Duration::from_secs(1)).await;
    println!("{name} is done after {:.3} s", start.elapsed().as_secs_f64());
    name
}

fn main() -> io::Result<()> {
    annulus::block_on(async {
        let start = Instant::now();
        // A spawned task runs by itself, whether or not somebody awaits its handle.
        let first = annulus::spawn(work("first", start));
        let second = annulus::spawn(work("second", start));
        // A handle yields the task's result. The `?` is for a task that panicked or was aborted.
        let names = [first.await?, second.await?];
        println!(
            "{} are done: {:.3} s elapsed",
            names.join(" and "),
            start.elapsed().as_secs_f64()
        );
        Ok(())
    })
}
