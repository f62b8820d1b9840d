//! One file of the index: the units and vectors of some texts, each text with a checksum of its own.

use std::ops::Range;
use std::path::{Path, PathBuf};

use tavq_text::Span;
use tch::{Kind, Tensor};

use super::Storage;
use super::mapped::Mapped;
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
        let sum = checksum(r.key.as_bytes(), &r.sizes, &r.spans, &r.counts, &r.vectors)?;
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

fn checksum(key: &[u8], sizes: &[i64; 3], spans: &[i64], counts: &[i64], vectors: &Tensor) -> Result<i64> {
    let mut hash = blake3::Hasher::new();
    hash.update(&(key.len() as u64).to_le_bytes()).update(key);
    for numbers in [sizes, spans, counts] {
        for n in numbers {
            hash.update(&n.to_le_bytes());
        }
    }
    let mut bytes = vec![0u8; vectors.numel() * vectors.kind().elt_size_in_bytes()];
    vectors.f_copy_data_u8(&mut bytes, vectors.numel())?;
    hash.update(&bytes);
    let mut short = [0u8; 8];
    short.copy_from_slice(&hash.finalize().as_bytes()[..8]);
    Ok(i64::from_le_bytes(short))
}

/// The file, open for reading. A text is checked against its checksum when it is first read.
#[derive(Debug)]
pub(super) struct Shard {
    path: PathBuf,
    units: Vec<[i64; 4]>,
    sums: Vec<i64>,
    key_ends: Vec<i64>,
    checked: Vec<bool>,
    spans: Tensor,
    counts: Tensor,
    keys: Tensor,
    vectors: Tensor,
}

impl Shard {
    /// Opens a file that should hold `texts` texts of the index `content_key`; reads its small tables only.
    pub(super) fn open(path: &Path, content_key: &str, texts: usize, dim: i64, storage: Storage) -> Result<Self> {
        let file = Mapped::open(path)?;
        let damaged =
            |expected: String, found: String| EncodeError::Index { path: path.to_path_buf(), expected, found };
        if file.meta("content") != Some(content_key) {
            let found = file.meta("content").unwrap_or("nothing").to_owned();
            return Err(damaged(format!("content {content_key}"), found));
        }
        let n = texts as i64;
        let units = Vec::<i64>::try_from(file.view("units", Kind::Int64, &[n, 4])?.f_view([-1])?)?;
        let units: Vec<[i64; 4]> = units.chunks_exact(4).map(|u| [u[0], u[1], u[2], u[3]]).collect();
        let key_ends = Vec::<i64>::try_from(file.view("key_ends", Kind::Int64, &[n])?)?;
        let vectors = file.view("vectors", storage.kind(), &[-1, dim])?;
        let rows = vectors.size()[0];
        let keys = file.view("keys", Kind::Uint8, &[-1])?;
        let mut flat = units.iter().flatten().copied();
        let in_order = units.iter().try_fold(0, |at, u| (u[0] == at && u[2] < u[3]).then_some(u[3])) == Some(rows)
            && flat.try_fold(0, |at, u| (at <= u).then_some(u)).is_some()
            && key_ends.iter().try_fold(0, |at, &e| (at <= e).then_some(e)) == Some(keys.size()[0]);
        if !in_order {
            return Err(damaged("tables in order".to_owned(), "tables out of order".to_owned()));
        }
        Ok(Self {
            path: path.to_path_buf(),
            units,
            sums: Vec::try_from(file.view("sums", Kind::Int64, &[n])?)?,
            key_ends,
            checked: vec![false; texts],
            spans: file.view("spans", Kind::Int64, &[rows, 2])?,
            counts: file.view("counts", Kind::Int64, &[rows])?,
            keys,
            vectors,
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
        String::from_utf8(self.key_bytes(i)?).map_err(|e| self.damaged(i, e.to_string()))
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
    pub(super) fn spans(&self, rows: &Range<i64>) -> Result<Vec<Span>> {
        let flat = part(&self.spans, rows)?;
        Ok(flat.chunks_exact(2).map(|s| Span { start: s[0] as usize, end: s[1] as usize }).collect())
    }

    /// How often the units of some rows stand in their text.
    pub(super) fn counts(&self, rows: &Range<i64>) -> Result<Vec<i64>> {
        part(&self.counts, rows)
    }

    /// Copies the vectors of some rows, as stored, to the front of `into`. A plain copy: a thousand small libtorch
    /// operations would cost more than the bytes, and its threads would wait for each other.
    pub(super) fn copy(&self, rows: &Range<i64>, into: &mut [u8]) -> Result<()> {
        let from = self.vectors.f_narrow(0, rows.start, rows.end - rows.start)?;
        Ok(from.f_copy_data_u8(into, from.numel())?)
    }

    fn key_bytes(&self, i: usize) -> Result<Vec<u8>> {
        let start = if i == 0 { 0 } else { self.key_ends[i - 1] };
        Ok(Vec::try_from(self.keys.f_narrow(0, start, self.key_ends[i] - start)?)?)
    }

    fn check(&mut self, i: usize) -> Result<()> {
        if self.checked[i] {
            return Ok(());
        }
        let [w, p, s, end] = self.units[i];
        let (spans, counts) = (part(&self.spans, &(w..end))?, part(&self.counts, &(w..end))?);
        let vectors = self.vectors.f_narrow(0, w, end - w)?;
        let found = checksum(&self.key_bytes(i)?, &[p - w, s - p, end - s], &spans, &counts, &vectors)?;
        if found != self.sums[i] {
            return Err(self.damaged(i, format!("{found:016x}")));
        }
        self.checked[i] = true;
        Ok(())
    }

    fn damaged(&self, i: usize, found: String) -> EncodeError {
        let expected = format!("checksum {:016x} of its text {i}", self.sums[i]);
        EncodeError::Index { path: self.path.clone(), expected, found }
    }
}

// Some rows of a table of numbers, flat.
fn part(table: &Tensor, rows: &Range<i64>) -> Result<Vec<i64>> {
    let view = table.f_narrow(0, rows.start, rows.end - rows.start)?;
    let mut numbers = vec![0i64; view.numel()];
    view.f_copy_data(&mut numbers, view.numel())?;
    Ok(numbers)
}
