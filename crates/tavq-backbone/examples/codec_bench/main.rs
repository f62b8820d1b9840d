//! Times the VQGAN, the online clustered codebook and the nearest-code search, on request; `cargo xtask bench codec` runs it.
//!
//! `codec_bench inputs FOLDER` writes what is worked on: weights, images, vectors and codes. `codec_bench serve FOLDER
//! [cpu|cuda [bf16]]` prints one JSON line about itself, then answers each JSON line on its input with one on its output, as
//! `benches/peers/codec.py` does. Every request names its `solver` and one of three things to do: nothing more, which times it;
//! `"result": FILE`, which runs once and writes what came out; `"memory": true`, which runs once and tells the peak.

mod codec;
mod compare;
mod inputs;
mod limits;
mod quant;

use std::error::Error;
use std::io::{BufRead, Write, stdin, stdout};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};
use tavq_torch::write_tensors;
use tch::{Cuda, Device, Kind, Tensor};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// What came out of a run, by name.
type Tensors = Vec<(String, Tensor)>;

/// Where things lie and run.
struct Setting {
    folder: PathBuf,
    device: Device,
    kind: Kind,
}

/// A piece of work that can be done again and again.
trait Work {
    /// What a run must find unchanged; not timed.
    fn reset(&mut self) -> Outcome<()> {
        Ok(())
    }
    fn run(&mut self) -> Outcome<()>;
    /// What the last run found.
    fn result(&self) -> Outcome<Tensors>;
    /// Floating-point operations of the products of a run.
    fn flops(&self) -> f64;
}

fn main() -> Outcome<()> {
    tavq_torch::keep_freed_memory();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (folder, device, kind) = match words.as_slice() {
        ["inputs", folder] => return inputs::write(Path::new(folder)),
        ["serve", folder] => (folder, Device::Cpu, Kind::Float),
        ["serve", folder, "cpu", "bf16"] => (folder, Device::Cpu, Kind::BFloat16),
        ["serve", folder, "cuda"] => (folder, Device::Cuda(0), Kind::Float),
        ["serve", folder, "cuda", "bf16"] => (folder, Device::Cuda(0), Kind::BFloat16),
        _ => return Err("usage: codec_bench inputs FOLDER | codec_bench serve FOLDER [cpu|cuda [bf16]]".into()),
    };
    let setting = Setting { folder: folder.into(), device, kind };
    say(&json!({ "versions": { "tavq-backbone": env!("CARGO_PKG_VERSION") }, "threads": tch::get_num_threads() }))?;
    // The last piece of work stays: contenders take turns.
    let mut held: Option<(Value, Box<dyn Work>)> = None;
    for line in stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let answer = setting.answer(&request, &mut held).unwrap_or_else(|error| {
            let note = error.to_string();
            json!({ "status": "failed", "note": note.lines().next() })
        });
        say(&answer)?;
    }
    Ok(())
}

impl Setting {
    fn answer(&self, request: &Value, held: &mut Option<(Value, Box<dyn Work>)>) -> Outcome<Value> {
        match request["solver"].as_str() {
            Some("limits") => return limits::measure(self),
            Some("compare") => return compare::compare(self, request),
            _ => {}
        }
        let work = &request["work"];
        if held.as_ref().is_none_or(|(key, _)| key != work) {
            // The old one goes first.
            *held = None;
            *held = Some((work.clone(), self.prepare(work)?));
        }
        let Some((_, held)) = held else { return Err("nothing was prepared".into()) };
        if let Some(path) = request["result"].as_str() {
            held.reset()?;
            held.run()?;
            write_tensors(Path::new(path), &held.result()?, &[])?;
            return Ok(json!({ "status": "done" }));
        }
        if request["memory"] == true {
            self.warm(work)?;
            return memory(held.as_mut());
        }
        let seconds = self.repeat(request, held.as_mut())?;
        Ok(json!({ "seconds": seconds, "status": "done", "flops": held.flops() }))
    }

    fn prepare(&self, work: &Value) -> Outcome<Box<dyn Work>> {
        Ok(match work["kind"].as_str() {
            Some("codec") => Box::new(codec::Codec::new(self, work)?),
            Some("cvq") => Box::new(quant::CvqStep::new(self, work)?),
            Some("nearest") => Box::new(quant::Search::new(self, work)?),
            other => return Err(format!("work.kind: expected codec, cvq or nearest, found {other:?}").into()),
        })
    }

    /// Runs a small piece of the same work, so that code and buffers that any run takes are resident.
    fn warm(&self, work: &Value) -> Outcome<()> {
        let mut small = work.clone();
        for name in ["vectors", "codes"] {
            if small[name].is_i64() {
                small[name] = json!(256);
            }
        }
        if &small != work {
            self.prepare(&small)?.run()?;
        }
        Ok(())
    }

    /// Seconds of as many runs as the request allows, at least one.
    fn repeat(&self, request: &Value, work: &mut dyn Work) -> Outcome<Vec<f64>> {
        let budget = request["seconds"].as_f64().unwrap_or(0.0);
        let most = request["repeats"].as_u64().unwrap_or(1) as usize;
        let mut seconds: Vec<f64> = Vec::new();
        while seconds.is_empty() || seconds.len() < most && seconds.iter().sum::<f64>() < budget {
            work.reset()?;
            self.wait();
            let start = Instant::now();
            work.run()?;
            self.wait();
            seconds.push(start.elapsed().as_secs_f64());
        }
        Ok(seconds)
    }

    /// Until the device has done what it was told.
    fn wait(&self) {
        if let Device::Cuda(index) = self.device {
            Cuda::synchronize(index as i64);
        }
    }
}

/// Resident memory before a run, its peak during it, and the run's seconds.
fn memory(work: &mut dyn Work) -> Outcome<Value> {
    work.reset()?;
    // What preparing has freed is no part of what was there before.
    tavq_torch::return_freed_memory();
    // Sets the high-water mark to what is resident now.
    std::fs::write("/proc/self/clear_refs", "5")?;
    let peak = || tavq_torch::peak_memory().ok_or("this system does not tell a process's peak memory");
    let before = peak()?;
    let start = Instant::now();
    work.run()?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(json!({ "status": "done", "before": before, "peak": peak()?, "seconds": [seconds], "flops": work.flops() }))
}

fn say(value: &Value) -> Outcome<()> {
    let mut out = stdout().lock();
    writeln!(out, "{value}")?;
    Ok(out.flush()?)
}

/// A whole number of a piece of work.
fn number(work: &Value, name: &str) -> Outcome<i64> {
    work[name].as_i64().ok_or_else(|| format!("work.{name}: expected a whole number, found {}", work[name]).into())
}
