//! HTTP/1.1 and HTTP/2: a server for any tower service, and a client.
//!
//! # The server
//! [`serve`] answers on a listener. A [`Server`] has the limits and time-outs.
//!
//! ```no_run
//! use std::convert::Infallible;
//! use annulus::{http, net::TcpListener};
//! use ::http::Response;
//!
//! # annulus::block_on(async {
//! let listener = TcpListener::bind("127.0.0.1:8080").await?;
//! let hello = http::service_fn(async |_request| {
//!     Ok::<_, Infallible>(Response::new(http::Body::from("hello")))
//! });
//! http::serve(listener, hello).await; // for ever
//! # std::io::Result::Ok(()) }).unwrap();
//! ```
//!
//! # The client
//! A [`Client`] has a pool of connections; a program makes one and clones it. Names and shapes are
//! those of reqwest where it has them.
//!
//! ```
//! use std::convert::Infallible;
//! use std::time::Duration;
//! use annulus::http::{self, Client};
//! use annulus::net::TcpListener;
//!
//! # annulus::block_on(async {
//! let listener = TcpListener::bind("127.0.0.1:0").await?;
//! let url = format!("http://{}/", listener.local_addr()?);
//! let hello = http::service_fn(|_request| async {
//!     Ok::<_, Infallible>(::http::Response::new(http::Body::from("{\"answer\": 42}")))
//! });
//! let server = annulus::spawn(async move { http::serve(listener, hello).await });
//!
//! let client = Client::builder().read_timeout(Duration::from_secs(10)).build()?;
//! // All at once, each on a connection of the pool.
//! let mut answers = annulus::JoinSet::new();
//! for question in 0..3 {
//!     let request = client.post(&url).query(&[("question", question)]).json(&["what", "why"]);
//!     answers.spawn(async move {
//!         let response = request.send().await?.error_for_status()?;
//!         response.json::<serde_json::Value>().await
//!     });
//! }
//! while let Some(answer) = answers.join_next().await {
//!     assert_eq!(answer??["answer"], 42);
//! }
//! server.abort();
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```
//!
//! Redirects are followed as [`Redirects`] says, time-outs and bounds are those of the
//! [`ClientBuilder`], and an [`Error`] says which step failed. Dropped requests leave nothing
//! behind. Not there: cookies, multipart forms, upgrades, proxies that want TLS or SOCKS, character
//! sets other than UTF-8.

mod body;
mod client;
mod error;
mod server;

pub use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
pub use body::Body;
pub use client::{Client, ClientBuilder, Redirects, RequestBuilder, Response};
pub use error::{Error, ErrorKind};
pub use server::{Listener, PeerAddr, Serve, Served, Server, ServiceFn, serve, service_fn};
pub use url::Url;
