//! `tavq embed`: unit vectors of texts as one safetensors file.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use tavq_encode::{Bert, Mode, TreeEncoder, UnitEncoder};
use tavq_text::{EnglishSplitter, Span, Splitter};
use tavq_torch::write_tensors;
use tavq_train::Progress;
use tch::Tensor;

use crate::failure::Outcome;
use crate::input::TextInput;
use crate::output::say;
use crate::session::encoder_folder;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Units {
    Whole,
    Words,
    Phrases,
    Sentences,
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ModeArg {
    Hierarchical,
    Independent,
}

#[derive(Debug, Args)]
pub(crate) struct EmbedArgs {
    #[command(flatten)]
    input: TextInput,
    /// Folder of the text encoder; by default the one that TAVQ_TEXT_ENCODER names.
    #[arg(long, value_name = "DIR")]
    encoder: Option<PathBuf>,
    /// Which units get a vector; `whole` takes each text as one.
    #[arg(long, value_enum, default_value = "all")]
    units: Units,
    /// How units get their vectors.
    #[arg(long, value_enum, default_value = "hierarchical")]
    mode: ModeArg,
    /// The file to write: `vectors` [n, D], `text` [n], `span` [n, 2], `level` [n].
    #[arg(long)]
    out: PathBuf,
    /// Prints a summary as JSON.
    #[arg(long)]
    json: bool,
}

/// Texts handed to the encoder at once.
const CHUNK: usize = 64;

#[derive(Default)]
struct Table {
    vectors: Vec<Tensor>,
    text: Vec<i64>,
    span: Vec<i64>,
    level: Vec<i64>,
}

impl Table {
    fn add(&mut self, text: usize, level: i64, spans: &[Span], vectors: Tensor) {
        for span in spans {
            self.text.push(text as i64);
            self.span.extend([span.start as i64, span.end as i64]);
            self.level.push(level);
        }
        self.vectors.push(vectors);
    }
}

pub(crate) fn run(args: &EmbedArgs) -> Outcome {
    let folder = encoder_folder(args.encoder.as_deref().unwrap_or(Path::new("")))?;
    let bert = Bert::load(&folder, tch::Device::Cpu)?;
    let mode = match args.mode {
        ModeArg::Hierarchical => Mode::Hierarchical,
        ModeArg::Independent => Mode::Independent,
    };
    let mut texts = Vec::new();
    args.input.for_each(|text| {
        texts.push(text);
        Ok(())
    })?;
    let mut table = Table::default();
    let dim = bert.dim();
    let encoder = TreeEncoder::new(bert, mode);
    let mut progress = Progress::new("texts", 0, texts.len() as u64, args.json);
    for (i, chunk) in texts.chunks(CHUNK).enumerate() {
        let first = i * CHUNK;
        match args.units {
            Units::Whole => whole(&encoder, chunk, first, &mut table)?,
            units => trees(&encoder, chunk, first, units, &mut table)?,
        }
        progress.set((first + chunk.len()) as u64, String::new);
    }
    drop(progress);
    let n = table.text.len() as i64;
    let vectors = if table.vectors.is_empty() {
        Tensor::zeros([0, dim], (tch::Kind::Float, tch::Device::Cpu))
    } else {
        Tensor::cat(&table.vectors, 0)
    };
    let tensors = [
        ("vectors".to_owned(), vectors),
        ("text".to_owned(), Tensor::from_slice(&table.text)),
        ("span".to_owned(), Tensor::from_slice(&table.span).view([n, 2])),
        ("level".to_owned(), Tensor::from_slice(&table.level)),
    ];
    write_tensors(&args.out, &tensors, &[])?;
    if args.json {
        say!("{}", serde_json::json!({ "texts": texts.len(), "units": n, "dim": dim, "out": args.out }));
    } else {
        say!("{n} units of {} texts, {dim} wide: {}", texts.len(), args.out.display());
    }
    Ok(())
}

fn whole(encoder: &TreeEncoder, chunk: &[String], first: usize, table: &mut Table) -> Outcome {
    let units: Vec<&str> = chunk.iter().map(String::as_str).collect();
    let vectors = encoder.units().encode(&units)?;
    for (i, text) in chunk.iter().enumerate() {
        let span = Span { start: 0, end: text.len() };
        table.add(first + i, 0, &[span], vectors.narrow(0, i as i64, 1));
    }
    Ok(())
}

fn trees(encoder: &TreeEncoder, chunk: &[String], first: usize, units: Units, table: &mut Table) -> Outcome {
    let splitter = EnglishSplitter::default();
    let trees: Vec<_> = chunk.iter().map(|t| splitter.split(t)).collect();
    for (i, (tree, vectors)) in trees.iter().zip(encoder.encode(&trees)?).enumerate() {
        if matches!(units, Units::Words | Units::All) {
            let spans: Vec<Span> = tree.words.iter().map(|u| u.span).collect();
            table.add(first + i, 1, &spans, vectors.words);
        }
        if matches!(units, Units::Phrases | Units::All) {
            let spans: Vec<Span> = tree.phrases.iter().map(|u| u.span).collect();
            table.add(first + i, 2, &spans, vectors.phrases);
        }
        if matches!(units, Units::Sentences | Units::All) {
            let spans: Vec<Span> = tree.sentences.iter().map(|u| u.span).collect();
            table.add(first + i, 3, &spans, vectors.sentences);
        }
    }
    Ok(())
}
