//! Texts from a file or standard input: one a line, or one field of JSON lines.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::{Args, ValueEnum};

use crate::failure::{Failure, Outcome, reading};

/// What a line of the input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One text a line.
    Lines,
    /// One JSON object a line.
    Jsonl,
}

#[derive(Debug, Args)]
pub(crate) struct TextInput {
    /// What a line of the input is; by default jsonl for files that end so, lines otherwise.
    #[arg(long, value_enum)]
    pub(crate) input: Option<Format>,
    /// Field of the text in JSON lines.
    #[arg(long, default_value = "text")]
    pub(crate) field: String,
    /// The file; - for standard input.
    #[arg(value_name = "FILE|-")]
    pub(crate) file: PathBuf,
}

impl TextInput {
    /// Hands every text to `each`, in order; an error names file and line.
    pub(crate) fn for_each(&self, mut each: impl FnMut(String) -> Outcome) -> Outcome {
        let stdin = self.file.as_os_str() == "-";
        let name = if stdin { Path::new("standard input") } else { self.file.as_path() };
        let format = self.input.unwrap_or_else(|| match self.file.extension() {
            Some(e) if e == "jsonl" || e == "ndjson" => Format::Jsonl,
            _ => Format::Lines,
        });
        let mut reader: Box<dyn BufRead> = if stdin {
            Box::new(io::stdin().lock())
        } else {
            Box::new(BufReader::new(File::open(&self.file).map_err(reading(name))?))
        };
        let (mut line, mut number, mut offset) = (Vec::new(), 0u64, 0u64);
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line).map_err(reading(name))? as u64;
            if read == 0 {
                return Ok(());
            }
            number += 1;
            while line.last().is_some_and(|b| *b == b'\n' || *b == b'\r') {
                line.pop();
            }
            let text = std::str::from_utf8(&line).map_err(|e| {
                let at = offset + e.valid_up_to() as u64;
                Failure::input(anyhow!(
                    "{}:{number}: expected UTF-8, found an invalid byte at offset {at}",
                    name.display()
                ))
            })?;
            offset += read;
            match format {
                Format::Lines => each(text.to_owned())?,
                Format::Jsonl if text.trim().is_empty() => {}
                Format::Jsonl => each(
                    self.text_of(text)
                        .map_err(|found| Failure::input(anyhow!("{}:{number}: {found}", name.display())))?,
                )?,
            }
        }
    }

    fn text_of(&self, line: &str) -> Result<String, String> {
        let value: serde_json::Value =
            serde_json::from_str(line).map_err(|e| format!("expected a JSON object, found {e}"))?;
        match value.get(&self.field) {
            Some(serde_json::Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(format!("\"{}\": expected a string, found another type", self.field)),
            None => Err(format!("expected a field \"{}\", found none", self.field)),
        }
    }
}
