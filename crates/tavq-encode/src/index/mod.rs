//! The text index: the vectors of a data set's texts, computed once and read back from disk.
//!
//! One folder per content key, which hashes the texts, their trees (so also the splitter), the model's files and
//! the options: whatever differs gives another folder, and a folder is never changed. Inside are `manifest.json`,
//! the table from keys to rows, and shards of some hundred texts each, memory-mapped on reading. Shards are written one by one into a
//! `.partial` folder that is renamed when all are there: a killed build goes on where it stopped.

mod build;
mod keys;
mod shard;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tavq_text::{Span, Splitter};
use tch::{Kind, Tensor};

use crate::{EncodeError, Granularity, Result, TreeEncoder};
use keys::Keys;
use shard::Shard;

/// Kind of the stored vectors; they are read as f32 either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// Exact.
    #[default]
    F32,
    /// Half the size; a vector of length 1 is off by less than 5e-4 in each component.
    F16,
}

impl Storage {
    fn kind(self) -> Kind {
        match self {
            Storage::F32 => Kind::Float,
            Storage::F16 => Kind::Half,
        }
    }
}

/// How an index is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexOptions {
    /// Kind of the stored vectors. Default f32.
    pub storage: Storage,
    /// Texts in one file, at least 1: what a killed build loses at most. Default 256.
    pub texts_per_shard: usize,
}

impl Default for IndexOptions {
    fn default() -> Self {
        Self { storage: Storage::F32, texts_per_shard: 256 }
    }
}

/// What [`TextIndex::open_or_build`] found and did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Opened {
    /// Texts taken from disk.
    pub reused: usize,
    /// Texts encoded now.
    pub encoded: usize,
    /// Files that were damaged, one line each; their texts were encoded again.
    pub problems: Vec<String>,
}

/// The units of one text and granularity: distinct by [`tavq_text::fold`], in the order of first appearance.
#[derive(Debug)]
pub struct Units {
    /// Where each unit stands first.
    pub spans: Vec<Span>,
    /// How often it stands in the text, at least 1.
    pub counts: Vec<u32>,
    /// `[M, D]` f32 on the CPU, M at least 1. The vector of a unit that stands more than once has the direction
    /// of the mean of its occurrences and their mean length.
    pub vectors: Tensor,
}

/// The units of several texts, padded to the longest.
#[derive(Debug)]
pub struct UnitBatch {
    /// `[B, M, D]` f32 on the CPU, zeros at padding.
    pub vectors: Tensor,
    /// `[B, M]` f32: 1 at a unit, 0 at padding.
    pub mask: Tensor,
    /// `[B, M]` f32: how often the unit stands in its text, 0 at padding.
    pub counts: Tensor,
}

/// The vectors of a data set's texts on disk. Rows are in the order of the texts it was built from.
#[derive(Debug)]
pub struct TextIndex {
    folder: PathBuf,
    manifest: Manifest,
    keys: Mutex<Option<Keys>>,
    shards: Vec<Mutex<Option<Shard>>>,
    opened: Opened,
}

const FORMAT: u32 = 3;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    /// The content key.
    content: String,
    /// Identity of the tree encoder, for people.
    encoder: String,
    storage: Storage,
    texts: usize,
    dim: i64,
    texts_per_shard: usize,
    /// Words, phrases and sentences over all texts.
    units: [u64; 3],
    keys: StoredFile,
    shards: Vec<StoredFile>,
}

/// What the manifest knows of another file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredFile {
    bytes: u64,
    /// BLAKE3 of the whole file.
    hash: String,
}

impl StoredFile {
    fn of(path: &Path) -> Result<Self> {
        let io = |e| EncodeError::io(path, e);
        let file = std::fs::File::open(path).map_err(io)?;
        let bytes = file.metadata().map_err(io)?.len();
        let mut hash = blake3::Hasher::new();
        hash.update_reader(file).map_err(io)?;
        Ok(Self { bytes, hash: hash.finalize().to_hex().to_string() })
    }
}

impl Manifest {
    /// The table of keys, then the shards.
    fn files<'m>(&'m self, folder: &'m Path) -> impl Iterator<Item = (PathBuf, &'m StoredFile)> {
        let shards = self.shards.iter().enumerate().map(|(i, file)| (folder.join(shard_name(i)), file));
        std::iter::once((folder.join(keys::FILE), &self.keys)).chain(shards)
    }

    fn texts_in(&self, shard: usize) -> usize {
        self.texts_per_shard.min(self.texts.saturating_sub(shard * self.texts_per_shard))
    }
}

