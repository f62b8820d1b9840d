//! The per-user cache. An entry is a folder that appears by one rename after its files are on the disk, so that no
//! reader ever sees half of one; a lock file lets only one process fill at a time.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock, statvfs};

use crate::error::BadInput;

/// Folders that are being filled start with this.
const UNFINISHED: &str = "unfinished-";

/// A folder shared by all clones of one user.
pub(crate) struct Cache {
    pub(crate) root: PathBuf,
}

/// What to put into the cache.
pub(crate) struct Entry<'a> {
    /// The folder's name in the cache.
    pub(crate) name: &'a str,
    /// Free bytes that filling needs at its peak.
    pub(crate) need: u64,
    /// Whether a folder holds everything that the entry should.
    pub(crate) complete: &'a dyn Fn(&Path) -> bool,
    /// Fills `out`, with `scratch` for what is deleted afterwards.
    pub(crate) fill: &'a dyn Fn(Folders<'_>) -> Result<()>,
}

/// The two folders that filling an entry writes to, both on the cache's disk.
#[derive(Clone, Copy)]
pub(crate) struct Folders<'a> {
    pub(crate) scratch: &'a Path,
    pub(crate) out: &'a Path,
}

impl Cache {
    /// `TAVQ_CACHE`, else `XDG_CACHE_HOME/tavq`, else `~/.cache/tavq`.
    pub(crate) fn locate() -> Result<Self> {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = set("TAVQ_CACHE")
            .or_else(|| set("XDG_CACHE_HOME").filter(|path| path.is_absolute()).map(|path| path.join("tavq")))
            .or_else(|| set("HOME").map(|path| path.join(".cache/tavq")));
        let Some(root) = root else {
            bail!(BadInput("no folder for the cache: set TAVQ_CACHE, XDG_CACHE_HOME or HOME".into()));
        };
        let root = std::path::absolute(&root).with_context(|| format!("bad cache folder {}", root.display()))?;
        Ok(Self { root })
    }

