//! Hierarchical text encoder: one frozen BERT pass per sentence, pooled up the text tree, and the text
//! index on disk that lets an epoch cost no encoder time.

use tch::Tensor;

mod error;

pub use error::EncodeError;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, EncodeError>;

/// Encodes texts one by one, each as a whole.
pub trait UnitEncoder: Send {
    /// Width D of the vectors.
    fn dim(&self) -> i64;
    /// `[n, D]` f32 on the CPU, one row per unit, in order.
    fn encode(&self, units: &[&str]) -> Result<Tensor>;
}

/// How the units of a tree get their vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// One pass per sentence, then pooled up the tree.
    Hierarchical,
    /// Each unit alone.
    Independent,
}

/// The three granularities, fine to coarse; `Word` aligns with level 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Granularity {
    /// Content words.
    Word,
    /// Phrases.
    Phrase,
    /// Sentences.
    Sentence,
}

impl Granularity {
    /// All three, fine to coarse.
    pub const ALL: [Granularity; 3] = [Granularity::Word, Granularity::Phrase, Granularity::Sentence];
}

