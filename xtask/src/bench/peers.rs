//! The other libraries, in virtual environments of their own in the per-user cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::{Cache, Entry, Folders};
use crate::unpack::sha256;
use crate::{pip, workspace};

/// The peers of one benchmark.
pub(crate) struct Peers {
    /// Folder in the cache.
    name: &'static str,
    /// Beside the scripts.
    requirements: &'static str,
}

pub(crate) const CODEC: Peers = Peers { name: "peers-codec", requirements: "requirements-codec.txt" };
pub(crate) const OT: Peers = Peers { name: "peers-ot", requirements: "requirements-ot.txt" };
pub(crate) const TEXT: Peers = Peers { name: "peers-text", requirements: "requirements-text.txt" };

/// torch brings its CUDA libraries along, used or not: 3 GB to download, 5.5 GB unpacked.
const NEED: u64 = 10_000_000_000;
const STAMP: &str = "requirements.sha256";

impl Peers {
    /// The Python that has the peers, installing them unless these very requirements are installed.
    pub(crate) fn provide(&self, scripts: &Path) -> Result<PathBuf> {
        let requirements = scripts.join(self.requirements);
        let hash = sha256(&requirements)?;
        let fill = |folders: Folders<'_>| fill(&requirements, &hash, folders);
        let complete = |home: &Path| fs::read_to_string(home.join(STAMP)).is_ok_and(|stamp| stamp.trim() == hash);
        let entry = Entry { name: self.name, need: NEED, complete: &complete, fill: &fill };
        let home = Cache::locate()?.install(&entry).context("the libraries to compare with could not be installed")?;
        Ok(python(&home))
    }
}

/// A virtual environment may be renamed: its Python finds it from where it was started.
fn python(home: &Path) -> PathBuf {
    home.join("bin/python")
}

fn fill(requirements: &Path, hash: &str, folders: Folders<'_>) -> Result<()> {
    pip::version()?;
    eprintln!("installing the libraries to compare with: about 3 GB to download, once per user");
    workspace::read(Command::new("python3").args(["-m", "venv"]).arg(folders.out))?;
    pip::install(&python(folders.out), requirements, folders.scratch)?;
    Ok(fs::write(folders.out.join(STAMP), format!("{hash}\n"))?)
}
