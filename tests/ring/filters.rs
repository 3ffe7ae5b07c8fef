//! Rings under filters that forbid or do not know system calls.

use super::*;

fn under_a_filter(errno: i32, kind: ErrorKind) {
    forbid(libc::SYS_io_uring_setup, None, errno);
    let error = kernel().build().expect_err("the filter forbids it");
    assert_eq!(error.kind(), kind);
    let setup = setup_error(&error);
    assert_eq!((setup.call(), setup.raw_os_error()), ("io_uring_setup", Some(errno)));
    assert!(setup.cause().contains("seccomp filter"), "{error}");
    assert!(setup.remedy().contains("seccomp profile"), "{error}");
    let sentence = error.to_string();
    assert!(sentence.starts_with("cannot open an io_uring: "), "{sentence}");
    assert!(sentence.contains(setup.cause()) && sentence.contains(setup.remedy()));
    assert!(std::error::Error::source(setup).is_some());

    // Who does not insist gets the software ring, and learns why.
    let runtime = Builder::new().build().expect("the software ring");
    assert_eq!((runtime.ring().kind(), runtime.block_on(async { 1 + 2 })), (RingKind::Software, 3));
    if !is_on_software_ring() {
        assert_eq!(runtime.ring().refusal().and_then(SetupError::raw_os_error), Some(errno));
        assert!(runtime.ring().to_string().contains(&sentence), "{}", runtime.ring());
    }
}

#[test]
fn a_filter_that_forbids_the_ring_is_named_with_its_remedy() {
    in_own_process(|| under_a_filter(libc::EPERM, ErrorKind::PermissionDenied));
}

#[test]
fn a_filter_that_hides_the_ring_is_named_with_its_remedy() {
    in_own_process(|| under_a_filter(libc::ENOSYS, ErrorKind::Unsupported));
}

#[test]
fn the_software_ring_keeps_time_where_the_filter_knows_no_call_that_is_newer_than_itself() {
    in_own_process(|| {
        forbid(libc::SYS_io_uring_setup, None, libc::EPERM);
        forbid(libc::SYS_epoll_pwait2, None, libc::EPERM);
        let runtime = Builder::new().build().expect("the software ring");
        assert_eq!(runtime.ring().kind(), RingKind::Software);
        let started = Instant::now();
        runtime.block_on(time::sleep(Duration::from_millis(3)));
        assert!(started.elapsed() >= Duration::from_millis(3));
    });
}

/// What epoll_wait(3) calls.
#[cfg(target_arch = "x86_64")]
const EPOLL_WAIT: libc::c_long = libc::SYS_epoll_wait;
#[cfg(not(target_arch = "x86_64"))]
const EPOLL_WAIT: libc::c_long = libc::SYS_epoll_pwait;

/// Runs a timer, a receive, a pipe and a file on the software ring of a process that may not make
/// these calls.
fn works_without(calls: &[libc::c_long]) {
    calls.iter().for_each(|call| forbid(*call, None, libc::EPERM));
    let runtime = Builder::new().ring(RingKind::Software).build().expect("the software ring");
    let started = Instant::now();
    runtime.block_on(async {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let (read, ()) = futures_util::join!(ours.read(vec![0; 8]), async {
            time::sleep(Duration::from_millis(3)).await;
            theirs.write_all(b"late").await.expect("sent");
        });
        assert_eq!(read.expect("received").1, b"late");
        let (reader, writer) = io::pipe().expect("a pipe");
        let pipe = |end: std::os::fd::OwnedFd| File::from(std::fs::File::from(end));
        let (reader, writer) = (pipe(reader.into()), pipe(writer.into()));
        let (read, written) =
            join(reader.read_at(vec![0; 8], 0), writer.write_at(b"through", 0)).await;
        assert_eq!((read.expect("read").1, written.expect("written").0), (b"through".to_vec(), 7));
        let directory = scratch_dir();
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .open(directory.path().join("file"))
            .await
            .expect("made");
        file.write_all_at(vec![7; 100_000], 5).await.expect("written");
        assert_eq!(file.read_exact_at(vec![0; 50_000], 50_005).await.expect("read"), [7; 50_000]);
        assert_eq!(file.read_at(vec![0; 10], 100_000).await.expect("the rest").0, 5);
        file.close().await.expect("closed");
    });
    assert!(started.elapsed() >= Duration::from_millis(3));
}

