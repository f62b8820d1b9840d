//! Vectors for every unit of a text tree.

use std::collections::HashMap;
use std::ops::Range;

use tavq_text::{Span, TextTree};
use tch::Tensor;

use crate::model::{Special, Target, Tokens};
use crate::{CachedEncoder, EncodeError, Granularity, Mode, Result, TextModel, UnitEncoder};

#[cfg(test)]
mod tests;

/// The vectors of one tree: `[n, D]` f32 on the CPU per granularity, rows in the tree's own order.
#[derive(Debug)]
pub struct TreeVectors {
    /// One row per word.
    pub words: Tensor,
    /// One row per phrase.
    pub phrases: Tensor,
    /// One row per sentence.
    pub sentences: Tensor,
}

impl TreeVectors {
    /// The vectors of one granularity.
    pub fn get(&self, granularity: Granularity) -> &Tensor {
        match granularity {
            Granularity::Word => &self.words,
            Granularity::Phrase => &self.phrases,
            Granularity::Sentence => &self.sentences,
        }
    }
}

/// Encodes text trees.
///
/// * **Hierarchical**: one pass per sentence (overlapping windows past the model's positions). A word or phrase is
///   the mean of the states of the tokens that overlap its bytes; a sentence is what [`UnitEncoder`] gives for
///   the sentence alone. A word that no token
///   overlaps (the tokenizer drops some characters) has its phrase's vector, or its sentence's; such a phrase has
///   its sentence's. A sentence without tokens is the mean of the special ones. No vector is ever NaN.
/// * **Independent**: each unit is encoded alone. What the encoder gives for a text without tokens is kept.
pub struct TreeEncoder {
    source: Source,
    identity: String,
}

enum Source {
    Hierarchical(Box<TextModel>),
    Independent(Box<dyn UnitEncoder>),
}

// Units that independent mode remembers: 50 MB at width 384, twice that at most.
const REMEMBERED: usize = 32_768;

impl std::fmt::Debug for TreeEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreeEncoder").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl TreeEncoder {
    /// A tree encoder over a model in either mode. In independent mode the last 32,768 distinct units are remembered.
    pub fn new(model: TextModel, mode: Mode) -> Self {
        let identity = model.identity().to_owned();
        match mode {
            Mode::Hierarchical => {
                Self { identity: format!("hierarchical {identity}"), source: Source::Hierarchical(Box::new(model)) }
            }
            Mode::Independent => {
                Self::independent(Box::new(CachedEncoder::new(Box::new(model), REMEMBERED)), &identity)
            }
        }
    }

    /// Each unit alone, through any encoder. `identity` names the encoder for the text index: it must change
    /// whenever the encoder's vectors do.
    pub fn independent(encoder: Box<dyn UnitEncoder>, identity: &str) -> Self {
        Self { identity: format!("independent {identity}"), source: Source::Independent(encoder) }
    }

    /// The mode.
    pub fn mode(&self) -> Mode {
        match self.source {
            Source::Hierarchical(_) => Mode::Hierarchical,
            Source::Independent(_) => Mode::Independent,
        }
    }

    /// Names mode, model and options: trees of one splitter get the same vectors from encoders of one identity.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Width D of the vectors.
    pub fn dim(&self) -> i64 {
        self.units().dim()
    }

    /// The encoder of single units beneath, for texts that have no tree.
    pub fn units(&self) -> &dyn UnitEncoder {
        match &self.source {
            Source::Hierarchical(model) => model.as_ref(),
            Source::Independent(encoder) => encoder.as_ref(),
        }
    }

    /// The vectors of every tree. Equal sentences (hierarchical) or units (independent) are encoded once.
    ///
    /// # Errors
    /// [`EncodeError::Tree`] when a tree's parents or spans break the laws of its splitter.
    pub fn encode(&self, trees: &[TextTree<'_>]) -> Result<Vec<TreeVectors>> {
        match &self.source {
            Source::Hierarchical(model) => hierarchical(model, trees),
            Source::Independent(encoder) => independent(encoder.as_ref(), trees),
        }
    }
}

