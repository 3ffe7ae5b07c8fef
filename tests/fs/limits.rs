//! Transfers that end early: full disks, limits, very large buffers; and descriptors whose number
//! is 0.

use std::fs as std_fs;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use annulus::fs::{self, File, OpenOptions};
use annulus::{Builder, RingKind, Runtime};
use futures_util::future::join_all;

use crate::common::{apart, become_ordinary, forbid, in_own_process, run, scratch_dir};
use crate::pattern;

/// The value of a line like `MemAvailable:  123 kB`, in bytes.
fn kilobytes_of(path: &str, name: &str) -> u64 {
    let text = std_fs::read_to_string(path).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or("x 0");
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn a_buffer_over_2_gib_is_read_and_written_whole() {
    const LENGTH: usize = (1 << 31) + 4096;
    /// Where one transfer of the kernel ends, read(2).
    const SEAM: usize = 0x7fff_f000;
    if kilobytes_of("/proc/meminfo", "MemAvailable") < 6 << 30 {
        return println!("skipped: less than 6 GiB of memory available");
    }
    if kilobytes_of("/proc/self/status", "VmSize") > 1 << 40 {
        return println!("skipped: this process runs under AddressSanitizer");
    }
    let scratch = scratch_dir();
    run(async || {
        let path = scratch.path().join("sparse");
        let file =
            OpenOptions::new().read(true).write(true).create(true).open(&path).await.unwrap();
        std_fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(LENGTH as u64 + 1)
            .unwrap();
        let marks = [0, SEAM - 1, SEAM, SEAM + 1, (1 << 31) - 1, 1 << 31, LENGTH - 1, LENGTH];
        for (number, mark) in marks.into_iter().enumerate() {
            file.write_all_at(vec![number as u8 + 1], mark as u64).await.unwrap();
        }
        // From the allocator already zeroed, without touching it: only the read takes up memory.
        let buffer = file.read_exact_at(vec![0; LENGTH], 0).await.unwrap();
        assert_eq!(buffer.len(), LENGTH);
        for (number, mark) in marks.into_iter().enumerate().take_while(|(_, mark)| *mark < LENGTH) {
            assert_eq!(buffer[mark], number as u8 + 1, "the byte at {mark}");
        }
        assert_eq!((buffer[SEAM - 2], buffer[SEAM + 2]), (0, 0));
        let (count, buffer) = file.read_at(buffer, 0).await.unwrap();
        assert_eq!(
            (count, buffer.len()),
            (SEAM, SEAM),
            "one read moves what one system call moves"
        );
        let mut buffer = buffer;
        // Zeroed memory up to the old length again: the allocation is still that large.
        buffer.resize(LENGTH, 0);
        let null = OpenOptions::new().write(true).open("/dev/null").await.unwrap();
        let (count, buffer) = null.write_at(buffer, 0).await.unwrap();
        assert_eq!(count, SEAM);
        let operations = annulus::metrics().operations;
        let buffer = null.write_all_at(buffer, 0).await.unwrap();
        assert_eq!((buffer.len(), annulus::metrics().operations - operations), (LENGTH, 2));
        let error = file.read_exact_at(buffer, 4096).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.transferred()),
            (ErrorKind::UnexpectedEof, LENGTH + 1 - 4096)
        );
        assert_eq!(error.buffer().len(), LENGTH + 1 - 4096);
        assert_eq!((error.buffer()[LENGTH - 4096], error.buffer()[LENGTH - 1 - 4096]), (8, 7));
    });
}

#[test]
fn a_device_that_is_full_gives_enospc_and_the_buffer() {
    run(async || {
        let full = OpenOptions::new().write(true).open("/dev/full").await.unwrap();
        let error = full.write_at("content", 0).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.raw_os_error(), error.transferred()),
            (ErrorKind::StorageFull, Some(libc::ENOSPC), 0)
        );
        assert_eq!(error.into_buffer(), "content");
        let error = full.write_all_at(vec![7; 10], 0).await.unwrap_err();
        assert_eq!(
            (error.raw_os_error(), error.transferred(), error.into_buffer()),
            (Some(libc::ENOSPC), 0, vec![7; 10])
        );
        let error = full.write_vectored_at(vec!["a", "b"], 0).await.unwrap_err();
        assert_eq!(
            (error.raw_os_error(), error.into_buffer()),
            (Some(libc::ENOSPC), vec!["a", "b"])
        );
        assert_eq!(
            fs::write("/dev/full", "content").await.unwrap_err().raw_os_error(),
            Some(libc::ENOSPC)
        );
    });
}

