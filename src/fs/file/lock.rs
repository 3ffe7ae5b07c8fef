//! The advisory lock of an open file. flock(2).

use std::error;
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use super::File;
use crate::blocking::spawn_blocking;
use crate::ring::FileKind;
use crate::sys::{self, Descriptor, Lock};
use crate::time::sleep;

/// Pauses between two attempts to take a lock that somebody else holds.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Why [`File::try_lock`] has not taken the lock: std's type of this name, which came with a later
/// Rust than this crate needs.
#[derive(Debug)]
pub enum TryLockError {
    /// Something is wrong.
    Error(io::Error),
    /// Somebody else holds a lock that excludes this one.
    WouldBlock,
}

impl fmt::Display for TryLockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TryLockError::Error(error) => error.fmt(f),
            TryLockError::WouldBlock => f.write_str("somebody else holds a lock of the file"),
        }
    }
}

impl error::Error for TryLockError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            TryLockError::Error(error) => error.source(),
            TryLockError::WouldBlock => None,
        }
    }
}

impl From<TryLockError> for io::Error {
    fn from(error: TryLockError) -> io::Error {
        match error {
            TryLockError::Error(error) => error,
            TryLockError::WouldBlock => io::ErrorKind::WouldBlock.into(),
        }
    }
}

/// # The lock of a file
/// The lock of flock(2), with the names of std: any number of open files hold it shared, or one
/// exclusively. It is advisory, and binds only those who ask for it. It belongs to the open file,
/// so [clones](File::try_clone) and duplicates have it together, and it goes with the last of them.
/// One that is held is exchanged for another kind, and may be lost on the way, as in flock(2).
impl File {
    /// Takes the lock exclusively, and waits until that can be had.
    ///
    /// No thread waits: it asks again and again, in growing pauses of at most 50 ms. So others may
    /// come first. A dropped one holds nothing.
    ///
    /// ```
    /// use annulus::fs::{File, TryLockError};
    ///
    /// # annulus::block_on(async {
    /// # let path = std::env::temp_dir().join(format!("annulus-lock-{}", std::process::id()));
    /// let (ours, theirs) = (File::create(&path).await?, File::open(&path).await?);
    /// ours.lock().await?;
    /// assert!(matches!(theirs.try_lock_shared().await, Err(TryLockError::WouldBlock)));
    /// ours.unlock().await?;
    /// theirs.lock_shared().await?;
    /// # annulus::fs::remove_file(&path).await?;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// The kernel's.
    pub async fn lock(&self) -> io::Result<()> {
        self.take_lock(Lock::Exclusive).await
    }

    /// Takes the lock shared with others who do, and waits until that can be had, as
    /// [`lock`](File::lock) does.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn lock_shared(&self) -> io::Result<()> {
        self.take_lock(Lock::Shared).await
    }

    /// Takes the lock exclusively, if that can be had at once. A dropped one holds nothing.
    ///
    /// It is a system call that does not wait. A network or user-space file system has to be asked,
    /// which a thread of the pool does; the call needs a duplicate of the descriptor then.
    ///
    /// # Errors
    /// `WouldBlock` if somebody else holds it, else the kernel's.
    pub async fn try_lock(&self) -> Result<(), TryLockError> {
        self.attempt(Lock::Exclusive).await
    }

    /// Takes the lock shared with others who do, if that can be had at once; otherwise as
    /// [`try_lock`](File::try_lock).
    ///
    /// # Errors
    /// As [`try_lock`](File::try_lock).
    pub async fn try_lock_shared(&self) -> Result<(), TryLockError> {
        self.attempt(Lock::Shared).await
    }

    /// Gives the lock back. Without one nothing happens. Who makes the call: as for
    /// [`try_lock`](File::try_lock); if the future is dropped it may happen all the same.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn unlock(&self) -> io::Result<()> {
        if self.locks_at_once() {
            return sys::lock(self.as_fd(), Lock::None);
        }
        let file = sys::duplicate(self.as_fd())?;
        spawn_blocking(move || sys::lock(file.as_fd(), Lock::None)).await?
    }

    async fn take_lock(&self, lock: Lock) -> io::Result<()> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.attempt(lock).await {
                Err(TryLockError::WouldBlock) => sleep(pause).await,
                outcome => return Ok(outcome?),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn attempt(&self, lock: Lock) -> Result<(), TryLockError> {
        let outcome = if self.locks_at_once() {
            sys::lock(self.as_fd(), lock)
        } else {
            self.lock_on_pool(lock).await
        };
        outcome.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => TryLockError::WouldBlock,
            _ => TryLockError::Error(error),
        })
    }

    async fn lock_on_pool(&self, lock: Lock) -> io::Result<()> {
        let file = Descriptor::from(sys::duplicate(self.as_fd())?);
        let taken = spawn_blocking(move || {
            sys::lock(file.as_fd(), lock).map(|()| Taken { file: Some(file) })
        });
        taken.await??.hand_over();
        Ok(())
    }

    /// Is the lock this machine's alone, so that nobody has to be asked?
    fn locks_at_once(&self) -> bool {
        !matches!(FileKind::of(self.as_fd()), FileKind::Fuse | FileKind::Remote)
    }
}

/// A lock that was taken for somebody who may not be there any more.
struct Taken {
    file: Option<Descriptor>,
}

impl Taken {
    fn hand_over(mut self) {
        self.file = None;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            // Whoever serves the file is asked once more, and the loop may be what drops this.
            sys::run_on_own_thread("unlock", move || {
                // The last descriptor that goes gives the lock back, too.
                let _ = sys::lock(file.as_fd(), Lock::None);
            });
        }
    }
}
