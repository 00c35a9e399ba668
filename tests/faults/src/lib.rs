//! A power cut, for one process: preloaded into it (`LD_PRELOAD`), this library keeps what the process writes to `SQLite`
//! files in its memory until the file is synced, so that killing the process loses what a power cut would lose.
//!
//! ```text
//! pwrite, ftruncate ──> shadow (this process) ──fsync──> file
//! pread, fstat, stat <──────┘
//! ```
//!
//! - Which files: those below the directory that the environment variable `MAYFLY_POWERCUT_DIR` names whose names end in
//!   `.db`, `-wal` or `-journal`. The `-shm` file is left alone: `SQLite` makes it anew after a crash.
//! - What is not synced is lost even when the process ends in good order, as it may be when the power fails then.
//! - Names are not kept back: a file that was created or deleted stays so. Nothing here reorders or tears what is synced,
//!   but a kill in the middle of a sync leaves a part of it.
//! - Only the calls that `SQLite` makes are caught (seen with strace). That they are enough is shown by the test that runs
//!   with `store.synchronous = "off"` and must find records lost.

mod calls;
mod shadow;
