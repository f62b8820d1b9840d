//! Texts from files or standard input: one a line, one field of JSON lines, or each file as one text.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
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
    /// Each file is one text.
    Whole,
}

#[derive(Debug, Args)]
pub(crate) struct TextInput {
    /// What a line of the input is; by default jsonl for files that end so, lines otherwise.
    #[arg(long, value_enum)]
    pub(crate) input: Option<Format>,
    /// Field of the text in JSON lines.
    #[arg(long, default_value = "text")]
    pub(crate) field: String,
    /// The files, in this order; - for standard input.
    #[arg(value_name = "FILE|-", required = true)]
    pub(crate) files: Vec<PathBuf>,
}

/// Read at once, and handed on at once at most: enough texts to keep every core busy.
const BATCH: usize = 1 << 20;

impl TextInput {
    /// Hands every text to `each`, in order; an error names file and line.
    pub(crate) fn for_each(&self, mut each: impl FnMut(String) -> Outcome) -> Outcome {
        self.for_each_batch(|texts| texts.into_iter().try_for_each(&mut each))
    }

    /// Hands on texts as they come, in order: what a pipe has sent so far is not kept waiting for more. Texts before an error
    /// are handed on first.
    pub(crate) fn for_each_batch(&self, mut each: impl FnMut(Vec<String>) -> Outcome) -> Outcome {
        for file in &self.files {
            let mut texts = Texts::open(self, file)?;
            let (mut batch, mut size) = (Vec::new(), 0);
            loop {
                let ended = match texts.next() {
                    Ok(Some(text)) => {
                        size += text.len();
                        batch.push(text);
                        if size < BATCH && !texts.reader.buffer().is_empty() {
                            continue;
                        }
                        None
                    }
                    Ok(None) => Some(Ok(())),
                    Err(failure) => Some(Err(failure)),
                };
                if !batch.is_empty() {
                    each(std::mem::take(&mut batch))?;
                    size = 0;
                }
                match ended {
                    None => {}
                    Some(Ok(())) => break,
                    Some(Err(failure)) => return Err(failure),
                }
            }
        }
        Ok(())
    }
}

/// The texts of one file.
struct Texts<'a> {
    name: &'a Path,
    format: Format,
    field: &'a str,
    reader: BufReader<Box<dyn Read>>,
    line: Vec<u8>,
    /// Of the line last read, from 1.
    number: u64,
    /// Bytes before the next line.
    offset: u64,
}

impl<'a> Texts<'a> {
    fn open(input: &'a TextInput, file: &'a Path) -> Outcome<Self> {
        let stdin = file.as_os_str() == "-";
        let name = if stdin { Path::new("standard input") } else { file };
        let format = input.input.unwrap_or_else(|| match file.extension() {
            Some(e) if e == "jsonl" || e == "ndjson" => Format::Jsonl,
            _ => Format::Lines,
        });
        let reader: Box<dyn Read> =
            if stdin { Box::new(io::stdin()) } else { Box::new(File::open(file).map_err(reading(name))?) };
        let reader = BufReader::with_capacity(BATCH, reader);
        Ok(Self { name, format, field: &input.field, reader, line: Vec::new(), number: 0, offset: 0 })
    }

    /// `None` at the end.
    fn next(&mut self) -> Outcome<Option<String>> {
        loop {
            self.line.clear();
            let read = match self.format {
                Format::Whole if self.number > 0 => 0,
                Format::Whole => self.reader.read_to_end(&mut self.line).map_err(reading(self.name))?.max(1),
                _ => self.reader.read_until(b'\n', &mut self.line).map_err(reading(self.name))?,
            };
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            if self.format != Format::Whole {
                while self.line.last().is_some_and(|b| *b == b'\n' || *b == b'\r') {
                    self.line.pop();
                }
            }
            let text = std::str::from_utf8(&self.line).map_err(|e| {
                let at = self.offset + e.valid_up_to() as u64;
                self.problem(&format!("expected UTF-8, found an invalid byte at offset {at}"))
            })?;
            self.offset += read as u64;
            match self.format {
                Format::Lines | Format::Whole => return Ok(Some(text.to_owned())),
                Format::Jsonl if text.trim().is_empty() => {}
                Format::Jsonl => return self.text_of(text).map(Some).map_err(|found| self.problem(&found)),
            }
        }
    }

    fn problem(&self, found: &str) -> Failure {
        Failure::input(anyhow!("{}:{}: {found}", self.name.display(), self.number))
    }

    fn text_of(&self, line: &str) -> Result<String, String> {
        let value: serde_json::Value =
            serde_json::from_str(line).map_err(|e| format!("expected a JSON object, found {e}"))?;
        match value.get(self.field) {
            Some(serde_json::Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(format!("\"{}\": expected a string, found another type", self.field)),
            None => Err(format!("expected a field \"{}\", found none", self.field)),
        }
    }
}
