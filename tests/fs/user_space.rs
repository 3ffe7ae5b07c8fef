//! Files that a process in user space serves (FUSE): it may take all the time, and the loop goes
//! on.
//!
//! The test serves the only file itself, by the protocol in fuse(4) and linux/fuse.h. Where it may
//! not mount, it says that it was skipped.

use std::ffi::CString;
use std::fs as std_fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use std::{ptr, thread};

use annulus::fs::File;
use annulus::{spawn, time};

use crate::common::{in_own_process, run_here, scratch_dir};

const CONTENT: &[u8] = b"served from user space";

/// A file system with one file, in a mount namespace of this thread's. `false`: that is not to be
/// had here.
pub(crate) fn mount(directory: &Path, device: &std_fs::File) -> bool {
    let target = CString::new(directory.as_os_str().as_bytes()).unwrap();
    let options =
        CString::new(format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd()))
            .unwrap();
    // SAFETY: the strings outlive the calls. A process that fails here is not dumped, for which it
    // would wait while the file system waits for it. The namespace is this thread's, of a process
    // that has no other test.
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0) == 0
            && libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(
                ptr::null(),
                c"/".as_ptr(),
                ptr::null(),
                libc::MS_REC | libc::MS_PRIVATE,
                ptr::null(),
            ) == 0
            && libc::mount(
                c"annulus".as_ptr(),
                target.as_ptr(),
                c"fuse".as_ptr(),
                0,
                options.as_ptr().cast(),
            ) == 0
    }
}

/// What the kernel asks, and all that is answered.
pub(crate) mod opcode {
    pub(crate) const LOOKUP: u32 = 1;
    pub(crate) const GETATTR: u32 = 3;
    pub(crate) const OPEN: u32 = 14;
    pub(crate) const READ: u32 = 15;
    pub(crate) const WRITE: u32 = 16;
    pub(crate) const RELEASE: u32 = 18;
    pub(crate) const FSYNC: u32 = 20;
    pub(crate) const FLUSH: u32 = 25;
    pub(crate) const INIT: u32 = 26;
    pub(crate) const FORGET: u32 = 2;
    pub(crate) const INTERRUPT: u32 = 36;
    pub(crate) const BATCH_FORGET: u32 = 42;
}

pub(crate) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// `struct fuse_attr`: of the directory, which is number 1, or the file.
fn attributes(node: u64) -> Vec<u8> {
    let (mode, size) = if node == 1 {
        (libc::S_IFDIR | 0o755, 0)
    } else {
        (libc::S_IFREG | 0o644, CONTENT.len() as u32)
    };
    words(&[node as u32, 0, size, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0])
}

/// Answers until the file system is gone. Reads and writes, and the flush at the close, are told to
/// `asked`, and wait for a word.
fn serve(mut device: &std_fs::File, asked: &Sender<u32>, word: &Receiver<()>) {
    let mut request = vec![0; 1 << 20];
    while let Ok(length) = device.read(&mut request) {
        let number = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
        let (opcode, node) = (number(4), u64::from(number(16)));
        if matches!(opcode, opcode::READ | opcode::WRITE | opcode::FLUSH) {
            let _ = asked.send(opcode);
            if word.recv().is_err() {
                return;
            }
        }
        let answer = match opcode {
            opcode::INIT => Ok(words(&[7, 31, 65536, 0, 0, 65536, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
            opcode::LOOKUP => {
                Ok([words(&[2, 0, 0, 0, 100, 0, 100, 0, 0, 0]), attributes(2)].concat())
            }
            opcode::GETATTR => Ok([words(&[100, 0, 0, 0]), attributes(node)].concat()),
            // Without the page cache, so that each read comes here.
            opcode::OPEN => Ok(words(&[0, 0, 1, 0])),
            opcode::READ => Ok(CONTENT[(number(48) as usize).min(CONTENT.len())..].to_vec()),
            opcode::WRITE => Ok(words(&[number(56), 0])),
            opcode::FLUSH | opcode::RELEASE => Ok(Vec::new()),
            opcode::FORGET | opcode::BATCH_FORGET | opcode::INTERRUPT => continue,
            _ => Err(-libc::ENOSYS),
        };
        assert!(length >= 40, "a whole request");
        let (error, payload) = match answer {
            Ok(payload) => (0, payload),
            Err(error) => (error, Vec::new()),
        };
        let head =
            [words(&[16 + payload.len() as u32, error as u32]), request[8..16].to_vec()].concat();
        // One call an answer. The asker may have gone.
        let _ = device.write(&[head, payload].concat());
    }
}

/// The loop turns, and timers tick.
async fn tick() {
    for _ in 0..20 {
        time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn a_process_that_takes_its_time_stops_nobody() {
    in_own_process(|| {
        let scratch = scratch_dir();
        let Ok(device) = std_fs::File::options().read(true).write(true).open("/dev/fuse") else {
            return println!("skipped: there is no FUSE, or not for this user");
        };
        if !mount(scratch.path(), &device) {
            return println!("skipped: this user may not mount");
        }
        let number = device.as_raw_fd();
        let (asked, asks) = channel();
        let (say, word) = channel();
        let (have, had) = channel();
        thread::spawn(move || {
            // A table of its own: the device is closed when this thread ends, however the process
            // ends, and that ends the file system. SAFETY: the call takes no memory, and the thread
            // goes on with a copy of the table.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_FILES) }, 0);
            have.send(()).unwrap();
            serve(&device, &asked, &word);
        });
        had.recv().unwrap();
        // SAFETY: nobody in this table uses the number any more: its owner is on the other thread,
        // with the other table.
        unsafe { libc::close(number) };
        let path = scratch.path().join("file");
        let file = std_fs::File::options().read(true).write(true).open(path).unwrap();
        run_here(async move {
            let file = std::rc::Rc::new(File::from(file));
            let reader = std::rc::Rc::clone(&file);
            // No longer than the file: behind a short read io_uring asks once more.
            let read = spawn(async move { reader.read_at(vec![0; CONTENT.len() - 7], 7).await });
            tick().await;
            assert_eq!(asks.try_recv(), Ok(opcode::READ), "it was asked");
            assert!(!read.is_finished());
            say.send(()).unwrap();
            let (count, bytes) = read.await.unwrap().unwrap();
            assert_eq!(&bytes[..count], &CONTENT[7..]);

            let writer = std::rc::Rc::clone(&file);
            let write = spawn(async move { writer.write_at("news", 0).await });
            tick().await;
            assert_eq!(asks.try_recv(), Ok(opcode::WRITE), "it was asked");
            assert!(!write.is_finished());
            say.send(()).unwrap();
            assert_eq!(write.await.unwrap().unwrap().0, 4);

            // The flush that comes with a drop keeps nobody waiting, and that of a close whoever
            // waits for it.
            let duplicate = File::from(file.as_fd().try_clone_to_owned().unwrap());
            drop(duplicate);
            tick().await;
            assert_eq!(asks.try_recv(), Ok(opcode::FLUSH), "it was asked");
            say.send(()).unwrap();
            let close = spawn(std::rc::Rc::into_inner(file).unwrap().close());
            tick().await;
            assert_eq!(asks.try_recv(), Ok(opcode::FLUSH), "it was asked");
            assert!(!close.is_finished());
            say.send(()).unwrap();
            close.await.unwrap().unwrap();
        });
    });
}
