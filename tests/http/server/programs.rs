//! Other programs as clients.

use std::process::Stdio;

use annulus::http::Server;
use annulus::process::Command;

use super::start;
use crate::common::in_own_process;

/// What the program prints, or `None` if this machine does not have it.
async fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
    match command.output().await {
        Ok(output) => Some(String::from_utf8(output.stdout).unwrap()),
        Err(error) => {
            println!("skipped: {program}: {error}");
            None
        }
    }
}

#[test]
fn curl_speaks_both_protocols() {
    in_own_process(|| {
        annulus::block_on(async {
            let server = start(Server::new()).await;
            let url = format!("http://{}/page", server.address);
            for protocol in ["--http1.1", "--http2-prior-knowledge"] {
                let got = output("curl", &["-sS", protocol, "-d", "four", &url]).await;
                if let Some(got) = got {
                    assert_eq!(got, "POST /page 4", "{protocol}");
                }
            }
            server.stop().await;
        });
    });
}

#[test]
fn h2load_loses_no_request() {
    in_own_process(|| {
        annulus::block_on(async {
            let server = start(Server::new()).await;
            let url = format!("http://{}/page", server.address);
            for protocol in ["h2c", "http/1.1"] {
                let arguments = ["-n", "2000", "-c", "10", "-m", "20", "-p", protocol, &url];
                if let Some(got) = output("h2load", &arguments).await {
                    assert!(got.contains("2000 succeeded, 0 failed"), "{protocol}: {got}");
                }
            }
            server.stop().await;
        });
    });
}
