//! Texts to token ids with the bytes that each token stands for.

use std::path::Path;

use tavq_text::Span;
use tokenizers::Tokenizer;

use super::clip::LEGACY_EOS;
use crate::{EncodeError, Result};

/// The tokens of one text, special tokens left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub(crate) ids: Vec<i64>,
    /// The bytes of the text that each token covers.
    pub(crate) spans: Vec<Span>,
}

/// `tokenizer.json`, with the two special tokens that frame an input.
#[derive(Debug)]
pub(super) struct TokenReader {
    tokenizer: Tokenizer,
    pub(super) first: i64,
    pub(super) last: i64,
}

impl TokenReader {
    /// Truncation and padding set in the file are switched off: a text is never cut here, and padding is the batch's.
    pub(super) fn load(path: &Path, vocab_size: i64) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| EncodeError::io(path, e))?;
        let bad = |field: &str, expected: String, found: String| EncodeError::Model {
            path: path.to_path_buf(),
            field: field.to_owned(),
            expected,
            found,
        };
        let mut tokenizer = Tokenizer::from_bytes(bytes)
            .map_err(|e| bad("(whole file)", "a Hugging Face tokenizer".to_owned(), e.to_string()))?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|e| bad("truncation", "none".to_owned(), e.to_string()))?;
        let largest = tokenizer.get_vocab(true).into_values().max().unwrap_or(0);
        if i64::from(largest) >= vocab_size {
            let expected = format!("ids below the {vocab_size} of the model");
            return Err(bad("vocab", expected, largest.to_string()));
        }
        let frame = tokenizer.encode("", true).map_err(|e| EncodeError::Tokenizer(e.to_string()))?;
        let &[first, last] = frame.get_ids() else {
            let found = format!("{:?}", frame.get_tokens());
            return Err(bad("post_processor", "one token before and one after the text".to_owned(), found));
        };
        Ok(Self { tokenizer, first: first.into(), last: last.into() })
    }

    /// Refuses an end token that is not the one behind every text. 2 stands for the largest id of a text in old files
    /// (`config.json` at `path`), so there the end token must have it.
    pub(super) fn check_end(&self, path: &Path, eos_token_id: i64) -> Result<()> {
        let largest = self.tokenizer.get_vocab(true).into_values().max().map_or(0, i64::from);
        let expected = if eos_token_id == LEGACY_EOS { largest } else { eos_token_id };
        if expected == self.last {
            return Ok(());
        }
        Err(EncodeError::Model {
            path: path.to_path_buf(),
            field: "eos_token_id".to_owned(),
            expected: format!("the token {} that the tokenizer ends a text with", self.last),
            found: expected.to_string(),
        })
    }

    /// Tokens of every text, in order, on all cores.
    pub(super) fn read(&self, texts: &[&str]) -> Result<Vec<Tokens>> {
        let encodings =
            self.tokenizer.encode_batch(texts.to_vec(), false).map_err(|e| EncodeError::Tokenizer(e.to_string()))?;
        let tokens = |e: &tokenizers::Encoding| Tokens {
            ids: e.get_ids().iter().map(|id| i64::from(*id)).collect(),
            spans: e.get_offsets().iter().map(|&(start, end)| Span { start, end }).collect(),
        };
        Ok(encodings.iter().map(tokens).collect())
    }
}
