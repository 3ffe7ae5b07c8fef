//! What the two sides agree on, and what can be chosen.

use std::io;

use annulus::io::{AsyncRead, AsyncWrite};
use annulus::tls::rustls::pki_types::pem::PemObject;
use annulus::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use annulus::tls::rustls::version::{TLS12, TLS13};
use annulus::tls::rustls::{HandshakeKind, ProtocolVersion};
use annulus::tls::{TlsAcceptor, TlsConnector};

use crate::Sides;
use crate::certificates::Authority;
use crate::common::run_here;
use crate::pipe::pair;

#[test]
fn the_sides_see_what_they_have_agreed_on() {
    let sides = Sides::new();
    run_here(async {
        let (client, server) = sides.shake_hands(pair(10_000, None)).await?;
        assert_eq!(client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(server.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(server.server_name().as_deref(), Some("localhost"));
        assert_eq!(client.server_name(), None);
        assert_eq!(client.alpn_protocol(), None);
        assert_eq!(client.peer_certificates().map(|chain| chain.len()), Some(1));
        assert_eq!(server.peer_certificates(), None);
        assert!(client.connection().negotiated_cipher_suite().is_some());
        let shown = format!("{client:?}");
        assert!(shown.contains("TLSv1_3"), "{shown}");
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn the_server_chooses_a_protocol_that_the_client_offers() {
    let (authority, pipes) = (Authority::new(), || pair(10_000, None));
    let server = authority.issue("localhost");
    let connector = |protocols: &[&str]| {
        let builder = TlsConnector::builder().only_roots_pem(authority.pem());
        builder.alpn(protocols).build().unwrap()
    };
    let acceptor = TlsAcceptor::builder()
        .certificate_pem(server.chain, server.key)
        .alpn(["h2", "http/1.1"])
        .build()
        .unwrap();
    run_here(async {
        for (offered, chosen) in [
            (&["http/1.1", "h2"][..], Some(b"h2".to_vec())),
            (&["http/1.1"], Some(b"http/1.1".to_vec())),
            (&[], None),
        ] {
            let sides = Sides {
                authority: Authority::new(),
                connector: connector(offered),
                acceptor: acceptor.clone(),
            };
            let (client, server) = sides.shake_hands(pipes()).await?;
            assert_eq!(client.alpn_protocol(), chosen);
            assert_eq!(server.alpn_protocol(), chosen);
        }
        // None in common.
        let (client, server) = pipes();
        let connector = connector(&["spdy/1"]);
        let (client, server) = futures_util::future::join(
            connector.connect_over("localhost", client),
            acceptor.accept_over(server),
        )
        .await;
        assert_eq!(server.unwrap_err().kind(), io::ErrorKind::Unsupported);
        assert_eq!(client.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn a_client_that_keeps_the_name_to_itself_sends_none() {
    let sides = Sides::new();
    let connector =
        TlsConnector::builder().only_roots_pem(sides.authority.pem()).sni(false).build().unwrap();
    run_here(async {
        let sides = Sides { connector, ..sides };
        let (_client, server) = sides.shake_hands(pair(10_000, None)).await?;
        assert_eq!(server.server_name(), None);
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn a_server_of_an_address_is_known_by_a_certificate_for_it() {
    let authority = Authority::new();
    for address in ["127.0.0.1", "::1"] {
        let server = authority.issue(address);
        let connector = TlsConnector::builder().only_roots_pem(authority.pem()).build().unwrap();
        let acceptor = TlsAcceptor::from_pem(server.chain, server.key).unwrap();
        run_here(async {
            let (client, server) = pair(10_000, None);
            let both = futures_util::future::try_join(
                connector.connect_over(address, client),
                acceptor.accept_over(server),
            );
            both.await.map(drop)
        })
        .unwrap();
    }
}

/// What kinds of handshakes two connections make, one after the other.
async fn kinds(sides: &Sides) -> io::Result<[Option<HandshakeKind>; 2]> {
    let mut kinds = [None; 2];
    for kind in &mut kinds {
        let (mut client, mut server) = sides.shake_hands(pair(10_000, None)).await?;
        server.write_all("x").await?;
        client.read_exact(vec![0]).await?; // behind the tickets
        *kind = client.connection().handshake_kind();
        assert_eq!(server.connection().handshake_kind(), *kind);
    }
    Ok(kinds)
}

#[test]
fn the_second_connection_resumes_the_first_unless_that_is_switched_off() {
    let full = Some(HandshakeKind::Full);
    run_here(async {
        for version in [&TLS12, &TLS13] {
            let sides = Sides::of_version(version);
            assert_eq!(kinds(&sides).await?, [full, Some(HandshakeKind::Resumed)]);
        }
        let sides = Sides::new();
        assert_eq!(kinds(&sides).await?, [full, Some(HandshakeKind::Resumed)]);

        let builder = TlsConnector::builder().only_roots_pem(sides.authority.pem());
        let connector = builder.resumption(false).build()?;
        assert_eq!(kinds(&Sides { connector, ..sides }).await?, [full, full]);

        let sides = Sides::new();
        let server = sides.authority.issue("localhost");
        let builder = TlsAcceptor::builder().certificate_pem(server.chain, server.key);
        let acceptor = builder.resumption(false).build()?;
        assert_eq!(kinds(&Sides { acceptor, ..sides }).await?, [full, full]);
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn clients_show_a_certificate_where_they_must_and_may() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (server, client) = (authority.issue("localhost"), authority.issue("client"));
    let unknown = stranger.issue("client");
    let acceptor = |optional| {
        TlsAcceptor::builder()
            .certificate_pem(&server.chain, &server.key)
            .client_roots_pem(authority.pem())
            .client_certificate_optional(optional)
            .build()
            .unwrap()
    };
    let connector = |identity: Option<&crate::certificates::Identity>| {
        let builder = TlsConnector::builder().only_roots_pem(authority.pem());
        match identity {
            None => builder,
            Some(identity) => builder.client_certificate_pem(&identity.chain, &identity.key),
        }
        .build()
        .unwrap()
    };
    run_here(async {
        for (identity, optional, refusal) in [
            (Some(&client), false, None),
            (Some(&client), true, None),
            (None, true, None),
            (None, false, Some("the peer shows no certificate")),
            (Some(&unknown), true, Some("signed by nobody who is trusted")),
        ] {
            let (client, server) = pair(10_000, None);
            let (connector, acceptor) = (connector(identity), acceptor(optional));
            let (client, server) = futures_util::future::join(
                connector.connect_over("localhost", client),
                acceptor.accept_over(server),
            )
            .await;
            let mut client = client?; // the client has not heard yet
            let Some(refusal) = refusal else {
                let shown = server?.peer_certificates();
                assert_eq!(shown.is_some(), identity.is_some());
                continue;
            };
            let error = server.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(error.to_string().contains(refusal), "{error}");
            let error = client.read(vec![0; 10]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        }
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn certificates_and_keys_may_be_given_as_der() {
    let authority = Authority::new();
    let (server, client) = (authority.issue("localhost"), authority.issue("client"));
    let root = || CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap();
    let der = |identity: &crate::certificates::Identity| {
        let certificate = CertificateDer::from_pem_slice(identity.chain.as_bytes()).unwrap();
        (vec![certificate], PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap())
    };
    let ((client_chain, client_key), (server_chain, server_key)) = (der(&client), der(&server));
    let connector = TlsConnector::builder()
        .only_roots([root()])
        .client_certificate(client_chain.clone(), client_key)
        .build()
        .unwrap();
    let acceptor = TlsAcceptor::builder()
        .certificate(server_chain.clone(), server_key)
        .client_roots([root()])
        .build()
        .unwrap();
    run_here(async {
        let sides = Sides { authority: Authority::new(), connector, acceptor };
        let (client, server) = sides.shake_hands(pair(10_000, None)).await?;
        assert_eq!(client.peer_certificates(), Some(server_chain));
        assert_eq!(server.peer_certificates(), Some(client_chain));
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn what_is_no_certificate_no_key_or_no_name_is_refused() {
    let authority = Authority::new();
    let (one, other) = (authority.issue("localhost"), authority.issue("localhost"));
    let is_refused = |error: io::Error| assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    is_refused(TlsAcceptor::from_pem("", &one.key).unwrap_err());
    is_refused(TlsAcceptor::from_pem(&one.chain, "no key").unwrap_err());
    is_refused(TlsAcceptor::from_pem(&one.chain, &other.key).unwrap_err());
    is_refused(TlsAcceptor::builder().build().unwrap_err());
    is_refused(TlsConnector::builder().roots_pem("no certificate").build().unwrap_err());
    is_refused(TlsConnector::builder().only_roots([]).build().unwrap_err());
    let damaged = CertificateDer::from(vec![0x30, 0x03, 1, 2, 3]);
    is_refused(TlsConnector::builder().roots([damaged]).build().unwrap_err());
    let builder = TlsConnector::builder().client_certificate_pem(&one.chain, &other.key);
    is_refused(builder.build().unwrap_err());
    run_here(async {
        for name in ["", "two words", "[::1]"] {
            let connected = TlsConnector::new().connect_over(name, pair(10, None).0).await;
            is_refused(connected.unwrap_err());
        }
    });
}

#[cfg(feature = "tls-platform-verifier")]
#[test]
fn roots_of_the_platform_are_trusted_beside_ones_own() {
    let sides = Sides::new();
    // Fails where the system has no certificates at all, as a bare container.
    let built = TlsConnector::builder().platform_roots().roots_pem(sides.authority.pem()).build();
    let connector = match built {
        Ok(connector) => connector,
        Err(error) => return println!("skipped: {error}"),
    };
    run_here(async {
        let sides = Sides { connector, ..sides };
        sides.shake_hands(pair(10_000, None)).await?;

        let strange = Sides { acceptor: Sides::new().acceptor, ..sides };
        let error = strange.shake_hands(pair(10_000, None)).await.unwrap_err();
        assert!(error.to_string().contains("certificate"), "{error}");
        io::Result::Ok(())
    })
    .unwrap();
}
