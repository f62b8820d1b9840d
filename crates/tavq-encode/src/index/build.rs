//! Building an index: content key, resume, repair.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use rayon::prelude::*;
use tavq_text::{Span, Splitter, TextTree};
use tch::{Kind, Tensor};

use super::shard::{self, Record, Shard};
use super::{FORMAT, IndexOptions, Manifest, Opened, StoredFile, TextIndex, keys, shard_name};
use crate::{EncodeError, Granularity, Result, TreeEncoder, TreeVectors};

// Texts that go through the encoder together: enough sentences to fill batches of one length.
const CHUNK: usize = 64;

// Up to this size an index is read and checked whole when it is opened for reuse; a larger one as it is read.
const CHECK_AT_ONCE: u64 = 1 << 30;

/// One call of `open_or_build`.
pub(super) struct Job<'a> {
    pub(super) dir: &'a Path,
    pub(super) texts: &'a [(&'a str, &'a str)],
    pub(super) splitter: &'a dyn Splitter,
    pub(super) encoder: &'a TreeEncoder,
    pub(super) options: IndexOptions,
}

impl Job<'_> {
    pub(super) fn open_or_build(&self, progress: &mut dyn FnMut(usize, usize)) -> Result<TextIndex> {
        let content = self.content_key();
        let folder = self.dir.join(&content[..32]);
        let partial = self.dir.join(format!(".partial-{}", &content[..32]));
        let mut opened = Opened::default();
        if folder.exists() {
            match self.reuse(&folder) {
                Ok(index) => return Ok(index),
                Err(e) => opened.problems.push(e.to_string()),
            }
            // A damaged index becomes an unfinished one: its sound shards are kept.
            remove(&partial)?;
            fs::rename(&folder, &partial).map_err(|e| EncodeError::io(&folder, e))?;
        }
        let manifest = self.fill(&partial, &content, &mut opened, progress)?;
        let path = partial.join("manifest.json");
        let body = serde_json::to_string_pretty(&manifest).map_err(|e| EncodeError::io(&path, e.into()))?;
        tavq_torch::write_atomic(&path, |out| writeln!(out, "{body}")).map_err(|e| EncodeError::io(&path, e))?;
        if let Err(e) = fs::rename(&partial, &folder) {
            // Another process has finished the same index in the meantime.
            if !folder.exists() {
                return Err(EncodeError::io(&folder, e));
            }
            remove(&partial)?;
        }
        let mut index = TextIndex::open(&folder)?;
        index.opened = opened;
        Ok(index)
    }

    fn reuse(&self, folder: &Path) -> Result<TextIndex> {
        let index = TextIndex::open(folder)?;
        if index.bytes() <= CHECK_AT_ONCE {
            index.verify()?;
        }
        Ok(index)
    }

    // What the vectors depend on. Splitters have no version: the spans of every tree stand for it.
    fn content_key(&self) -> String {
        let texts: Vec<blake3::Hash> = self
            .texts
            .par_iter()
            .map(|(key, text)| {
                let mut hash = blake3::Hasher::new();
                for part in [key, text] {
                    hash.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
                }
                hash_tree(&mut hash, &self.splitter.split(text));
                hash.finalize()
            })
            .collect();
        let mut hash = blake3::Hasher::new();
        let options = format!("{FORMAT} {:?} {}", self.options.storage, self.options.texts_per_shard);
        for part in [options.as_str(), self.encoder.identity()] {
            hash.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        for text in &texts {
            hash.update(text.as_bytes());
        }
        hash.finalize().to_hex().to_string()
    }

    // Writes the shards that are not there yet.
    fn fill(
        &self,
        partial: &Path,
        content: &str,
        opened: &mut Opened,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Manifest> {
        fs::create_dir_all(partial).map_err(|e| EncodeError::io(partial, e))?;
        let per = self.options.texts_per_shard;
        let table = partial.join(keys::FILE);
        keys::write(&table, content, self.texts.iter().map(|(key, _)| *key))?;
        let mut manifest = Manifest {
            format: FORMAT,
            content: content.to_owned(),
            encoder: self.encoder.identity().to_owned(),
            storage: self.options.storage,
            texts: self.texts.len(),
            dim: self.encoder.dim(),
            texts_per_shard: per,
            units: [0; 3],
            keys: StoredFile::of(&table)?,
            shards: Vec::new(),
        };
        let mut done = 0;
        progress(0, self.texts.len());
        for (i, texts) in self.texts.chunks(per).enumerate() {
            let path = partial.join(shard_name(i));
            let kept = self.kept(&path, &manifest, texts.len(), opened);
            let units = match kept {
                Some(units) => {
                    opened.reused += texts.len();
                    units
                }
                None => {
                    opened.encoded += texts.len();
                    self.write_shard(&path, content, texts, &mut |n| progress(done + n, self.texts.len()))?
                }
            };
            done += texts.len();
            progress(done, self.texts.len());
            for (sum, n) in manifest.units.iter_mut().zip(units) {
                *sum += n;
            }
            manifest.shards.push(StoredFile::of(&path)?);
        }
        Ok(manifest)
    }

    // The unit counts of a sound shard left by an earlier run.
    fn kept(&self, path: &Path, m: &Manifest, texts: usize, opened: &mut Opened) -> Option<[u64; 3]> {
        if !path.exists() {
            return None;
        }
        let sound = Shard::open(path, &m.content, texts, m.dim, m.storage).and_then(|mut shard| {
            shard.verify()?;
            Ok(shard.sizes())
        });
        match sound {
            Ok(sizes) => Some(sizes),
            Err(e) => {
                let line = e.to_string();
                if !opened.problems.contains(&line) {
                    opened.problems.push(line);
                }
                None
            }
        }
    }

    fn write_shard(
        &self,
        path: &Path,
        content: &str,
        texts: &[(&str, &str)],
        progress: &mut dyn FnMut(usize),
    ) -> Result<[u64; 3]> {
        let mut records = Vec::with_capacity(texts.len());
        for chunk in texts.chunks(CHUNK) {
            let trees: Vec<TextTree<'_>> = chunk.par_iter().map(|(_, text)| self.splitter.split(text)).collect();
            let vectors = self.encoder.encode(&trees)?;
            for (((key, _), tree), vectors) in chunk.iter().zip(&trees).zip(&vectors) {
                records.push(self.record(key, tree, vectors)?);
            }
            progress(records.len());
        }
        shard::write(path, content, &records)?;
        let mut sizes = [0; 3];
        for r in &records {
            for (sum, n) in sizes.iter_mut().zip(r.sizes) {
                *sum += n as u64;
            }
        }
        Ok(sizes)
    }

    fn record(&self, key: &str, tree: &TextTree<'_>, vectors: &TreeVectors) -> Result<Record> {
        let mut record = Record {
            key: key.to_owned(),
            spans: Vec::new(),
            counts: Vec::new(),
            sizes: [0; 3],
            vectors: Tensor::new(),
        };
        let mut parts = Vec::with_capacity(3);
        for (level, granularity) in Granularity::ALL.into_iter().enumerate() {
            let mut spans: Vec<Span> = match granularity {
                Granularity::Word => tree.words.iter().map(|u| u.span).collect(),
                Granularity::Phrase => tree.phrases.iter().map(|u| u.span).collect(),
                Granularity::Sentence => tree.sentences.iter().map(|u| u.span).collect(),
            };
            let whole;
            let mut rows = vectors.get(granularity);
            if granularity == Granularity::Sentence && spans.is_empty() {
                spans.push(Span { start: 0, end: tree.text.len() });
                whole = self.encoder.units().encode(&[tree.text])?;
                rows = &whole;
            }
            let (first, groups) = group(tree.text, &spans);
            record.sizes[level] = first.len() as i64;
            for &i in &first {
                record.spans.extend([spans[i].start as i64, spans[i].end as i64]);
            }
            let mut counts = vec![0i64; first.len()];
            for &g in &groups {
                counts[g as usize] += 1;
            }
            parts.push(merge(rows, &groups, &counts)?);
            record.counts.extend(counts);
        }
        record.vectors = Tensor::f_cat(&parts, 0)?.f_to_kind(self.options.storage.kind())?;
        Ok(record)
    }
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() { fs::remove_dir_all(folder).map_err(|e| EncodeError::io(folder, e)) } else { Ok(()) }
}

fn hash_tree(hash: &mut blake3::Hasher, tree: &TextTree<'_>) {
    let mut put = |numbers: &[usize]| {
        for n in numbers {
            hash.update(&(*n as u64).to_le_bytes());
        }
    };
    put(&[tree.words.len(), tree.phrases.len(), tree.sentences.len()]);
    for w in &tree.words {
        put(&[w.span.start, w.span.end, w.sentence, w.phrase.map_or(0, |p| p + 1)]);
    }
    for p in &tree.phrases {
        put(&[p.span.start, p.span.end, p.sentence]);
    }
    for s in &tree.sentences {
        put(&[s.span.start, s.span.end]);
    }
}

// For each distinct unit the index of its first occurrence, and for each occurrence its distinct unit.
fn group(text: &str, spans: &[Span]) -> (Vec<usize>, Vec<i64>) {
    let mut first = Vec::new();
    let mut known: HashMap<String, i64> = HashMap::new();
    let groups = spans
        .iter()
        .enumerate()
        .map(|(i, span)| {
            *known.entry(tavq_text::fold(span.get(text).unwrap_or_default())).or_insert_with(|| {
                first.push(i);
                first.len() as i64 - 1
            })
        })
        .collect();
    (first, groups)
}

// [n, D] to one row per group: direction of the mean, mean length.
fn merge(rows: &Tensor, groups: &[i64], counts: &[i64]) -> Result<Tensor> {
    if counts.len() == groups.len() {
        return Ok(rows.shallow_clone());
    }
    let groups = Tensor::f_from_slice(groups)?;
    let counts = Tensor::f_from_slice(counts)?.f_to_kind(Kind::Float)?.f_unsqueeze(1)?;
    let mean = |x: &Tensor| -> Result<Tensor> {
        let shape = [counts.size()[0], x.size()[1]];
        let mut sums = Tensor::f_zeros(shape, (Kind::Float, x.device()))?;
        Ok(sums.f_index_add_(0, &groups, x)?.f_div(&counts)?)
    };
    let lengths = rows.f_linalg_norm(2, [-1i64].as_slice(), true, Kind::Float)?;
    Ok(crate::model::unit_length(&mean(rows)?)?.f_mul(&mean(&lengths)?)?)
}
