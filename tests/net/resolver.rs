//! Resolvers of a program's own.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use annulus::net::{
    Resolver, SystemResolver, TcpListener, TcpStream, UdpSocket, lookup_host, set_resolver,
};
use annulus::time;

use crate::common::{in_own_process, poll_in_task, run};
use crate::refusing;

/// Knows a few names, and remembers what it was asked.
#[derive(Clone, Default)]
struct Table {
    asked: Rc<RefCell<Vec<(String, u16)>>>,
    addresses: Rc<RefCell<Vec<SocketAddr>>>,
    under_way: Rc<Cell<usize>>,
}

/// Counts look-ups that are under way.
struct UnderWay(Rc<Cell<usize>>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Resolver for Table {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        self.asked.borrow_mut().push((host.to_owned(), port));
        self.under_way.set(self.under_way.get() + 1);
        let _under_way = UnderWay(Rc::clone(&self.under_way));
        match host {
            "table.test" => {
                time::sleep(Duration::from_millis(1)).await;
                Ok(self.addresses.borrow().iter().map(|a| SocketAddr::new(a.ip(), port)).collect())
            }
            "all.test" => Ok(self.addresses.borrow().clone()),
            "never.test" => std::future::pending().await,
            "none.test" => Ok(Vec::new()),
            "broken.test" => Err(io::Error::other("the table is broken")),
            _ => SystemResolver.resolve(host, port).await,
        }
    }
}

#[test]
fn all_calls_with_a_name_ask_it_and_those_with_an_address_nobody() {
    run(async || {
        let table = Table::default();
        set_resolver(table.clone());
        table.addresses.borrow_mut().push("127.0.0.1:0".parse().unwrap());
        let listener = TcpListener::bind(("table.test", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let stream = TcpStream::connect(("table.test", port)).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap().port(), port);
        TcpStream::connect(format!("table.test:{port}")).await.unwrap();
        let socket = UdpSocket::bind("table.test:0").await.unwrap();
        socket.connect(("table.test", 9)).await.unwrap();
        let found = lookup_host(("table.test", 7)).await.unwrap();
        assert_eq!(found, ["127.0.0.1:7".parse().unwrap()]);
        let ports = [0, port, port, 0, 9, 7];
        let expected: Vec<_> = ports.iter().map(|port| ("table.test".to_owned(), *port)).collect();
        assert_eq!(table.asked.take(), expected);
        TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        TcpStream::connect(format!("127.0.0.1:{port}")).await.unwrap();
        lookup_host("[::1]:80").await.unwrap();
        for text in ["table.test", "table.test:", "table.test:65536", ""] {
            assert_eq!(lookup_host(text).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        assert!(table.asked.borrow().is_empty());
    });
}

#[test]
fn its_errors_come_out_and_an_empty_list_is_an_error_of_those_who_need_an_address() {
    run(async || {
        set_resolver(Table::default());
        let error = TcpStream::connect("broken.test:80").await.unwrap_err();
        assert_eq!(error.to_string(), "the table is broken");
        assert_eq!(lookup_host("none.test:80").await.unwrap(), []);
        for error in [
            TcpStream::connect("none.test:80").await.unwrap_err(),
            TcpListener::bind("none.test:80").await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
    });
}

#[test]
fn its_addresses_are_tried_in_its_order() {
    run(async || {
        let table = Table::default();
        set_resolver(table.clone());
        let (_a, refused) = refusing(socket2::Domain::IPV4).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        *table.addresses.borrow_mut() = vec![refused, good];
        let stream = TcpStream::connect("all.test:1").await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        *table.addresses.borrow_mut() = vec![refused, refused];
        let error = TcpStream::connect("all.test:1").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_look_up_is_dropped_with_the_call_that_asks() {
    run(async || {
        let table = Table::default();
        set_resolver(table.clone());
        let mut connect = Box::pin(TcpStream::connect("never.test:80"));
        assert!(poll_in_task(&mut connect).await.is_pending());
        assert_eq!(table.under_way.get(), 1);
        // Another one is chosen meanwhile, which changes nothing for this one.
        set_resolver(Table::default());
        assert!(poll_in_task(&mut connect).await.is_pending());
        drop(connect);
        assert_eq!(table.under_way.get(), 0);
        assert_eq!(Rc::strong_count(&table.asked), 1, "nobody has the one before any more");
    });
}

#[test]
fn the_systems_resolver_can_be_asked_and_chosen_again() {
    in_own_process(|| {
        run(async || {
            let table = Table::default();
            set_resolver(table.clone());
            let system = SystemResolver.resolve("localhost", 80).await.unwrap();
            assert_eq!(lookup_host("localhost:80").await.unwrap(), system);
            assert_eq!(table.asked.take(), [("localhost".to_owned(), 80)]);
            set_resolver(SystemResolver);
            assert_eq!(lookup_host("localhost:80").await.unwrap(), system);
            assert!(table.asked.borrow().is_empty());
            assert_eq!(lookup_host("a\0b:80").await.unwrap_err().kind(), ErrorKind::InvalidInput);
        });
    });
}

#[test]
fn the_choice_is_the_threads() {
    in_own_process(|| {
        let table = Table::default();
        set_resolver(table.clone());
        thread::spawn(|| {
            annulus::block_on(async {
                lookup_host("localhost:80").await.unwrap();
            })
        })
        .join()
        .unwrap();
        assert!(table.asked.borrow().is_empty());
        // All runtimes of this thread have it.
        for _ in 0..2 {
            annulus::block_on(async { lookup_host("none.test:80").await.unwrap() });
        }
        assert_eq!(table.asked.borrow().len(), 2);
    });
}
