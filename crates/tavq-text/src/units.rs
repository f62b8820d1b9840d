//! Reading a tree: text of a unit, iteration over one level, parents of phrases, de-duplication, the form with tokens.

use std::collections::HashMap;

use serde::ser::{Serialize, SerializeStruct, Serializer};
use serde::{Deserialize, Serialize as SerializeDerive};
use unicode_normalization::{UnicodeNormalization, is_nfc};

use crate::tree::{Span, TextTree};

/// A granularity of units, fine to coarse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, SerializeDerive, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Content words.
    Words,
    /// Phrases of every kind.
    Phrases,
    /// Sentences.
    Sentences,
}

impl Level {
    /// All levels, fine to coarse.
    pub const ALL: [Self; 3] = [Self::Words, Self::Phrases, Self::Sentences];
}

/// Units of one level that read the same, and where they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distinct {
    /// What they share: see [`fold`].
    pub key: String,
    /// Index of each of them in its level, ascending; the first gives the surface form. The length is the count.
    pub units: Vec<usize>,
}

impl<'t> TextTree<'t> {
    /// The text under `span`; empty when the span does not lie on character boundaries of the text.
    pub fn slice(&self, span: Span) -> &'t str {
        span.get(self.text).unwrap_or("")
    }

    /// How many units a level has.
    pub fn count(&self, level: Level) -> usize {
        match level {
            Level::Words => self.words.len(),
            Level::Phrases => self.phrases.len(),
            Level::Sentences => self.sentences.len(),
        }
    }

    /// Span of the `index`-th unit of a level; `None` beyond the last.
    pub fn span(&self, level: Level, index: usize) -> Option<Span> {
        match level {
            Level::Words => self.words.get(index).map(|w| w.span),
            Level::Phrases => self.phrases.get(index).map(|p| p.span),
            Level::Sentences => self.sentences.get(index).map(|s| s.span),
        }
    }

    /// Text of the `index`-th sentence; `None` beyond the last.
    pub fn sentence_text(&self, index: usize) -> Option<&'t str> {
        self.span(Level::Sentences, index).map(|s| self.slice(s))
    }

    /// Text of the `index`-th phrase; `None` beyond the last.
    pub fn phrase_text(&self, index: usize) -> Option<&'t str> {
        self.span(Level::Phrases, index).map(|s| self.slice(s))
    }

    /// Text of the `index`-th word; `None` beyond the last.
    pub fn word_text(&self, index: usize) -> Option<&'t str> {
        self.span(Level::Words, index).map(|s| self.slice(s))
    }

    /// Span and text of every unit of a level, in text order.
    pub fn units(&self, level: Level) -> impl Iterator<Item = (Span, &'t str)> + '_ {
        (0..self.count(level)).filter_map(move |i| self.span(level, i)).map(|s| (s, self.slice(s)))
    }

    /// For each phrase the smallest phrase that holds it, if any.
    pub fn phrase_parents(&self) -> Vec<Option<usize>> {
        let mut open: Vec<usize> = Vec::new();
        let mut parents = Vec::with_capacity(self.phrases.len());
        for (i, phrase) in self.phrases.iter().enumerate() {
            while open.last().is_some_and(|&j| !self.phrases[j].span.contains(phrase.span)) {
                open.pop();
            }
            parents.push(open.last().copied());
            open.push(i);
        }
        parents
    }

    /// The units of a level grouped by [`fold`]ed text, in the order of first appearance.
    pub fn distinct(&self, level: Level) -> Vec<Distinct> {
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut groups: Vec<Distinct> = Vec::new();
        for (i, (_, text)) in self.units(level).enumerate() {
            let key = fold(text);
            match places.get(&key) {
                Some(&at) => groups[at].units.push(i),
                None => {
                    places.insert(key.clone(), groups.len());
                    groups.push(Distinct { key, units: vec![i] });
                }
            }
        }
        groups
    }

    /// The tree as `split --all-tokens` writes it: with the list of all tokens.
    pub fn with_tokens(&self) -> WithTokens<'_, 't> {
        WithTokens(self)
    }
}

/// Folds a unit's text to its key: NFC, lower case, curly quotes straight, runs of white space one space, a final "'s" cut.
pub fn fold(text: &str) -> String {
    let normal: String = if is_nfc(text) { text.to_owned() } else { text.nfc().collect() };
    let mut out = String::with_capacity(normal.len());
    for c in normal.chars() {
        match c {
            '\u{2018}' | '\u{2019}' | '\u{02bc}' => out.push('\''),
            '\u{201c}' | '\u{201d}' => out.push('"'),
            c if c.is_whitespace() => {
                if !out.ends_with(' ') {
                    out.push(' ');
                }
            }
            c => out.extend(c.to_lowercase()),
        }
    }
    let end = out.trim_end().strip_suffix("'s").unwrap_or(out.trim_end()).len();
    out.truncate(end);
    // Lower case may leave a sequence that composes ("İ" and what follows it): one more pass makes the key stable.
    if is_nfc(&out) { out } else { out.nfc().collect() }
}

/// A tree that serialises with its `tokens`; see [`TextTree::with_tokens`].
#[derive(Debug, Clone, Copy)]
pub struct WithTokens<'a, 't>(&'a TextTree<'t>);

impl Serialize for WithTokens<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("TextTree", 4)?;
        out.serialize_field("sentences", &self.0.sentences)?;
        out.serialize_field("phrases", &self.0.phrases)?;
        out.serialize_field("words", &self.0.words)?;
        out.serialize_field("tokens", &self.0.tokens)?;
        out.end()
    }
}
