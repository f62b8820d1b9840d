//! `cargo xtask bench ot`: tavq-ot and other libraries on the same inputs in the same run, and a page about it.

mod plan;
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
use self::session::{Bench, Session, Settings};
use super::mode::{Mode, modes};
use super::{describe_versions, machine, peers};
use crate::error::BadInput;
use crate::workspace::{self, Workspace};

/// What the command line says.
pub(crate) struct Options {
    pub(crate) quick: bool,
    pub(crate) no_peers: bool,
    pub(crate) group: Option<String>,
}

impl Options {
    /// Where the page goes: into the repository when everything was measured at full size.
    fn page(&self, root: &Path, folder: &Path) -> PathBuf {
        let whole = !self.quick && !self.no_peers && self.group.is_none();
        if whole { root.join("docs/benchmarks/ot.md") } else { folder.join("ot.md") }
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
pub(crate) fn run(options: &Options) -> Result<()> {
    let groups = options.groups()?;
    let workspace = Workspace::load()?;
    let scripts = workspace.dir_of("tavq-benches")?.join("peers");
    let peers = match options.no_peers {
        true => None,
        false => Some((peers::OT.provide(&scripts)?, scripts.join("ot.py"))),
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
        versions.append(&mut session.programs.versions);
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
        let part = Options { quick: false, no_peers: false, ..exact };
        assert_eq!(part.page(root, folder), Path::new("folder/ot.md"));
        assert_eq!(Options { group: None, ..part }.page(root, folder), Path::new("root/docs/benchmarks/ot.md"));
    }
}
