//! `tavq split`: texts to trees, as JSON lines or drawn for a reader.

use std::io::{self, BufWriter, IsTerminal, Write};

use clap::{Args, ValueEnum};
use tavq_text::{EnglishSplitter, Splitter, TextTree};

use crate::failure::{Failure, Outcome};
use crate::input::TextInput;
use crate::output::pipe;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// One JSON object per text.
    Json,
    /// Indented sentences, phrases and words.
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
}

pub(crate) fn run(args: &SplitArgs) -> Outcome {
    let splitter = EnglishSplitter::default();
    let stdout = io::stdout();
    let colour = stdout.is_terminal();
    let mut out = BufWriter::new(stdout.lock());
    args.input.for_each(|text| {
        let tree = splitter.split(&text);
        let line = match args.format {
            Form::Json => json(&tree, args.all_tokens)?,
            Form::Tree => tavq_text::render(&tree, colour),
        };
        writeln!(out, "{line}").map_err(pipe)
    })?;
    out.flush().map_err(pipe)
}

fn json(tree: &TextTree<'_>, all_tokens: bool) -> Outcome<String> {
    if all_tokens { serde_json::to_string(&tree.with_tokens()) } else { serde_json::to_string(tree) }
        .map_err(Failure::work)
}
