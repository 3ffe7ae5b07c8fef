//! The diagnosis under filters, limits and settings that refuse: it names what really refuses, and
//! the remedy.
#![allow(unsafe_code)]

mod common;

use std::fs;
use std::thread;

use annulus::{Diagnosis, RingKind, Runtime, Seccomp, Shortfall, diagnose};
use common::{
    become_ordinary, bounded, forbid, in_own_process, let_the_machine_choose, open_descriptors,
};

/// The shortfall that names `what`.
#[track_caller]
fn shortfall<'a>(diagnosis: &'a Diagnosis, what: &str) -> &'a Shortfall {
    let found = diagnosis.shortfalls().iter().find(|shortfall| shortfall.what().contains(what));
    found.unwrap_or_else(|| panic!("no word of {what}:\n{diagnosis}"))
}

#[test]
fn the_diagnosis_is_of_the_ring_that_a_runtime_gets() {
    bounded(|| {
        let runtime = common::runtime();
        let diagnosis = diagnose();
        let ring = diagnosis.ring().expect("a ring");
        assert_eq!(ring.kind(), runtime.ring().kind());
        assert!(diagnosis.refusal().is_none() || ring.kind() != RingKind::Kernel);
        let page = diagnosis.to_string();
        assert!(page.starts_with(&format!("ring in force              {}", ring.kind())), "{page}");
        for name in ring.granted() {
            assert!(page.contains(name), "{page}");
        }
        assert!(
            page.contains(&format!("kernel                     Linux {}", diagnosis.kernel())),
            "{page}"
        );
        // Every shortfall is on the page with its remedy, and none is empty.
        for shortfall in diagnosis.shortfalls() {
            assert!(
                !shortfall.what().is_empty()
                    && !shortfall.cost().is_empty()
                    && !shortfall.remedy().is_empty(),
                "{shortfall:?}"
            );
            assert!(page.contains(&shortfall.to_string()), "{page}");
        }
        assert_eq!(page.contains("Nothing is missing."), diagnosis.shortfalls().is_empty());
    });
}

#[test]
fn a_diagnosis_leaves_nothing_behind_and_can_be_made_inside_a_runtime() {
    common::run(async || {
        let before = open_descriptors();
        for _ in 0..40 {
            drop(diagnose());
        }
        assert_eq!(open_descriptors(), before);
    });
}

#[track_caller]
fn is_refused_by_a_filter(call: &str, number: libc::c_long, errno: i32) {
    let_the_machine_choose();
    let before = open_descriptors();
    forbid(number, None, errno);
    let diagnosis = diagnose();
    assert!(diagnosis.ring().is_none_or(|ring| ring.kind() != RingKind::Kernel), "{diagnosis}");
    assert_eq!(diagnosis.seccomp(), Seccomp::Filter);
    let refusal = diagnosis.refusal().expect("a reason");
    assert_eq!((refusal.call(), refusal.raw_os_error()), (call, Some(errno)));
    assert!(
        diagnosis.missing_operations().is_empty(),
        "the software ring has all that it needs: {diagnosis}"
    );
    let first = &diagnosis.shortfalls()[0];
    assert!(first.what().contains(call), "the gravest comes first: {diagnosis}");
    assert!(first.cost().contains("seccomp filter"), "{diagnosis}");
    for part in [
        "io_uring_setup, io_uring_enter and io_uring_register",
        "--security-opt seccomp=",
        "SystemCallFilter=@aio",
    ] {
        assert!(first.remedy().contains(part), "no {part}: {diagnosis}");
    }
    assert_eq!(open_descriptors(), before);
}

#[test]
fn a_filter_that_forbids_io_uring_setup_is_named() {
    in_own_process(|| {
        is_refused_by_a_filter("io_uring_setup", libc::SYS_io_uring_setup, libc::EPERM)
    });
}

#[test]
fn a_filter_that_hides_io_uring_setup_is_named() {
    in_own_process(|| {
        is_refused_by_a_filter("io_uring_setup", libc::SYS_io_uring_setup, libc::ENOSYS)
    });
}

#[test]
fn a_filter_that_forbids_io_uring_enter_is_named() {
    in_own_process(|| {
        is_refused_by_a_filter("io_uring_enter", libc::SYS_io_uring_enter, libc::EPERM)
    });
}

#[test]
fn a_filter_that_forbids_io_uring_register_is_named() {
    in_own_process(|| {
        is_refused_by_a_filter("io_uring_register", libc::SYS_io_uring_register, libc::EPERM)
    });
}

