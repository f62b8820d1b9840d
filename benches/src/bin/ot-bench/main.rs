//! Times tavq-ot on problems of `tavq_benches::inputs`, one at a time, on request.
//!
//! `ot-bench inputs FOLDER NAME...` writes inputs. `ot-bench serve FOLDER` prints one JSON line about itself, then answers
//! each JSON line on its input with one on its output, until the input ends. A request names `input` and `solver` and may
//! set `epsilon`, `iterations` (a fixed number), `tolerance`, `seconds` (repeat for so long) and `repeats` (at most);
//! `benches/peers/ot.py` answers the same requests, so that `cargo xtask bench ot` can ask the two in turns.

mod limits;
mod request;
mod simd;
mod solve;

use std::error::Error;
use std::io::{BufRead, Write, stdin, stdout};
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};
use tavq_benches::inputs::Input;

use crate::request::Request;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["inputs", folder, ref names @ ..] => write(Path::new(folder), names),
        ["serve", folder] => serve(Path::new(folder)),
        _ => Err("usage: ot-bench inputs FOLDER NAME... | ot-bench serve FOLDER".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(folder: &Path, names: &[&str]) -> Outcome<()> {
    std::fs::create_dir_all(folder)?;
    for name in names {
        let input = Input::make(name).ok_or_else(|| format!("no input is called {name}"))?;
        input.write(folder, name)?;
    }
    Ok(())
}

fn serve(folder: &Path) -> Outcome<()> {
    say(&json!({ "versions": { "tavq-ot": env!("CARGO_PKG_VERSION") }, "threads": rayon::current_num_threads() }))?;
    // The last input stays: requests about one come one after the other.
    let mut held: Option<(String, Input)> = None;
    for line in stdin().lock().lines() {
        let answer = answer(folder, &mut held, &line?).unwrap_or_else(|error| {
            let note = error.to_string();
            json!({ "status": "failed", "note": note })
        });
        say(&answer)?;
    }
    Ok(())
}

fn answer(folder: &Path, held: &mut Option<(String, Input)>, line: &str) -> Outcome<Value> {
    let request = Request::parse(line)?;
    if request.solver == "limits" {
        return Ok(limits::measure());
    }
    if held.as_ref().is_none_or(|(name, _)| *name != request.input) {
        *held = None;
        *held = Some((request.input.clone(), Input::read(folder, &request.input)?));
    }
    match held {
        Some((_, input)) => solve::time(input, &request),
        None => Err("no input".into()),
    }
}

fn say(value: &Value) -> Outcome<()> {
    let mut out = stdout().lock();
    writeln!(out, "{value}")?;
    Ok(out.flush()?)
}
