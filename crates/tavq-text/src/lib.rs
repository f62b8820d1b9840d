//! Long text to a tree of sentences, phrases and words, as byte spans into the original text.
//!
//! The tree is stored flat: three lists in text order whose entries point at their parents. Spans
//! instead of strings keep the tree free of copies and let every consumer map units back to the text.
//!
//! ```
//! use tavq_text::{EnglishSplitter, Level, Splitter};
//!
//! let tree = EnglishSplitter::default().split("A dog wears a red scarf. It sits next to the tree.");
//! assert_eq!(tree.sentence_text(1), Some("It sits next to the tree."));
//! let phrases: Vec<&str> = tree.units(Level::Phrases).map(|(_, text)| text).collect();
//! assert_eq!(phrases, ["A dog", "wears a red scarf", "a red scarf", "sits next to the tree", "the tree"]);
//! ```
#![warn(missing_docs)]

mod config;
mod english;
pub mod laws;
mod model;
mod phrase;
mod render;
mod sentence;
mod token;
mod tree;
mod units;

pub use config::SplitConfig;
pub use english::EnglishSplitter;
pub use model::{Chunk, WeightsError};
pub use render::render;
pub use tree::{Flag, Phrase, PhraseKind, Sentence, Span, TextTree, Token, Upos, Word};
pub use units::{Distinct, Level, WithTokens, fold};

/// Training of the tagger and the noun-phrase chunker, for weights of other text or another language.
pub mod train {
    pub use crate::model::train::{Annotated, TrainOptions, train};
}

/// Splits a text into its tree. Total: any UTF-8 text, the empty one included, gives a tree.
pub trait Splitter: Send + Sync {
    /// The tree of `text`. The laws that every implementation keeps are in [`laws`].
    fn split<'t>(&self, text: &'t str) -> TextTree<'t>;
}
