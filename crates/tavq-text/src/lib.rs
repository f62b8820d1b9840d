//! Long text to a tree of sentences, phrases and words, as byte spans into the original text.
//!
//! The tree is stored flat: three lists in text order whose entries point at their parents. Spans
//! instead of strings keep the tree free of copies and let every consumer map units back to the text.
#![warn(missing_docs)]

mod tree;

pub use tree::{Flag, Phrase, PhraseKind, Sentence, Span, TextTree, Token, Upos, Word};

/// Splits a text into its tree. Total: any UTF-8 text, the empty one included, gives a tree.
pub trait Splitter: Send + Sync {
    /// The tree of `text`. The laws that every implementation keeps are in `laws`.
    fn split<'t>(&self, text: &'t str) -> TextTree<'t>;
}
