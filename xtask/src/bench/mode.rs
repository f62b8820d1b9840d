//! How many cores the programs that are compared have.

use std::ffi::OsString;
use std::process::Command;

use crate::workspace;

/// How many cores the contenders have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mode {
    pub(crate) threads: usize,
    /// Held on one core, where taskset is there to do it.
    pub(crate) pinned: bool,
}

impl Mode {
    pub(crate) fn name(self) -> String {
        match (self.threads, self.pinned) {
            (1, true) => "One core, pinned".to_owned(),
            (1, false) => "One thread".to_owned(),
            (threads, _) => format!("{threads} cores"),
        }
    }

    /// The command of these words, held to the mode.
    pub(crate) fn command(self, words: impl IntoIterator<Item = OsString>) -> Command {
        let mut all: Vec<OsString> =
            if self.pinned { ["taskset", "-c", "0"].map(Into::into).into() } else { Vec::new() };
        all.extend(words);
        let mut command = Command::new(&all[0]);
        command.args(&all[1..]);
        for name in ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"] {
            command.env(name, self.threads.to_string());
        }
        // A kernel forced for another processor would slow NumPy down.
        command.env_remove("OPENBLAS_CORETYPE").env_remove("OPENBLAS_L2_SIZE");
        command
    }
}

/// One core, then all of them.
pub(crate) fn modes() -> Vec<Mode> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let pinned = workspace::read(Command::new("taskset").args(["-c", "0", "true"])).is_ok();
    let mut modes = vec![Mode { threads: 1, pinned }];
    if cores > 1 {
        modes.push(Mode { threads: cores, pinned: false });
    }
    modes
}
