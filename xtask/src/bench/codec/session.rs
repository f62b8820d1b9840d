//! One mode from the first case to the last: results are compared before anything is timed, then contenders take turns.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::plan::{Case, Contender, OURS, Who};
use crate::bench::mode::Mode;
use crate::bench::program::{Program, Programs};
use crate::setup::Environment;
use crate::workspace;

/// Largest difference between two results; of gradients and distances, as a share of the largest entry.
pub(crate) const TOLERANCE: f64 = 1e-4;

/// Where everything lies.
pub(crate) struct Bench {
    pub(crate) environment: Environment,
    /// The example `codec_bench`.
    pub(crate) binary: PathBuf,
    /// The peers' Python and script, if they take part.
    pub(crate) peers: Option<(PathBuf, PathBuf)>,
    /// Inputs and results.
    pub(crate) folder: PathBuf,
}

/// What one contender needed in one case.
#[derive(Debug, Clone)]
pub(crate) struct Timing {
    pub(crate) contender: Contender,
    pub(crate) seconds: Vec<f64>,
    /// Bytes that were resident before a run, and the peak during it, of a process of its own.
    pub(crate) memory: Option<[f64; 2]>,
    /// Largest difference of each part of the result to ours.
    pub(crate) gaps: Value,
    pub(crate) flops: Option<f64>,
}

/// The programs of one mode.
pub(crate) struct Session<'a> {
    bench: &'a Bench,
    mode: Mode,
    /// What the programs are told of the device; nothing: the CPU.
    device: &'a [&'static str],
    pub(crate) programs: Programs<Who>,
}

impl Bench {
    pub(crate) fn write_inputs(&self) -> Result<()> {
        eprintln!("writing weights, images and vectors");
        let mut command = Command::new(&self.binary);
        workspace::run(self.environment.apply(&mut command).arg("inputs").arg(&self.folder))
    }

    fn command(&self, who: Who, mode: Mode, device: &[&str]) -> Result<Command> {
        let mut words: Vec<OsString> = match who {
            Who::Ours => vec![self.binary.clone().into(), "serve".into(), self.folder.clone().into()],
            peer => {
                let (python, script) = self.peers.clone().context("no peers")?;
                let library = peer.name().to_lowercase();
                vec![python.into(), script.into(), self.folder.clone().into(), library.into()]
            }
        };
        words.extend(device.iter().map(OsString::from));
        let mut command = mode.command(words);
        if who == Who::Ours {
            self.environment.apply(&mut command);
        }
        command.stderr(Stdio::inherit());
        Ok(command)
    }
}