fn slice<'t>(text: &'t str, span: Span, what: &str, i: usize) -> Result<&'t str> {
    span.get(text).ok_or_else(|| EncodeError::Tree {
        what: format!("{what} {i}"),
        expected: format!("a span on character boundaries of {} bytes", text.len()),
        found: format!("{}..{}", span.start, span.end),
    })
}

fn independent(encoder: &dyn UnitEncoder, trees: &[TextTree<'_>]) -> Result<Vec<TreeVectors>> {
    let mut units = Vec::new();
    for tree in trees {
        for (i, w) in tree.words.iter().enumerate() {
            units.push(slice(tree.text, w.span, "word", i)?);
        }
        for (i, p) in tree.phrases.iter().enumerate() {
            units.push(slice(tree.text, p.span, "phrase", i)?);
        }
        for (i, s) in tree.sentences.iter().enumerate() {
            units.push(slice(tree.text, s.span, "sentence", i)?);
        }
    }
    let vectors = encoder.encode(&units)?;
    tavq_torch::check_shape("vectors of the unit encoder", &vectors, &[units.len() as i64, encoder.dim()])?;
    deal(&vectors, trees)
}

// Cuts rows in the order words, phrases, sentences of each tree into one set per tree.
fn deal(rows: &Tensor, trees: &[TextTree<'_>]) -> Result<Vec<TreeVectors>> {
    let mut at = 0;
    let mut next = |n: usize| -> Result<Tensor> {
        let part = rows.f_narrow(0, at, n as i64)?;
        at += n as i64;
        Ok(part)
    };
    let one = |tree: &TextTree<'_>| {
        Ok(TreeVectors {
            words: next(tree.words.len())?,
            phrases: next(tree.phrases.len())?,
            sentences: next(tree.sentences.len())?,
        })
    };
    trees.iter().map(one).collect()
}

// A sentence of a tree, waiting for its pass.
struct Pass<'t> {
    text: &'t str,
    /// Span of the unit within the sentence, and its row.
    units: Vec<(Span, usize)>,
    /// Rows of the sentence itself, one for each place where it stands.
    rows: Vec<usize>,
}

fn hierarchical(model: &TextModel, trees: &[TextTree<'_>]) -> Result<Vec<TreeVectors>> {
    let mut plan = Plan::default();
    for tree in trees {
        plan.add(tree)?;
    }
    let texts: Vec<&str> = plan.passes.iter().map(|p| p.text).collect();
    let tokens = model.tokenize(&texts)?;
    let mut all = Vec::with_capacity(texts.len());
    let mut seen = vec![false; plan.parents.len()];
    for (pass, tokens) in plan.passes.iter().zip(&tokens) {
        let finder = Finder::new(tokens);
        let mut targets = Vec::with_capacity(pass.units.len() + pass.rows.len());
        for &(span, index) in &pass.units {
            for part in finder.overlapping(span) {
                seen[index] = true;
                targets.push(Target { index, tokens: part, special: Special::Neither });
            }
        }
        for &index in &pass.rows {
            seen[index] = true;
            targets.push(model.whole(index, tokens));
        }
        all.extend(model.sequences(tokens, &targets));
    }
    let pooled = model.pool(&all, seen.len())?;
    // A unit without tokens has its parent's vector. Sentences always have one, so that this ends.
    let source: Vec<i64> = (0..seen.len())
        .map(|row| {
            let mut at = row;
            while !seen[at] {
                at = plan.parents[at];
            }
            at as i64
        })
        .collect();
    deal(&pooled.f_index_select(0, &Tensor::f_from_slice(&source)?)?, trees)
}

// Rows in the order of `deal`, with the row of each one's parent (a sentence is its own), and the passes.
#[derive(Default)]
struct Plan<'t> {
    passes: Vec<Pass<'t>>,
    by_text: HashMap<&'t str, usize>,
    parents: Vec<usize>,
}