/// Mounts a tmpfs of a given size in a mount namespace of this thread's own, which ends with the
/// thread. An error if that is forbidden.
fn mount_small_disk(directory: &Path, size: usize) -> io::Result<()> {
    let directory = std::ffi::CString::new(directory.to_str().unwrap()).unwrap();
    let options = std::ffi::CString::new(format!("size={size}")).unwrap();
    // SAFETY: all pointers are to C strings that outlive the calls.
    unsafe {
        if libc::unshare(libc::CLONE_NEWNS) < 0
            || libc::mount(
                c"none".as_ptr(),
                c"/".as_ptr(),
                std::ptr::null(),
                libc::MS_REC | libc::MS_PRIVATE,
                std::ptr::null(),
            ) < 0
            || libc::mount(
                c"none".as_ptr(),
                directory.as_ptr(),
                c"tmpfs".as_ptr(),
                0,
                options.as_ptr().cast(),
            ) < 0
        {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

#[test]
fn a_disk_that_fills_up_gives_enospc_and_says_how_much_was_written() {
    in_own_process(|| {
        const SIZE: usize = 64 * 1024;
        let scratch = scratch_dir();
        apart(|| {
            if let Err(error) = mount_small_disk(scratch.path(), SIZE) {
                return println!(
                    "skipped: no mount namespace ({error}); a limit on file size stands in for it in the next test"
                );
            }
            let path = scratch.path().join("file");
            annulus::block_on(async {
                let content = pattern(SIZE + 10_000);
                let file = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create(true)
                    .open(&path)
                    .await
                    .unwrap();
                let error = file.write_all_at(content.clone(), 0).await.unwrap_err();
                assert_eq!(
                    (error.kind(), error.raw_os_error()),
                    (ErrorKind::StorageFull, Some(libc::ENOSPC))
                );
                let transferred = error.transferred();
                assert_eq!(transferred, SIZE);
                assert!(error.into_buffer() == content, "the buffer comes back whole");
                assert_eq!(file.metadata().await.unwrap().len(), transferred as u64);
                assert!(fs::read(&path).await.unwrap() == content[..transferred]);
                let error = file.write_at("more", SIZE as u64).await.unwrap_err();
                assert_eq!(
                    (error.raw_os_error(), error.into_buffer()),
                    (Some(libc::ENOSPC), "more")
                );
                assert_eq!(
                    fs::write(scratch.path().join("other"), "more")
                        .await
                        .unwrap_err()
                        .raw_os_error(),
                    Some(libc::ENOSPC)
                );
                file.set_len(0).await.unwrap();
                file.write_all_at("room again", 0).await.unwrap();
            });
        });
    });
}

#[test]
fn a_limit_on_file_size_gives_efbig_and_says_how_much_was_written() {
    const LIMIT: usize = 100_000;
    in_own_process(|| {
        let limit = libc::rlimit { rlim_cur: LIMIT as u64, rlim_max: libc::RLIM_INFINITY };
        // The signal that comes with the error, SIGXFSZ, would end the process. It does not come.
        // SAFETY: the limit outlives the call. This process has no other test.
        unsafe {
            let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            assert_eq!(libc::getrlimit(libc::RLIMIT_FSIZE, &mut before), 0);
            let limit = libc::rlimit { rlim_max: before.rlim_max, ..limit };
            assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
        }
        let scratch = scratch_dir();
        run(async || {
            let path = scratch.path().join("file");
            let content = pattern(3 * LIMIT);
            let file = File::create(&path).await.unwrap();
            let error = file.write_all_at(content.clone(), 0).await.unwrap_err();
            assert_eq!(
                (error.kind(), error.raw_os_error()),
                (ErrorKind::FileTooLarge, Some(libc::EFBIG))
            );
            assert_eq!(error.transferred(), LIMIT);
            assert!(error.into_buffer() == content, "the buffer comes back whole");
            assert!(std_fs::read(&path).unwrap() == content[..LIMIT]);
            let (count, _) = file.write_at(vec![7; 50], LIMIT as u64 - 20).await.unwrap();
            assert_eq!(count, 20);
            let error = file.write_at("more", LIMIT as u64).await.unwrap_err();
            assert_eq!((error.raw_os_error(), error.into_buffer()), (Some(libc::EFBIG), "more"));
            let error = file.set_len(LIMIT as u64 + 1).await.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EFBIG));
            assert_eq!(
                fs::write(path, content).await.unwrap_err().raw_os_error(),
                Some(libc::EFBIG)
            );
        });
    });
}

/// Runs a function while number 0 is free in this thread's table of descriptors.
fn without_stdin(function: impl FnOnce()) {
    // SAFETY: the calls take no pointer. The table is this thread's own, see `apart`, and nobody in
    // it owns number 0, which comes back.
    unsafe {
        let kept = libc::fcntl(0, libc::F_DUPFD_CLOEXEC, 1000);
        assert!(kept >= 0 && libc::close(0) == 0);
        function();
        assert_eq!(libc::fcntl(0, libc::F_GETFD), -1, "whatever had number 0 has given it back");
        assert!(libc::dup2(kept, 0) == 0 && libc::close(kept) == 0);
    }
}

async fn use_files(directory: &Path) {
    let path = directory.join("file");
    fs::write(&path, pattern(50_000)).await.unwrap();
    assert!(fs::read(&path).await.unwrap() == pattern(50_000));
    let file = File::open(&path).await.unwrap();
    let tail = file.read_exact_at(vec![0; 100], 49_900).await.unwrap();
    assert_eq!(tail, pattern(50_000)[49_900..]);
    file.close().await.unwrap();
    fs::remove_file(&path).await.unwrap();
}

#[test]
fn a_runtime_whose_own_descriptor_is_number_0_works() {
    // For the sake of `spawn_blocking`, see `apart`.
    in_own_process(|| {
        let scratch = scratch_dir();
        apart(|| {
            without_stdin(|| {
                annulus::block_on(async {
                    let link = std_fs::read_link("/proc/thread-self/fd/0")
                        .expect("the runtime has number 0");
                    assert!(
                        link.display().to_string().starts_with("anon_inode:"),
                        "{}",
                        link.display()
                    );
                    use_files(scratch.path()).await;
                    let woken = annulus::spawn_blocking(|| 7).await.unwrap();
                    assert_eq!(woken, 7, "a wake from another thread arrives");
                });
            });
        });
    });
}

#[test]
fn a_file_whose_descriptor_is_number_0_is_a_file_like_others() {
    let scratch = scratch_dir();
    apart(|| {
        let runtime = Runtime::new().unwrap();
        without_stdin(|| {
            runtime.block_on(async {
                let path = scratch.path().join("zero");
                let file = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create(true)
                    .open(&path)
                    .await
                    .unwrap();
                assert_eq!(file.as_raw_fd(), 0);
                file.write_all_at("content", 0).await.unwrap();
                assert_eq!(file.read_exact_at(vec![0; 7], 0).await.unwrap(), b"content");
                assert_eq!(file.metadata().await.unwrap().len(), 7);
                use_files(scratch.path()).await;
                file.close().await.unwrap();
                use_files(scratch.path()).await;
                drop(File::open(&path).await.unwrap());
            });
        });
    });
}

#[test]
fn without_threads_the_loop_makes_the_calls_that_wait() {
    in_own_process(|| {
        // What std asks for when it makes a thread. The bound is a process's own: a hang ends it.
        forbid(libc::SYS_clone3, None, libc::EAGAIN);
        assert!(std::thread::Builder::new().spawn(|| ()).is_err());
        let scratch = scratch_dir();
        let path = scratch.path().join("alone");
        Builder::new().ring(RingKind::Software).build().unwrap().block_on(async {
            let file =
                OpenOptions::new().read(true).write(true).create(true).open(&path).await.unwrap();
            let written = join_all(
                (0..50).map(|number| file.write_all_at(vec![number; 10], u64::from(number) * 10)),
            )
            .await;
            assert!(written.into_iter().all(|written| written.is_ok()));
            file.sync_all().await.unwrap();
            assert_eq!(fs::metadata(&path).await.unwrap().len(), 500);
            assert_eq!(file.read_exact_at(vec![0; 3], 499 - 2).await.unwrap(), [49; 3]);
            assert_eq!(fs::copy(&path, scratch.path().join("copy")).await.unwrap(), 500);
            assert!(annulus::net::TcpStream::connect("localhost:1").await.is_err());
            assert_eq!(annulus::spawn_blocking(|| 7).await.unwrap(), 7);
            assert!(
                annulus::spawn_blocking(|| panic!("as on a thread")).await.unwrap_err().is_panic()
            );
        });
    });
}

/// How many processes and threads the user of this process may have.
fn limit_threads(soft: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: there is room for the answer.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NPROC, &mut limit) }, 0);
    limit.rlim_cur = soft.min(limit.rlim_max);
    // SAFETY: the limit outlives the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NPROC, &limit) }, 0);
}

#[test]
fn an_operation_for_which_the_kernel_has_no_thread_is_tried_again_and_fails_in_the_end() {
    in_own_process(|| {
        let scratch = scratch_dir();
        std_fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o777)).unwrap();
        become_ordinary(8 << 20);
        let runtime = Builder::new().ring(RingKind::Kernel).build().unwrap();
        if runtime
            .ring()
            .refused()
            .iter()
            .any(|refusal| refusal.what() == "REGISTER_RING_FDS" && refusal.errno() == libc::EINVAL)
        {
            return println!(
                "skipped: before Linux 5.12 an operation waits for a thread as long as there is none"
            );
        }
        runtime.block_on(async {
            let path = scratch.path().join("file");
            limit_threads(0);
            let error = fs::write(&path, b"never").await.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ECANCELED), "nobody has cancelled it");

            // Another task ends the want of threads, once the operation has been tried several
            // times.
            let before = annulus::metrics().operations;
            let relief = annulus::spawn(async move {
                while annulus::metrics().operations < before + 4 {
                    annulus::yield_now().await;
                }
                limit_threads(u64::MAX);
            });
            fs::write(&path, b"content").await.unwrap();
            relief.await.unwrap();
        });
    });
}
