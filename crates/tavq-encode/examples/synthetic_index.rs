//! Builds a text index of many made-up texts and reads it back: time to the first batch, look-ups, speed, memory.
//!
//! `cargo run --release -p tavq-encode --example synthetic_index -- FOLDER TEXTS WIDTH [f16]`

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tavq_encode::{Granularity, IndexOptions, Result as Encoded, Storage, TextIndex, TreeEncoder, UnitEncoder};
use tavq_text::{Phrase, PhraseKind, Sentence, Span, Splitter, TextTree, Upos, Word};
use tch::Tensor;

/// One sentence, one phrase, three words.
struct Words;

impl Splitter for Words {
    fn split<'t>(&self, text: &'t str) -> TextTree<'t> {
        let span = Span { start: 0, end: text.len() };
        let starts = text.split(' ').map(|word| word.as_ptr() as usize - text.as_ptr() as usize);
        let spans = starts.zip(text.split(' ')).map(|(start, word)| Span { start, end: start + word.len() });
        TextTree {
            text,
            sentences: vec![Sentence { span }],
            phrases: vec![Phrase { span, kind: PhraseKind::Noun, sentence: 0, flags: Vec::new() }],
            words: spans.map(|span| Word { span, upos: Upos::Noun, sentence: 0, phrase: Some(0) }).collect(),
            tokens: Vec::new(),
        }
    }
}

/// Rows of one random number each, repeated: as large as real ones, made at the speed of memory.
struct Rows(i64);

impl UnitEncoder for Rows {
    fn dim(&self) -> i64 {
        self.0
    }
    fn encode(&self, units: &[&str]) -> Encoded<Tensor> {
        let first =
            |unit: &&str| unit.bytes().fold(7u32, |h, b| h.wrapping_mul(31) ^ u32::from(b)) as f32 / u32::MAX as f32;
        let values: Vec<f32> = units.iter().map(first).collect();
        Ok(Tensor::f_from_slice(&values)?
            .f_unsqueeze(1)?
            .f_expand([units.len() as i64, self.0], false)?
            .f_contiguous()?)
    }
}

/// Resident memory of this process without mapped files, where the system tells.
fn memory_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? * 1024.0 / 1e6)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (folder, texts, width, storage) = match arguments.as_slice() {
        [folder, texts, width] => (folder, texts, width, Storage::F32),
        [folder, texts, width, half] if half == "f16" => (folder, texts, width, Storage::F16),
        _ => return Err("usage: synthetic_index FOLDER TEXTS WIDTH [f16]".into()),
    };
    let (count, width) = (texts.parse()?, width.parse()?);
    let place = build(Path::new(folder), count, width, storage)?;
    read(&place, count, storage)
}

fn build(folder: &Path, count: usize, width: i64, storage: Storage) -> Result<PathBuf, Box<dyn Error>> {
    let lines: Vec<String> = (0..count).map(|k| format!("boat{k} gull{} mast{}", k % 1000, k % 77)).collect();
    let keys: Vec<String> = (0..count).map(|k| k.to_string()).collect();
    let texts: Vec<(&str, &str)> = keys.iter().map(String::as_str).zip(lines.iter().map(String::as_str)).collect();
    let encoder = TreeEncoder::independent(Box::new(Rows(width)), &format!("rows {width}"));
    let options = IndexOptions { storage, ..IndexOptions::default() };
    let start = Instant::now();
    let index = TextIndex::open_or_build_with(folder, &texts, &Words, &encoder, options, &mut |done, all| {
        if done % 10_240 == 0 {
            eprint!("\r{done} of {all} texts");
        }
    })?;
    let (seconds, gigabytes) = (start.elapsed().as_secs_f64(), index.bytes() as f64 / 1e9);
    eprintln!();
    println!(
        "{count} texts of 5 units, {width} wide, {storage:?}: {gigabytes:.2} GB, {seconds:.1} s to build or check"
    );
    Ok(index.folder().to_path_buf())
}

/// Keys whose rows are looked up.
const LOOK_UPS: usize = 10_000;

fn read(place: &Path, count: usize, storage: Storage) -> Result<(), Box<dyn Error>> {
    let near: Vec<usize> = (0..count).collect();
    // A stride that shares no factor with the count visits every text once, far apart.
    let far: Vec<usize> = near.iter().map(|k| k * 7_919 % count).collect();
    let start = Instant::now();
    let index = TextIndex::open(place)?;
    let opened = start.elapsed().as_secs_f64();
    index.batch(&far[..count.min(32)], Granularity::Word, 64)?;
    println!("open {:.1} ms, first batch of 32 texts at {:.1} ms", opened * 1e3, start.elapsed().as_secs_f64() * 1e3);
    let start = Instant::now();
    for row in far.iter().take(LOOK_UPS) {
        if index.rows(&row.to_string())? != [*row] {
            return Err(format!("key {row}: expected its own row").into());
        }
    }
    let each = start.elapsed().as_secs_f64() / count.min(LOOK_UPS) as f64;
    println!("row of a key: {:.0} us", each * 1e6);
    for (name, order) in [("in order, checking", &near), ("in order", &near), ("far apart", &far)] {
        let start = Instant::now();
        let mut numbers = 0;
        for rows in order.chunks(32) {
            for granularity in Granularity::ALL {
                numbers += index.batch(rows, granularity, 64)?.vectors.numel();
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let bytes = numbers as f64 * if storage == Storage::F16 { 2.0 } else { 4.0 };
        let memory = memory_mb().map_or(String::new(), |mb| format!(", {mb:.0} MB of memory"));
        println!("{name}: {seconds:.2} s, {:.2} GB/s of stored vectors{memory}", bytes / seconds / 1e9);
    }
    Ok(())
}
