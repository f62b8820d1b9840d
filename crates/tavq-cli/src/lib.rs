//! The `tavq` command as a library: [`run`] with a [`Registry`], so that a crate outside this workspace
//! adds its own backbone or quantizer by name and gets the whole command line.

mod codebook;
mod commands;
mod explain;
mod failure;
mod input;
mod output;
mod report;
mod run;
mod session;
mod sheet;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand as MissingSubcommand;
use clap::{Parser, Subcommand};
use tavq_backbone::BackboneConfig;
use tavq_quant::QuantizerConfig;
pub use tavq_train::Registry;
use tavq_train::parse_table;

#[derive(Debug, Parser)]
#[command(name = "tavq", version, about = "Text-aligned learning of image codebooks", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Trains a text-aligned codebook.
    Train(commands::train::TrainArgs),
    /// Splits texts into sentences, phrases and words.
    Split(commands::split::SplitArgs),
    /// Encodes the units of texts.
    Embed(commands::embed::EmbedArgs),
    /// Optimal transport.
    #[command(subcommand)]
    Ot(commands::ot::OtCommand),
    /// Rebuilds images through a checkpoint.
    Reconstruct(commands::reconstruct::ReconstructArgs),
    /// Evaluates a checkpoint on a data set.
    Evaluate(commands::evaluate::EvaluateArgs),
    /// Draws where in an image each unit of its text takes its mass from.
    Explain(commands::explain::ExplainArgs),
    /// Checkpoints.
    #[command(subcommand)]
    Checkpoint(commands::checkpoint::CheckpointCommand),
}

/// The backbones and quantizers of this workspace.
pub fn standard_registry() -> Registry {
    Registry::default()
        .backbone("vqgan", |path, table| Ok(BackboneConfig::Vqgan(parse_table("model.backbone", table)?).build(path)?))
        .backbone("vqvae", |path, table| Ok(BackboneConfig::Vqvae(parse_table("model.backbone", table)?).build(path)?))
        .backbone("vit", |path, table| Ok(BackboneConfig::Vit(parse_table("model.backbone", table)?).build(path)?))
        .quantizer("vq", |path, table, dim| Ok(QuantizerConfig::Vq(quantizer(table)?).build(path, dim)?))
        .quantizer("ema", |path, table, dim| Ok(QuantizerConfig::Ema(quantizer(table)?).build(path, dim)?))
        .quantizer("cvq", |path, table, dim| Ok(QuantizerConfig::Cvq(quantizer(table)?).build(path, dim)?))
        .quantizer("fsq", |path, table, dim| Ok(QuantizerConfig::Fsq(quantizer(table)?).build(path, dim)?))
        .quantizer("gumbel", |path, table, dim| Ok(QuantizerConfig::Gumbel(quantizer(table)?).build(path, dim)?))
        .quantizer("lfq", |path, table, dim| Ok(QuantizerConfig::Lfq(quantizer(table)?).build(path, dim)?))
        .quantizer("residual", |path, table, dim| Ok(QuantizerConfig::Residual(quantizer(table)?).build(path, dim)?))
        .quantizer("simvq", |path, table, dim| Ok(QuantizerConfig::SimVq(quantizer(table)?).build(path, dim)?))
}

fn quantizer<T: serde::de::DeserializeOwned>(table: toml::Table) -> tavq_train::Result<T> {
    parse_table("model.quantizer", table)
}

/// Runs the command line of this process. Exit code 0, 1 (the work failed) or 2 (bad usage or input).
pub fn run(registry: &Registry) -> ExitCode {
    run_with(registry, std::env::args_os())
}

/// [`run`] on arguments of the caller's own, the program's name first.
pub fn run_with(registry: &Registry, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && error.kind() != MissingSubcommand => return bad_usage(&error),
        Err(other) => other.exit(),
    };
    let outcome = match &cli.command {
        Command::Train(args) => commands::train::run(args, registry),
        Command::Split(args) => commands::split::run(args),
        Command::Embed(args) => commands::embed::run(args),
        Command::Ot(command) => commands::ot::run(command),
        Command::Reconstruct(args) => commands::reconstruct::run(args, registry),
        Command::Evaluate(args) => commands::evaluate::run(args, registry),
        Command::Explain(args) => commands::explain::run(args, registry),
        Command::Checkpoint(command) => commands::checkpoint::run(command, registry),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// What clap says of wrong usage, on one line and without the usage that `--help` has.
fn bad_usage(error: &clap::Error) -> ExitCode {
    let text = error.to_string();
    let said =
        text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let words: Vec<&str> = said.filter(|line| !line.is_empty()).collect();
    eprintln!("{} (--help tells more)", words.join(" "));
    ExitCode::from(2)
}

/// The code blocks of the front page, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;

/// The code blocks of the page on one's own backbone, run.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/own-backbone.md")]
pub struct OwnBackbone;
