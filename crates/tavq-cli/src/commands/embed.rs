//! `tavq embed`: unit vectors of texts, as one safetensors file or as a text index.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use tavq_encode::{IndexOptions, Mode, ModelOptions, Precision, Storage, TextIndex, TextModel, TreeEncoder};
use tavq_text::{EnglishSplitter, Span, Splitter};
use tavq_torch::write_tensors;
use tavq_train::Progress;
use tch::{Device, Tensor};

use crate::failure::{Failure, Outcome};
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PrecisionArg {
    F32,
    Bf16,
}

#[derive(Debug, Args)]
pub(crate) struct EmbedArgs {
    #[command(flatten)]
    input: TextInput,
    /// Folder of the text encoder (BERT or CLIP); by default the one that TAVQ_TEXT_ENCODER names.
    #[arg(long, value_name = "DIR")]
    encoder: Option<PathBuf>,
    /// Which units get a vector; `whole` takes each text as one.
    #[arg(long, value_enum, default_value = "all", conflicts_with = "index")]
    units: Units,
    /// How units get their vectors.
    #[arg(long, value_enum, default_value = "hierarchical")]
    mode: ModeArg,
    /// The file to write: `vectors` [n, D], `text` [n], `span` [n, 2], `level` [n].
    #[arg(long, value_name = "FILE", required_unless_present = "index")]
    out: Option<PathBuf>,
    /// Folder of text indexes instead: words, phrases and sentences in shards that are memory-mapped on reading, as training
    /// uses them. A stopped run goes on where it was.
    #[arg(long, value_name = "DIR", conflicts_with = "out")]
    index: Option<PathBuf>,
    /// Stores the vectors of an index in 16 bits.
    #[arg(long, conflicts_with = "out")]
    half: bool,
    /// Where the encoder runs: cpu, cuda or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value = "cpu", value_parser = device)]
    device: Device,
    /// Kind of the encoder's matrix products.
    #[arg(long, value_enum, default_value = "f32")]
    precision: PrecisionArg,
    /// Prints a summary as JSON.
    #[arg(long)]
    json: bool,
}

fn device(word: &str) -> Result<Device, String> {
    let number = match word.split_once(':') {
        None if word == "cpu" => return Ok(Device::Cpu),
        None if word == "cuda" => 0,
        Some(("cuda", number)) => {
            number.parse().map_err(|_| format!("expected a number behind cuda:, found {number}"))?
        }
        _ => return Err("expected cpu, cuda or cuda:N".to_owned()),
    };
    Ok(Device::Cuda(number))
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
    let encoder = encoder(args)?;
    let mut texts = Vec::new();
    args.input.for_each(|text| {
        texts.push(text);
        Ok(())
    })?;
    match (&args.index, &args.out) {
        (Some(folder), _) => index(args, folder, &encoder, &texts),
        (None, Some(out)) => table(args, out, &encoder, &texts),
        (None, None) => Err(Failure::input(anyhow!("expected --out FILE or --index DIR, found neither"))),
    }
}

fn encoder(args: &EmbedArgs) -> Outcome<TreeEncoder> {
    if let Device::Cuda(number) = args.device
        && !i64::try_from(number).is_ok_and(|number| number < tch::Cuda::device_count())
    {
        let found = tch::Cuda::device_count();
        return Err(Failure::input(anyhow!(
            "--device cuda:{number}: expected a GPU of that number, found {found} GPUs"
        )));
    }
    let folder = encoder_folder(args.encoder.as_deref().unwrap_or(Path::new("")))?;
    let precision = match args.precision {
        PrecisionArg::F32 => Precision::F32,
        PrecisionArg::Bf16 => Precision::Bf16,
    };
    let model = TextModel::load_with(&folder, args.device, ModelOptions { precision, ..ModelOptions::default() })?;
    let mode = match args.mode {
        ModeArg::Hierarchical => Mode::Hierarchical,
        ModeArg::Independent => Mode::Independent,
    };
    Ok(TreeEncoder::new(model, mode))
}

/// One file with the vectors of all texts.
fn table(args: &EmbedArgs, out: &Path, encoder: &TreeEncoder, texts: &[String]) -> Outcome {
    let mut table = Table::default();
    let dim = encoder.dim();
    let mut progress = Progress::new("texts", 0, texts.len() as u64, args.json);
    for (i, chunk) in texts.chunks(CHUNK).enumerate() {
        let first = i * CHUNK;
        match args.units {
            Units::Whole => whole(encoder, chunk, first, &mut table)?,
            units => trees(encoder, chunk, first, units, &mut table)?,
        }
        progress.set((first + chunk.len()) as u64, String::new);
    }
    drop(progress);
    let n = table.text.len() as i64;
    let vectors = if table.vectors.is_empty() {
        Tensor::zeros([0, dim], (tch::Kind::Float, Device::Cpu))
    } else {
        Tensor::cat(&table.vectors, 0)
    };
    let tensors = [
        ("vectors".to_owned(), vectors),
        ("text".to_owned(), Tensor::from_slice(&table.text)),
        ("span".to_owned(), Tensor::from_slice(&table.span).view([n, 2])),
        ("level".to_owned(), Tensor::from_slice(&table.level)),
    ];
    write_tensors(out, &tensors, &[])?;
    if args.json {
        say!("{}", serde_json::json!({ "texts": texts.len(), "units": n, "dim": dim, "out": out }));
    } else {
        say!("{n} units of {} texts, {dim} wide: {}", texts.len(), out.display());
    }
    Ok(())
}

/// The index of the texts, keyed by their number; built now unless it is there.
fn index(args: &EmbedArgs, folder: &Path, encoder: &TreeEncoder, texts: &[String]) -> Outcome {
    let keys: Vec<String> = (0..texts.len()).map(|i| i.to_string()).collect();
    let pairs: Vec<(&str, &str)> = keys.iter().map(String::as_str).zip(texts.iter().map(String::as_str)).collect();
    let storage = if args.half { Storage::F16 } else { Storage::F32 };
    let options = IndexOptions { storage, ..IndexOptions::default() };
    let mut progress = Progress::new("texts", 0, texts.len() as u64, args.json);
    let splitter = EnglishSplitter::default();
    let index = TextIndex::open_or_build_with(folder, &pairs, &splitter, encoder, options, &mut |done, _| {
        progress.set(done as u64, || "encoded".to_owned());
    })?;
    for problem in &index.opened().problems {
        progress.say(&format!("text index: {problem}; encoded again"));
    }
    drop(progress);
    let (opened, units) = (index.opened(), index.total_units());
    if args.json {
        let summary = serde_json::json!({
            "texts": texts.len(), "units": units.iter().sum::<u64>(), "words": units[0], "phrases": units[1],
            "sentences": units[2], "dim": encoder.dim(), "encoded": opened.encoded, "reused": opened.reused,
            "bytes": index.bytes(), "index": index.folder(),
        });
        say!("{summary}");
    } else {
        let [words, phrases, sentences] = units;
        say!(
            "{words} words, {phrases} phrases, {sentences} sentences of {} texts ({} encoded now), {} wide, {} bytes: {}",
            texts.len(),
            opened.encoded,
            encoder.dim(),
            index.bytes(),
            index.folder().display()
        );
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
