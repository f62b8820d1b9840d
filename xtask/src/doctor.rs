//! `cargo xtask doctor`: what this machine has, what it lacks, and how to mend it.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::available_parallelism;

use anyhow::Result;
use serde_json::{Value, json};

use crate::cache::Cache;
use crate::error::{ENCODER_WAYS, THREE_WAYS, one_line};
use crate::libtorch::{self, VERSION};
use crate::workspace::{self, Workspace};
use crate::{pip, setup};

const GB: f64 = 1e9;
/// What a release build of the workspace takes, with room for the run's own files.
const BUILD_NEED: u64 = 2_000_000_000;
/// What training on the embedded pictures may take.
const MEMORY_NEED: u64 = 4_000_000_000;

/// How a part stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Found,
    /// Not there; `cargo xtask setup` (and so `train`) gets it.
    Gettable,
    /// Not there, and training can do without it.
    Optional,
    /// Not there, and training needs it.
    Missing,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Found => "ok",
            Self::Gettable => "setup",
            Self::Optional => "none",
            Self::Missing => "MISSING",
        }
    }
}

struct Row {
    part: &'static str,
    state: State,
    /// What was found, or why it was not.
    found: String,
    /// What to do about it; empty when all is well.
    mend: String,
}

impl Row {
    fn found(part: &'static str, found: impl Into<String>) -> Self {
        Self { part, state: State::Found, found: found.into(), mend: String::new() }
    }

    fn lacking(part: &'static str, state: State, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { part, state, found: found.into(), mend: mend.into() }
    }
}

/// Prints the table, or JSON, and returns whether `cargo xtask train` can run.
pub(crate) fn doctor(as_json: bool) -> Result<bool> {
    let workspace = Workspace::load()?;
    let cache = Cache::locate()?;
    let rows = examine(&workspace, &cache);
    let can_train = rows.iter().all(|row| row.state != State::Missing);
    if as_json {
        println!("{:#}", to_json(&rows, can_train));
        return Ok(can_train);
    }
    for Row { part, state, found, mend } in &rows {
        println!("{:<8} {part:<13} {found}", state.name());
        if !mend.is_empty() {
            println!("{:<22} -> {mend}", "");
        }
    }
    let verdict = if can_train { "can run" } else { "cannot run: mend what is MISSING" };
    println!("\n`cargo xtask train` {verdict}");
    Ok(can_train)
}

fn to_json(rows: &[Row], can_train: bool) -> Value {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| json!({"part": row.part, "state": row.state.name().to_lowercase(), "found": row.found, "mend": row.mend}))
        .collect();
    json!({"parts": rows, "can_train": can_train})
}

fn examine(workspace: &Workspace, cache: &Cache) -> Vec<Row> {
    let python = python();
    let pip = pip();
    let can_install = pip.state == State::Found;
    vec![
        rust(&workspace.rust_version),
        components(),
        compiler(),
        python,
        pip,
        libtorch(cache, can_install),
        encoder(cache, can_install),
        cuda(cache),
        disk("cache disk", &cache.root, 0),
        disk("build disk", &workspace.target, BUILD_NEED),
        machine(),
    ]
}

/// The first line a command prints, if it runs and succeeds.
fn says(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}

fn rust(needed: &str) -> Row {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let Some(found) = says(Command::new(rustc).arg("--version")) else {
        return Row::lacking("rust", State::Missing, "rustc does not run", "install Rust: https://rustup.rs");
    };
    // "rustc 1.95.0 (59807616e 2026-04-14)"
    let version = found.split_whitespace().nth(1).unwrap_or_default();
    if minor(version) < minor(needed) {
        let mend = format!("Rust {needed} or newer is needed: rustup update stable");
        return Row::lacking("rust", State::Missing, found, mend);
    }
    Row::found("rust", format!("{found}, {needed} needed"))
}

/// The second number of a version; every Rust so far is a 1.x.
fn minor(version: &str) -> u32 {
    version.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or(0)
}