fn shard_name(i: usize) -> String {
    format!("shard-{i:05}.safetensors")
}

impl TextIndex {
    /// Opens the index of these texts under `dir`, or builds it. `texts` are (key, text) pairs; keys name rows and
    /// need not be distinct. `progress` gets (texts done, texts in all) while building.
    ///
    /// An index counts as the same when texts, keys, trees, model files and options are; every text is split to
    /// find that out. Damaged files are built anew and named in [`TextIndex::opened`].
    pub fn open_or_build(
        dir: &Path,
        texts: &[(&str, &str)],
        splitter: &dyn Splitter,
        encoder: &TreeEncoder,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self> {
        Self::open_or_build_with(dir, texts, splitter, encoder, IndexOptions::default(), progress)
    }

    /// Like [`TextIndex::open_or_build`], with options.
    pub fn open_or_build_with(
        dir: &Path,
        texts: &[(&str, &str)],
        splitter: &dyn Splitter,
        encoder: &TreeEncoder,
        options: IndexOptions,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self> {
        if options.texts_per_shard == 0 {
            let (expected, found) = ("at least 1".to_owned(), "0".to_owned());
            return Err(EncodeError::Argument { what: "texts_per_shard", expected, found });
        }
        build::Job { dir, texts, splitter, encoder, options }.open_or_build(progress)
    }

    /// Opens a finished index by its own folder. Lengths are checked now, a text's content when it is first read.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("manifest.json");
        let text = std::fs::read_to_string(&path).map_err(|e| EncodeError::io(&path, e))?;
        let damaged = |path: &Path, expected: String, found: String| EncodeError::Index {
            path: path.to_path_buf(),
            expected,
            found,
        };
        let manifest: Manifest = serde_json::from_str(&text)
            .map_err(|e| damaged(&path, format!("a manifest of format {FORMAT}"), e.to_string()))?;
        let shards = manifest.texts.div_ceil(manifest.texts_per_shard.max(1));
        let sound = manifest.format == FORMAT && manifest.texts_per_shard > 0 && manifest.dim > 0;
        if !sound || manifest.shards.len() != shards {
            let found = format!("format {}, {} shards, width {}", manifest.format, manifest.shards.len(), manifest.dim);
            return Err(damaged(&path, format!("format {FORMAT}, {shards} shards, width above 0"), found));
        }
        for (path, StoredFile { bytes: expected, .. }) in manifest.files(folder) {
            let found = std::fs::metadata(&path).map_err(|e| EncodeError::io(&path, e))?.len();
            if found != *expected {
                return Err(damaged(&path, format!("{expected} bytes"), format!("{found} bytes")));
            }
        }
        let opened = Opened { reused: manifest.texts, ..Opened::default() };
        let shards = manifest.shards.iter().map(|_| Mutex::new(None)).collect();
        Ok(Self { folder: folder.to_path_buf(), manifest, keys: Mutex::new(None), shards, opened })
    }

    /// Reads all of it and compares every file with its hash. The error names the damaged file, and the text in it where one
    /// is damaged.
    pub fn verify(&self) -> Result<()> {
        for (i, (path, expected)) in self.manifest.files(&self.folder).enumerate() {
            let found = StoredFile::of(&path)?;
            if found != *expected {
                if i > 0 {
                    self.with_shard(i - 1, Shard::verify)?;
                }
                let say = |file: &StoredFile| format!("BLAKE3 {}", file.hash);
                return Err(EncodeError::Index { path, expected: say(expected), found: say(&found) });
            }
        }
        Ok(())
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.manifest.texts
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.manifest.texts == 0
    }

    /// Width D of the vectors.
    pub fn dim(&self) -> i64 {
        self.manifest.dim
    }

    /// Where it lies: the folder that [`TextIndex::open`] takes.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Distinct words, phrases and sentences per text, summed over all texts.
    pub fn total_units(&self) -> [u64; 3] {
        self.manifest.units
    }

    /// Bytes on disk, manifest left out.
    pub fn bytes(&self) -> u64 {
        self.manifest.files(&self.folder).map(|(_, file)| file.bytes).sum()
    }

    /// What was reused, encoded and repaired when it was opened.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// The key of a row.
    pub fn key(&self, row: usize) -> Result<String> {
        self.with_row(row, |shard, i| shard.key(i))
    }

    /// The rows of a key, in order: none where no text has it, several where texts share it. The first call maps the
    /// table of keys.
    pub fn rows(&self, key: &str) -> Result<Vec<usize>> {
        let candidates = {
            let mut slot = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
            let keys = match slot.take() {
                Some(keys) => keys,
                None => Keys::open(&self.folder.join(keys::FILE), &self.manifest.content, self.len())?,
            };
            slot.insert(keys).candidates(key)?
        };
        let mut rows = Vec::with_capacity(candidates.len());
        for row in candidates {
            if self.key(row)? == key {
                rows.push(row);
            }
        }
        Ok(rows)
    }

    /// The units of one text. A text with none of this granularity gives those of the next coarser one: phrases
    /// stand in for words, sentences for phrases. A text without a sentence is one unit, the whole text.
    pub fn units(&self, row: usize, granularity: Granularity) -> Result<Units> {
        self.with_row(row, |shard, i| {
            let rows = shard.rows(i, granularity)?;
            let n = rows.end - rows.start;
            Ok(Units {
                spans: shard.spans(&rows),
                counts: shard.counts(&rows).iter().map(|&c| c as u32).collect(),
                vectors: self.vectors(shard.vectors(&rows), &[n, self.dim()])?,
            })
        })
    }

    /// The units of several texts, padded. A text with more than `max_units` units is thinned to that many, evenly
    /// spaced in text order (unit `floor(i n / max_units)`), so that every part of it keeps its share.
    pub fn batch(&self, rows: &[usize], granularity: Granularity, max_units: usize) -> Result<UnitBatch> {
        if max_units == 0 {
            let (expected, found) = ("at least 1".to_owned(), "0".to_owned());
            return Err(EncodeError::Argument { what: "max_units", expected, found });
        }
        let mut sizes = Vec::with_capacity(rows.len());
        for &row in rows {
            let found = self.with_row(row, |shard, i| shard.rows(i, granularity))?;
            sizes.push((found.end - found.start) as usize);
        }
        let m = sizes.iter().map(|n| (*n).min(max_units)).max().unwrap_or(0);
        let width = self.row_bytes();
        let mut bytes = vec![0u8; rows.len() * m * width];
        let mut mask = vec![0f32; rows.len() * m];
        let mut counts = vec![0f32; rows.len() * m];
        for (i, (&row, &n)) in rows.iter().zip(&sizes).enumerate() {
            let kept = n.min(max_units);
            let place = &mut bytes[i * m * width..(i * m + kept) * width];
            self.with_row(row, |shard, text| {
                let found = shard.rows(text, granularity)?;
                let stored = shard.vectors(&found);
                if kept == n {
                    place.copy_from_slice(stored);
                } else {
                    for (k, unit) in place.chunks_exact_mut(width).enumerate() {
                        unit.copy_from_slice(&stored[k * n / kept * width..][..width]);
                    }
                }
                let all = shard.counts(&found);
                for k in 0..kept {
                    mask[i * m + k] = 1.0;
                    counts[i * m + k] = all[k * n / kept] as f32;
                }
                Ok(())
            })?;
        }
        let shape = [rows.len() as i64, m as i64];
        Ok(UnitBatch {
            vectors: self.vectors(&bytes, &[shape[0], shape[1], self.dim()])?,
            mask: Tensor::f_from_slice(&mask)?.f_view(shape)?,
            counts: Tensor::f_from_slice(&counts)?.f_view(shape)?,
        })
    }

    fn row_bytes(&self) -> usize {
        // The width of a model that was loaded, or that a file was checked against: never negative.
        self.dim() as usize * self.manifest.storage.kind().elt_size_in_bytes()
    }

    fn vectors(&self, bytes: &[u8], shape: &[i64]) -> Result<Tensor> {
        Ok(Tensor::f_from_data_size(bytes, shape, self.manifest.storage.kind())?.f_to_kind(Kind::Float)?)
    }

    fn with_row<T>(&self, row: usize, read: impl FnOnce(&mut Shard, usize) -> Result<T>) -> Result<T> {
        if row >= self.len() {
            let expected = format!("below {}", self.len());
            return Err(EncodeError::Argument { what: "row", expected, found: row.to_string() });
        }
        let per = self.manifest.texts_per_shard;
        self.with_shard(row / per, |shard| read(shard, row % per))
    }

    // Shards are opened when first touched and stay mapped.
    fn with_shard<T>(&self, i: usize, read: impl FnOnce(&mut Shard) -> Result<T>) -> Result<T> {
        let m = &self.manifest;
        // A thread that panicked while reading has left nothing half-done.
        let mut slot = self.shards[i].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shard) = slot.as_mut() {
            return read(shard);
        }
        let path = self.folder.join(shard_name(i));
        let shard = Shard::open(&path, &m.content, m.texts_in(i), m.dim, m.storage)?;
        read(slot.insert(shard))
    }
}
