//! One mode (one core, or all) from the first case to the last: programs stay up, contenders take turns.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::plan::{Case, Contender, Who, Work};
use super::verdict::Timing;
use crate::bench::mode::Mode;
use crate::bench::program::{Program, Programs};

/// Where everything lies and how long things may take.
pub(crate) struct Bench {
    /// ot-bench.
    pub(crate) binary: PathBuf,
    /// The peers' Python and script, if they take part.
    pub(crate) peers: Option<(PathBuf, PathBuf)>,
    /// The inputs.
    pub(crate) folder: PathBuf,
    pub(crate) quick: bool,
}

impl Bench {
    /// Turns that each contender gets at most.
    fn rounds(&self) -> usize {
        if self.quick { 2 } else { 5 }
    }

    /// Seconds after which a contender gets no further turn.
    fn budget(&self) -> f64 {
        if self.quick { 1.0 } else { 12.0 }
    }

    /// A solve of a peer that would take longer is not run.
    pub(crate) fn limit(&self) -> f64 {
        if self.quick { 10.0 } else { 30.0 }
    }

    fn command(&self, who: Who, mode: Mode) -> Result<Command> {
        let words: Vec<OsString> = if who == Who::Ours {
            vec![self.binary.clone().into(), "serve".into(), self.folder.clone().into()]
        } else {
            let (python, script) = self.peers.clone().context("no peers")?;
            let library = who.name().to_lowercase();
            vec![python.into(), script.into(), self.folder.clone().into(), library.into()]
        };
        let mut command = mode.command(words);
        command.stderr(Stdio::inherit());
        if mode.threads == 1 {
            command.env("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1");
        } else {
            command.env_remove("XLA_FLAGS");
        }
        command.env("JAX_PLATFORMS", "cpu").env("KEOPS_CACHE_FOLDER", self.folder.join("keops"));
        Ok(command)
    }
}

/// What peers were tuned to, by case and contender: the search is made once for all modes.
#[derive(Default)]
pub(crate) struct Settings(HashMap<(String, String), Value>);

/// The programs of one mode.
pub(crate) struct Session<'a> {
    bench: &'a Bench,
    mode: Mode,
    pub(crate) programs: Programs<Who>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(bench: &'a Bench, mode: Mode) -> Self {
        Self { bench, mode, programs: Programs::new() }
    }

    /// What the machine allows, as ot-bench measures it.
    pub(crate) fn limits(&mut self) -> Result<Value> {
        self.program(Who::Ours)?.ask(&json!({ "solver": "limits" }))
    }

    /// Lets all contenders of a case take turns.
    pub(crate) fn run(&mut self, case: &Case, settings: &mut Settings) -> Result<Vec<Timing>> {
        if case.input.starts_with("cube-") {
            // A peak of memory is one of a whole process.
            self.programs.end(Who::Ours);
        }
        let with_peers = self.bench.peers.is_some();
        let contenders = case.contenders().into_iter().filter(|c| with_peers || c.who == Who::Ours);
        let mut timings: Vec<Timing> = contenders.map(Timing::new).collect();
        for round in 0..self.bench.rounds() {
            for timing in &mut timings {
                let done = timing.spent() >= self.bench.budget() || !timing.valid();
                if round == 0 || !done {
                    self.turn(case, timing, settings)?;
                }
            }
        }
        Ok(timings)
    }

    fn turn(&mut self, case: &Case, timing: &mut Timing, settings: &mut Settings) -> Result<()> {
        let contender = timing.contender;
        let key = (case.name.clone() + &case.input + &case.epsilon.to_string(), contender.label());
        let known = settings.0.get(&key).cloned();
        if let Some(note) = known.as_ref().and_then(|known| known["not_run"].as_str()) {
            timing.add(0, json!({ "status": "not run", "note": note }));
            return Ok(());
        }
        let start = Instant::now();
        let counts = case.work.counts(contender).map_or(vec![0], Vec::from);
        for (part, count) in counts.into_iter().enumerate() {
            let request = request(case, contender, count, known.as_ref(), self.bench.limit());
            let answer = self.program(contender.who)?.ask(&request)?;
            if answer["status"] == "not run" {
                settings.0.insert(key.clone(), json!({ "not_run": answer["note"] }));
            } else if answer["setting"].is_object() {
                settings.0.insert(key.clone(), answer["setting"].clone());
            }
            timing.add(part, answer);
            if !timing.valid() {
                break;
            }
        }
        let said = match timing.seconds(case.work) {
            Some([least, _]) => format!("{least:.6} s"),
            None => format!("{} {}", timing.text("status"), timing.text("note")),
        };
        eprintln!("  {:<32} {said} (in {:.1} s)", contender.label(), start.elapsed().as_secs_f64());
        Ok(())
    }

    fn program(&mut self, who: Who) -> Result<&mut Program> {
        let (bench, mode) = (self.bench, self.mode);
        self.programs.get(who, || bench.command(who, mode))
    }
}

fn request(case: &Case, contender: Contender, count: usize, setting: Option<&Value>, limit: f64) -> Value {
    let mut request = json!({
        "input": case.input, "solver": contender.solver, "epsilon": case.epsilon, "limit": limit,
        "seconds": 0.3, "repeats": 50, "setting": setting,
    });
    match case.work {
        Work::Iteration(..) => request["iterations"] = json!(count),
        Work::Fixed(count) => request["iterations"] = json!(count),
        Work::Tolerance(tolerance) => request["tolerance"] = json!(tolerance),
        Work::Optimum => {}
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::ot::plan::groups;

    #[test]
    fn a_request_says_what_to_do() {
        let groups = groups(true);
        let contender = Contender { who: Who::Pot, solver: "sinkhorn" };
        let said = |group: usize, count| request(&groups[group].cases[0], contender, count, None, 7.0);
        assert_eq!((&said(0, 50)["iterations"], &said(0, 50)["tolerance"]), (&json!(50), &Value::Null));
        assert_eq!((&said(1, 0)["tolerance"], &said(1, 0)["input"]), (&json!(1e-6), &json!("clouds-256")));
        assert_eq!((&said(3, 0)["iterations"], &said(3, 0)["limit"]), (&json!(100), &json!(7.0)));
    }
}