fn components() -> Row {
    let missing: Vec<_> = ["fmt", "clippy"]
        .into_iter()
        .filter(|tool| says(workspace::cargo().args([tool, "--version"])).is_none())
        .collect();
    if missing.is_empty() {
        return Row::found("rust tools", "rustfmt, clippy");
    }
    let found = format!("no cargo {} (only `cargo xtask test` needs it)", missing.join(", no cargo "));
    Row::lacking("rust tools", State::Optional, found, "rustup component add rustfmt clippy")
}

fn compiler() -> Row {
    let version = |name: &str| says(Command::new(name).arg("--version"));
    if let Some(name) = env::var("CXX").ok().filter(|name| !name.is_empty()) {
        return match version(&name) {
            Some(found) => Row::found("C++ compiler", format!("{name} (from CXX): {found}")),
            None => Row::lacking(
                "C++ compiler",
                State::Missing,
                format!("CXX={name} does not run"),
                "unset CXX or correct it",
            ),
        };
    }
    if let Some(found) = version("c++") {
        return Row::found("C++ compiler", format!("c++: {found}"));
    }
    match ["g++", "clang++"].into_iter().find(|name| version(name).is_some()) {
        Some(name) => {
            Row::lacking("C++ compiler", State::Missing, format!("no c++, but {name}"), format!("export CXX={name}"))
        }
        None => Row::lacking(
            "C++ compiler",
            State::Missing,
            "no c++, g++ or clang++",
            "Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++; macOS: xcode-select --install",
        ),
    }
}

fn python() -> Row {
    let Some(version) = says(Command::new("python3").arg("--version")) else {
        let mend = "Debian, Ubuntu: apt install python3 python3-pip; or set LIBTORCH and TAVQ_TEXT_ENCODER yourself";
        return Row::lacking("python3", State::Optional, "not on PATH", mend);
    };
    let torch =
        libtorch::python_torch().map(|dir| libtorch::version_of(&dir).unwrap_or_else(|| "of unknown version".into()));
    Row::found(
        "python3",
        format!("{version}, {}", torch.map_or("without torch".into(), |torch| format!("with torch {torch}"))),
    )
}

fn pip() -> Row {
    match pip::version() {
        Ok(version) => Row::found("pip", version),
        Err(error) => Row::lacking("pip", State::Optional, one_line(&error), "Debian, Ubuntu: apt install python3-pip"),
    }
}

fn libtorch(cache: &Cache, can_install: bool) -> Row {
    match libtorch::find(cache) {
        Ok(Some(found)) => {
            Row::found("libtorch", format!("{VERSION} at {} (from {})", found.dir.display(), found.origin.name()))
        }
        Err(error) => Row::lacking("libtorch", State::Missing, one_line(&error), "see above"),
        Ok(None) => match libtorch::row_for_this_machine(false) {
            Some(row) if can_install => gettable("libtorch", row.download, row.need, cache),
            _ => Row::lacking("libtorch", State::Missing, "not found, and `setup` cannot install it here", THREE_WAYS),
        },
    }
}

fn encoder(cache: &Cache, can_install: bool) -> Row {
    match setup::find_encoder(cache) {
        Ok(Some(dir)) => Row::found("text encoder", dir.display().to_string()),
        Err(error) => Row::lacking("text encoder", State::Missing, one_line(&error), "see above"),
        Ok(None) if can_install => gettable("text encoder", setup::ENCODER_DOWNLOAD, setup::ENCODER_NEED, cache),
        Ok(None) => {
            Row::lacking("text encoder", State::Missing, "not found, and there is no pip to install it", ENCODER_WAYS)
        }
    }
}

fn gettable(part: &'static str, download: u64, need: u64, cache: &Cache) -> Row {
    let free = cache.free_bytes().unwrap_or(0);
    if free < need {
        let found = format!("not found; {} has {:.1} GB free", cache.root.display(), free as f64 / GB);
        return Row::lacking(
            part,
            State::Missing,
            found,
            format!("free {:.1} GB there, or set TAVQ_CACHE", need as f64 / GB),
        );
    }
    let mend =
        format!("`cargo xtask setup` (or train) downloads {} MB into {}", download / 1_000_000, cache.root.display());
    Row::lacking(part, State::Gettable, "not installed yet", mend)
}

