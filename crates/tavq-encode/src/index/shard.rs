//! One file of the index: the units and vectors of some texts, each text with a checksum of its own.

use std::ops::Range;
use std::path::Path;

use tavq_text::Span;
use tavq_torch::TensorFile;
use tch::{Kind, Tensor};

use super::Storage;
use crate::{EncodeError, Granularity, Result};

/// What the index keeps of one text: its units in the order words, phrases, sentences.
pub(super) struct Record {
    pub(super) key: String,
    pub(super) spans: Vec<i64>,
    pub(super) counts: Vec<i64>,
    /// Number of words, phrases, sentences.
    pub(super) sizes: [i64; 3],
    /// `[units, D]` in the kind of the storage.
    pub(super) vectors: Tensor,
}

/// Writes the file, whole or not at all.
pub(super) fn write(path: &Path, content_key: &str, records: &[Record]) -> Result<()> {
    let (mut spans, mut counts, mut keys) = (Vec::new(), Vec::new(), Vec::new());
    let (mut units, mut key_ends, mut sums) = (Vec::new(), Vec::new(), Vec::new());
    let mut at = 0i64;
    for r in records {
        let mut bytes = vec![0u8; r.vectors.numel() * r.vectors.kind().elt_size_in_bytes()];
        r.vectors.f_copy_data_u8(&mut bytes, r.vectors.numel())?;
        let sum = checksum(r.key.as_bytes(), &r.sizes, &r.spans, &r.counts, &bytes);
        let [w, p, s] = r.sizes;
        units.extend([at, at + w, at + w + p, at + w + p + s]);
        at += w + p + s;
        spans.extend_from_slice(&r.spans);
        counts.extend_from_slice(&r.counts);
        keys.extend_from_slice(r.key.as_bytes());
        key_ends.push(keys.len() as i64);
        sums.push(sum);
    }
    let vectors = Tensor::f_cat(&records.iter().map(|r| &r.vectors).collect::<Vec<_>>(), 0)?;
    let tensors = [
        ("units".to_owned(), Tensor::f_from_slice(&units)?.f_view([-1, 4])?),
        ("spans".to_owned(), Tensor::f_from_slice(&spans)?.f_view([-1, 2])?),
        ("counts".to_owned(), Tensor::f_from_slice(&counts)?),
        ("keys".to_owned(), Tensor::f_from_slice(&keys)?),
        ("key_ends".to_owned(), Tensor::f_from_slice(&key_ends)?),
        ("sums".to_owned(), Tensor::f_from_slice(&sums)?),
        ("vectors".to_owned(), vectors),
    ];
    Ok(tavq_torch::write_tensors(path, &tensors, &[("content", content_key.to_owned())])?)
}

fn checksum(key: &[u8], sizes: &[i64; 3], spans: &[i64], counts: &[i64], vectors: &[u8]) -> i64 {
    let mut hash = blake3::Hasher::new();
    hash.update(&(key.len() as u64).to_le_bytes()).update(key);
    for numbers in [sizes, spans, counts] {
        for n in numbers {
            hash.update(&n.to_le_bytes());
        }
    }
    hash.update(vectors);
    let mut short = [0u8; 8];
    short.copy_from_slice(&hash.finalize().as_bytes()[..8]);
    i64::from_le_bytes(short)
}

/// The file, open for reading. A text is checked against its checksum when it is first read.
///
/// Its tables are read as bytes of the map: a thousand small libtorch operations would cost more than the bytes, and pages
/// come and go with the system's cache.
#[derive(Debug)]
pub(super) struct Shard {
    file: TensorFile,
    units: Vec<[i64; 4]>,
    sums: Vec<i64>,
    key_ends: Vec<i64>,
    checked: Vec<bool>,
    /// Where the tables of units lie, and the bytes of a row of each.
    spans: Table,
    counts: Table,
    keys: Table,
    vectors: Table,
}

/// A table of the file, by rows.
#[derive(Debug, Clone)]
struct Table {
    start: usize,
    row: usize,
}

impl Table {
    fn bytes<'f>(&self, file: &'f TensorFile, rows: &Range<i64>) -> &'f [u8] {
        // `open` has refused tables whose rows are not in the file.
        let at = |row: i64| self.start + row as usize * self.row;
        file.bytes(at(rows.start)..at(rows.end))
    }

    fn numbers(&self, file: &TensorFile, rows: &Range<i64>) -> Vec<i64> {
        numbers(self.bytes(file, rows))
    }
}

fn numbers(bytes: &[u8]) -> Vec<i64> {
    bytes.as_chunks::<8>().0.iter().map(|number| i64::from_le_bytes(*number)).collect()
}

