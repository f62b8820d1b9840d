//! Benchmarks beside other libraries: `cargo xtask bench codec`, `ot` and `text`.
//!
//! Contenders take turns, case by case, so that whatever else the machine does falls on all of them alike; each program
//! stays up meanwhile, so that starting and compiling cost nothing that is counted.

pub(crate) mod codec;
pub(crate) mod ot;
pub(crate) mod text;

mod mode;
mod page;
mod peers;
mod program;

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::workspace;

/// Processor, its vectors, cores.
pub(crate) fn machine() -> String {
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
pub(crate) fn describe_versions(said: &[Value]) -> String {
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

pub(crate) fn least(values: &[f64]) -> Option<f64> {
    values.iter().copied().min_by(f64::total_cmp)
}

pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn versions_are_named_once() {
        let said = [json!({ "a": "1" }), json!({ "a": "1", "b": "2" })];
        assert!(describe_versions(&said).starts_with("a 1, b 2"));
    }
}
