//! Files and folders that exist whole or not at all: written beside their place, flushed to disk, renamed.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Writes a file through `body` and puts it in place only when all of it is on disk.
///
/// On an error the old file, if any, is untouched and nothing is left behind. A link stays, and what it points at is
/// replaced; anything else that is no file (a folder, a device) is refused.
pub fn write_atomic(path: &Path, body: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let path = &behind_links(path)?;
    if path.exists() && !path.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "expected a file, found a folder or device"));
    }
    let parent = parent_of(path);
    fs::create_dir_all(&parent)?;
    let mut temp = tempfile::Builder::new().prefix(".tavq-").tempfile_in(&parent)?;
    {
        let mut out = BufWriter::new(temp.as_file_mut());
        body(&mut out)?;
        out.flush()?;
    }
    temp.as_file().sync_all()?;
    set_default_mode(temp.as_file())?;
    temp.persist(path).map_err(|e| e.error)?;
    sync_dir(&parent)
}

/// Fills a new folder through `body` and puts it at `path` only when all of it is on disk. A folder
/// that stands there already is moved aside first and removed last, so that one of the two is always whole.
pub fn write_folder_atomic(path: &Path, body: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let path = &behind_links(path)?;
    let parent = parent_of(path);
    fs::create_dir_all(&parent)?;
    let temp = tempfile::Builder::new().prefix(".tavq-").tempdir_in(&parent)?;
    body(temp.path())?;
    for entry in fs::read_dir(temp.path())? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_dir(temp.path())?;
    set_default_folder_mode(temp.path())?;
    let old = if path.exists() {
        let aside = tempfile::Builder::new().prefix(".tavq-old-").tempdir_in(&parent)?;
        fs::rename(path, aside.path().join("old"))?;
        Some(aside)
    } else {
        None
    };
    fs::rename(temp.keep(), path)?;
    sync_dir(&parent)?;
    drop(old);
    Ok(())
}

/// Where a link points; other paths as they are.
fn behind_links(path: &Path) -> io::Result<PathBuf> {
    if path.is_symlink() && path.exists() { path.canonicalize() } else { Ok(path.to_path_buf()) }
}

fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

// Temporary files are private by default; results are ordinary files.
#[cfg(unix)]
fn set_default_mode(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn set_default_mode(_: &File) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn set_default_folder_mode(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn set_default_folder_mode(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        write_atomic(&path, |w| w.write_all(b"old")).unwrap();
        let failed = write_atomic(&path, |w| {
            w.write_all(b"half")?;
            Err(io::Error::other("disk full"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_and_what_is_no_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        fs::write(&target, b"old").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        write_atomic(&link, |w| w.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert!(link.is_symlink());
        assert!(write_atomic(dir.path(), |w| w.write_all(b"x")).unwrap_err().to_string().contains("expected a file"));
        assert!(write_atomic(Path::new("/dev/null"), |_| Ok(())).is_err());
    }

    #[test]
    fn a_folder_is_replaced_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("step-1");
        write_folder_atomic(&path, |d| fs::write(d.join("x"), b"1")).unwrap();
        assert!(write_folder_atomic(&path, |_| Err(io::Error::other("no"))).is_err());
        assert_eq!(fs::read(path.join("x")).unwrap(), b"1");
        write_folder_atomic(&path, |d| fs::write(d.join("y"), b"2")).unwrap();
        assert!(!path.join("x").exists());
        assert_eq!(fs::read(path.join("y")).unwrap(), b"2");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
