//! Builds the text index of a file of lines, one text each, and reads it back, with the speed of both.
//!
//! `cargo run --release -p tavq-encode --example text_index -- ENCODER_DIR TEXTS.txt INDEX_DIR [independent]`

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use tavq_encode::{Granularity, Mode, TextIndex, TextModel, TreeEncoder};
use tavq_text::EnglishSplitter;
use tch::Device;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (model, file, folder, mode) = match arguments.as_slice() {
        [model, file, folder] => (model, file, folder, Mode::Hierarchical),
        [model, file, folder, mode] if mode == "independent" => (model, file, folder, Mode::Independent),
        _ => return Err("usage: text_index ENCODER_DIR TEXTS.txt INDEX_DIR [independent]".into()),
    };
    let start = Instant::now();
    let device = if tch::Cuda::is_available() { Device::Cuda(0) } else { Device::Cpu };
    let encoder = TreeEncoder::new(TextModel::load(Path::new(model), device)?, mode);
    println!("model loaded in {:.2} s", start.elapsed().as_secs_f64());

    let content = std::fs::read_to_string(file)?;
    let keys: Vec<String> = (0..content.lines().count()).map(|i| i.to_string()).collect();
    let texts: Vec<(&str, &str)> = keys.iter().map(String::as_str).zip(content.lines()).collect();
    let splitter = EnglishSplitter::default();
    let start = Instant::now();
    let index = TextIndex::open_or_build(Path::new(folder), &texts, &splitter, &encoder, &mut |done, all| {
        eprint!("\r{done} of {all} texts");
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let units: u64 = index.total_units().iter().sum();
    let encoded = index.opened().encoded;
    eprintln!();
    println!("{:?} in {seconds:.2} s: {encoded} texts encoded", index.total_units());
    println!("{:.0} texts/s, {:.0} units/s", texts.len() as f64 / seconds, units as f64 / seconds);
    println!("{} bytes for {} bytes of text", index.bytes(), content.len());

    for pass in ["first (checksums)", "second"] {
        let start = Instant::now();
        let mut bytes = 0;
        for g in Granularity::ALL {
            for first in (0..index.len()).step_by(32) {
                let rows: Vec<usize> = (first..index.len().min(first + 32)).collect();
                bytes += index.batch(&rows, g, 64)?.vectors.numel() * 4;
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        println!("{pass} epoch: {seconds:.4} s, {:.2} GB/s of batches", bytes as f64 / seconds / 1e9);
    }
    Ok(())
}
