//! Streams and sinks of a file whose server answers in any order, and fails in the middle (FUSE).
//!
//! Where the test may not mount, it says that it was skipped.

use std::collections::BTreeSet;
use std::fs as std_fs;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use annulus::fs::{Durability, File};
use futures_util::{StreamExt, TryStreamExt};

use crate::common::{Random, in_own_process, quiet, run_here, scratch_dir, seed};
use crate::pattern;
use crate::user_space::{mount, opcode, words};

const CHUNK: usize = 8192;
const CHUNKS: usize = 40;
const DEPTH: usize = 4;

/// What the server does, and what it has seen.
#[derive(Default)]
struct Books {
    content: Vec<u8>,
    /// A read or a write of this offset fails.
    broken: Option<usize>,
    /// Nothing is answered before all reads of a window have come that begins at the first that was
    /// not answered.
    waits_for_window: bool,
    came: BTreeSet<usize>,
    answered: BTreeSet<usize>,
    most_waiting: usize,
    answered_out_of_order: bool,
    syncs: usize,
}

impl Books {
    fn may_answer(&self) -> bool {
        if !self.waits_for_window {
            return true;
        }
        let all = (0..CHUNKS).map(|number| number * CHUNK);
        let mut window = all.filter(|offset| !self.answered.contains(offset));
        let Some(first) = window.next() else { return true };
        (first..self.content.len().min(first + DEPTH * CHUNK))
            .step_by(CHUNK)
            .all(|offset| self.came.contains(&offset))
    }
}

struct Request {
    opcode: u32,
    id: [u8; 8],
    node: u32,
    offset: usize,
    size: usize,
    data: Vec<u8>,
}

impl Request {
    fn of(bytes: &[u8]) -> Request {
        let number = |at: usize| match bytes.get(at..at + 4) {
            Some(four) => u32::from_ne_bytes(four.try_into().unwrap()),
            None => 0,
        };
        let opcode = number(4);
        let data = if opcode == opcode::WRITE { bytes[80..].to_vec() } else { Vec::new() };
        Request {
            opcode,
            id: bytes[8..16].try_into().unwrap(),
            node: number(16),
            offset: number(48) as usize,
            size: number(56) as usize,
            data,
        }
    }

    fn is_transfer(&self) -> bool {
        matches!(self.opcode, opcode::READ | opcode::WRITE)
    }

