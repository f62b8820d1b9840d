//! `tavq ot`: optimal transport out of NumPy files, for use without a line of Rust.
//!
//! The parts: arrays in ([`npy`], [`npz`], [`inputs`]), the choice of a solver ([`arguments`]), plans and reports out
//! ([`outputs`], [`report`]), and the commands over them.

mod arguments;
mod batch;
mod canvas;
mod demo;
mod inputs;
mod npy;
mod npz;
mod outputs;
mod panels;
mod report;
mod shapes;
mod solve;

use clap::Subcommand;

use crate::failure::Outcome;

#[derive(Debug, Subcommand)]
pub(crate) enum OtCommand {
    /// Solves one problem.
    Solve(Box<solve::SolveArgs>),
    /// Solves many problems; prints one JSON line for each.
    Batch(Box<batch::BatchArgs>),
    /// Draws exact and entropic plans between two clouds in the plane.
    Demo(demo::DemoArgs),
}

pub(crate) fn run(command: &OtCommand) -> Outcome {
    match command {
        OtCommand::Solve(args) => solve::run(args),
        OtCommand::Batch(args) => batch::run(args),
        OtCommand::Demo(args) => demo::run(args),
    }
}
