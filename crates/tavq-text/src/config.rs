//! Settings of the English splitter, as a table of a configuration file.

use serde::{Deserialize, Serialize};

use crate::tree::{PhraseKind, Upos};

/// Which units the splitter lists. Changing it never changes spans, only which of them appear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SplitConfig {
    /// Parts of speech that count as words. Default: NOUN, PROPN, ADJ, VERB, NUM.
    pub words: Vec<Upos>,
    /// Kinds of phrases that are listed. Default: all three.
    pub phrases: Vec<PhraseKind>,
    /// Heads that make a noun phrase speak of the picture itself ("the image"); compared in lower case. A relation
    /// whose object is such a phrase is flagged too.
    pub meta_heads: Vec<String>,
    /// Modifiers that leave it so ("the overall image"); any other modifier makes it a thing ("the framed photograph").
    pub meta_modifiers: Vec<String>,
    /// Leave flagged phrases out of the list. Default: false, they stay with their flag.
    pub drop_meta: bool,
    /// Words never listed, compared by their folded key. Default: none.
    pub stop_words: Vec<String>,
    /// Most tokens of a phrase that is listed; longer ones (repetition, tables) are left out. Default: 64.
    pub max_phrase_tokens: usize,
    /// Most sentences that are split further; later ones are listed without phrases and words. Default: no limit (0).
    pub max_sentences: usize,
}

impl Default for SplitConfig {
    fn default() -> Self {
        let list = |words: &str| words.split_whitespace().map(str::to_owned).collect();
        Self {
            words: vec![Upos::Noun, Upos::Propn, Upos::Adj, Upos::Verb, Upos::Num],
            phrases: vec![PhraseKind::Noun, PhraseKind::Partitive, PhraseKind::Relation],
            meta_heads: list(
                "image picture photo photograph snapshot background foreground scene composition shot view \
                 illustration render rendering depiction midground setting backdrop close-up",
            ),
            meta_modifiers: list(
                "whole entire overall detailed close up close-up left right upper lower immediate far distant blurred blurry \
                 high low angle level eye wide outdoor indoor color colour black white and full",
            ),
            drop_meta: false,
            stop_words: Vec::new(),
            max_phrase_tokens: 64,
            max_sentences: 0,
        }
    }
}
