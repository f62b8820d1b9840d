//! A program that answers requests line by line: ot-bench, or Python with a peer. It lives through all cases of a mode, so
//! that it starts, and compiles, once.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::workspace::describe;

/// A child process; killed when dropped.
pub(crate) struct Program {
    command: String,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// The line it said first.
    pub(crate) hello: Value,
}

impl Program {
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let name = describe(command);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.with_context(|| format!("cannot start {name}"))?;
        let input = child.stdin.take().context("no pipe to the child")?;
        let output = BufReader::new(child.stdout.take().context("no pipe from the child")?);
        let mut program = Self { command: name, child, input, output, hello: Value::Null };
        program.hello = program.read()?;
        Ok(program)
    }

    /// One request, one answer.
    pub(crate) fn ask(&mut self, request: &Value) -> Result<Value> {
        writeln!(self.input, "{request}").with_context(|| format!("{} has ended", self.command))?;
        self.read()
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("{} ended without an answer", self.command);
        }
        serde_json::from_str(&line)
            .with_context(|| format!("{} did not answer with JSON: {}", self.command, line.trim()))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Either may fail only when the child is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The programs of a mode, each started when it is first asked.
pub(crate) struct Programs<W> {
    running: Vec<(W, Program)>,
    /// What programs said of themselves.
    pub(crate) versions: Vec<Value>,
}

impl<W: Copy + PartialEq> Programs<W> {
    pub(crate) fn new() -> Self {
        Self { running: Vec::new(), versions: Vec::new() }
    }

    /// The program of `who`, which `command` starts.
    pub(crate) fn get(&mut self, who: W, command: impl FnOnce() -> Result<Command>) -> Result<&mut Program> {
        let place = match self.running.iter().position(|(other, _)| *other == who) {
            Some(place) => place,
            None => {
                let program = Program::start(&mut command()?)?;
                self.versions.push(program.hello["versions"].clone());
                self.running.push((who, program));
                self.running.len() - 1
            }
        };
        Ok(&mut self.running[place].1)
    }

    /// Ends the program of `who`, so that it starts anew.
    pub(crate) fn end(&mut self, who: W) {
        self.running.retain(|(other, _)| *other != who);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_program_answers_until_it_ends() {
        let script = "echo '{\"versions\":{}}'; read line; echo \"[$line]\"; read line; echo no";
        let mut program = Program::start(Command::new("sh").args(["-c", script])).unwrap();
        assert_eq!(program.hello, json!({ "versions": {} }));
        assert_eq!(program.ask(&json!({ "a": 1 })).unwrap(), json!([{ "a": 1 }]));
        assert!(program.ask(&json!(2)).unwrap_err().to_string().contains("did not answer with JSON"));
        assert!(program.ask(&json!(3)).is_err());
    }
}
