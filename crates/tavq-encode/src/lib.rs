//! Hierarchical text encoder: one pass of a frozen model (BERT, or the text tower of CLIP) per sentence, pooled up the text
//! tree, and the text index on disk that lets an epoch cost no encoder time.
//!
//! ```no_run
//! use std::path::Path;
//! use tavq_encode::{Granularity, Mode, TextIndex, TextModel, TreeEncoder};
//!
//! # fn main() -> tavq_encode::Result<()> {
//! let model = TextModel::load(Path::new("all-minilm-l6-v2"), tch::Device::Cpu)?;
//! let encoder = TreeEncoder::new(model, Mode::Hierarchical);
//! let texts = [("boat.png", "A small red boat lies at anchor. Two gulls sit on its mast.")];
//! let splitter = tavq_text::EnglishSplitter::default();
//! let index = TextIndex::open_or_build(Path::new("text-index"), &texts, &splitter, &encoder, &mut |_, _| ())?;
//! for problem in &index.opened().problems {
//!     eprintln!("built again: {problem}");
//! }
//! let words = index.batch(&[0], Granularity::Word, 64)?;
//! assert_eq!(words.vectors.size()[2], 384);
//! # Ok(())
//! # }
//! ```
//!
//! All vectors are f32, of length 1 unless [`ModelOptions::normalize`] is off, and frozen: nothing here has a gradient.

use tch::Tensor;

mod cache;
mod error;
mod index;
mod laws;
mod model;
#[cfg(test)]
mod testing;
mod tree;

pub use cache::CachedEncoder;
pub use error::EncodeError;
pub use index::{IndexOptions, Opened, Storage, TextIndex, UnitBatch, Units};
pub use laws::unit_encoder_laws;
pub use model::{Family, ModelOptions, Precision, TextModel};
pub use tree::{TreeEncoder, TreeVectors};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, EncodeError>;

/// Encodes texts one by one, each as a whole. The laws that every implementation keeps are in [`unit_encoder_laws`].
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
