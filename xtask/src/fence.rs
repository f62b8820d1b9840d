//! The fences: rules about who may depend on what, checked by looking at cargo's trees, the manifests and the sources.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::manifest;
use crate::source::{Keep, names, strip, words};
use crate::workspace::{self, PURE, Workspace};

/// Packages that only a machine with libtorch can build.
const TORCH: [&str; 2] = ["tch", "torch-sys"];
/// Backbones that the trainer must not know by name.
const BACKBONES: [&str; 3] = ["vqgan", "vqvae", "vit"];

/// Runs every fence and returns what breaks one, a line each; empty when all hold.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let mut found = Vec::new();
    found.extend(default_members(workspace));
    for package in PURE {
        found.extend(unreachable(package, &tree(package, "normal,build,dev")?, &TORCH));
    }
    found.extend(unreachable("tavq-train", &tree("tavq-train", "normal,build")?, &["tavq-backbone"]));
    for member in &workspace.members {
        let path = member.dir.join("Cargo.toml");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        found.extend(located(workspace, &path, manifest::violations(&text)));
    }
    for path in sources(workspace)? {
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if !may_be_unsafe(workspace, &path) {
            found.extend(located(workspace, &path, unsafe_words(&text)));
        }
        if path.starts_with(workspace.dir_of("tavq-train")?.join("src")) {
            found.extend(located(workspace, &path, backbone_names(&text)));
        }
    }
    if workspace.root.join("rust-toolchain").exists() || workspace.root.join("rust-toolchain.toml").exists() {
        found.push("rust-toolchain: rustup would fetch another toolchain; rust-version states what is needed".into());
    }
    Ok(found)
}

/// What `cargo test` alone builds is what the fences guard.
fn default_members(workspace: &Workspace) -> Option<String> {
    let mut expected = PURE.to_vec();
    let mut found: Vec<_> = workspace.default_members.iter().map(String::as_str).collect();
    expected.sort_unstable();
    found.sort_unstable();
    (expected != found)
        .then(|| format!("Cargo.toml: default-members are {}, expected {}", found.join(" "), expected.join(" ")))
}

/// The names of all packages that a package reaches over edges of some kinds, itself included.
fn tree(package: &str, edges: &str) -> Result<Vec<String>> {
    let mut command = workspace::cargo();
    command.args(["tree", "--package", package, "--edges", edges, "--prefix", "none", "--format", "{p}"]);
    let text = workspace::read(&mut command)?;
    Ok(text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

fn unreachable(package: &str, tree: &[String], forbidden: &[&str]) -> Vec<String> {
    let reached = forbidden.iter().filter(|name| tree.iter().any(|found| found == *name));
    let line = |name| format!("{package}: depends on {name} (see `cargo tree --package {package} --invert {name}`)");
    reached.map(line).collect()
}

/// All Rust files of the members, except what a build left there.
fn sources(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = workspace.members.iter().map(|member| member.dir.clone()).collect();
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let path = item?.path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// tavq-torch wraps a C++ shim; a SIMD module says so in its file name.
fn may_be_unsafe(workspace: &Workspace, path: &Path) -> bool {
    let names = [path.file_name(), path.parent().and_then(std::path::Path::file_name)];
    let simd = names.into_iter().flatten().any(|name| matches!(name.to_string_lossy().as_ref(), "simd" | "simd.rs"));
    simd || workspace.dir_of("tavq-torch").is_ok_and(|dir| path.starts_with(dir))
}

fn unsafe_words(text: &str) -> Vec<(usize, String)> {
    let code = strip(text, Keep::Code);
    let found = words(&code).filter(|(_, word)| *word == "unsafe");
    found
        .map(|(line, _)| (line, "unsafe is for tavq-torch and for simd.rs or the files of a folder simd".to_owned()))
        .collect()
}

fn backbone_names(text: &str) -> Vec<(usize, String)> {
    let code = strip(text, Keep::Strings);
    let named = words(&code).filter(|(_, word)| BACKBONES.iter().any(|name| names(word, name)));
    named.map(|(line, word)| (line, format!("the trainer names a backbone: {word}"))).collect()
}

fn located(workspace: &Workspace, path: &Path, found: Vec<(usize, String)>) -> Vec<String> {
    let path = path.strip_prefix(&workspace.root).unwrap_or(path).display().to_string();
    found.into_iter().map(|(line, what)| format!("{path}:{line}: {what}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forbidden_package_in_the_tree_is_found_by_its_whole_name() {
        let tree = ["tavq-text", "serde", "tch-like"].map(str::to_owned);
        assert!(unreachable("tavq-text", &tree, &TORCH).is_empty());
        let tree = ["tavq-text", "torch-sys"].map(str::to_owned);
        assert_eq!(unreachable("tavq-text", &tree, &TORCH).len(), 1);
    }

    #[test]
    fn trees_are_read_with_their_root() {
        let tree = tree("xtask", "normal").unwrap();
        assert!(tree.iter().any(|name| name == "xtask") && tree.iter().any(|name| name == "clap"));
    }

    #[test]
    fn a_tree_that_cannot_be_read_is_an_error_and_not_a_pass() {
        assert!(tree("no-such-package", "normal").is_err());
    }

    #[test]
    fn unsafe_is_found_in_code_only() {
        let text = "// unsafe\n#![deny(unsafe_code)]\nlet s = \"unsafe\";\nunsafe { x() }\n";
        assert_eq!(unsafe_words(text).iter().map(|(line, _)| *line).collect::<Vec<_>>(), [4]);
    }

    #[test]
    fn backbones_are_found_in_code_and_strings_and_not_in_comments() {
        let text = "//! Trains a VQGAN.\n/// Like a ViT.\nuse x::VqGan;\nlet kind = \"vqvae\";\nlet activity = 1;\n";
        assert_eq!(backbone_names(text).iter().map(|(line, _)| *line).collect::<Vec<_>>(), [3, 4]);
    }

    #[test]
    fn unsafe_is_allowed_by_place() {
        let workspace = Workspace::load().unwrap();
        let allowed = |path: &str| may_be_unsafe(&workspace, &workspace.root.join(path));
        assert!(
            allowed("crates/tavq-torch/src/shim.rs")
                && allowed("crates/tavq-ot/src/simd/exp.rs")
                && allowed("benches/simd.rs")
        );
        assert!(!allowed("crates/tavq-ot/src/exact.rs") && !allowed("crates/tavq-torch-like/src/lib.rs"));
    }

    #[test]
    fn the_workspace_keeps_a_wrong_default_member_out() {
        let mut workspace = Workspace::load().unwrap();
        assert_eq!(default_members(&workspace), None);
        workspace.default_members.push("tavq-quant".into());
        assert!(default_members(&workspace).unwrap().contains("tavq-quant"));
    }
}