#[test]
fn registrations_that_an_older_kernel_lacks_are_shortfalls_with_the_kernel_that_has_them() {
    in_own_process(|| {
        let_the_machine_choose();
        const REGISTER_RING_FDS: u32 = 20;
        const REGISTER_SEND_MSG_RING: u32 = 31;
        const GETEVENTS_NO_IOWAIT: u32 = 1 | 1 << 7;
        forbid(libc::SYS_io_uring_register, Some((1, REGISTER_RING_FDS)), libc::EINVAL);
        forbid(libc::SYS_io_uring_register, Some((1, REGISTER_SEND_MSG_RING)), libc::EINVAL);
        forbid(libc::SYS_io_uring_enter, Some((3, GETEVENTS_NO_IOWAIT)), libc::EINVAL);
        let diagnosis = diagnose();
        assert!(diagnosis.ring().is_some(), "{diagnosis}");
        assert!(shortfall(&diagnosis, "REGISTER_RING_FDS").remedy().contains("Linux 5.18"));
        assert!(shortfall(&diagnosis, "SEND_MSG_RING").remedy().contains("Linux 6.13"));
        assert!(shortfall(&diagnosis, "NO_IOWAIT").remedy().contains("Linux 6.15"));
    });
}

#[test]
fn a_filter_that_forbids_one_registration_is_a_shortfall_of_the_profile() {
    in_own_process(|| {
        let_the_machine_choose();
        const REGISTER_RING_FDS: u32 = 20;
        forbid(libc::SYS_io_uring_register, Some((1, REGISTER_RING_FDS)), libc::EPERM);
        assert!(shortfall(&diagnose(), "REGISTER_RING_FDS").remedy().contains("seccomp profile"));
    });
}

#[test]
fn a_thread_with_too_many_rings_is_told_so() {
    bounded(|| {
        let runtimes: Vec<Runtime> = (0..16).map(|_| common::runtime()).collect();
        if runtimes.iter().all(|runtime| runtime.ring().granted().contains(&"REGISTER_RING_FDS")) {
            assert!(shortfall(&diagnose(), "REGISTER_RING_FDS").remedy().contains("sixteen"));
        }
        drop(runtimes);
        let diagnosis = diagnose();
        assert!(!diagnosis.to_string().contains("sixteen"), "{diagnosis}");
    });
}

#[test]
fn too_little_locked_memory_is_named_with_the_limit_and_how_to_raise_it() {
    in_own_process(|| {
        let_the_machine_choose();
        become_ordinary(4096);
        let diagnosis = diagnose();
        assert_eq!((diagnosis.memlock().soft, diagnosis.memlock().hard), (4096, 4096));
        let limit = shortfall(&diagnosis, "RLIMIT_MEMLOCK is 4096");
        assert!(
            limit.remedy().contains("limits.conf") && limit.remedy().contains("LimitMEMLOCK="),
            "{diagnosis}"
        );
        // Some kernels do not count the memory of rings.
        let Some(refusal) = diagnosis.refusal() else { return };
        assert_eq!(
            (refusal.call(), refusal.raw_os_error()),
            ("io_uring_setup", Some(libc::ENOMEM))
        );
        assert!(diagnosis.shortfalls()[0].cost().contains("4096 bytes"), "{diagnosis}");
        assert!(diagnosis.shortfalls()[0].remedy().contains("ulimit -l"), "{diagnosis}");
    });
}

#[test]
fn a_ring_made_smaller_for_want_of_memory_is_a_shortfall() {
    in_own_process(|| {
        let_the_machine_choose();
        become_ordinary(256 << 10);
        let fitting = (1..64).map(|pages| pages * 4096).find_map(|soft| {
            let limit = libc::rlimit { rlim_cur: soft, rlim_max: 256 << 10 };
            // SAFETY: `limit` outlives the call.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) }, 0);
            let diagnosis = diagnose();
            diagnosis
                .ring()
                .is_some_and(|ring| ring.kind() == RingKind::Kernel)
                .then_some(diagnosis)
        });
        let diagnosis = fitting.expect("a ring needs no 256 KiB");
        let ring = diagnosis.ring().expect("granted");
        if ring.entries() < 256 {
            let smaller = shortfall(&diagnosis, "256 entries");
            assert!(smaller.cost().contains("smaller queues"), "{diagnosis}");
            assert!(smaller.remedy().contains("memlock"), "{diagnosis}");
        }
    });
}

#[test]
fn a_low_limit_of_descriptors_is_a_shortfall_that_the_process_can_mend() {
    in_own_process(|| {
        let set = |soft, hard| {
            let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
            // SAFETY: `limit` outlives the call.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
        };
        set(512, 2048);
        assert!(
            shortfall(&diagnose(), "RLIMIT_NOFILE is 512 soft, 2048 hard")
                .remedy()
                .contains("ulimit -n 2048")
        );
        set(2048, 2048);
        assert!(!diagnose().to_string().contains("RLIMIT_NOFILE is"), "as high as it can be");
    });
}

