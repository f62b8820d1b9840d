//! `cargo xtask bench ot`: tavq-ot and other libraries on the same inputs in the same run, and a page about it.
//!
//! Contenders take turns, case by case, so that whatever else the machine does falls on all of them alike; each program
//! stays up meanwhile, so that starting and compiling cost nothing that is counted.

mod peers;
mod plan;
mod program;
mod report;
mod session;
mod verdict;

use std::fs;
use std::path::{Path, PathBuf};

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use self::plan::Group;
use self::report::{Facts, Measured};
use self::session::{Bench, Mode, Session, Settings};
use crate::error::BadInput;
use crate::workspace::{self, Workspace};

/// What the command line says.
pub(crate) struct Options {
    pub(crate) quick: bool,
    pub(crate) no_peers: bool,
    pub(crate) group: Option<String>,
}

impl Options {
    /// Where the page goes: into the repository when the peers were measured at full size, a group on a page of its own.
    fn page(&self, root: &Path, folder: &Path) -> PathBuf {
        match &self.group {
            _ if self.quick || self.no_peers => folder.join("ot.md"),
            Some(group) => root.join(format!("docs/benchmarks/ot-{group}.md")),
            None => root.join("docs/benchmarks/ot.md"),
        }
    }

    fn groups(&self) -> Result<Vec<Group>> {
        let mut groups = plan::groups(self.quick);
        let names: Vec<&str> = groups.iter().map(|group| group.name).collect();
        if let Some(wanted) = &self.group {
            if !names.contains(&wanted.as_str()) {
                bail!(BadInput(format!("no group is called {wanted}: there are {}", names.join(", "))));
            }
            groups.retain(|group| group.name == wanted);
        }
        Ok(groups)
    }

    fn command(&self) -> String {
        let flags = [(self.quick, " --quick"), (self.no_peers, " --no-peers")];
        let mut command = "cargo xtask bench ot".to_owned();
        command.extend(flags.iter().filter(|(on, _)| *on).map(|(_, flag)| *flag));
        if let Some(group) = &self.group {
            command += &format!(" --group {group}");
        }
        command
    }
}

/// Measures and writes the page: into `docs/` when everything was measured, beside the raw results otherwise.
pub(crate) fn ot(options: &Options) -> Result<()> {
    let groups = options.groups()?;
    let workspace = Workspace::load()?;
    let scripts = workspace.dir_of("tavq-benches")?.join("peers");
    let peers = match options.no_peers {
        true => None,
        false => Some((peers::provide(&scripts.join("requirements-ot.txt"))?, scripts.join("ot.py"))),
    };
    workspace::run(workspace::cargo().args(["build", "--release", "--package", "tavq-benches", "--bin", "ot-bench"]))?;
    let folder = workspace.target.join("bench-ot");
    let bench = Bench { binary: workspace.target.join("release/ot-bench"), peers, folder, quick: options.quick };
    write_inputs(&bench, &groups)?;

    let (mut settings, mut measured) = (Settings::default(), Vec::new());
    let (mut versions, mut limits) = (Vec::new(), Value::Null);
    for mode in modes() {
        let mut session = Session::new(&bench, mode);
        if limits.is_null() {
            limits = session.limits()?;
        }
        measured.push(measure(&mut session, mode, &groups, &mut settings)?);
        versions.append(&mut session.versions);
        // After each mode, so that a run that is interrupted leaves what it has measured.
        let (versions, limits) = (describe_versions(&versions), limits.clone());
        let facts = Facts { machine: machine(), versions, command: options.command(), limits };
        write_page(options, &workspace, &bench, &facts, &groups, &measured)?;
    }
    Ok(())
}

fn write_page(
    options: &Options,
    workspace: &Workspace,
    bench: &Bench,
    facts: &Facts,
    groups: &[Group],
    measured: &[Measured],
) -> Result<()> {
    let page = report::page(facts, groups, measured);
    let raw = bench.folder.join("results.json");
    fs::write(&raw, raw_results(facts, groups, measured).to_string())?;
    let path = options.page(&workspace.root, &bench.folder);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}\n{}", path.display(), raw.display());
    Ok(())
}

