//! Where numbers go: a JSONL file for machines, and whatever else is plugged in.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::{Result, TrainError};

/// What a record speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordKind {
    /// One training step.
    Train,
    /// One finished epoch.
    Epoch,
    /// An evaluation.
    Evaluation,
}

/// One line of numbers.
#[derive(Debug, Clone, Serialize)]
pub struct Record<'a> {
    /// What it speaks of.
    pub kind: RecordKind,
    /// Steps done when it was written.
    pub step: u64,
    /// Epochs finished.
    pub epoch: u64,
    /// The numbers by name.
    #[serde(flatten)]
    pub values: &'a BTreeMap<String, f64>,
}

/// Receives records.
pub trait Sink: Send {
    /// Takes one record; it is durable when the call returns.
    fn write(&mut self, record: &Record<'_>) -> Result<()>;
}

/// One JSON object a line.
#[derive(Debug)]
pub struct JsonlSink {
    path: PathBuf,
    file: File,
}

impl JsonlSink {
    /// Opens `path` for appending and drops the lines past `step` that a killed run left, a torn last line included.
    pub fn resume(path: &Path, step: u64) -> Result<Self> {
        let io = |source| TrainError::Io { path: path.to_path_buf(), source };
        if let Ok(file) = File::open(path) {
            let mut kept = Vec::new();
            for line in BufReader::new(file).split(b'\n') {
                let line = line.map_err(io)?;
                let Ok(value) = serde_json::from_slice::<serde_json::Value>(&line) else { continue };
                if value["step"].as_u64().is_some_and(|s| s <= step) {
                    kept.extend_from_slice(&line);
                    kept.push(b'\n');
                }
            }
            tavq_torch::write_atomic(path, |out| out.write_all(&kept)).map_err(io)?;
        } else if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(io)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(io)?;
        Ok(Self { path: path.to_path_buf(), file })
    }
}

impl Sink for JsonlSink {
    fn write(&mut self, record: &Record<'_>) -> Result<()> {
        let io = |source| TrainError::Io { path: self.path.clone(), source };
        let mut line = serde_json::to_vec(record).map_err(|e| io(e.into()))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(io)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resume_drops_later_and_torn_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut sink = JsonlSink::resume(&path, 0).unwrap();
        for step in [1, 2, 3] {
            let values = BTreeMap::from([("loss".to_owned(), 0.5)]);
            sink.write(&Record { kind: RecordKind::Train, step, epoch: 0, values: &values }).unwrap();
        }
        fs::write(&path, [fs::read(&path).unwrap(), b"{\"kind\":\"tr".to_vec()].concat()).unwrap();
        drop(JsonlSink::resume(&path, 2).unwrap());
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert_eq!(text.lines().next().unwrap(), r#"{"kind":"train","step":1,"epoch":0,"loss":0.5}"#);
    }
}