#[test]
fn the_software_ring_waits_by_whichever_call_the_filter_grants() {
    in_own_process(|| works_without(&[EPOLL_WAIT]));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_software_ring_waits_where_the_filter_grants_the_oldest_call_with_a_mask_only() {
    in_own_process(|| works_without(&[EPOLL_WAIT, libc::SYS_epoll_pwait2]));
}

#[test]
fn the_software_ring_reads_and_writes_files_where_the_filter_knows_only_the_oldest_calls() {
    in_own_process(|| works_without(&[libc::SYS_preadv2, libc::SYS_pwritev2, libc::SYS_openat2]));
}

#[test]
fn a_filter_that_forbids_epoll_is_named_by_the_software_ring() {
    in_own_process(|| {
        let before = open_descriptors();
        let waits = [EPOLL_WAIT, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2];
        waits.into_iter().for_each(|call| forbid(call, None, libc::EPERM));
        let expect_refusal = |call: &str| {
            let error =
                Builder::new().ring(RingKind::Software).build().expect_err("the filter forbids it");
            let setup = setup_error(&error);
            assert_eq!(
                (setup.ring(), setup.call(), setup.raw_os_error()),
                (RingKind::Software, call, Some(libc::EPERM))
            );
            assert!(error.to_string().starts_with("cannot open a software ring: "), "{error}");
            assert!(setup.remedy().contains(call), "{error}");
        };
        expect_refusal("epoll_wait");
        forbid(libc::SYS_epoll_ctl, None, libc::EPERM);
        expect_refusal("epoll_ctl");
        forbid(libc::SYS_epoll_create1, None, libc::EPERM);
        expect_refusal("epoll_create1");
        assert_eq!(open_descriptors(), before);
    });
}

#[test]
fn where_both_rings_are_refused_the_error_tells_of_both() {
    in_own_process(|| {
        let_the_machine_choose();
        forbid(libc::SYS_io_uring_setup, None, libc::EPERM);
        forbid(libc::SYS_epoll_create1, None, libc::EPERM);
        let error = Builder::new().build().expect_err("both are forbidden");
        let setup = setup_error(&error);
        assert_eq!((setup.ring(), setup.call()), (RingKind::Kernel, "io_uring_setup"));
        assert!(setup.cause().contains("no software ring either (epoll_create1: "), "{error}");
    });
}

#[test]
fn a_kernel_whose_io_uring_is_too_old_gets_the_software_ring() {
    in_own_process(|| {
        let_the_machine_choose();
        for call in
            [libc::SYS_io_uring_enter, libc::SYS_io_uring_register, libc::SYS_io_uring_setup]
        {
            forbid(call, None, libc::EINVAL);
            let runtime = Builder::new().build().expect("the software ring");
            assert_eq!(
                (runtime.ring().kind(), runtime.block_on(async { 1 + 2 })),
                (RingKind::Software, 3)
            );
            assert_eq!(
                runtime.ring().refusal().and_then(SetupError::raw_os_error),
                Some(libc::EINVAL)
            );
        }
    });
}

#[test]
fn on_the_software_ring_a_wait_ends_when_its_number_comes_to_mean_another_file() {
    in_own_process(|| {
        Builder::new().ring(RingKind::Software).build().expect("a ring").block_on(async {
            let (ours, _theirs) = UnixStream::pair().expect("a pair");
            let number = AsRawFd::as_raw_fd(&ours);
            let mut read = ours.read(vec![0; 8]);
            assert!(poll_in_task(&mut read).await.is_pending());
            turns(2).await;
            // SAFETY: nobody uses the number as that of the stream any more: the stream gives it up
            // below.
            assert_eq!(unsafe { libc::close(number) }, 0);
            // `.` is opened without a thread, and gets the lowest number.
            let next_owner = File::open(".").await.expect("open");
            assert_eq!(AsRawFd::as_raw_fd(&next_owner), number);
            assert_eq!(
                read.await.expect_err("its file is gone").raw_os_error(),
                Some(libc::ECANCELED)
            );
            let _ = IntoRawFd::into_raw_fd(ours.into_std().await);
        });
    });
}

#[test]
fn a_filter_that_forbids_registering_is_explained_too() {
    in_own_process(|| {
        let before = open_descriptors();
        forbid(libc::SYS_io_uring_register, None, libc::EPERM);
        let error = kernel().build().expect_err("set-up asks which operations there are");
        assert_eq!(setup_error(&error).raw_os_error(), Some(libc::EPERM));
        assert_eq!(open_descriptors(), before);
    });
}

#[test]
fn a_filter_that_forbids_entering_is_explained_when_the_ring_is_made() {
    in_own_process(|| {
        forbid(libc::SYS_io_uring_enter, None, libc::EPERM);
        let error =
            kernel().build().map(drop).expect_err("a ring that cannot be entered is of no use");
        assert_eq!(setup_error(&error).raw_os_error(), Some(libc::EPERM));
    });
}
