//! Everything around the build of tavq: libtorch, tests, fences, benchmarks, training runs.
//!
//! It spawns cargo and tools and links nothing of the workspace. A command that ends in a child's work (train, bench, docs)
//! becomes that child: its terminal, its exit code and its Ctrl-C are its own.

#[cfg(not(unix))]
compile_error!("tavq is built on Linux and macOS; on Windows, use WSL");

mod bench;
mod cache;
mod checks;
mod data;
mod doctor;
mod error;
mod fence;
mod libtorch;
mod manifest;
mod pip;
mod setup;
mod source;
mod unpack;
mod wheels;
mod workspace;

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};

use crate::error::BadInput;
use crate::setup::Environment;
use crate::workspace::Workspace;

/// Everything around the build of tavq.
#[derive(Parser)]
#[command(name = "xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Find libtorch and the text encoder, or install them into the per-user cache
    Setup {
        /// Install libtorch with the CUDA libraries (Linux on x86-64; 2.5 GB to download)
        #[arg(long)]
        cuda: bool,
    },
    /// Train on the embedded pictures and print the results, setting up and building first
    Train {
        /// Train with alignment and without, from one seed, and compare (takes twice as long)
        #[arg(long)]
        study: bool,
        /// More arguments for `tavq train`, after `--`
        #[arg(last = true)]
        rest: Vec<OsString>,
    },
    /// Format, fences, clippy, tests, doctests, rustdoc: what CI runs; the last line says PASS or FAIL
    #[command(visible_alias = "ci")]
    Test {
        /// Only the crates that need no libtorch
        #[arg(long)]
        pure: bool,
    },
    /// Run the benchmarks, or one of them; `codec`, `ot` and `text` compare with other libraries and write docs/benchmarks/NAME.md
    Bench {
        /// The benchmark's name
        name: Option<String>,
        /// With `codec`, `ot` and `text`: small sizes and few turns; the page goes into the build folder
        #[arg(long)]
        quick: bool,
        /// With `codec`, `ot` and `text`: only our own crates
        #[arg(long)]
        no_peers: bool,
        /// With `ot`: only this group of cases
        #[arg(long)]
        group: Option<String>,
        /// With `text`: these texts (JSON lines with a field `text`) instead of the embedded descriptions
        #[arg(long, value_name = "FILE")]
        texts: Option<PathBuf>,
        /// With `codec`: on a GPU (`cuda`), in f32 and bf16
        #[arg(long, value_name = "DEVICE", value_parser = ["cuda"])]
        device: Option<String>,
        /// More arguments for criterion, after `--`
        #[arg(last = true)]
        rest: Vec<OsString>,
    },
    /// Train the weights of the English splitter and print what they reach on text kept out; `-- --evaluate FILE` trains nothing
    TrainTagger {
        /// Folder of the treebank and the captions (crates/tavq-text/data/README.md names the files)
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// More arguments for the program, after `--`
        #[arg(last = true)]
        rest: Vec<OsString>,
    },
    /// List the embedded data and check it: manifests, pictures, size
    Data {
        /// Also let the scripts that made it verify it (python3 with Pillow)
        #[arg(long)]
        scripts: bool,
    },
    /// Build the documentation of all crates, warnings denied
    Docs {
        /// Open it in a browser
        #[arg(long)]
        open: bool,
    },
    /// Say what is found and what is missing on this machine, and how to mend it
    Doctor {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print shell lines that set up the environment for plain cargo: eval "$(cargo xtask env)"
    Env,
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", error::one_line(&error));
            ExitCode::from(error::exit_code(&error))
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Setup { cuda } => setup::setup(cuda)?,
        Task::Train { study, rest } => return train(study, &rest),
        Task::Test { pure } => return Ok(code(checks::test(pure))),
        Task::Bench { name, quick, no_peers, group, texts, device, rest } => match name.as_deref() {
            Some("codec") if rest.is_empty() && group.is_none() && texts.is_none() => {
                bench::codec::run(&bench::codec::Options { quick, no_peers, cuda: device.is_some() })?;
            }
            Some("ot") if rest.is_empty() && texts.is_none() && device.is_none() => {
                bench::ot::run(&bench::ot::Options { quick, no_peers, group })?;
            }
            Some("text") if rest.is_empty() && group.is_none() && device.is_none() => {
                bench::text::run(&bench::text::Options { quick, no_peers, texts })?;
            }
            name if !quick && !no_peers && group.is_none() && texts.is_none() && device.is_none() => {
                return criterion(name, &rest);
            }
            _ => bail!(BadInput(
                "--quick and --no-peers belong to `bench codec`, `bench ot` and `bench text`, --device to `codec`, --group to \
                 `ot`, --texts to `text`, arguments behind -- to `cargo bench`"
                    .into()
            )),
        },
        Task::TrainTagger { data, rest } => return train_tagger(&data, &rest),
        Task::Data { scripts } => data::list(scripts)?,
        Task::Docs { open } => {
            let mut rustdoc = checks::rustdoc(&Environment::provide()?);
            return become_child(rustdoc.args(open.then_some("--open")));
        }
        Task::Doctor { json } => return Ok(code(doctor::doctor(json)?)),
        Task::Env => print!("{}", Environment::find()?.exports()),
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds `tavq` in release and becomes `tavq train` on the embedded pictures.
fn train(study: bool, rest: &[OsString]) -> Result<ExitCode> {
    let environment = Environment::provide()?;
    workspace::run(environment.cargo().args(["build", "--release", "--package", "tavq-cli"]))?;
    let workspace = Workspace::load()?;
    let mut tavq = Command::new(workspace.target.join("release/tavq"));
    tavq.current_dir(&workspace.root).args(["train", "--preset", "emoji"]).args(study.then_some("--study")).args(rest);
    become_child(environment.apply(&mut tavq))
}

/// Becomes the program that trains the splitter's weights; it needs no libtorch.
fn train_tagger(data: &Path, rest: &[OsString]) -> Result<ExitCode> {
    if !data.is_dir() {
        bail!(BadInput(format!("--data {}: expected a folder, found none", data.display())));
    }
    let mut cargo = workspace::cargo();
    cargo.args(["run", "--release", "--package", "tavq-text", "--example", "train_tagger", "--", "--data"]);
    become_child(cargo.arg(data).args(rest))
}

/// Becomes criterion.
fn criterion(name: Option<&str>, rest: &[OsString]) -> Result<ExitCode> {
    let mut cargo = Environment::provide()?.cargo();
    cargo.args(["bench", "--package", "tavq-benches"]);
    if let Some(name) = name {
        cargo.args(["--bench", name]);
    }
    become_child(cargo.arg("--").args(rest))
}

/// Replaces this process, so that the child has the terminal, the signals and the exit code. Returns only on failure.
fn become_child(command: &mut Command) -> Result<ExitCode> {
    let failure = command.exec();
    Err(anyhow::Error::new(failure).context(format!("cannot start {}", workspace::describe(command))))
}

fn code(passed: bool) -> ExitCode {
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
