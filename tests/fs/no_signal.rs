//! Writes of a file to a pipe that nobody reads: an error, and no signal.

use std::fs as std_fs;
use std::os::fd::{AsRawFd, OwnedFd};

use annulus::fs::{File, OpenOptions};

use crate::common::{in_own_process, run_here, scratch_dir};

fn has_writes_without_signal() -> bool {
    let (_reader, writer) = std::io::pipe().unwrap();
    let byte = libc::iovec { iov_base: [0u8; 1].as_ptr().cast_mut().cast(), iov_len: 1 };
    // SAFETY: the vector and its byte, which is static, are read during the call only.
    unsafe { libc::pwritev2(writer.as_raw_fd(), &byte, 1, -1, 0x100) == 1 }
}

async fn fails_each_time(file: &File) {
    for _ in 0..2 {
        let broken = Some(libc::EPIPE);
        assert_eq!(file.write("x").await.unwrap_err().raw_os_error(), broken);
        assert_eq!(file.write_all("x").await.unwrap_err().raw_os_error(), broken);
        assert_eq!(file.write_at("x", 0).await.unwrap_err().raw_os_error(), broken);
        assert_eq!(file.write_vectored(["x", "y"]).await.unwrap_err().raw_os_error(), broken);
        assert_eq!(file.write_all_vectored(["x", "y"]).await.unwrap_err().raw_os_error(), broken);
    }
}

#[test]
fn a_file_that_is_a_pipe_sends_no_signal_where_that_has_its_default_action() {
    let scratch = scratch_dir();
    in_own_process(|| {
        if !has_writes_without_signal() {
            println!("skipped: this kernel has no RWF_NOSIGNAL");
            return;
        }
        // SAFETY: the call takes no memory of ours.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        run_here(async {
            let (reader, writer) = std::io::pipe().unwrap();
            let file = File::from(OwnedFd::from(writer));
            file.write_all("read").await.unwrap();
            drop(reader);
            fails_each_time(&file).await;

            let path = scratch.path().join("fifo");
            annulus::io::mkfifo(&path, 0o600).await.unwrap();
            let reader = std_fs::File::options().read(true).write(true).open(&path).unwrap();
            let file = OpenOptions::new().write(true).open(&path).await.unwrap();
            file.write_all("read").await.unwrap();
            drop(reader);
            fails_each_time(&file).await;

            // A device that is no pipe knows no such flag, and gets none.
            let null = OpenOptions::new().write(true).open("/dev/null").await.unwrap();
            null.write_all("x").await.unwrap();
        });
    });
}
