//! The table from keys to rows: hashes of all keys in order, each with its row, found by bisection in the memory map.
//!
//! A hash stands for its key, whatever the key's length, so that the table of a million texts takes 16 MB; a row that it
//! names is compared with the key in its shard.

use std::path::Path;

use tavq_torch::TensorFile;
use tch::{Kind, Tensor};

use crate::{EncodeError, Result};

pub(super) const FILE: &str = "keys.safetensors";

/// Writes the table of keys in the order of their rows, whole or not at all.
pub(super) fn write<'k>(path: &Path, content_key: &str, keys: impl Iterator<Item = &'k str>) -> Result<()> {
    let mut entries: Vec<(i64, i64)> = keys.map(hash).zip(0..).collect();
    entries.sort_unstable();
    let (hashes, rows): (Vec<i64>, Vec<i64>) = entries.into_iter().unzip();
    let tensors =
        [("hashes".to_owned(), Tensor::f_from_slice(&hashes)?), ("rows".to_owned(), Tensor::f_from_slice(&rows)?)];
    Ok(tavq_torch::write_tensors(path, &tensors, &[("content", content_key.to_owned())])?)
}

fn hash(key: &str) -> i64 {
    let mut short = [0u8; 8];
    short.copy_from_slice(&blake3::hash(key.as_bytes()).as_bytes()[..8]);
    i64::from_le_bytes(short)
}

/// The table, open for reading.
#[derive(Debug)]
pub(super) struct Keys {
    file: TensorFile,
    hashes: usize,
    rows: usize,
    count: usize,
}

impl Keys {
    /// Opens the table of `texts` texts of the index `content_key`.
    pub(super) fn open(path: &Path, content_key: &str, texts: usize) -> Result<Self> {
        let file = TensorFile::open(path)?;
        if file.meta("content") != Some(content_key) {
            let (expected, found) =
                (format!("content {content_key}"), file.meta("content").unwrap_or("nothing").into());
            return Err(EncodeError::Index { path: path.to_path_buf(), expected, found });
        }
        let place = |name: &str| file.place(name, Kind::Int64, &[texts as i64]).map(|range| range.start);
        let (hashes, rows) = (place("hashes")?, place("rows")?);
        Ok(Self { file, hashes, rows, count: texts })
    }

    /// The rows whose key has the hash of `key`, in order.
    pub(super) fn candidates(&self, key: &str) -> Result<Vec<usize>> {
        let wanted = hash(key);
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.number(self.hashes, middle) < wanted { low = middle + 1 } else { high = middle }
        }
        let same = (low..self.count).take_while(|&i| self.number(self.hashes, i) == wanted);
        same.map(|i| self.row(i)).collect()
    }

    fn row(&self, i: usize) -> Result<usize> {
        let found = self.number(self.rows, i);
        let row = usize::try_from(found).ok().filter(|&row| row < self.count);
        row.ok_or_else(|| EncodeError::Index {
            path: self.file.path().to_path_buf(),
            expected: format!("rows below {}", self.count),
            found: found.to_string(),
        })
    }

    fn number(&self, table: usize, i: usize) -> i64 {
        let mut bytes = [0u8; 8];
        bytes.copy_from_slice(self.file.bytes(table + 8 * i..table + 8 * (i + 1)));
        i64::from_le_bytes(bytes)
    }
}
