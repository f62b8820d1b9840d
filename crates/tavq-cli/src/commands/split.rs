//! `tavq split`: texts to trees, as JSON lines or drawn for a reader; on all cores, in the order of the input.

use std::fs;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use rayon::prelude::*;
use tavq_text::{EnglishSplitter, SplitConfig, Splitter, TextTree};

use crate::failure::{Failure, Outcome, reading};
use crate::input::TextInput;
use crate::output::pipe;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// One JSON object per text.
    Json,
    /// Indented sentences, phrases and words; coloured on a terminal unless NO_COLOR is set.
    Tree,
}

#[derive(Debug, Args)]
pub(crate) struct SplitArgs {
    #[command(flatten)]
    input: TextInput,
    /// How trees are written.
    #[arg(long, value_enum, default_value = "json")]
    format: Form,
    /// Lists every token too, function words and punctuation included (JSON only).
    #[arg(long)]
    all_tokens: bool,
    /// A TOML file of settings: which words and phrases are listed, stop words, limits.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Weights of another tagger, as `cargo xtask train-tagger` makes them.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
}

pub(crate) fn run(args: &SplitArgs) -> Outcome {
    if args.all_tokens && args.format == Form::Tree {
        return Err(Failure::input(anyhow!("--all-tokens: expected --format json, found tree")));
    }
    let splitter = splitter(args)?;
    let stdout = io::stdout();
    let colour = stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let mut out = BufWriter::new(stdout.lock());
    args.input.for_each_batch(|texts| {
        let trees = texts.par_iter().map(|text| {
            let tree = splitter.split(text);
            match args.format {
                Form::Json => json(&tree, args.all_tokens),
                Form::Tree => Ok(tavq_text::render(&tree, colour)),
            }
        });
        for tree in trees.collect::<Vec<_>>() {
            writeln!(out, "{}", tree?).map_err(pipe)?;
        }
        out.flush().map_err(pipe)
    })
}

fn splitter(args: &SplitArgs) -> Outcome<EnglishSplitter> {
    let config = match &args.config {
        Some(path) => read_config(path)?,
        None => SplitConfig::default(),
    };
    let Some(path) = &args.weights else { return Ok(EnglishSplitter::new(config)) };
    let bytes = fs::read(path).map_err(reading(path))?;
    EnglishSplitter::from_weights(&bytes, config)
        .map_err(|e| Failure::input(anyhow::Error::from(e).context(path.display().to_string())))
}

fn read_config(path: &Path) -> Outcome<SplitConfig> {
    let text = fs::read_to_string(path).map_err(reading(path))?;
    toml::from_str(&text).map_err(|e| {
        let before = e.span().map_or(0, |span| span.start);
        let line = text.bytes().take(before).filter(|b| *b == b'\n').count() + 1;
        Failure::input(anyhow!("{}:{line}: {}", path.display(), e.message()))
    })
}

fn json(tree: &TextTree<'_>, all_tokens: bool) -> Outcome<String> {
    if all_tokens { serde_json::to_string(&tree.with_tokens()) } else { serde_json::to_string(tree) }
        .map_err(Failure::work)
}
