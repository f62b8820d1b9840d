//! Times tavq-text, and beside it the `sentencex` crate, on request.
//!
//! `text-bench inputs FOLDER FILE...` reads texts (JSON lines with a field `text`) and writes what the programs that are compared
//! share: `texts.json`, `words.json`, `phrases.json`, `sentences.json` (some distinct units each) and `units.json` (every unit
//! of every text). `text-bench serve FOLDER` prints one JSON line about itself, then answers each JSON line on its input
//! with one on its output; a request names a `solver` and may set `seconds`, `repeats` and `megabytes`.

use std::collections::HashSet;
use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::io::{BufRead, Write, stdin, stdout};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use serde_json::{Value, json};
use tavq_text::{EnglishSplitter, Level, Splitter};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["inputs", folder, ref files @ ..] if !files.is_empty() => write_inputs(Path::new(folder), files),
        ["serve", folder] => serve(Path::new(folder)),
        _ => Err("usage: text-bench inputs FOLDER FILE... | text-bench serve FOLDER".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Distinct units of a level that are timed: what a peer encodes in a few seconds.
const UNITS: [(Level, &str, usize); 3] =
    [(Level::Words, "words", 600), (Level::Phrases, "phrases", 360), (Level::Sentences, "sentences", 90)];

fn write_inputs(folder: &Path, files: &[&str]) -> Outcome<()> {
    let mut texts: Vec<String> = Vec::new();
    for file in files {
        let lines = fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))?;
        for (number, line) in lines.lines().enumerate() {
            let record: Value = serde_json::from_str(line).map_err(|e| format!("{file}:{}: {e}", number + 1))?;
            let text = record["text"].as_str().ok_or_else(|| format!("{file}:{}: no field \"text\"", number + 1))?;
            texts.push(text.to_owned());
        }
    }
    let splitter = EnglishSplitter::default();
    let trees: Vec<_> = texts.iter().map(|text| splitter.split(text)).collect();
    fs::create_dir_all(folder)?;
    let write =
        |name: &str, units: &[&str]| fs::write(folder.join(name).with_extension("json"), json!(units).to_string());
    for (level, name, count) in UNITS {
        let mut seen = HashSet::new();
        let all = trees.iter().flat_map(|tree| tree.units(level)).map(|(_, text)| text);
        write(name, &all.filter(|text| seen.insert(*text)).take(count).collect::<Vec<_>>())?;
    }
    let units = trees.iter().flat_map(|tree| Level::ALL.into_iter().flat_map(|level| tree.units(level)));
    write("units", &units.map(|(_, text)| text).collect::<Vec<_>>())?;
    Ok(write("texts", &texts.iter().map(String::as_str).collect::<Vec<_>>())?)
}

fn serve(folder: &Path) -> Outcome<()> {
    let texts: Vec<String> = serde_json::from_slice(&fs::read(folder.join("texts.json"))?)?;
    let splitter = EnglishSplitter::default();
    say(&json!({ "versions": { "tavq-text": env!("CARGO_PKG_VERSION"), "sentencex (Rust)": SENTENCEX } }))?;
    for line in stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let answer = answer(&request, &splitter, &texts).unwrap_or_else(|error| {
            let note = error.to_string();
            json!({ "status": "failed", "note": note })
        });
        say(&answer)?;
    }
    Ok(())
}

/// As pinned in Cargo.toml.
const SENTENCEX: &str = "0.1.33";

fn answer(request: &Value, splitter: &EnglishSplitter, texts: &[String]) -> Outcome<Value> {
    let each = |count: &dyn Fn(&str) -> usize| texts.iter().map(|text| count(black_box(text))).sum::<usize>();
    let bytes: usize = texts.iter().map(String::len).sum();
    match request["solver"].as_str().unwrap_or_default() {
        "split" => Ok(repeat(request, bytes, || each(&|text| splitter.split(text).words.len()))),
        "sentences" => Ok(repeat(request, bytes, || each(&|text| splitter.sentences(text).len()))),
        "sentencex" => Ok(repeat(request, bytes, || each(&|text| sentencex::segment("en", text).len()))),
        "long" => {
            let text = long(texts, request["megabytes"].as_u64().unwrap_or(1) as usize * 1_000_000);
            let before = memory_mb("VmRSS:");
            let mut answer = repeat(request, text.len(), || splitter.split(black_box(&text)).words.len());
            answer["memory_mb"] = json!(memory_mb("VmHWM:").zip(before).map(|(peak, before)| peak - before));
            Ok(answer)
        }
        other => Err(format!("no solver is called {other}").into()),
    }
}

/// The texts again and again, one paragraph each.
fn long(texts: &[String], bytes: usize) -> String {
    let mut out = String::with_capacity(bytes + 10_000);
    for text in texts.iter().cycle() {
        if out.len() >= bytes {
            break;
        }
        out += text;
        out += "\n\n";
    }
    out
}

fn repeat(request: &Value, bytes: usize, mut run: impl FnMut() -> usize) -> Value {
    let (budget, most) =
        (request["seconds"].as_f64().unwrap_or(0.0), request["repeats"].as_u64().unwrap_or(1) as usize);
    let (mut seconds, mut count) = (Vec::new(), 0);
    while seconds.is_empty() || seconds.len() < most && seconds.iter().sum::<f64>() < budget {
        let start = Instant::now();
        count = black_box(run());
        seconds.push(start.elapsed().as_secs_f64());
    }
    json!({ "seconds": seconds, "status": "done", "work": bytes, "count": count })
}

/// A figure of this process, where the system tells.
fn memory_mb(field: &str) -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}

fn say(value: &Value) -> Outcome<()> {
    let mut out = stdout().lock();
    writeln!(out, "{value}")?;
    Ok(out.flush()?)
}