impl Shard {
    /// Opens a file that should hold `texts` texts of the index `content_key`; reads its small tables only.
    pub(super) fn open(path: &Path, content_key: &str, texts: usize, dim: i64, storage: Storage) -> Result<Self> {
        let file = TensorFile::open(path)?;
        let damaged =
            |expected: String, found: String| EncodeError::Index { path: path.to_path_buf(), expected, found };
        if file.meta("content") != Some(content_key) {
            let found = file.meta("content").unwrap_or("nothing").to_owned();
            return Err(damaged(format!("content {content_key}"), found));
        }
        let n = texts as i64;
        let small = |name: &str, shape: &[i64]| -> Result<Vec<i64>> {
            Ok(numbers(file.bytes(file.place(name, Kind::Int64, shape)?)))
        };
        let units = small("units", &[n, 4])?;
        let units: Vec<[i64; 4]> = units.as_chunks().0.to_vec();
        let (key_ends, sums) = (small("key_ends", &[n])?, small("sums", &[n])?);
        let rows = file.shape("vectors").and_then(|shape| shape.first().copied()).unwrap_or(0);
        let keys = file.shape("keys").and_then(|shape| shape.first().copied()).unwrap_or(0);
        let mut flat = units.iter().flatten().copied();
        let in_order = units.iter().try_fold(0, |at, u| (u[0] == at && u[2] < u[3]).then_some(u[3])) == Some(rows)
            && flat.try_fold(0, |at, u| (at <= u).then_some(u)).is_some()
            && key_ends.iter().try_fold(0, |at, &e| (at <= e).then_some(e)) == Some(keys);
        if !in_order {
            return Err(damaged("tables in order".to_owned(), "tables out of order".to_owned()));
        }
        let table = |name: &str, kind: Kind, shape: &[i64]| -> Result<Table> {
            let start = file.place(name, kind, shape)?.start;
            let row = shape[1..].iter().product::<i64>() as usize * kind.elt_size_in_bytes();
            Ok(Table { start, row })
        };
        Ok(Self {
            spans: table("spans", Kind::Int64, &[rows, 2])?,
            counts: table("counts", Kind::Int64, &[rows])?,
            keys: table("keys", Kind::Uint8, &[keys])?,
            vectors: table("vectors", storage.kind(), &[rows, dim])?,
            checked: vec![false; texts],
            units,
            sums,
            key_ends,
            file,
        })
    }

    /// Words, phrases and sentences of all its texts.
    pub(super) fn sizes(&self) -> [u64; 3] {
        // `open` has refused tables out of order.
        [0, 1, 2].map(|level| self.units.iter().map(|u| (u[level + 1] - u[level]) as u64).sum())
    }

    /// Checks every text.
    pub(super) fn verify(&mut self) -> Result<()> {
        (0..self.units.len()).try_for_each(|i| self.check(i))
    }

    /// The key of text `i`.
    pub(super) fn key(&mut self, i: usize) -> Result<String> {
        self.check(i)?;
        String::from_utf8(self.key_bytes(i).to_vec()).map_err(|e| self.damaged(i, e.to_string()))
    }

    /// Rows of the units of text `i`, of the nearest coarser granularity when it has none of `granularity`.
    pub(super) fn rows(&mut self, i: usize, granularity: Granularity) -> Result<Range<i64>> {
        self.check(i)?;
        let u = self.units[i];
        let mut level = granularity as usize;
        // A text always has a sentence row: `open` has refused tables without.
        while level < 2 && u[level] == u[level + 1] {
            level += 1;
        }
        Ok(u[level]..u[level + 1])
    }

    /// Where the units of some rows stand.
    pub(super) fn spans(&self, rows: &Range<i64>) -> Vec<Span> {
        let flat = self.spans.numbers(&self.file, rows);
        flat.as_chunks().0.iter().map(|&[start, end]| Span { start: start as usize, end: end as usize }).collect()
    }

    /// How often the units of some rows stand in their text.
    pub(super) fn counts(&self, rows: &Range<i64>) -> Vec<i64> {
        self.counts.numbers(&self.file, rows)
    }

    /// The vectors of some rows, as stored.
    pub(super) fn vectors(&self, rows: &Range<i64>) -> &[u8] {
        self.vectors.bytes(&self.file, rows)
    }

    fn key_bytes(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { self.key_ends[i - 1] };
        self.keys.bytes(&self.file, &(start..self.key_ends[i]))
    }

    fn check(&mut self, i: usize) -> Result<()> {
        if self.checked[i] {
            return Ok(());
        }
        let [w, p, s, end] = self.units[i];
        let rows = w..end;
        let (spans, counts) = (self.spans.numbers(&self.file, &rows), self.counts(&rows));
        let found = checksum(self.key_bytes(i), &[p - w, s - p, end - s], &spans, &counts, self.vectors(&rows));
        if found != self.sums[i] {
            return Err(self.damaged(i, format!("{found:016x}")));
        }
        self.checked[i] = true;
        Ok(())
    }

    fn damaged(&self, i: usize, found: String) -> EncodeError {
        let expected = format!("checksum {:016x} of its text {i}", self.sums[i]);
        EncodeError::Index { path: self.file.path().to_path_buf(), expected, found }
    }
}