    /// Where an entry lies once it is complete.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Bytes free for this user on the cache's disk, measured at the nearest folder that exists.
    pub(crate) fn free_bytes(&self) -> Result<u64> {
        let existing = self.root.ancestors().find(|path| path.exists()).unwrap_or(&self.root);
        let stat = statvfs(existing).with_context(|| format!("cannot measure free space at {}", existing.display()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Returns the entry's folder, filling it first unless it is complete. Safe to call from several processes.
    pub(crate) fn install(&self, entry: &Entry<'_>) -> Result<PathBuf> {
        let home = self.path(entry.name);
        if (entry.complete)(&home) {
            return Ok(home);
        }
        fs::create_dir_all(&self.root).with_context(|| format!("cannot create the cache {}", self.root.display()))?;
        let _lock = self.lock()?;
        // Another process may have filled it while this one waited.
        if (entry.complete)(&home) {
            return Ok(home);
        }
        self.remove_unfinished()?;
        let free = self.free_bytes()?;
        if free < entry.need {
            let root = self.root.display();
            bail!("the disk is too full: {root} has {} MB free, {} needs {} MB", mb(free), entry.name, mb(entry.need));
        }
        // By process: if an earlier one was killed, its pip may still be running, and must not write into this folder.
        let work = self.root.join(format!("{UNFINISHED}{}-{}", entry.name, std::process::id()));
        let filled = self.fill(entry, &work, &home);
        // After success only scratch is left here; after a failure, everything. What cannot be removed now goes next time.
        let _ = fs::remove_dir_all(&work);
        filled.map_err(name_full_disk)?;
        Ok(home)
    }

    fn fill(&self, entry: &Entry<'_>, work: &Path, home: &Path) -> Result<()> {
        let (scratch, out) = (work.join("scratch"), work.join("out"));
        fs::create_dir_all(&scratch)?;
        fs::create_dir_all(&out)?;
        (entry.fill)(Folders { scratch: &scratch, out: &out })?;
        if !(entry.complete)(&out) {
            bail!("{} was unpacked but is not complete", entry.name);
        }
        sync(&out)?;
        if home.exists() {
            fs::remove_dir_all(home).with_context(|| format!("cannot replace {}", home.display()))?;
        }
        fs::rename(&out, home).with_context(|| format!("cannot rename into {}", home.display()))?;
        File::open(&self.root)?.sync_all()?;
        Ok(())
    }

    /// Held until the file is dropped; the system lets go of it when a process dies.
    fn lock(&self) -> Result<File> {
        let path = self.root.join("lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            eprintln!("waiting for another process to finish its setup ({})", path.display());
            flock(&file, FlockOperation::LockExclusive).with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Ok(file)
    }

    /// Whoever left these is gone: this process holds the lock.
    fn remove_unfinished(&self) -> Result<()> {
        for item in fs::read_dir(&self.root)? {
            let item = item?;
            if item.file_name().to_string_lossy().starts_with(UNFINISHED) {
                fs::remove_dir_all(item.path()).with_context(|| format!("cannot remove {}", item.path().display()))?;
            }
        }
        Ok(())
    }
}

fn mb(bytes: u64) -> u64 {
    bytes / 1_000_000
}

/// Puts a "the disk is full" in front of an error that has one as its cause.
fn name_full_disk(error: anyhow::Error) -> anyhow::Error {
    let full = |cause: &&(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|cause| cause.kind() == io::ErrorKind::StorageFull)
    };
    if error.chain().any(|cause| full(&cause)) { error.context("the disk is full") } else { error }
}

/// Puts a folder's files on the disk: one call for the whole file system, where ten thousand headers would each wait for theirs.
fn sync(folder: &Path) -> Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    rustix::fs::syncfs(File::open(folder)?).context("cannot write the cache to the disk")?;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = folder;
        rustix::fs::sync();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    fn complete(path: &Path) -> bool {
        path.join("a").is_file() && path.join("b").is_file()
    }

    fn fill(folders: Folders<'_>) -> Result<()> {
        fs::write(folders.scratch.join("wheel"), "large")?;
        fs::write(folders.out.join("a"), "1")?;
        fs::write(folders.out.join("b"), "2")?;
        Ok(())
    }

    fn names(cache: &Cache) -> Vec<String> {
        let items = fs::read_dir(&cache.root).unwrap().map(|item| item.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = items.collect();
        names.sort();
        names
    }

    #[test]
    fn an_entry_appears_whole_and_leaves_no_scratch() {
        let temp = tempfile::tempdir().unwrap();
        let cache = Cache { root: temp.path().join("made/on/demand") };
        let entry = Entry { name: "thing", need: 0, complete: &complete, fill: &fill };
        let home = cache.install(&entry).unwrap();
        assert!(complete(&home));
        assert_eq!(names(&cache), ["lock", "thing"]);
        let refuse = |_: Folders<'_>| -> Result<()> { bail!("filled twice") };
        cache.install(&Entry { fill: &refuse, ..entry }).unwrap();
    }

    #[test]
    fn a_failure_or_an_incomplete_fill_leaves_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let cache = Cache { root: temp.path().into() };
        let half = |folders: Folders<'_>| Ok(fs::write(folders.out.join("a"), "1")?);
        let error = cache.install(&Entry { name: "thing", need: 0, complete: &complete, fill: &half }).unwrap_err();
        assert!(error.to_string().contains("not complete"), "{error}");
        let broken = |folders: Folders<'_>| -> Result<()> {
            fill(folders)?;
            bail!("broken")
        };
        assert!(cache.install(&Entry { name: "thing", need: 0, complete: &complete, fill: &broken }).is_err());
        assert_eq!(names(&cache), ["lock"]);
    }

    #[test]
    fn leavings_of_a_killed_process_are_removed_and_a_partial_entry_is_replaced() {
        let temp = tempfile::tempdir().unwrap();
        let cache = Cache { root: temp.path().into() };
        fs::create_dir_all(cache.path("unfinished-other/out")).unwrap();
        fs::create_dir_all(cache.path("thing")).unwrap();
        fs::write(cache.path("thing/a"), "old").unwrap();
        let entry = Entry { name: "thing", need: 0, complete: &complete, fill: &fill };
        assert!(!complete(&cache.path("thing")));
        cache.install(&entry).unwrap();
        assert_eq!(fs::read(cache.path("thing/a")).unwrap(), b"1");
        assert_eq!(names(&cache), ["lock", "thing"]);
    }

    #[test]
    fn two_at_once_fill_once() {
        let temp = tempfile::tempdir().unwrap();
        let count = AtomicUsize::new(0);
        let slow = |folders: Folders<'_>| {
            count.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(200));
            fill(folders)
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let cache = Cache { root: temp.path().into() };
                    let slow: &dyn Fn(Folders<'_>) -> Result<()> = &slow;
                    cache.install(&Entry { name: "thing", need: 0, complete: &complete, fill: slow }).unwrap();
                });
            }
        });
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_full_disk_is_named_before_and_during_the_fill() {
        let temp = tempfile::tempdir().unwrap();
        let cache = Cache { root: temp.path().into() };
        let entry = Entry { name: "thing", need: u64::MAX, complete: &complete, fill: &fill };
        let error = cache.install(&entry).unwrap_err().to_string();
        assert!(error.contains("the disk is too full") && error.contains("thing needs"), "{error}");
        let full =
            |_: Folders<'_>| Err(anyhow::Error::new(io::Error::from(io::ErrorKind::StorageFull)).context("a.so"));
        let error = cache.install(&Entry { need: 0, fill: &full, ..entry }).unwrap_err();
        assert!(format!("{error:#}").starts_with("the disk is full: a.so"), "{error:#}");
    }
}