    fn answer(&self, books: &mut Books) -> Option<Result<Vec<u8>, i32>> {
        let attributes = |node, size: usize| {
            let mode = if node == 1 { libc::S_IFDIR | 0o755 } else { libc::S_IFREG | 0o644 };
            let size = if node == 1 { 0 } else { size as u32 };
            words(&[node, 0, size, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0])
        };
        let length = books.content.len();
        Some(match self.opcode {
            opcode::INIT => Ok(words(&[7, 31, 65536, 0, 0, 65536, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
            opcode::LOOKUP => {
                Ok([words(&[2, 0, 0, 0, 100, 0, 100, 0, 0, 0]), attributes(2, length)].concat())
            }
            opcode::GETATTR => Ok([words(&[100, 0, 0, 0]), attributes(self.node, length)].concat()),
            // Without the page cache, so that each transfer comes here.
            opcode::OPEN => Ok(words(&[0, 0, 1, 0])),
            opcode::READ | opcode::WRITE if books.broken == Some(self.offset) => Err(-libc::EIO),
            opcode::READ => {
                let from = self.offset.min(length);
                Ok(books.content[from..(from + self.size).min(length)].to_vec())
            }
            opcode::WRITE => {
                let end = self.offset + self.data.len();
                books.content.resize(length.max(end), 0);
                books.content[self.offset..end].copy_from_slice(&self.data);
                Ok(words(&[self.size as u32, 0]))
            }
            opcode::FSYNC => {
                books.syncs += 1;
                Ok(Vec::new())
            }
            opcode::FLUSH | opcode::RELEASE => Ok(Vec::new()),
            opcode::FORGET | opcode::BATCH_FORGET | opcode::INTERRUPT => return None,
            _ => Err(-libc::ENOSYS),
        })
    }
}

/// Answers until the file system is gone. Transfers wait until no other request has come, and then
/// any of them is answered.
fn serve(mut device: &std_fs::File, books: &Mutex<Books>, random: &Random) {
    let mut bytes = vec![0; 1 << 20];
    let mut waiting: Vec<Request> = Vec::new();
    loop {
        let request = match device.read(&mut bytes) {
            Ok(length) => {
                let request = Request::of(&bytes[..length]);
                if request.is_transfer() {
                    let mut books = books.lock().unwrap();
                    books.came.insert(request.offset);
                    waiting.push(request);
                    books.most_waiting = books.most_waiting.max(waiting.len());
                    continue;
                }
                request
            }
            Err(error)
                if error.kind() == ErrorKind::WouldBlock
                    && (waiting.is_empty() || !books.lock().unwrap().may_answer()) =>
            {
                let mut ready =
                    libc::pollfd { fd: device.as_raw_fd(), events: libc::POLLIN, revents: 0 };
                // SAFETY: the structure is a local variable.
                unsafe { libc::poll(&raw mut ready, 1, -1) };
                continue;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let chosen = random.below(waiting.len());
                let request = waiting.remove(chosen);
                let mut books = books.lock().unwrap();
                books.answered_out_of_order |= chosen > 0;
                books.answered.insert(request.offset);
                request
            }
            // The asker has gone before it was asked.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
            Err(_) => return,
        };
        let Some(answer) = request.answer(&mut books.lock().unwrap()) else { continue };
        let (error, payload) = answer.map_or_else(|error| (error, Vec::new()), |bytes| (0, bytes));
        let head = [words(&[16 + payload.len() as u32, error as u32]), request.id.to_vec()];
        // One call an answer. The asker may have gone.
        let _ = device.write(&[head.concat(), payload].concat());
    }
}

/// Runs a test with a file that such a server has.
fn with_server(test: impl AsyncFnOnce(&File, &Mutex<Books>)) {
    let scratch = scratch_dir();
    let mut options = std_fs::File::options();
    options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
    let Ok(device) = options.open("/dev/fuse") else {
        return println!("skipped: there is no FUSE, or not for this user");
    };
    if !mount(scratch.path(), &device) {
        return println!("skipped: this user may not mount");
    }
    let number = device.as_raw_fd();
    let books = Arc::new(Mutex::new(Books::default()));
    let random = Random::new(seed());
    let (have, had) = mpsc::channel();
    let of_server = Arc::clone(&books);
    thread::spawn(move || {
        // A table of its own: the device is closed when this thread ends, however the process
        // ends, and that ends the file system. SAFETY: the call takes no memory, and the thread
        // goes on with a copy of the table.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_FILES) }, 0);
        have.send(()).unwrap();
        serve(&device, &of_server, &random);
    });
    had.recv().unwrap();
    // SAFETY: nobody in this table uses the number any more: its owner is on the other thread, with
    // the other table.
    unsafe { libc::close(number) };
    // No read is short: behind a short one io_uring asks a file system of this kind once more, from
    // the same offset, and takes that for the bytes that follow (seen on Linux 6.18).
    books.lock().unwrap().content = pattern(CHUNKS * CHUNK);
    let path = scratch.path().join("file");
    let file = std_fs::File::options().read(true).write(true).open(path).unwrap();
    run_here(async {
        let file = File::from(file);
        test(&file, &books).await;
        file.close().await.unwrap();
    });
}

#[test]
fn a_stream_is_in_order_whatever_the_order_of_answers() {
    in_own_process(|| {
        with_server(async |file, books| {
            books.lock().unwrap().waits_for_window = true;
            let content = books.lock().unwrap().content.clone();
            let mut found = Vec::new();
            let mut stream = file.stream(..).chunk_size(CHUNK).depth(DEPTH);
            while let Some(item) = stream.try_next().await.unwrap() {
                found.extend_from_slice(&item);
            }
            assert!(found == content);
            let books = books.lock().unwrap();
            assert_eq!(books.most_waiting, DEPTH);
            assert!(books.answered_out_of_order);
        });
    });
}

#[test]
fn an_error_of_a_read_comes_once_behind_all_that_is_before_it() {
    in_own_process(|| {
        with_server(async |file, books| {
            let content = books.lock().unwrap().content.clone();
            for broken in [0, 1, 7, 23, CHUNKS - 1] {
                books.lock().unwrap().broken = Some(broken * CHUNK);
                let mut stream = file.stream(..).chunk_size(CHUNK).depth(DEPTH);
                for number in 0..broken {
                    let item = stream.next().await.unwrap().unwrap();
                    assert!(item[..] == content[number * CHUNK..][..CHUNK]);
                }
                let error = stream.next().await.unwrap().unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::EIO));
                assert!(stream.next().await.is_none());
                quiet().await;
            }
        });
    });
}

#[test]
fn an_error_of_a_write_is_told_once_with_what_is_written_before_it_and_durable() {
    in_own_process(|| {
        with_server(async |file, books| {
            let content = books.lock().unwrap().content.clone();
            for (broken, count) in [(0, 2), (2, 4), (11, CHUNKS), (CHUNKS - 1, CHUNKS)] {
                let syncs = books.lock().unwrap().syncs;
                books.lock().unwrap().broken = Some(broken * CHUNK);
                books.lock().unwrap().content = vec![0; CHUNKS * CHUNK];
                let mut sink = file.sink().depth(DEPTH);
                let mut told = None;
                for number in 0..count {
                    let bytes = content[number * CHUNK..][..CHUNK].to_vec();
                    if let Err(error) = sink.write(bytes).await {
                        told = Some(error);
                        break;
                    }
                }
                let written = (broken * CHUNK) as u64;
                let was_told = told.is_some();
                if let Some(error) = told {
                    assert_eq!(error.raw_os_error(), Some(libc::EIO));
                    assert_eq!((error.written(), error.durable()), (written, 0));
                    let error = sink.write(vec![1; CHUNK]).await.unwrap_err();
                    assert_eq!(error.raw_os_error(), None, "it was told");
                }
                let error = sink.finish(Durability::Data).await.unwrap_err();
                assert_eq!(error.raw_os_error(), (!was_told).then_some(libc::EIO));
                assert_eq!((error.written(), error.durable()), (written, written));
                let books = books.lock().unwrap();
                assert_eq!(books.syncs, syncs + 1);
                let written = written as usize;
                assert!(books.content[..written] == content[..written]);
            }
        });
    });
}