impl<'a> Session<'a> {
    pub(crate) fn new(bench: &'a Bench, mode: Mode, device: &'a [&'static str]) -> Self {
        Self { bench, mode, device, programs: Programs::new() }
    }

    /// Whether a case is one of this mode.
    pub(crate) fn takes(&self, case: &Case) -> bool {
        !case.all_cores || self.mode.threads > 1 || !self.device.is_empty()
    }

    /// What the machine allows, as codec_bench measures it.
    pub(crate) fn limits(&mut self) -> Result<Value> {
        let request = json!({ "solver": "limits" });
        let program = self.program(Who::Ours)?;
        done(program.ask(&request)?, "the limits")
    }

    /// Ours and the peers of a case: memory, agreement, then turns.
    pub(crate) fn run(&mut self, case: &Case) -> Result<Vec<Timing>> {
        let peers = if self.bench.peers.is_some() { case.peers.as_slice() } else { &[] };
        let new = |contender| Timing { contender, seconds: Vec::new(), memory: None, gaps: Value::Null, flops: None };
        let mut timings: Vec<Timing> = std::iter::once(OURS).chain(peers.iter().copied()).map(new).collect();
        if case.memory {
            for timing in &mut timings {
                self.memory(case, timing)?;
            }
        }
        self.agree(case, &mut timings)?;
        // The runs that were compared have warmed up.
        for _ in 0..case.turns {
            for timing in &mut timings {
                self.turn(case, timing)?;
            }
        }
        Ok(timings)
    }

    /// In a process of its own, because a high-water mark is a process's.
    fn memory(&mut self, case: &Case, timing: &mut Timing) -> Result<()> {
        let mut program = Program::start(&mut self.bench.command(timing.contender.who, self.mode, self.device)?)?;
        let request = json!({ "solver": "run", "work": timing.contender.work(&case.work), "memory": true });
        let answer = done(program.ask(&request)?, &timing.contender.label())?;
        let read = |key: &str| answer[key].as_f64().with_context(|| format!("no {key} in {answer}"));
        timing.memory = Some([read("before")?, read("peak")?]);
        if case.turns == 0 {
            timing.add(&answer);
        }
        Ok(())
    }

    /// Fails unless all results are ours to the tolerance.
    fn agree(&mut self, case: &Case, timings: &mut [Timing]) -> Result<()> {
        if timings.len() < 2 {
            return Ok(());
        }
        let path = |k: usize| self.bench.folder.join(format!("result-{k}.safetensors"));
        let paths: Vec<PathBuf> = (0..timings.len()).map(path).collect();
        for (timing, path) in timings.iter().zip(&paths) {
            let work = timing.contender.work(&case.work);
            let request = json!({ "solver": "run", "work": work, "result": path });
            done(self.program(timing.contender.who)?.ask(&request)?, &timing.contender.label())?;
        }
        for (timing, path) in timings.iter_mut().zip(&paths).skip(1) {
            let request = json!({ "solver": "compare", "work": case.work, "one": paths[0], "other": path });
            let answer = done(self.program(Who::Ours)?.ask(&request)?, "the comparison")?;
            let label = timing.contender.label();
            // Half precision keeps three digits, which a deep model uses up: its gaps are shown and not judged.
            if !self.device.contains(&"bf16") {
                check(&answer["gaps"]).with_context(|| format!("{}: tavq and {label} differ", case.name))?;
            }
            timing.gaps = answer["gaps"].clone();
        }
        Ok(())
    }

    fn turn(&mut self, case: &Case, timing: &mut Timing) -> Result<()> {
        let start = Instant::now();
        let work = timing.contender.work(&case.work);
        // Short runs are repeated, so that a turn is long enough for the clock and the caches.
        let request = json!({ "solver": "run", "work": work, "seconds": 0.5, "repeats": 20 });
        let answer = done(self.program(timing.contender.who)?.ask(&request)?, &timing.contender.label())?;
        timing.add(&answer);
        let said = timing.median().map_or_else(String::new, |median| format!("{median:.4} s"));
        eprintln!("  {:<24} {said} (in {:.1} s)", timing.contender.label(), start.elapsed().as_secs_f64());
        Ok(())
    }

    fn program(&mut self, who: Who) -> Result<&mut Program> {
        let (bench, mode, device) = (self.bench, self.mode, self.device);
        self.programs.get(who, || bench.command(who, mode, device))
    }
}

impl Timing {
    fn add(&mut self, answer: &Value) {
        self.seconds.extend(answer["seconds"].as_array().into_iter().flatten().filter_map(Value::as_f64));
        self.flops = answer["flops"].as_f64().or(self.flops);
    }

    pub(crate) fn median(&self) -> Option<f64> {
        crate::bench::median(&self.seconds)
    }

    /// Bytes that a run takes beyond what was resident before.
    pub(crate) fn extra(&self) -> Option<f64> {
        self.memory.map(|[before, peak]| peak - before)
    }
}

/// The answer, if the work was done.
fn done(answer: Value, who: &str) -> Result<Value> {
    if answer["status"] != "done" {
        bail!("{who}: {}", answer["note"].as_str().unwrap_or("no answer"));
    }
    Ok(answer)
}

/// Fails at the largest gap above the tolerance, and where nothing was compared.
fn check(gaps: &Value) -> Result<()> {
    let gaps = gaps.as_object().filter(|gaps| !gaps.is_empty()).context("nothing was compared")?;
    for (name, gap) in gaps {
        // Not a number is no agreement.
        if !gap.as_f64().is_some_and(|gap| gap <= TOLERANCE) {
            bail!("{name} by {gap}, at most {TOLERANCE:e} is allowed");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_result_is_an_error() {
        assert!(check(&json!({ "loss": 1e-6, "reconstruction": 9e-5 })).is_ok());
        let said = check(&json!({ "loss": 1e-6, "reconstruction": 2e-4 })).unwrap_err().to_string();
        assert!(said.contains("reconstruction by 0.0002"), "{said}");
        assert!(check(&json!({ "loss": null })).is_err());
        assert!(check(&json!({})).is_err());
        assert!(check(&Value::Null).is_err());
        let failed = done(json!({ "status": "failed", "note": "why" }), "who").unwrap_err().to_string();
        assert_eq!(failed, "who: why");
    }
}
