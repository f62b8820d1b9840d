//! `cargo xtask bench text`: tavq-text and tavq-encode beside other libraries on the same texts, and a page about it.

mod plan;
mod report;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use self::plan::{Case, Contender, Who};
use super::mode::{Mode, modes};
use super::program::{Program, Programs};
use super::{describe_versions, machine, peers};
use crate::error::BadInput;
use crate::setup::Environment;
use crate::workspace::{self, Workspace};

/// What the command line says.
pub(crate) struct Options {
    pub(crate) quick: bool,
    pub(crate) no_peers: bool,
    /// JSON lines with a field `text`; the descriptions of the embedded pictures without one.
    pub(crate) texts: Option<PathBuf>,
}

/// Where everything lies and how long things may take.
struct Bench {
    environment: Environment,
    text: PathBuf,
    encode: PathBuf,
    /// The peers' Python and the folder of the scripts, if they take part.
    peers: Option<(PathBuf, PathBuf)>,
    folder: PathBuf,
    quick: bool,
}

/// What one contender needed in one case.
pub(crate) struct Timing {
    pub(crate) contender: Contender,
    pub(crate) seconds: Vec<f64>,
    /// The last answer.
    pub(crate) answer: Value,
}

/// One long text of ours.
pub(crate) struct Long {
    pub(crate) megabytes: u64,
    pub(crate) answer: Value,
}

/// A mode with what was measured in it, in the order of the cases.
pub(crate) struct Measured {
    pub(crate) mode: Mode,
    pub(crate) cases: Vec<(Case, Vec<Timing>)>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(texts) = options.texts.as_ref().filter(|texts| !texts.is_file()) {
        bail!(BadInput(format!("--texts {}: expected a file of JSON lines, found none", texts.display())));
    }
    let environment = Environment::provide()?;
    let workspace = Workspace::load()?;
    let scripts = workspace.dir_of("tavq-benches")?.join("peers");
    let peers = if options.no_peers { None } else { Some((peers::TEXT.provide(&scripts)?, scripts)) };
    workspace::run(
        workspace::cargo().args(["build", "--release", "--package", "tavq-benches", "--bin", "text-bench"]),
    )?;
    let example = ["build", "--release", "--package", "tavq-encode", "--example", "encode_bench"];
    workspace::run(environment.cargo().args(example))?;
    let folder = workspace.target.join("bench-text");
    let bench = Bench {
        environment,
        text: workspace.target.join("release/text-bench"),
        encode: workspace.target.join("release/examples/encode_bench"),
        peers,
        folder,
        quick: options.quick,
    };
    bench.write_inputs(options, &workspace.root)?;

