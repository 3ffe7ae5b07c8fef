//! TLS for the echo: the server's identity, and the load, which has to do the same cryptography as
//! the servers.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use serde::{Deserialize, Serialize};

use crate::harness::Failure;
use crate::harness::connection::Connection;
use crate::harness::epoll::{Epoll, Events, READABLE, WRITABLE};
use crate::harness::load::{Engine, Start};
use crate::harness::timetable::{Tally, Timetable};
use crate::talk::body;

const NAME: &str = "localhost";

/// A certificate and its key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Identity {
    certificate: String,
    key: String,
}

impl Identity {
    pub(crate) fn new() -> Result<Identity, Failure> {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed([NAME.to_owned()])?;
        Ok(Identity { certificate: cert.pem(), key: signing_key.serialize_pem() })
    }

    fn certificate(&self) -> Result<CertificateDer<'static>, Failure> {
        Ok(CertificateDer::from_pem_slice(self.certificate.as_bytes())?)
    }

    pub(crate) fn server_config(&self) -> Result<ServerConfig, Failure> {
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth();
        Ok(builder.with_single_cert(vec![self.certificate()?], key)?)
    }

    fn client_config(&self) -> Result<ClientConfig, Failure> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate()?)?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        Ok(builder.with_no_client_auth())
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The load of a TLS echo.
pub(crate) fn echoing(identity: &Identity, message_size: usize) -> Result<Arc<Start>, Failure> {
    let config = Arc::new(identity.client_config()?);
    Ok(Arc::new(move |connections| Ok(Box::new(TlsLoad::new(connections, &config, message_size)?))))
}

/// The connections of one thread, asked by epoll. It does not sleep while it loads.
struct TlsLoad {
    epoll: Epoll,
    message: Vec<u8>,
    connections: Vec<TlsConnection>,
    /// The place in `connections` of each descriptor number.
    places: Vec<usize>,
}

struct TlsConnection {
    plain: Connection,
    session: ClientConnection,
}

impl TlsLoad {
    fn new(
        connections: Vec<Connection>,
        config: &Arc<ClientConfig>,
        message_size: usize,
    ) -> Result<TlsLoad, Failure> {
        let epoll = Epoll::new()?;
        let (mut tls, mut places) = (Vec::new(), Vec::new());
        for (place, plain) in connections.into_iter().enumerate() {
            epoll.add(&plain.stream, READABLE | WRITABLE)?;
            let descriptor = plain.stream.as_raw_fd() as usize;
            if places.len() <= descriptor {
                places.resize(descriptor + 1, usize::MAX);
            }
            places[descriptor] = place;
            let session = ClientConnection::new(Arc::clone(config), ServerName::try_from(NAME)?)?;
            tls.push(TlsConnection { plain, session });
        }
        Ok(TlsLoad { epoll, message: body(message_size), connections: tls, places })
    }
}

impl Engine for TlsLoad {
    fn run(&mut self, mut timetable: Timetable) -> Result<Tally, Failure> {
        let mut events = Events::new();
        let mut scratch = vec![0; self.message.len()];
        let mut now = Instant::now();
        loop {
            while let Some((index, asked)) = timetable.next(now) {
                self.connections[index].ask(asked, &self.message)?;
            }
            if timetable.is_over() {
                return Ok(timetable.finish());
            }
            self.epoll.wait(&mut events, 0)?;
            now = Instant::now();
            if events.is_empty() {
                timetable.nothing_came(now)?;
                continue;
            }
            timetable.something_came(now);
            for ready in events.ready() {
                let index = self.places[ready as usize];
                let connection = &mut self.connections[index];
                if connection.serve(&self.message, &mut scratch)? {
                    timetable.answered(index, connection.plain.asked.elapsed());
                }
            }
        }
    }
}

impl TlsConnection {
    fn ask(&mut self, asked: Instant, message: &[u8]) -> Result<(), Failure> {
        self.plain.begin(asked);
        // Before the handshake is done it waits in the session.
        self.session.writer().write_all(message)?;
        self.send()
    }

    fn send(&mut self) -> Result<(), Failure> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.plain.stream) {
                Ok(_) => {}
                // It is told when there is room.
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Moves the connection on; `true` when its reply is complete. It reads until there is no more.
    fn serve(&mut self, message: &[u8], scratch: &mut [u8]) -> Result<bool, Failure> {
        let mut is_complete = false;
        loop {
            match self.session.read_tls(&mut self.plain.stream) {
                Ok(0) => return Err("the server closed a connection".into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
            self.session.process_new_packets()?;
            is_complete |= self.check(message, scratch)?;
        }
        self.send()?;
        Ok(is_complete)
    }

    fn check(&mut self, message: &[u8], scratch: &mut [u8]) -> Result<bool, Failure> {
        loop {
            match self.session.reader().read(scratch) {
                Ok(0) => return Err("the server ended a session".into()),
                Ok(count) => {
                    let received = &mut self.plain.received;
                    if message[*received..].get(..count) != Some(&scratch[..count]) {
                        return Err("the server sent back other bytes than it got".into());
                    }
                    *received += count;
                    if *received == message.len() {
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
