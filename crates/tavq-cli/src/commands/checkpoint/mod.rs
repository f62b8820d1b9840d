//! `tavq checkpoint`: checkpoints of other codebases in and out, and what a checkpoint holds.

mod export;
mod foreign;
mod import;
mod inspect;
mod published;

use clap::{Subcommand, ValueEnum};
use tavq_backbone::layouts::Layout;
use tavq_train::Registry;

use crate::failure::Outcome;

#[derive(Debug, Subcommand)]
pub(crate) enum CheckpointCommand {
    /// Makes a model file of a checkpoint of another codebase.
    Import(import::ImportArgs),
    /// Writes a model as another codebase reads it.
    Export(export::ExportArgs),
    /// Prints configuration, parameters, code use and hashes of a checkpoint of any kind.
    Inspect(inspect::InspectArgs),
}

/// A layout on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LayoutName {
    /// taming-transformers, latent-diffusion: a Lightning checkpoint and its YAML.
    Taming,
    /// A folder of diffusers' VQModel.
    Diffusers,
    /// VQ-8 and VQ-16 of LlamaGen.
    Llamagen,
}

impl From<LayoutName> for Layout {
    fn from(name: LayoutName) -> Self {
        match name {
            LayoutName::Taming => Self::Taming,
            LayoutName::Diffusers => Self::Diffusers,
            LayoutName::Llamagen => Self::LlamaGen,
        }
    }
}

pub(crate) fn run(command: &CheckpointCommand, registry: &Registry) -> Outcome {
    match command {
        CheckpointCommand::Import(args) => import::run(args, registry),
        CheckpointCommand::Export(args) => export::run(args, registry),
        CheckpointCommand::Inspect(args) => inspect::run(args),
    }
}
