//! `cargo xtask bench codec`: the VQGAN, the online clustered codebook and the nearest-code search beside PyTorch and faiss on
//! the same weights and vectors, and a page about it.

mod plan;
mod report;
mod session;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use self::report::{Facts, Measured};
use self::session::{Bench, Session};
use super::mode::modes;
use super::{describe_versions, machine, peers};
use crate::setup::Environment;
use crate::workspace::{self, Workspace};

/// What the command line says.
pub(crate) struct Options {
    pub(crate) quick: bool,
    pub(crate) no_peers: bool,
    /// On a GPU in place of the CPU.
    pub(crate) cuda: bool,
}

impl Options {
    /// Where the page goes: into the repository when the peers were measured at full size.
    fn page(&self, root: &Path, folder: &Path) -> PathBuf {
        let name = if self.cuda { "codec-gpu.md" } else { "codec.md" };
        let whole = !self.quick && !self.no_peers;
        if whole { root.join("docs/benchmarks").join(name) } else { folder.join(name) }
    }

    fn command(&self) -> String {
        let flags = [(self.quick, " --quick"), (self.no_peers, " --no-peers"), (self.cuda, " --device cuda")];
        let mut command = "cargo xtask bench codec".to_owned();
        command.extend(flags.iter().filter(|(on, _)| *on).map(|(_, flag)| *flag));
        command
    }
}

/// Measures and writes the page: into `docs/` when everything was measured, into the build folder otherwise.
pub(crate) fn run(options: &Options) -> Result<()> {
    let environment = Environment::provide()?;
    let workspace = Workspace::load()?;
    let scripts = workspace.dir_of("tavq-benches")?.join("peers");
    let peers = match options.no_peers {
        true => None,
        false => Some((peers::CODEC.provide(&scripts)?, scripts.join("codec.py"))),
    };
    let example = ["build", "--release", "--package", "tavq-backbone", "--example", "codec_bench"];
    workspace::run(environment.cargo().args(example))?;
    let bench = Bench {
        environment,
        binary: workspace.target.join("release/examples/codec_bench"),
        peers,
        folder: workspace.target.join("bench-codec"),
    };
    bench.write_inputs()?;
    if options.cuda { on_a_gpu(options, &workspace, &bench) } else { on_the_cpu(options, &workspace, &bench) }
}

fn on_the_cpu(options: &Options, workspace: &Workspace, bench: &Bench) -> Result<()> {
    let groups = plan::groups(options.quick);
    let (mut versions, mut measured) = (Vec::new(), Vec::new());
    for mode in modes() {
        let mut session = Session::new(bench, mode, &[]);
        measured.push(Measured::of(&mut session, mode.name(), &groups)?);
        versions.append(&mut session.programs.versions);
        // After each mode, so that a run that is interrupted leaves what it has measured.
        write_page(options, workspace, bench, &versions, &measured)?;
    }
    Ok(())
}

/// f32, then bf16.
fn on_a_gpu(options: &Options, workspace: &Workspace, bench: &Bench) -> Result<()> {
    let Some(mode) = modes().pop() else { return Ok(()) };
    let (mut versions, mut measured) = (Vec::new(), Vec::new());
    for words in [&["cuda"] as &[&str], &["cuda", "bf16"]] {
        let mut groups = plan::on_a_gpu();
        if words.len() > 1 {
            // Of bf16 no speed is promised, and no agreement to f32's digits.
            groups.iter_mut().flat_map(|group| &mut group.cases).for_each(|case| case.bar.time = None);
        }
        let mut session = Session::new(bench, mode, words);
        let name = if words.len() > 1 { "GPU, bf16" } else { "GPU, f32" };
        measured.push(Measured::of(&mut session, name.to_owned(), &groups)?);
        versions.append(&mut session.programs.versions);
        write_page(options, workspace, bench, &versions, &measured)?;
    }
    Ok(())
}

fn write_page(
    options: &Options,
    workspace: &Workspace,
    bench: &Bench,
    versions: &[Value],
    measured: &[Measured],
) -> Result<()> {
    let page = report::page(&Facts {
        command: options.command(),
        machine: machine(),
        versions: describe_versions(versions),
        gpu: options.cuda,
        measured,
    });
    let path = options.page(&workspace.root, &bench.folder);
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_run_writes_into_the_repository() {
        let (root, folder) = (Path::new("root"), Path::new("folder"));
        let whole = Options { quick: false, no_peers: false, cuda: false };
        assert_eq!(whole.page(root, folder), Path::new("root/docs/benchmarks/codec.md"));
        assert_eq!(whole.command(), "cargo xtask bench codec");
        let quick = Options { quick: true, ..whole };
        assert_eq!(quick.page(root, folder), Path::new("folder/codec.md"));
        let gpu = Options { cuda: true, no_peers: true, quick: false };
        assert_eq!(gpu.page(root, folder), Path::new("folder/codec-gpu.md"));
        assert_eq!(gpu.command(), "cargo xtask bench codec --no-peers --device cuda");
    }
}