fn write_inputs(bench: &Bench, groups: &[Group]) -> Result<()> {
    let mut names: Vec<&str> = groups.iter().flat_map(|group| &group.cases).map(|case| case.input.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    eprintln!("writing {} inputs", names.len());
    workspace::run(Command::new(&bench.binary).arg("inputs").arg(&bench.folder).args(names))
}

/// One core, then all of them.
fn modes() -> Vec<Mode> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let pinned = workspace::read(Command::new("taskset").args(["-c", "0", "true"])).is_ok();
    let mut modes = vec![Mode { threads: 1, pinned }];
    if cores > 1 {
        modes.push(Mode { threads: cores, pinned: false });
    }
    modes
}

fn measure(session: &mut Session<'_>, mode: Mode, groups: &[Group], settings: &mut Settings) -> Result<Measured> {
    let begin = Instant::now();
    let mut all = Vec::new();
    for group in groups {
        let mut timings = Vec::new();
        for case in &group.cases {
            eprintln!("{}: {}: {} [{:.0} s]", mode.name(), group.name, case.name, begin.elapsed().as_secs_f64());
            timings.push(session.run(case, settings)?);
        }
        all.push(timings);
    }
    Ok(Measured { mode: mode.name(), groups: all })
}

fn raw_results(facts: &Facts, groups: &[Group], measured: &[Measured]) -> Value {
    let mut results = Vec::new();
    for mode in measured {
        for (group, timings) in groups.iter().zip(&mode.groups) {
            for (case, timings) in group.cases.iter().zip(timings) {
                let solvers: Vec<Value> = timings.iter().map(|timing| timing.to_json(case.work)).collect();
                results.push(json!({ "mode": mode.mode, "group": group.name, "case": case.name, "solvers": solvers }));
            }
        }
    }
    json!({
        "machine": facts.machine, "versions": facts.versions, "command": facts.command, "limits": facts.limits,
        "results": results,
    })
}

/// Processor, its vectors, cores.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let flags = field("flags").unwrap_or_default();
    let vectors: Vec<&str> =
        ["avx2", "fma", "avx512f"].into_iter().filter(|f| flags.split(' ').any(|g| g == *f)).collect();
    let model = field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let cache = field("cache size").map(|size| format!(", {size} of cache a core")).unwrap_or_default();
    format!("{model} ({}{cache}), {cores} cores, {}", vectors.join(", "), std::env::consts::OS)
}

/// What the programs said of themselves, the compiler and the commit.
fn describe_versions(said: &[Value]) -> String {
    let mut parts: Vec<String> = Vec::new();
    for (name, version) in said.iter().filter_map(Value::as_object).flatten() {
        let part = format!("{name} {}", version.as_str().unwrap_or_default());
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    let mut ask = |program: &str, arguments: &[&str], before: &str| {
        let mut command = Command::new(program);
        if let Ok(said) = workspace::read(command.args(arguments).current_dir(workspace::root())) {
            parts.push(format!("{before}{}", said.trim()));
        }
    };
    ask("rustc", &["--version"], "");
    ask("git", &["rev-parse", "--short", "HEAD"], "commit ");
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_group_is_refused_with_the_known_ones() {
        let options = |group: &str| Options { quick: true, no_peers: true, group: Some(group.into()) };
        let error = options("x").groups().unwrap_err();
        assert_eq!(crate::error::exit_code(&error), 2);
        assert!(error.to_string().contains("iteration, sharp"), "{error}");
        let exact = options("exact");
        assert_eq!(exact.groups().unwrap().len(), 1);
        assert_eq!(exact.command(), "cargo xtask bench ot --quick --no-peers --group exact");
        let (root, folder) = (Path::new("root"), Path::new("folder"));
        assert_eq!(exact.page(root, folder), Path::new("folder/ot.md"));
        let full = Options { quick: false, no_peers: false, ..exact };
        assert_eq!(full.page(root, folder), Path::new("root/docs/benchmarks/ot-exact.md"));
    }

    #[test]
    fn versions_are_named_once() {
        let said = [json!({ "a": "1" }), json!({ "a": "1", "b": "2" })];
        assert!(describe_versions(&said).starts_with("a 1, b 2"));
    }
}