impl<'t> Plan<'t> {
    fn add(&mut self, tree: &TextTree<'t>) -> Result<()> {
        let words = self.parents.len();
        let phrases = words + tree.words.len();
        let sentences = phrases + tree.phrases.len();
        let mut pass_of = Vec::with_capacity(tree.sentences.len());
        for (i, s) in tree.sentences.iter().enumerate() {
            let text = slice(tree.text, s.span, "sentence", i)?;
            let passes = &mut self.passes;
            let pass = *self.by_text.entry(text).or_insert_with(|| {
                passes.push(Pass { text, units: Vec::new(), rows: Vec::new() });
                passes.len() - 1
            });
            self.passes[pass].rows.push(sentences + i);
            pass_of.push(pass);
        }
        for (i, w) in tree.words.iter().enumerate() {
            self.unit(tree, &pass_of, w.span, w.sentence, words + i, ("word", i))?;
            self.parents.push(match w.phrase {
                Some(p) if p < tree.phrases.len() => phrases + p,
                Some(p) => return Err(out_of_range("word", i, "phrase", p, tree.phrases.len())),
                None => sentences + w.sentence,
            });
        }
        for (i, p) in tree.phrases.iter().enumerate() {
            self.unit(tree, &pass_of, p.span, p.sentence, phrases + i, ("phrase", i))?;
            self.parents.push(sentences + p.sentence);
        }
        self.parents.extend((0..tree.sentences.len()).map(|i| sentences + i));
        Ok(())
    }

    fn unit(
        &mut self,
        tree: &TextTree<'t>,
        pass_of: &[usize],
        span: Span,
        sentence: usize,
        row: usize,
        (what, i): (&str, usize),
    ) -> Result<()> {
        let Some(parent) = tree.sentences.get(sentence) else {
            return Err(out_of_range(what, i, "sentence", sentence, tree.sentences.len()));
        };
        slice(tree.text, span, what, i)?;
        if !parent.span.contains(span) {
            return Err(EncodeError::Tree {
                what: format!("{what} {i}"),
                expected: format!("within its sentence {}..{}", parent.span.start, parent.span.end),
                found: format!("{}..{}", span.start, span.end),
            });
        }
        let start = parent.span.start;
        let local = Span { start: span.start - start, end: span.end - start };
        self.passes[pass_of[sentence]].units.push((local, row));
        Ok(())
    }
}

fn out_of_range(what: &str, i: usize, parent: &str, found: usize, len: usize) -> EncodeError {
    EncodeError::Tree {
        what: format!("{parent} of {what} {i}"),
        expected: format!("an index below {len}"),
        found: found.to_string(),
    }
}

// Finds the tokens that overlap a span. Tokenizers give tokens in text order, several for one character where
// it decomposes; the running maximum of the ends keeps the search right even where ends step back.
struct Finder<'k> {
    tokens: &'k Tokens,
    reach: Vec<usize>,
}

impl<'k> Finder<'k> {
    fn new(tokens: &'k Tokens) -> Self {
        let reach = tokens.spans.iter().scan(0, |far, s| {
            *far = s.end.max(*far);
            Some(*far)
        });
        Self { reach: reach.collect(), tokens }
    }

    /// Maximal runs of tokens that share at least one byte with `span`.
    fn overlapping(&self, span: Span) -> Vec<Range<usize>> {
        let spans = &self.tokens.spans;
        let from = self.reach.partition_point(|&end| end <= span.start);
        let mut runs: Vec<Range<usize>> = Vec::new();
        for (i, s) in spans.iter().enumerate().skip(from) {
            if s.start >= span.end {
                break;
            }
            if s.end.min(span.end) > s.start.max(span.start) {
                match runs.last_mut() {
                    Some(run) if run.end == i => run.end = i + 1,
                    _ => runs.push(i..i + 1),
                }
            }
        }
        runs
    }
}