fn cuda(cache: &Cache) -> Row {
    let device = says(Command::new("nvidia-smi").args(["--query-gpu=name,memory.total", "--format=csv,noheader"]));
    let library = libtorch::find(cache).ok().flatten().is_some_and(|found| found.has_cuda());
    match (device, library) {
        (Some(device), true) => Row::found("CUDA", format!("{device}; libtorch_cuda.so is there")),
        (Some(device), false) => Row::lacking(
            "CUDA",
            State::Optional,
            format!("{device}, but libtorch is for the CPU"),
            "cargo xtask setup --cuda",
        ),
        (None, true) => Row::lacking("CUDA", State::Optional, "libtorch_cuda.so, but nvidia-smi finds no device", ""),
        (None, false) => Row::lacking("CUDA", State::Optional, "no device (nvidia-smi); training runs on the CPU", ""),
    }
}

fn disk(part: &'static str, folder: &Path, need: u64) -> Row {
    let place = Cache { root: folder.to_path_buf() };
    match place.free_bytes() {
        Ok(free) if free >= need => {
            Row::found(part, format!("{:.1} GB free at {}", free as f64 / GB, folder.display()))
        }
        Ok(free) => Row::lacking(
            part,
            State::Missing,
            format!("{:.1} GB free at {}", free as f64 / GB, folder.display()),
            format!("free {:.1} GB there, or set CARGO_TARGET_DIR", need as f64 / GB),
        ),
        Err(error) => Row::lacking(part, State::Optional, one_line(&error), ""),
    }
}

fn machine() -> Row {
    let cores = available_parallelism().map_or(1, usize::from);
    match memory() {
        Some(bytes) if bytes < MEMORY_NEED => {
            let found = format!("{cores} cores, {:.1} GB of memory", bytes as f64 / GB);
            Row::lacking(
                "machine",
                State::Optional,
                found,
                "training may take up to 4 GB: lower the batch size if it is killed",
            )
        }
        Some(bytes) => Row::found("machine", format!("{cores} cores, {:.1} GB of memory", bytes as f64 / GB)),
        None => Row::found("machine", format!("{cores} cores")),
    }
}

/// Bytes of memory in this machine.
fn memory() -> Option<u64> {
    if cfg!(target_os = "macos") {
        return says(Command::new("sysctl").args(["-n", "hw.memsize"]))?.parse().ok();
    }
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_rust_is_told_from_a_new_one() {
        assert!(minor("1.87.0") < minor("1.88"));
        assert!(minor("1.100.0-nightly") > minor("1.88"));
        assert_eq!(rust("1.999").state, State::Missing);
        assert_eq!(rust("1.1").state, State::Found);
    }

    #[test]
    fn a_disk_that_is_too_small_is_missing_space() {
        let temp = tempfile::tempdir().unwrap();
        let row = disk("build disk", &temp.path().join("not/yet/made"), u64::MAX);
        assert_eq!(row.state, State::Missing);
        assert!(row.mend.contains("CARGO_TARGET_DIR"));
        assert_eq!(disk("build disk", temp.path(), 0).state, State::Found);
    }

    #[test]
    fn every_lack_that_stops_training_says_how_to_mend_it() {
        let temp = tempfile::tempdir().unwrap();
        let cache = Cache { root: temp.path().into() };
        let rows = [encoder(&cache, false), gettable("x", 1, u64::MAX, &cache), rust("1.999")];
        assert!(rows.iter().all(|row| row.state == State::Missing && !row.mend.is_empty()));
        assert_eq!(gettable("x", 1, 0, &cache).state, State::Gettable);
        let text = to_json(&rows, false);
        assert_eq!(text["parts"][0]["state"], "missing");
        assert_eq!(text["can_train"], false);
    }

    #[test]
    fn memory_is_known_here() {
        assert!(memory().is_none_or(|bytes| bytes > 1 << 28));
    }
}
