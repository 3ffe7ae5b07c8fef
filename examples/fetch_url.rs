//! cargo run --release --features http --example fetch_url -- https://www.rust-lang.org
//!
//! Fetches pages, by http or https, and prints the length of each. Several come at once. What fails
//! is told with its reason, and the exit code is 1 then.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use annulus::JoinSet;
use annulus::fs::{self, File};
use annulus::http::Client;
use annulus::tls::TlsConnector;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

#[derive(Parser)]
struct Options {
    /// How many pages are fetched at a time
    #[arg(long, short = 'j', default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..))]
    at_once: u64,
    /// How many seconds a page may take
    #[arg(long, default_value_t = 60)]
    timeout: u64,
    /// Trust the certificates in this file (PEM), in place of the usual ones
    #[arg(long)]
    ca: Option<PathBuf>,
    /// Write the page to this file; with one URL
    #[arg(long, short)]
    output: Option<PathBuf>,
    #[arg(required = true)]
    urls: Vec<String>,
}

/// Fetches a page, and returns its length.
async fn fetch(
    client: Client,
    url: String,
    output: Option<PathBuf>,
    bar: ProgressBar,
) -> Result<u64, Box<dyn Error>> {
    let mut response = client.get(&url).send().await?.error_for_status()?;
    let file = match &output {
        Some(path) => Some(File::create(path).await.map_err(|error| named(path, &error))?),
        None => None,
    };
    bar.inc_length(response.content_length().unwrap_or(0));
    let mut length = 0;
    while let Some(chunk) = response.chunk().await? {
        length += chunk.len() as u64;
        bar.inc(chunk.len() as u64);
        if let (Some(file), Some(path)) = (&file, &output) {
            file.write_all(chunk).await.map_err(|error| named(path, &error))?;
        }
    }
    Ok(length)
}

fn named(path: &std::path::Path, error: &dyn Error) -> String {
    format!("{}: {error}", path.display())
}

async fn fetch_all(options: Options) -> Result<ExitCode, Box<dyn Error>> {
    let mut client = Client::builder().timeout(Duration::from_secs(options.timeout));
    if let Some(path) = &options.ca {
        let pem = fs::read(path).await.map_err(|error| named(path, &error))?;
        let tls = TlsConnector::builder().roots_pem(pem).build();
        client = client.tls(tls.map_err(|error| named(path, &error))?);
    }
    let client = client.build()?;
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {wide_msg}")?;
    let bar = ProgressBar::new(0).with_style(style);
    let mut urls = options.urls.into_iter();
    let mut pages = JoinSet::new();
    let mut has_failed = false;
    loop {
        while (pages.len() as u64) < options.at_once
            && let Some(url) = urls.next()
        {
            bar.set_message(url.clone());
            let (client, output, bar) = (client.clone(), options.output.clone(), bar.clone());
            pages.spawn(async move { (url.clone(), fetch(client, url, output, bar).await) });
        }
        let Some(page) = pages.join_next().await else { break };
        match page? {
            (url, Ok(length)) => bar.suspend(|| println!("{length:>10} {url}")),
            (_, Err(error)) => {
                has_failed = true;
                bar.suspend(|| eprintln!("fetch_url: {error}"));
            }
        }
    }
    bar.finish_and_clear();
    Ok(ExitCode::from(u8::from(has_failed)))
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.output.is_some() && options.urls.len() > 1 {
        eprintln!("fetch_url: --output takes one page");
        return ExitCode::from(2);
    }
    annulus::block_on(fetch_all(options)).unwrap_or_else(|error| {
        eprintln!("fetch_url: {error}");
        ExitCode::FAILURE
    })
}
