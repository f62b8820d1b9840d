//! `cargo xtask test`: everything that continuous integration demands, the cheapest first, ending at the first failure.
//!
//! The pure crates come first and without libtorch, so that a slip there costs a minute. All steps on tch share one
//! environment and the dev profile: torch-sys, by far the longest build, is compiled once.

use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::setup::Environment;
use crate::workspace::{self, PURE, Workspace};
use crate::{data, fence};

/// Sums over the `test result:` lines that cargo's test runner prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

/// The steps done so far.
#[derive(Default)]
struct Report {
    rows: Vec<(&'static str, Duration, bool)>,
    counts: Counts,
}

/// Runs the steps, prints their table and the verdict; returns whether all passed.
pub(crate) fn test(pure_only: bool) -> bool {
    let start = Instant::now();
    let mut report = Report::default();
    let outcome = pure_steps(&mut report).and_then(|()| if pure_only { Ok(()) } else { torch_steps(&mut report) });
    report.print();
    match outcome {
        Ok(()) => {
            println!("tavq: PASS in {}{}", time(start.elapsed()), if pure_only { " (pure crates only)" } else { "" })
        }
        Err(Failed(step)) => println!("tavq: FAIL at {step}"),
    }
    outcome.is_ok()
}

/// The step that failed; what went wrong has been printed.
#[derive(Clone, Copy)]
struct Failed(&'static str);

fn pure_steps(report: &mut Report) -> Result<(), Failed> {
    report.step("format", |_| workspace::run(workspace::cargo().args(["fmt", "--all", "--check"])))?;
    report.step("fences", |_| {
        let found = fence::check(&Workspace::load()?)?;
        found.iter().for_each(|line| println!("{line}"));
        if found.is_empty() { Ok(()) } else { bail!("{} fences broken", found.len()) }
    })?;
    report.step("fixtures", |_| data::check())?;
    // No package is named: this is the `cargo clippy` and `cargo test` of someone who has never heard of libtorch.
    report.step("clippy (pure crates)", |_| {
        workspace::run(without_torch().args(["clippy", "--all-targets", "--", "--deny", "warnings"]))
    })?;
    report.step("tests and doctests (pure crates, no libtorch)", |counts| {
        run_tests(without_torch().arg("test"), counts, &mut io::stdout().lock())
    })
}

fn torch_steps(report: &mut Report) -> Result<(), Failed> {
    let mut provided = None;
    report.step("libtorch and text encoder", |_| {
        provided = Some(Environment::provide()?);
        Ok(())
    })?;
    let Some(environment) = provided else { return Err(Failed("libtorch and text encoder")) };
    report.step("clippy (workspace)", |_| {
        let mut cargo = environment.cargo();
        workspace::run(cargo.args(["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]))
    })?;
    // What is left says `#[expect(.., reason = ..)]`: why no input can get there.
    report.step("no panic outside tests", |_| {
        let mut cargo = environment.cargo();
        cargo.args(["clippy", "--workspace", "--lib", "--bins", "--all-features", "--", "--deny", "warnings"]);
        let lints = ["unwrap_used", "expect_used", "panic", "unreachable", "todo", "unimplemented"];
        workspace::run(cargo.args(lints.iter().flat_map(|lint| ["--deny".to_owned(), format!("clippy::{lint}")])))
    })?;
    report.step("tests and doctests (crates on tch)", |counts| {
        let mut cargo = environment.cargo();
        cargo.args(["test", "--workspace"]).args(PURE.iter().flat_map(|package| ["--exclude", package]));
        // Tests run side by side already; teams of OpenMP threads that spin for one another slow them down many times.
        cargo.env("OMP_NUM_THREADS", "1");
        run_tests(&mut cargo, counts, &mut io::stdout().lock())
    })?;
    report.step("rustdoc", |_| workspace::run(&mut rustdoc(&environment)))
}

/// Documentation of all members, warnings denied.
pub(crate) fn rustdoc(environment: &Environment) -> Command {
    let mut cargo = environment.cargo();
    cargo.args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "--deny warnings");
    cargo
}

/// Cargo with everything hidden that could lead a build to libtorch.
fn without_torch() -> Command {
    let mut cargo = workspace::cargo();
    for name in ["LIBTORCH", "LIBTORCH_LIB", "LIBTORCH_INCLUDE", "LIBTORCH_USE_PYTORCH", "TAVQ_TEXT_ENCODER"] {
        cargo.env_remove(name);
    }
    cargo
}

/// Passes a test run's output through while adding up its results.
fn run_tests(command: &mut Command, counts: &mut Counts, to: &mut impl Write) -> Result<()> {
    if io::stdout().is_terminal() {
        // The tests' stdout is a pipe now; without this they would lose their colours.
        command.env("CARGO_TERM_COLOR", "always");
    }
    let name = workspace::describe(command);
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {name}"))?;
    let output = child.stdout.take().context("the test run has no output")?;
    counts.read(BufReader::new(output), to)?;
    let status = child.wait()?;
    if status.success() { Ok(()) } else { bail!("{name} failed ({status})") }
}

impl Counts {
    fn read(&mut self, mut from: impl BufRead, to: &mut impl Write) -> io::Result<()> {
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line)? > 0 {
            to.write_all(&line)?;
            to.flush()?;
            self.add(&String::from_utf8_lossy(&line));
            line.clear();
        }
        Ok(())
    }

    /// Adds a line such as `test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.01s`.
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        for part in result.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(Ok(number)), Some(what)) = (words.next().map(str::parse::<u64>), words.next()) else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

impl Report {
    fn step(&mut self, name: &'static str, work: impl FnOnce(&mut Counts) -> Result<()>) -> Result<(), Failed> {
        println!("== {name}");
        let start = Instant::now();
        let outcome = work(&mut self.counts);
        let took = start.elapsed();
        self.rows.push((name, took, outcome.is_ok()));
        match outcome {
            Ok(()) => {
                println!("== {name}: ok in {}", time(took));
                Ok(())
            }
            Err(error) => {
                eprintln!("error: {}", crate::error::one_line(&error));
                Err(Failed(name))
            }
        }
    }

    fn print(&self) {
        println!();
        for (name, took, passed) in &self.rows {
            println!("{:<4}  {:>10}  {name}", if *passed { "ok" } else { "FAIL" }, time(*took));
        }
        let Counts { passed, failed, ignored } = self.counts;
        println!("{passed} passed, {failed} failed, {ignored} ignored");
    }
}

fn time(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} min {} s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_results_add_up_and_pass_through_untouched() {
        let text = "running 2 tests\ntest a ... ok\n\
             test result: ok. 12 passed; 1 failed; 3 ignored; 0 measured; 4 filtered out; finished in 0.01s\n\
             not utf-8: \u{fffd}\ntest result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s";
        let (mut counts, mut out) = (Counts::default(), Vec::new());
        counts.read(text.as_bytes(), &mut out).unwrap();
        assert_eq!(counts, Counts { passed: 13, failed: 3, ignored: 3 });
        assert_eq!(out, text.as_bytes());
    }

    #[test]
    fn a_failing_run_is_an_error_even_when_it_printed_results() {
        let mut counts = Counts::default();
        let script = "echo 'test result: ok. 1 passed; 0 failed'; exit 101";
        let mut out = Vec::new();
        let error = run_tests(Command::new("sh").args(["-c", script]), &mut counts, &mut out).unwrap_err().to_string();
        assert!(error.contains("101"), "{error}");
        assert_eq!(counts.passed, 1);
    }

    #[test]
    fn a_step_is_recorded_whether_it_passes_or_fails() {
        let mut report = Report::default();
        assert!(report.step("good", |_| Ok(())).is_ok());
        assert!(report.step("bad", |_| bail!("no")).is_err_and(|failed| failed.0 == "bad"));
        assert_eq!(report.rows.iter().map(|row| (row.0, row.2)).collect::<Vec<_>>(), [("good", true), ("bad", false)]);
    }

    #[test]
    fn durations_are_short_to_read() {
        assert_eq!(time(Duration::from_millis(1250)), "1.2 s");
        assert_eq!(time(Duration::from_secs(125)), "2 min 5 s");
    }
}
