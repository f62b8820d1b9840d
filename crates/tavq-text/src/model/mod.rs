//! Part-of-speech tagger and noun-phrase chunker: two greedy averaged perceptrons over hashed features.
//!
//! Averaged perceptron: Collins 2002, "Discriminative Training Methods for Hidden Markov Models", section 2. Greedy left
//! to right instead of Viterbi: within a few tenths of a point, and linear with a small constant.

mod features;
mod table;
pub(crate) mod train;

use crate::tree::Upos;
pub(crate) use features::{Attributes, CHUNKS, TAGS};
use features::{chunk_features, tag_features};
use table::{Table, take};

/// Place of a token in the noun phrases of its sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Chunk {
    /// In no noun phrase.
    Outside,
    /// First token of a noun phrase.
    Begin,
    /// A later token of the noun phrase that the token before belongs to.
    Inside,
}

impl Chunk {
    const ALL: [Self; CHUNKS] = [Self::Outside, Self::Begin, Self::Inside];
}

/// A weights file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WeightsError {
    /// Not a weights file, or one of another version.
    #[error("weights: expected a file that starts with {expected:?}, found {found:?}")]
    Magic {
        /// First bytes of a file of this version.
        expected: String,
        /// First bytes of the given file.
        found: String,
    },
    /// The file ends too early or a number in it is out of range.
    #[error("weights: file is cut off or damaged at byte {at}")]
    Truncated {
        /// Byte offset of the failing read.
        at: usize,
    },
    /// The checksum at the end does not match.
    #[error("weights: checksum {found:08x} does not match the stored {expected:08x}")]
    Checksum {
        /// Stored in the file.
        expected: u32,
        /// Computed from its bytes.
        found: u32,
    },
}

const MAGIC: &[u8; 8] = b"tavqPOS1";

/// Tagger and chunker, ready for use.
#[derive(Debug)]
pub(crate) struct Model {
    /// Tag of each word that had no other in training: half of all tokens, spared the perceptron.
    fixed: Table<1>,
    tagger: Table<TAGS>,
    chunker: Table<CHUNKS>,
}

/// Buffers that one sentence after the other reuses.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    lower: String,
    attributes: Vec<Attributes>,
    tags: Vec<u8>,
    chunks: Vec<u8>,
}

impl Scratch {
    /// Part of speech and place of each token, after [`Model::label`].
    pub(crate) fn labels(&self) -> impl Iterator<Item = (Upos, Chunk)> + '_ {
        self.tags.iter().zip(&self.chunks).map(|(&t, &c)| (Upos::ALL[t as usize], Chunk::ALL[c as usize]))
    }
}

impl Model {
    /// Reads a weights file.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, WeightsError> {
        let found = &bytes[..bytes.len().min(MAGIC.len())];
        if found != MAGIC {
            let show = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
            return Err(WeightsError::Magic { expected: show(MAGIC), found: show(found) });
        }
        let body = bytes.len().saturating_sub(4);
        if body < MAGIC.len() {
            return Err(WeightsError::Truncated { at: bytes.len() });
        }
        let mut at = body;
        let stored = take(bytes, &mut at, 4)?.iter().rev().fold(0u32, |acc, &b| acc << 8 | u32::from(b));
        let bytes = &bytes[..body];
        let found = checksum(bytes);
        if stored != found {
            return Err(WeightsError::Checksum { expected: stored, found });
        }
        let mut at = MAGIC.len();
        let fixed = Table::read_checked(bytes, &mut at, |row: &[i8; 1]| (0..TAGS as i8).contains(&row[0]))?;
        let tagger = Table::read(bytes, &mut at)?;
        let chunker = Table::read(bytes, &mut at)?;
        if at != bytes.len() {
            return Err(WeightsError::Truncated { at });
        }
        Ok(Self { fixed, tagger, chunker })
    }

    /// The file form of the three lists.
    pub(crate) fn write(
        fixed: &[(u32, [i8; 1])],
        tagger: &[(u32, [i8; TAGS])],
        chunker: &[(u32, [i8; CHUNKS])],
    ) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        Table::write(fixed, &mut out);
        Table::write(tagger, &mut out);
        Table::write(chunker, &mut out);
        let sum = checksum(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    /// Tags and chunks the tokens of one sentence into `scratch`.
    pub(crate) fn label<'t>(&self, tokens: impl Iterator<Item = &'t str>, scratch: &mut Scratch) {
        let Scratch { lower, attributes, tags, chunks } = scratch;
        attributes.clear();
        attributes.extend(tokens.map(|t| Attributes::of(t, lower)));
        tags.clear();
        for i in 0..attributes.len() {
            let tag = match self.fixed.get(attributes[i].word) {
                Some(&[tag]) => tag as u8,
                None => best(&self.tagger, &tag_features(attributes, tags)),
            };
            tags.push(tag);
        }
        chunks.clear();
        for _ in 0..attributes.len() {
            let chunk = best(&self.chunker, &chunk_features(attributes, tags, chunks));
            let opens = chunks.last().is_none_or(|&c| c == Chunk::Outside as u8);
            chunks.push(if opens && chunk == Chunk::Inside as u8 { Chunk::Begin as u8 } else { chunk });
        }
    }
}

/// The label with the highest score; of equal ones the first.
#[inline]
fn best<const L: usize>(table: &Table<L>, features: &[u32]) -> u8 {
    let mut scores = [0i16; L];
    for &f in features {
        table.add(f, &mut scores);
    }
    argmax(&scores)
}

#[inline]
fn argmax<T: PartialOrd + Copy, const L: usize>(scores: &[T; L]) -> u8 {
    let mut top = 0;
    for label in 1..L {
        if scores[label] > scores[top] {
            top = label;
        }
    }
    top as u8
}

/// FNV-1a over the bytes: catches a damaged file, guards against nobody.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |h, &b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193))
}
