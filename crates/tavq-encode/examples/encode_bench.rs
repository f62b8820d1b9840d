//! Times the encoder on the units of `text-bench inputs FOLDER`, on request; `cargo xtask bench text` runs it.
//!
//! `encode_bench FOLDER ENCODER_DIR [cuda [bf16]]` prints one JSON line about itself, then answers each JSON line on its input
//! with one on its output. The solvers `words`, `phrases` and `sentences` encode the units of that file, each alone;
//! `hierarchical` and `independent` split and encode the texts, from an empty memory each time, and say how many floating-point
//! operations the matrix products of one pass over the sentences take.
//!
//! On a GPU: `echo '{"solver": "hierarchical", "repeats": 5, "seconds": 60}' | encode_bench FOLDER ENCODER_DIR cuda bf16`;
//! `texts` over the smallest of `seconds` are captions a second, `flops` over it and the card's bf16 peak the fraction of it.

use std::error::Error;
use std::fs;
use std::io::{BufRead, Write, stdin, stdout};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};
use tavq_encode::{Mode, ModelOptions, Precision, TextModel, TreeEncoder, UnitEncoder};
use tavq_text::{EnglishSplitter, Splitter, TextTree};
use tch::Device;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Texts that go through the encoder together, as in the text index.
const CHUNK: usize = 64;

struct Bench {
    folder: PathBuf,
    encoder: PathBuf,
    device: Device,
    options: ModelOptions,
    model: TextModel,
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (folder, encoder, device, precision) = match arguments.as_slice() {
        [folder, encoder] => (folder, encoder, Device::Cpu, Precision::F32),
        [folder, encoder, cuda] if cuda == "cuda" => (folder, encoder, Device::Cuda(0), Precision::F32),
        [folder, encoder, cuda, half] if cuda == "cuda" && half == "bf16" => {
            (folder, encoder, Device::Cuda(0), Precision::Bf16)
        }
        _ => return Err("usage: encode_bench FOLDER ENCODER_DIR [cuda [bf16]]".into()),
    };
    let options = ModelOptions { precision, ..ModelOptions::default() };
    let model = TextModel::load_with(Path::new(encoder), device, options)?;
    let bench = Bench { folder: folder.into(), encoder: encoder.into(), device, options, model };
    say(&json!({ "versions": { "tavq-encode": env!("CARGO_PKG_VERSION") }, "threads": tch::get_num_threads() }))?;
    for line in stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let answer = bench.answer(&request).unwrap_or_else(|error| {
            let note = error.to_string();
            json!({ "status": "failed", "note": note })
        });
        say(&answer)?;
    }
    Ok(())
}

impl Bench {
    fn answer(&self, request: &Value) -> Outcome<Value> {
        let solver = request["solver"].as_str().unwrap_or_default();
        let mode = match solver {
            "hierarchical" => Mode::Hierarchical,
            "independent" => Mode::Independent,
            name => {
                let units = self.strings(name)?;
                let units: Vec<&str> = units.iter().map(String::as_str).collect();
                let mut first = Vec::new();
                let seconds = repeat(request, || {
                    let start = Instant::now();
                    let rows = self.model.encode(&units)?;
                    let took = start.elapsed().as_secs_f64();
                    first = Vec::<f32>::try_from(rows.get(0).narrow(0, 0, 4))?;
                    Ok(took)
                })?;
                return Ok(json!({ "seconds": seconds, "status": "done", "work": units.len(), "value": first }));
            }
        };
        let texts = self.strings("texts")?;
        let mut units = 0;
        let seconds = repeat(request, || {
            let encoder = TreeEncoder::new(TextModel::load_with(&self.encoder, self.device, self.options)?, mode);
            let splitter = EnglishSplitter::default();
            let start = Instant::now();
            units = 0;
            for chunk in texts.chunks(CHUNK) {
                let trees: Vec<TextTree<'_>> = chunk.iter().map(|text| splitter.split(text)).collect();
                for vectors in encoder.encode(&trees)? {
                    units += vectors.words.size()[0] + vectors.phrases.size()[0] + vectors.sentences.size()[0];
                }
            }
            Ok(start.elapsed().as_secs_f64())
        })?;
        let flops = self.flops(&texts)?;
        Ok(json!({ "seconds": seconds, "status": "done", "work": units, "texts": texts.len(), "flops": flops }))
    }

    /// Operations of the matrix products of one pass over the sentences, padding and attention left out.
    fn flops(&self, texts: &[String]) -> Outcome<f64> {
        let config: Value = serde_json::from_slice(&fs::read(self.encoder.join("config.json"))?)?;
        let size = |name: &str| config[name].as_f64().unwrap_or(f64::NAN);
        let (d, inner) = (size("hidden_size"), size("intermediate_size"));
        let each = size("num_hidden_layers") * 2.0 * (4.0 * d * d + 2.0 * d * inner);
        let splitter = EnglishSplitter::default();
        let mut tokens = 0;
        for text in texts {
            for (_, sentence) in splitter.split(text).units(tavq_text::Level::Sentences) {
                tokens += self.model.token_ids(sentence)?.iter().map(Vec::len).sum::<usize>();
            }
        }
        Ok(tokens as f64 * each)
    }

    fn strings(&self, name: &str) -> Outcome<Vec<String>> {
        let path = self.folder.join(name).with_extension("json");
        Ok(serde_json::from_slice(&fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?)?)
    }
}

fn repeat(request: &Value, mut run: impl FnMut() -> Outcome<f64>) -> Outcome<Vec<f64>> {
    let (budget, most) =
        (request["seconds"].as_f64().unwrap_or(0.0), request["repeats"].as_u64().unwrap_or(1) as usize);
    let mut seconds = vec![run()?];
    while seconds.len() < most && seconds.iter().sum::<f64>() < budget {
        seconds.push(run()?);
    }
    Ok(seconds)
}

fn say(value: &Value) -> Outcome<()> {
    let mut out = stdout().lock();
    writeln!(out, "{value}")?;
    Ok(out.flush()?)
}
