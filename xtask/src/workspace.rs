//! Where the workspace lies and what is in it, as `cargo metadata` tells it; every child starts from its root.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The packages that build and test with no libtorch: the workspace's default members (a fence compares the two).
pub(crate) const PURE: [&str; 6] = ["tavq-text", "tavq-ot", "tavq-data", "tavq-caption", "tavq-pickle", "xtask"];

/// One package of the workspace.
pub(crate) struct Member {
    pub(crate) name: String,
    /// Its folder, absolute.
    pub(crate) dir: PathBuf,
}

/// The workspace as cargo sees it.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    /// The build output, wherever the user's settings put it.
    pub(crate) target: PathBuf,
    pub(crate) members: Vec<Member>,
    pub(crate) default_members: Vec<String>,
    /// The oldest Rust the workspace claims to build with, such as `1.88`.
    pub(crate) rust_version: String,
}

/// The folder of the workspace. `cargo run` sets CARGO_MANIFEST_DIR; the compiled-in path serves a binary started by hand.
pub(crate) fn root() -> PathBuf {
    let manifest_dir = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let here = manifest_dir.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    here.parent().map(Path::to_path_buf).unwrap_or(here)
}

/// The cargo that runs this program, started in the workspace's root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs a command with the terminal's own streams; an exit code other than 0 is an error that names the command.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", describe(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", describe(command));
    }
    Ok(())
}

/// Runs a command silently and returns what it printed; its error output becomes part of the error.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {}", describe(command)))?;
    if !output.status.success() {
        bail!("{} failed: {}", describe(command), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as one would type it, the program by its name alone.
pub(crate) fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

impl Workspace {
    /// Asks cargo.
    pub(crate) fn load() -> Result<Self> {
        let text = read(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
        let metadata: Value = serde_json::from_str(&text).context("cargo metadata did not print JSON")?;
        Self::from_metadata(&metadata).context("cargo metadata lacks a field")
    }

    fn from_metadata(metadata: &Value) -> Option<Self> {
        let packages = metadata["packages"].as_array()?;
        let default_ids = metadata["workspace_default_members"].as_array()?;
        let mut workspace = Self {
            root: metadata["workspace_root"].as_str()?.into(),
            target: metadata["target_directory"].as_str()?.into(),
            members: Vec::new(),
            default_members: Vec::new(),
            rust_version: String::new(),
        };
        for package in packages {
            let name = package["name"].as_str()?.to_owned();
            if default_ids.contains(&package["id"]) {
                workspace.default_members.push(name.clone());
            }
            if name == "xtask" {
                workspace.rust_version = package["rust_version"].as_str()?.to_owned();
            }
            workspace
                .members
                .push(Member { name, dir: Path::new(package["manifest_path"].as_str()?).parent()?.into() });
        }
        Some(workspace)
    }

    /// The folder of one package.
    pub(crate) fn dir_of(&self, name: &str) -> Result<&Path> {
        let member = self.members.iter().find(|member| member.name == name);
        member.map(|member| member.dir.as_path()).with_context(|| format!("the workspace has no package {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_found_with_its_packages() {
        let workspace = Workspace::load().unwrap();
        assert!(workspace.root.join("Cargo.toml").is_file());
        assert_eq!(workspace.dir_of("xtask").unwrap(), workspace.root.join("xtask"));
        assert!(workspace.dir_of("no-such-package").is_err());
        assert!(workspace.rust_version.starts_with("1."));
    }

    #[test]
    fn a_failing_command_is_named_with_what_it_said() {
        let error = read(Command::new("sh").args(["-c", "echo reason >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("sh -c") && error.contains("reason"), "{error}");
        assert!(run(Command::new("sh").args(["-c", "exit 3"])).is_err());
    }
}