/// Writes a setting and puts back what was there when it is dropped, on a panic too.
struct Setting {
    path: &'static str,
    before: String,
}

impl Setting {
    fn write(path: &'static str, value: &str) -> Setting {
        let before = fs::read_to_string(path).expect("the kernel has the setting");
        fs::write(path, value).expect("root may write it");
        Setting { path, before }
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        if let Err(error) = fs::write(self.path, &self.before) {
            eprintln!("write {} to {} by hand: {error}", self.before.trim(), self.path);
        }
    }
}

/// It concerns the whole machine for some milliseconds: every other program is refused rings
/// meanwhile. So it runs only when it is asked for: `cargo test --test doctor -- --ignored`, as
/// root, while nothing else uses io_uring.
#[test]
#[ignore = "changes a setting of the whole machine"]
fn io_uring_disabled_by_the_administrator_is_named_with_the_command_that_allows_it() {
    const DISABLED: &str = "/proc/sys/kernel/io_uring_disabled";
    bounded(|| {
        let everybody = Setting::write(DISABLED, "2");
        let diagnosis = diagnose();
        drop(everybody);
        assert_eq!(diagnosis.io_uring_disabled(), Some(2));
        assert_eq!(diagnosis.refusal().expect("refused").raw_os_error(), Some(libc::EPERM));
        assert!(
            diagnosis.shortfalls()[0].remedy().contains("sysctl -w kernel.io_uring_disabled=0"),
            "{diagnosis}"
        );

        let ordinary_users = Setting::write(DISABLED, "1");
        let mine = diagnose();
        let theirs = thread::spawn(|| {
            // SAFETY: the call takes no pointer. Made directly, it changes the user of this thread
            // alone.
            assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) }, 0);
            diagnose()
        });
        let theirs = theirs.join().expect("no panic");
        drop(ordinary_users);
        assert!(mine.refusal().is_none(), "root may: {mine}");
        assert_eq!(theirs.refusal().expect("refused").raw_os_error(), Some(libc::EPERM));
        let group =
            format!("kernel.io_uring_group (now {})", theirs.io_uring_group().expect("a setting"));
        assert!(theirs.shortfalls()[0].remedy().contains(&group), "{theirs}");
        assert!(diagnose().refusal().is_none());
    });
}

#[test]
fn an_environment_that_names_no_ring_is_a_shortfall_of_the_environment() {
    in_own_process(|| {
        // SAFETY: the other threads of a child read no environment.
        unsafe { std::env::set_var("ANNULUS_RING", "neither") };
        let diagnosis = diagnose();
        assert!(diagnosis.ring().is_none() && diagnosis.refusal().is_none(), "{diagnosis}");
        let first = &diagnosis.shortfalls()[0];
        assert!(first.cost().contains("ANNULUS_RING is \"neither\""), "{diagnosis}");
        assert!(
            first.remedy().contains("environment variable") && !first.remedy().contains("Linux"),
            "{diagnosis}"
        );
    });
}

/// What the diagnosis says of buffers of this size, into which messages of a KiB came.
fn of_chunks(runtime: &Runtime) -> Option<Shortfall> {
    runtime.block_on(async {
        let (ours, theirs) = annulus::net::UnixStream::pair().expect("a pair");
        for _ in 0..60 {
            theirs.write_all(vec![1; 1024]).await.expect("sent");
            let mut length = 0;
            while length < 1024 {
                length += ours.read_chunk().await.expect("received").len();
            }
        }
        let (receives, fills) = (annulus::metrics().chunk_receives, annulus::metrics().chunk_fills);
        assert!(receives >= 60 && fills <= receives, "{fills} of {receives}");
        diagnose()
            .shortfalls()
            .iter()
            .find(|shortfall| shortfall.what().contains("filled their buffer"))
            .cloned()
    })
}

#[test]
fn buffers_that_are_too_small_for_what_comes_are_a_shortfall_of_the_runtime() {
    bounded(|| {
        let small = annulus::Builder::new().chunk_size(256).build().expect("a ring");
        let shortfall = of_chunks(&small).expect("every receive has filled its buffer");
        assert_eq!(shortfall.what(), "240 of 240 receives filled their buffer of 256 bytes");
        assert!(shortfall.remedy().contains("chunk_size"));
        assert!(
            diagnose().shortfalls().iter().all(|other| *other != shortfall),
            "outside the runtime nothing is known of it"
        );
        assert_eq!(of_chunks(&common::runtime()), None);
    });
}