    let (mut versions, mut measured, mut longs) = (Vec::new(), Vec::new(), Vec::new());
    for (k, mode) in modes().into_iter().enumerate() {
        let mut session = Session { bench: &bench, mode, programs: Programs::new() };
        let cases = if k == 0 { plan::splitting() } else { Vec::new() }.into_iter().chain(plan::encoding());
        let timings = cases.map(|case| Ok((case.clone(), session.run(&case)?))).collect::<Result<_>>()?;
        measured.push(Measured { mode, cases: timings });
        versions.append(&mut session.programs.versions);
        if k == 0 {
            longs = bench.longs(mode)?;
        }
        // After each mode, so that a run that is interrupted leaves what it has measured.
        let page = report::page(&report::Facts {
            command: options.command(),
            machine: machine(),
            versions: describe_versions(&versions),
            texts: options.texts.as_deref().map_or("the descriptions of the embedded pictures".into(), name_of),
            measured: &measured,
            longs: &longs,
        });
        let path = options.page(&workspace.root, &bench.folder);
        fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

impl Options {
    /// Into the repository when the peers were measured at full size.
    fn page(&self, root: &Path, folder: &Path) -> PathBuf {
        let whole = !self.quick && !self.no_peers;
        if whole { root.join("docs/benchmarks/text.md") } else { folder.join("text.md") }
    }

    fn command(&self) -> String {
        let flags = [(self.quick, " --quick"), (self.no_peers, " --no-peers")];
        let mut command = "cargo xtask bench text".to_owned();
        command.extend(flags.iter().filter(|(on, _)| *on).map(|(_, flag)| *flag));
        if let Some(texts) = &self.texts {
            command += &format!(" --texts {}", name_of(texts));
        }
        command
    }
}

impl Bench {
    fn write_inputs(&self, options: &Options, root: &Path) -> Result<()> {
        let embedded = ["fixtures/emoji/manifest.jsonl", "fixtures/photos/manifest.jsonl"];
        let files = match &options.texts {
            Some(texts) => vec![texts.clone()],
            None => embedded.iter().map(|file| root.join(file)).collect(),
        };
        workspace::run(Command::new(&self.text).arg("inputs").arg(&self.folder).args(files))
    }

    fn command(&self, who: Who, mode: Mode) -> Result<Command> {
        let mut words: Vec<OsString> = Vec::new();
        match who {
            Who::Text => words.extend([self.text.clone().into(), "serve".into(), self.folder.clone().into()]),
            Who::Encode => words.extend([
                self.encode.clone().into(),
                self.folder.clone().into(),
                self.environment.encoder.clone().into(),
            ]),
            peer => {
                let (python, scripts) = self.peers.as_ref().context("no peers")?;
                let (script, library) = match peer {
                    Who::Spacy => ("text.py", "spacy"),
                    Who::Pysbd => ("text.py", "pysbd"),
                    Who::Transformers => ("encode.py", "transformers"),
                    _ => ("encode.py", "sentence-transformers"),
                };
                words.extend([python.clone().into(), scripts.join(script).into(), self.folder.clone().into()]);
                if script == "encode.py" {
                    words.push(self.environment.encoder.clone().into());
                }
                words.push(library.into());
            }
        }
        let mut command = mode.command(words);
        if who == Who::Encode {
            self.environment.apply(&mut command);
        }
        command.stderr(Stdio::inherit());
        Ok(command)
    }

    /// Long texts, each in a process of its own: a peak of memory is one of a whole process.
    fn longs(&self, mode: Mode) -> Result<Vec<Long>> {
        let sizes: &[u64] = if self.quick { &[1, 10] } else { &[1, 10, 100] };
        let long = |&megabytes: &u64| {
            let mut program = Program::start(&mut self.command(Who::Text, mode)?)?;
            let answer = program.ask(&json!({ "solver": "long", "megabytes": megabytes }))?;
            Ok(Long { megabytes, answer })
        };
        sizes.iter().map(long).collect()
    }
}

/// The programs of one mode.
struct Session<'a> {
    bench: &'a Bench,
    mode: Mode,
    programs: Programs<Who>,
}

impl Session<'_> {
    /// Lets ours and the peers of a case take turns.
    fn run(&mut self, case: &Case) -> Result<Vec<Timing>> {
        eprintln!("{}: {}", self.mode.name(), case.name);
        let with_peers = self.bench.peers.is_some();
        let native = |contender: &Contender| matches!(contender.who, Who::Text | Who::Encode);
        let contenders = std::iter::once(case.ours).chain(case.peers.iter().copied());
        let contenders = contenders.filter(|contender| with_peers || native(contender));
        let timing = |contender| Timing { contender, seconds: Vec::new(), answer: Value::Null };
        let mut timings: Vec<Timing> = contenders.map(timing).collect();
        let (rounds, budget) = if self.bench.quick { (1, 1.0) } else { (3, 20.0) };
        for round in 0..rounds {
            for timing in &mut timings {
                let spent: f64 = timing.seconds.iter().sum();
                if round == 0 || timing.answer["status"] == "done" && spent < budget {
                    self.turn(timing)?;
                }
            }
        }
        Ok(timings)
    }

    fn turn(&mut self, timing: &mut Timing) -> Result<()> {
        let start = Instant::now();
        let (seconds, limit) = if self.bench.quick { (0.2, 5.0) } else { (2.0, 60.0) };
        let request = json!({
            "solver": timing.contender.solver, "seconds": seconds, "repeats": 50, "limit": limit,
        });
        let answer = self.program(timing.contender.who)?.ask(&request)?;
        timing.seconds.extend(answer["seconds"].as_array().into_iter().flatten().filter_map(Value::as_f64));
        timing.answer = answer;
        let said = match timing.rate() {
            Some(rate) => format!("{rate:.4e} a second"),
            None => timing.answer["note"].to_string(),
        };
        eprintln!("  {:<60} {said} (in {:.1} s)", timing.contender.label, start.elapsed().as_secs_f64());
        Ok(())
    }

    fn program(&mut self, who: Who) -> Result<&mut Program> {
        let (bench, mode) = (self.bench, self.mode);
        self.programs.get(who, || bench.command(who, mode))
    }
}

impl Timing {
    /// Smallest of all times, when the work was done.
    pub(crate) fn least(&self) -> Option<f64> {
        let least = self.seconds.iter().copied().min_by(f64::total_cmp);
        least.filter(|_| self.answer["status"] == "done")
    }

    /// Work a second.
    pub(crate) fn rate(&self) -> Option<f64> {
        Some(self.answer["work"].as_f64()? / self.least()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_run_writes_into_the_repository() {
        let (root, folder) = (Path::new("root"), Path::new("folder"));
        let whole = Options { quick: false, no_peers: false, texts: Some("a/b.jsonl".into()) };
        assert_eq!(whole.page(root, folder), Path::new("root/docs/benchmarks/text.md"));
        assert_eq!(whole.command(), "cargo xtask bench text --texts b.jsonl");
        assert_eq!(Options { quick: true, ..whole }.page(root, folder), Path::new("folder/text.md"));
    }
}
