//! cargo run --example doctor            (a page for people)
//! cargo run --example doctor -- --json  (the same for programs)
//!
//! Which ring do programs get here, what is missing, and what would mend it? Ends with status 1 if
//! no ring can be opened.

use std::process::ExitCode;

use annulus::{Diagnosis, Limit};
use serde_json::{Value, json};

fn limit(limit: Limit) -> Value {
    // No limit is no number.
    let number = |value: u64| if value == u64::MAX { Value::Null } else { json!(value) };
    json!({ "soft": number(limit.soft), "hard": number(limit.hard) })
}

fn to_json(diagnosis: &Diagnosis) -> Value {
    let ring = diagnosis.ring().map(|ring| {
        let refused = ring
            .refused()
            .iter()
            .map(|refusal| json!({ "what": refusal.what(), "errno": refusal.errno() }));
        json!({
            "kind": ring.kind().to_string(),
            "reason": ring.reason(),
            "entries": ring.entries(),
            "completion_entries": ring.completion_entries(),
            "granted": ring.granted(),
            "refused": refused.collect::<Vec<_>>(),
            "by_software": ring.by_software(),
        })
    });
    let refusal = diagnosis.refusal().map(|refusal| {
        json!({
            "call": refusal.call(),
            "errno": refusal.raw_os_error(),
            "cause": refusal.cause(),
            "remedy": refusal.remedy(),
        })
    });
    let shortfalls = diagnosis.shortfalls().iter();
    let shortfalls =
        shortfalls.map(|shortfall| json!({ "what": shortfall.what(), "cost": shortfall.cost(), "remedy": shortfall.remedy() }));
    json!({
        "ring": ring,
        "refusal": refusal,
        "missing_operations": diagnosis.missing_operations(),
        "kernel": diagnosis.kernel(),
        "limits": { "memlock": limit(diagnosis.memlock()), "nofile": limit(diagnosis.nofile()) },
        "io_uring_disabled": diagnosis.io_uring_disabled(),
        "io_uring_group": diagnosis.io_uring_group(),
        "seccomp": diagnosis.seccomp().to_string(),
        "security_modules": diagnosis.security_modules(),
        "polling_devices": diagnosis.polling_devices(),
        "shortfalls": shortfalls.collect::<Vec<_>>(),
    })
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let diagnosis = annulus::diagnose();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => print!("{diagnosis}"),
        ["--json"] => println!("{:#}", to_json(&diagnosis)),
        _ => {
            eprintln!("usage: doctor [--json]");
            return ExitCode::from(2);
        }
    }
    if diagnosis.ring().is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
