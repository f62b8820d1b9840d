//! The tree that a splitter returns: flat lists of spans, each with the index of its parent.

use serde::{Deserialize, Serialize};

/// Half-open byte range into the text, on character boundaries. Serialised as `[start, end]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "[usize; 2]", from = "[usize; 2]")]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl From<Span> for [usize; 2] {
    fn from(s: Span) -> Self {
        [s.start, s.end]
    }
}

impl From<[usize; 2]> for Span {
    fn from([start, end]: [usize; 2]) -> Self {
        Self { start, end }
    }
}

impl Span {
    /// The text that the span covers; `None` when the span does not lie on character boundaries of `text`.
    pub fn get<'t>(&self, text: &'t str) -> Option<&'t str> {
        text.get(self.start..self.end)
    }
    /// Whether `other` lies within this span.
    pub fn contains(&self, other: Span) -> bool {
        self.start <= other.start && other.end <= self.end
    }
}

/// Universal part of speech (universaldependencies.org/u/pos).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)]
pub enum Upos {
    Adj,
    Adp,
    Adv,
    Aux,
    Cconj,
    Det,
    Intj,
    Noun,
    Num,
    Part,
    Pron,
    Propn,
    Punct,
    Sconj,
    Sym,
    Verb,
    X,
}

impl Upos {
    /// All parts of speech, in the order of their names.
    pub const ALL: [Self; 17] = [
        Self::Adj,
        Self::Adp,
        Self::Adv,
        Self::Aux,
        Self::Cconj,
        Self::Det,
        Self::Intj,
        Self::Noun,
        Self::Num,
        Self::Part,
        Self::Pron,
        Self::Propn,
        Self::Punct,
        Self::Sconj,
        Self::Sym,
        Self::Verb,
        Self::X,
    ];
    /// The name in Universal Dependencies: "NOUN".
    pub fn name(self) -> &'static str {
        const NAMES: [&str; 17] = [
            "ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN", "PUNCT",
            "SCONJ", "SYM", "VERB", "X",
        ];
        NAMES[self as usize]
    }
    /// The part of speech of that name; `None` for any other string.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|u| u.name() == name)
    }
}

/// What a phrase is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PhraseKind {
    /// Determiner, modifiers and head: "a dark blue apron".
    Noun,
    /// Noun phrases joined over "of": "a group of five hikers".
    Partitive,
    /// A verb or preposition with its noun phrase: "wearing a dark blue apron", "next to the tree".
    Relation,
}

/// A remark on a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flag {
    /// The phrase speaks of the picture itself: "the image", "the background".
    Meta,
}

/// One sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sentence {
    /// Where it stands.
    pub span: Span,
}

/// One phrase. A noun phrase inside a partitive or relation is listed too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phrase {
    /// Where it stands.
    pub span: Span,
    /// What it is.
    pub kind: PhraseKind,
    /// Index of its sentence.
    pub sentence: usize,
    /// Remarks.
    pub flags: Vec<Flag>,
}

/// One content word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// Where it stands.
    pub span: Span,
    /// Its part of speech.
    pub upos: Upos,
    /// Index of its sentence.
    pub sentence: usize,
    /// Index of the innermost phrase that holds it.
    pub phrase: Option<usize>,
}

/// One token, function words and punctuation included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Where it stands.
    pub span: Span,
    /// Its part of speech.
    pub upos: Upos,
}

/// A text with its sentences, phrases, content words and tokens, each list in text order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TextTree<'t> {
    /// The text that every span points into.
    #[serde(skip)]
    pub text: &'t str,
    /// Sentences.
    pub sentences: Vec<Sentence>,
    /// Phrases, by start, the longer first.
    pub phrases: Vec<Phrase>,
    /// Content words.
    pub words: Vec<Word>,
    /// All tokens.
    #[serde(skip)]
    pub tokens: Vec<Token>,
}
