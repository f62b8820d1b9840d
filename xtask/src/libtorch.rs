//! Finding libtorch: `LIBTORCH`, then an active Python, then the per-user cache.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::cache::Cache;
use crate::error::{BadInput, THREE_WAYS};
use crate::wheels::{self, Libtorch as Row};

/// The libtorch that the pinned `tch` binds.
pub(crate) const VERSION: &str = "2.11.0";

/// Where a libtorch was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The variable LIBTORCH.
    Variable,
    /// A Python on PATH with torch installed.
    Python,
    /// The per-user cache.
    Cache,
}

impl Origin {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Variable => "LIBTORCH",
            Self::Python => "python3",
            Self::Cache => "cache",
        }
    }
}

/// A usable libtorch: a folder with `include` and `lib`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Libtorch {
    pub(crate) dir: PathBuf,
    pub(crate) origin: Origin,
}

impl Libtorch {
    /// Whether it can use a CUDA device.
    pub(crate) fn has_cuda(&self) -> bool {
        self.dir.join("lib/libtorch_cuda.so").is_file()
    }
}

/// Looks in the three places, in order. A LIBTORCH that cannot be used is an error; a Python with another torch is passed over.
pub(crate) fn find(cache: &Cache) -> Result<Option<Libtorch>> {
    if let Some(dir) = from_variable()? {
        return Ok(Some(Libtorch { dir, origin: Origin::Variable }));
    }
    if let Some(dir) = python_torch().filter(|dir| check(dir).is_ok()) {
        return Ok(Some(Libtorch { dir, origin: Origin::Python }));
    }
    // CUDA first: whoever asked `setup --cuda` for it wants it used.
    let rows = [true, false].into_iter().filter_map(row_for_this_machine);
    let found = rows.map(|row| dir_in(cache, row)).find(|dir| check(dir).is_ok());
    Ok(found.map(|dir| Libtorch { dir, origin: Origin::Cache }))
}

/// The wheels for the machine this program runs on.
pub(crate) fn row_for_this_machine(cuda: bool) -> Option<&'static Row> {
    wheels::libtorch(env::consts::OS, env::consts::ARCH, cuda)
}

/// Where a row's `include` and `lib` lie in the cache.
pub(crate) fn dir_in(cache: &Cache, row: &Row) -> PathBuf {
    below(&cache.path(row.name), row)
}

/// Where a row's `include` and `lib` lie in the folder that holds the row.
pub(crate) fn below(home: &Path, row: &Row) -> PathBuf {
    if row.below.is_empty() { home.to_path_buf() } else { home.join(row.below) }
}

fn from_variable() -> Result<Option<PathBuf>> {
    let Some(value) = env::var_os("LIBTORCH").filter(|value| !value.is_empty()) else { return Ok(None) };
    // Build scripts start in their package's folder, so a relative path would mean something else there.
    let dir = std::path::absolute(&value)?;
    match check(&dir) {
        Ok(()) => Ok(Some(dir)),
        Err(reason) => bail!(BadInput(format!("LIBTORCH={}: {reason}; {THREE_WAYS}", dir.display()))),
    }
}

/// Why a folder cannot serve as libtorch, if it cannot.
pub(crate) fn check(dir: &Path) -> Result<(), String> {
    if !dir.is_dir() {
        return Err("no such folder".into());
    }
    let extension = if cfg!(target_os = "macos") { "dylib" } else { "so" };
    for file in ["torch_cpu", "torch", "c10"].map(|name| format!("lib/lib{name}.{extension}")) {
        if !dir.join(&file).is_file() {
            return Err(format!("it holds no {file}"));
        }
    }
    if !dir.join("include/torch/csrc/api/include/torch/torch.h").is_file() {
        return Err("it holds no headers (include/torch/csrc/api/include/torch/torch.h)".into());
    }
    match version_of(dir) {
        Some(version) if version == VERSION => Ok(()),
        Some(version) => Err(format!("it is libtorch {version}, but {VERSION} is needed")),
        None => {
            Err(format!("its version cannot be told (no build-version, version.py or version.h); {VERSION} is needed"))
        }
    }
}

/// The version of a libtorch, without a suffix such as `+cpu`: from the zip's own file, from Python's, or from the headers.
pub(crate) fn version_of(dir: &Path) -> Option<String> {
    let text = |name: &str| fs::read_to_string(dir.join(name)).ok();
    let version = text("build-version")
        .map(|text| text.trim().to_owned())
        .or_else(|| from_version_py(&text("version.py")?))
        .or_else(|| from_header(&text("include/torch/headeronly/version.h")?))
        .or_else(|| from_header(&text("include/torch/csrc/api/include/torch/version.h")?))?;
    let plain = version.split_once('+').map_or(version.as_str(), |(plain, _)| plain);
    Some(plain.to_owned())
}

