//! Libraries that people use, on the adapters of annulus: for each a small program that shows what
//! runs, and by which way. Where a server is needed that is not installed, a test says `skipped`.
#![cfg(test)]

mod channels;
mod compat;
mod grpc;
mod http;
mod postgres;
mod redis;
mod services;
mod tools;
mod tracing;
mod websocket;
