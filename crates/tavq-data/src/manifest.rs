//! The manifest: JSON lines with `image`, `text`, `key` and an optional `split`. Other fields are left alone.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{DataError, LineProblem, OnError};

/// Limits on what a manifest may hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ManifestOptions {
    /// Longest text, bytes.
    pub max_text_bytes: usize,
    /// What a bad line does.
    pub on_error: OnError,
}

impl Default for ManifestOptions {
    fn default() -> Self {
        Self { max_text_bytes: 64 << 10, on_error: OnError::Fail }
    }
}

/// One usable line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Unique name.
    pub key: String,
    /// The image, joined with the manifest's folder.
    pub image: PathBuf,
    /// The long text.
    pub text: String,
    /// Name of the split.
    pub split: Option<String>,
    /// Line of the manifest, from 1.
    pub line: u64,
}

/// A manifest read into memory. Images are opened only when they are asked for.
#[derive(Debug, Clone)]
pub struct Manifest {
    path: PathBuf,
    rows: Vec<Row>,
    skipped: u64,
}

#[derive(Deserialize)]
struct Line {
    image: String,
    text: String,
    key: String,
    #[serde(default)]
    split: Option<String>,
}

impl Manifest {
    /// Reads a manifest. Blank lines are passed over.
    pub fn open(path: &Path, options: &ManifestOptions) -> Result<Self, DataError> {
        let io = |source| DataError::Io { path: path.to_path_buf(), source };
        let file = File::open(path).map_err(io)?;
        // A text may be escaped to six bytes a byte; the rest is room for the other fields.
        let limit = options.max_text_bytes.saturating_mul(6).saturating_add(64 << 10);
        let mut lines = Lines { reader: BufReader::new(file), limit, number: 0 };
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut manifest = Self { path: path.to_path_buf(), rows: Vec::new(), skipped: 0 };
        let mut keys: HashMap<String, u64> = HashMap::new();
        let mut first = None;
        while let Some(line) = lines.next().map_err(io)? {
            let row = line.and_then(|bytes| parse(&bytes, folder, options, &keys, lines.number));
            match row {
                Ok(None) => {}
                Ok(Some(row)) => {
                    keys.insert(row.key.clone(), row.line);
                    manifest.rows.push(row);
                }
                Err(problem) => {
                    let error = DataError::Line { manifest: path.to_path_buf(), line: lines.number, problem };
                    if options.on_error == OnError::Fail {
                        return Err(error);
                    }
                    manifest.skipped += 1;
                    first.get_or_insert_with(|| error.to_string());
                }
            }
        }
        if manifest.rows.is_empty() {
            return Err(DataError::Empty { manifest: path.to_path_buf(), skipped: manifest.skipped, first });
        }
        Ok(manifest)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The usable rows; an index into them is a sample's `row`.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Lines left out under `on_error = "skip"`.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The rows of a split, in order; of an empty name, all of them.
    pub fn select(&self, split: &str) -> Result<Vec<usize>, DataError> {
        let found: Vec<usize> = (0..self.rows.len())
            .filter(|i| split.is_empty() || self.rows[*i].split.as_deref() == Some(split))
            .collect();
        if !found.is_empty() {
            return Ok(found);
        }
        let known: BTreeSet<&str> = self.rows.iter().filter_map(|r| r.split.as_deref()).collect();
        let known = if known.is_empty() { "(none)".to_owned() } else { Vec::from_iter(known).join(", ") };
        Err(DataError::Split { manifest: self.path.clone(), wanted: split.to_owned(), known })
    }
}

fn parse(
    bytes: &[u8],
    folder: &Path,
    options: &ManifestOptions,
    keys: &HashMap<String, u64>,
    number: u64,
) -> Result<Option<Row>, LineProblem> {
    let text = std::str::from_utf8(bytes).map_err(|e| LineProblem::NotUtf8 { column: e.valid_up_to() + 1 })?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    let line: Line = serde_json::from_str(text).map_err(|e| LineProblem::NotRow { found: e.to_string() })?;
    if line.text.len() > options.max_text_bytes {
        return Err(LineProblem::LongText { limit: options.max_text_bytes, found: line.text.len() });
    }
    for (field, value) in [("image", &line.image), ("text", &line.text), ("key", &line.key)] {
        if value.trim().is_empty() {
            return Err(LineProblem::EmptyField { field });
        }
    }
    let inside = Path::new(&line.image).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if !inside {
        return Err(LineProblem::Outside { found: line.image });
    }
    if let Some(first) = keys.get(&line.key) {
        return Err(LineProblem::DuplicateKey { key: line.key, first: *first });
    }
    Ok(Some(Row { key: line.key, image: folder.join(line.image), text: line.text, split: line.split, line: number }))
}

/// Lines of bounded length.
struct Lines<R> {
    reader: R,
    limit: usize,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    fn next(&mut self) -> std::io::Result<Option<Result<Vec<u8>, LineProblem>>> {
        let mut line = Vec::new();
        let most = self.limit as u64 + 1;
        if self.reader.by_ref().take(most).read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        self.number += 1;
        if line.len() <= self.limit || line.last() == Some(&b'\n') {
            return Ok(Some(Ok(line)));
        }
        // The rest of the line is passed over in pieces, so that memory stays bounded.
        loop {
            line.clear();
            let read = self.reader.by_ref().take(most).read_until(b'\n', &mut line)?;
            if read == 0 || line.last() == Some(&b'\n') {
                return Ok(Some(Err(LineProblem::TooLong { limit: self.limit })));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &[u8], on_error: OnError) -> Result<Manifest, DataError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.jsonl");
        std::fs::write(&path, text).unwrap();
        Manifest::open(&path, &ManifestOptions { max_text_bytes: 1000, on_error })
    }

    const GOOD: &str = "{\"image\":\"a.png\",\"text\":\"one\",\"key\":\"a\",\"split\":\"train\",\"more\":[1]}\n";

    #[test]
    fn each_bad_line_is_named_or_skipped() {
        let long = format!("{{\"image\":\"b.png\",\"text\":\"{}\",\"key\":\"b\"}}", "x".repeat(1001));
        let huge = format!("{{\"image\":\"b.png\",\"text\":\"{}\",\"key\":\"b\"}}", "x".repeat(1 << 20));
        let cases: [(&[u8], &str); 10] = [
            (b"not json", "expected a JSON object"),
            (b"[1, 2]", "expected a JSON object"),
            (br#"{"image":"b.png","key":"b"}"#, "missing field `text`"),
            (br#"{"image":"b.png","text":3,"key":"b"}"#, "expected a string"),
            (br#"{"image":"b.png","text":"  ","key":"b"}"#, "\"text\": expected a text, found an empty one"),
            (br#"{"image":"../b.png","text":"t","key":"b"}"#, "\"image\": expected a path below"),
            (br#"{"image":"/b.png","text":"t","key":"b"}"#, "\"image\": expected a path below"),
            (br#"{"image":"b.png","text":"t","key":"a"}"#, "\"a\" of line 1 again"),
            (long.as_bytes(), "expected at most 1000 bytes, found 1001"),
            (huge.as_bytes(), "bytes, found more"),
        ];
        for (line, part) in cases {
            let text = [GOOD.as_bytes(), line, b"\n\n"].concat();
            let error = open(&text, OnError::Fail).unwrap_err().to_string();
            assert!(error.contains("m.jsonl:2: ") && error.contains(part), "{error} should speak of {part}");
            let manifest = open(&text, OnError::Skip).unwrap();
            assert_eq!((manifest.rows().len(), manifest.skipped()), (1, 1));
        }
        let error = open(b"{\"image\":\"\xff\"}", OnError::Fail).unwrap_err().to_string();
        assert!(error.contains("invalid byte at column 11"), "{error}");
    }

    #[test]
    fn no_rows_is_an_error_that_says_why() {
        assert!(open(b"", OnError::Fail).unwrap_err().to_string().contains("found none"));
        let error = open(b"nope\n", OnError::Skip).unwrap_err().to_string();
        assert!(error.contains("1 skipped") && error.contains("m.jsonl:1"), "{error}");
    }

    #[test]
    fn splits_select_their_rows() {
        let text = format!("{GOOD}{}", GOOD.replace("\"a\"", "\"b\"").replace("train", "validation"));
        let manifest = open(text.as_bytes(), OnError::Fail).unwrap();
        assert_eq!(manifest.select("validation").unwrap(), [1]);
        assert_eq!(manifest.select("").unwrap(), [0, 1]);
        let error = manifest.select("test").unwrap_err().to_string();
        assert!(error.contains("train, validation") && error.contains("\"test\""), "{error}");
    }
}