/// `__version__ = '2.11.0+cu130'`
fn from_version_py(text: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix("__version__"))?;
    Some(line.trim_start_matches([' ', '=']).trim().trim_matches(['\'', '"']).to_owned())
}

/// `#define TORCH_VERSION_MAJOR 2`, and so on.
fn from_header(text: &str) -> Option<String> {
    let part = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix("#define ")?.strip_prefix(name));
        line.map(str::trim).filter(|value| value.bytes().all(|b| b.is_ascii_digit()) && !value.is_empty())
    };
    let (major, minor, patch) =
        (part("TORCH_VERSION_MAJOR ")?, part("TORCH_VERSION_MINOR ")?, part("TORCH_VERSION_PATCH ")?);
    Some(format!("{major}.{minor}.{patch}"))
}

/// The folder of the torch that python3 would import, of whatever version. Nothing is imported: that would take seconds.
pub(crate) fn python_torch() -> Option<PathBuf> {
    const ASK: &str =
        "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')";
    let output = Command::new("python3").args(["-c", ASK]).output().ok().filter(|output| output.status.success())?;
    let path = String::from_utf8(output.stdout).ok()?;
    let path = path.trim();
    (!path.is_empty()).then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a folder that looks like libtorch of a version.
    fn fake(dir: &Path, version: &str) {
        let extension = if cfg!(target_os = "macos") { "dylib" } else { "so" };
        for name in ["lib/libtorch_cpu", "lib/libtorch", "lib/libc10"] {
            write(dir, &format!("{name}.{extension}"), "");
        }
        write(dir, "include/torch/csrc/api/include/torch/torch.h", "");
        write(dir, "build-version", version);
    }

    fn write(dir: &Path, name: &str, text: &str) {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn one_version_is_named_everywhere() {
        assert!(THREE_WAYS.matches(VERSION).count() == 3);
        for cuda in [false, true] {
            let row = wheels::libtorch("linux", "x86_64", cuda).unwrap();
            assert!(row.name.contains(VERSION));
            assert!(row.wheels.iter().any(|wheel| wheel.package == "torch" && wheel.version == VERSION));
        }
    }

    #[test]
    fn a_whole_libtorch_of_the_right_version_passes() {
        let temp = tempfile::tempdir().unwrap();
        fake(temp.path(), "2.11.0+cpu\n");
        assert_eq!(check(temp.path()), Ok(()));
        fake(temp.path(), "2.1.0\n");
        assert_eq!(check(temp.path()), Err("it is libtorch 2.1.0, but 2.11.0 is needed".into()));
        fs::remove_file(temp.path().join("build-version")).unwrap();
        assert!(check(temp.path()).unwrap_err().contains("cannot be told"));
        assert!(check(&temp.path().join("none")).unwrap_err().contains("no such folder"));
    }

    #[test]
    fn a_part_of_libtorch_is_refused_by_what_is_missing() {
        let temp = tempfile::tempdir().unwrap();
        fake(temp.path(), VERSION);
        fs::remove_file(temp.path().join("include/torch/csrc/api/include/torch/torch.h")).unwrap();
        assert!(check(temp.path()).unwrap_err().contains("no headers"));
        fs::remove_dir_all(temp.path().join("lib")).unwrap();
        assert!(check(temp.path()).unwrap_err().contains("lib/libtorch_cpu"));
    }

    #[test]
    fn the_version_is_read_from_three_kinds_of_file() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(version_of(temp.path()), None);
        let header = "#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 9\n#define TORCH_VERSION_PATCH 1\n\
             #define TORCH_VERSION_ABI_TAG 0\n";
        write(temp.path(), "include/torch/csrc/api/include/torch/version.h", header);
        assert_eq!(version_of(temp.path()).as_deref(), Some("2.9.1"));
        write(temp.path(), "version.py", "from typing import Optional\n__version__ = '2.11.0+cu130'\ndebug = False\n");
        assert_eq!(version_of(temp.path()).as_deref(), Some("2.11.0"));
        write(temp.path(), "build-version", "2.4.0+cpu\n");
        assert_eq!(version_of(temp.path()).as_deref(), Some("2.4.0"));
    }
}
