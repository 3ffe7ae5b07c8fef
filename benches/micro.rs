//! The costs of small things, one at a time: `cargo bench --bench micro`, or
//! `cargo bench --bench micro -- --quick yield`.
//!
//! The cases are those of `benches/cases`. Figures are wall-clock time per operation of one thread
//! that does nothing else; of the timers, CPU time. Not measured: several cores, contention,
//! latency under load, memory, the CPU time of kernel threads, other programs (benches/macro.rs,
//! examples/compare.rs).

mod cases;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn micro(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("annulus");
    group.throughput(Throughput::Elements(1));
    for case in cases::CASES {
        // The others take long, by design or because they wait.
        group.sample_size(if case.is_guarded { 100 } else { 10 });
        group.bench_function(case.name, |bencher| bencher.iter_custom(case.run));
    }
}

criterion_group!(all, micro);
criterion_main!(all);
