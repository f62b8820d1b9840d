//! Trains the weights of the English splitter and prints what they reach on text kept out of training.
//!
//! ```text
//! cargo xtask train-tagger --data DIR -- [--out FILE] [--evaluate FILE]
//! ```
//! DIR holds `ud-english-ewt-{train,dev}.conllu.gz`, `captions.jsonl.gz` and `captions-silver.jsonl.gz`. One caption image
//! in ten is kept out of training; the others are learnt from several times, or the larger treebank drowns them. With
//! `--evaluate` the weights of FILE are scored and nothing is trained.

mod data;
mod score;

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use tavq_text::train::{Annotated, TrainOptions, train};
use tavq_text::{EnglishSplitter, SplitConfig};

use data::{Document, captions, treebank};

struct Args {
    data: PathBuf,
    out: PathBuf,
    evaluate: Option<PathBuf>,
    caption_copies: usize,
    options: TrainOptions,
}

fn parse() -> Result<Args, Box<dyn Error>> {
    let mut data = None;
    let mut out = PathBuf::from("crates/tavq-text/data/english.weights");
    let mut evaluate = None;
    let mut caption_copies = 3;
    let mut options = TrainOptions::default();
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = || value.parse::<usize>().map_err(|e| format!("{name} {value:?}: {e}"));
        match name.as_str() {
            "--data" => data = Some(PathBuf::from(&value)),
            "--out" => out = PathBuf::from(&value),
            "--evaluate" => evaluate = Some(PathBuf::from(&value)),
            "--caption-copies" => caption_copies = number()?,
            "--epochs" => options.epochs = number()?,
            "--models" => options.models = number()?,
            "--folds" => options.folds = number()?,
            "--seed" => options.seed = number()? as u64,
            "--tagger-features" => options.tagger_features = number()?,
            "--chunker-features" => options.chunker_features = number()?,
            "--fixed-count" => options.fixed_count = value.parse()?,
            "--fixed-share" => options.fixed_share = value.parse()?,
            other => return Err(format!("unknown argument {other:?}").into()),
        }
    }
    Ok(Args { data: data.ok_or("--data DIR is required")?, out, evaluate, caption_copies, options })
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = parse()?;
    let dev = treebank(&args.data.join("ud-english-ewt-dev.conllu.gz"))?;
    let (seen, held): (Vec<Document>, Vec<Document>) =
        captions(&args.data)?.into_iter().partition(|document| !document.held_out());
    let bytes = match &args.evaluate {
        Some(path) => std::fs::read(path)?,
        None => {
            let gold = treebank(&args.data.join("ud-english-ewt-train.conllu.gz"))?;
            let copies = std::iter::repeat_n(&seen, args.caption_copies).flatten();
            let examples: Vec<Annotated> = gold.iter().chain(copies).flat_map(Document::annotated).collect();
            println!(
                "training on {} treebank sentences and {} times {} sentences of {} captions",
                gold.iter().map(|d| d.sentences.len()).sum::<usize>(),
                args.caption_copies,
                seen.iter().map(|d| d.sentences.len()).sum::<usize>(),
                seen.len()
            );
            let start = Instant::now();
            let bytes = train(&examples, &args.options);
            println!("trained in {:.1} s, {} bytes", start.elapsed().as_secs_f64(), bytes.len());
            std::fs::write(&args.out, &bytes)?;
            bytes
        }
    };
    let start = Instant::now();
    let splitter = EnglishSplitter::from_weights(&bytes, SplitConfig::default())?;
    println!("weights read in {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    score::report("EWT dev", &splitter, &dev);
    score::report("captions kept out", &splitter, &held);
    if args.evaluate.is_some() {
        // Sentences are by rule and not trained, so every caption is a test of them.
        let all: Vec<Document> = held.into_iter().chain(seen).collect();
        score::report("captions, all", &splitter, &all);
        score::speed(&splitter, &all);
    }
    Ok(())
}
