//! The English splitter: sentences by rules, tokens, tags and noun phrases by the model, joined phrases and words by rules.

use std::sync::{Arc, OnceLock};

use crate::Splitter;
use crate::config::SplitConfig;
use crate::model::{Chunk, Model, Scratch, WeightsError};
use crate::phrase::{Labelled, phrases};
use crate::sentence::sentences;
use crate::token::tokens;
use crate::tree::{Phrase, Sentence, Span, TextTree, Token, Upos, Word};
use crate::units::fold;

/// The weights that ship with the crate; data/README.md states their origin, licences and figures.
static WEIGHTS: &[u8] = include_bytes!("../data/english.weights");

/// Splits English text. Cheap to clone and to build: the built-in weights are read once per process.
#[derive(Debug, Clone)]
pub struct EnglishSplitter {
    model: Arc<Model>,
    config: SplitConfig,
}

impl Default for EnglishSplitter {
    fn default() -> Self {
        Self::new(SplitConfig::default())
    }
}

impl EnglishSplitter {
    /// A splitter with the built-in weights.
    pub fn new(config: SplitConfig) -> Self {
        static MODEL: OnceLock<Arc<Model>> = OnceLock::new();
        #[expect(clippy::expect_used, reason = "the bytes are part of the binary, and a test reads them")]
        let model = MODEL.get_or_init(|| Arc::new(Model::read(WEIGHTS).expect("the built-in weights are whole")));
        Self { model: Arc::clone(model), config }
    }

    /// A splitter with the weights of a file that [`crate::train::train`] made, for other text or another language.
    ///
    /// # Errors
    /// When the bytes are not such a file, are cut off or damaged.
    pub fn from_weights(bytes: &[u8], config: SplitConfig) -> Result<Self, WeightsError> {
        Ok(Self { model: Arc::new(Model::read(bytes)?), config })
    }

    /// The settings in use.
    pub fn config(&self) -> &SplitConfig {
        &self.config
    }

    /// Part of speech and noun-phrase place of each token of one sentence that is already split into tokens.
    pub fn label(&self, tokens: &[&str]) -> Vec<(Upos, Chunk)> {
        let mut scratch = Scratch::default();
        self.model.label(tokens.iter().copied(), &mut scratch);
        scratch.labels().collect()
    }

    /// Only the sentences of `text`: spans without the white space around them.
    pub fn sentences(&self, text: &str) -> Vec<Span> {
        sentences(text)
    }
}

impl Splitter for EnglishSplitter {
    fn split<'t>(&self, text: &'t str) -> TextTree<'t> {
        let spans = sentences(text);
        let mut tree = TextTree {
            text,
            sentences: spans.iter().map(|&span| Sentence { span }).collect(),
            phrases: Vec::new(),
            words: Vec::new(),
            tokens: Vec::new(),
        };
        let mut work = Work { scratch: Scratch::default(), spans: Vec::new(), stop: self.stop_keys() };
        let limit = if self.config.max_sentences == 0 { spans.len() } else { self.config.max_sentences };
        for (index, &span) in spans.iter().enumerate().take(limit) {
            self.split_sentence(index, span, &mut tree, &mut work);
        }
        tree
    }
}

/// Buffers that one sentence after the other reuses.
struct Work {
    scratch: Scratch,
    spans: Vec<Span>,
    stop: Vec<String>,
}

impl EnglishSplitter {
    fn stop_keys(&self) -> Vec<String> {
        self.config.stop_words.iter().map(|w| fold(w)).collect()
    }

    fn split_sentence(&self, index: usize, span: Span, tree: &mut TextTree<'_>, work: &mut Work) {
        let text = tree.text;
        work.spans.clear();
        tokens(text, span, &mut work.spans);
        self.model.label(work.spans.iter().map(|s| &text[s.start..s.end]), &mut work.scratch);
        let mut labelled: Vec<Labelled<'_>> = work
            .spans
            .iter()
            .zip(work.scratch.labels())
            .map(|(&span, (upos, chunk))| Labelled { text: &text[span.start..span.end], span, upos, chunk })
            .collect();
        find_predicate(&mut labelled);
        tree.tokens.extend(labelled.iter().map(|t| Token { span: t.span, upos: t.upos }));
        let first = tree.phrases.len();
        phrases(&labelled, index, &self.config, &mut tree.phrases);
        self.words(&labelled, index, first, tree, &work.stop);
    }

    /// Appends the content words of a sentence whose phrases begin at `first`.
    fn words(&self, tokens: &[Labelled<'_>], sentence: usize, first: usize, tree: &mut TextTree<'_>, stop: &[String]) {
        let TextTree { text, phrases, words, .. } = tree;
        let mut open = Innermost { phrases, next: first, open: Vec::new() };
        let mut i = 0;
        while i < tokens.len() {
            let end = chain_end(tokens, i);
            let span = Span { start: tokens[i].span.start, end: tokens[end - 1].span.end };
            // The last content word of a chain stands for it: "black-and-white", "wide-open".
            let upos = tokens[i..end].iter().rev().map(|t| t.upos).find(|u| self.config.words.contains(u));
            if let Some(upos) = upos
                && (stop.is_empty() || !stop.contains(&fold(&text[span.start..span.end])))
            {
                words.push(Word { span, upos, sentence, phrase: open.of(span) });
            }
            i = end;
        }
    }
}

/// A sentence without a verb, in which the last noun of a compound may be one: "A slice of lemon rests on the edge." Verbs that
/// are rarer than their plural noun are read as that behind a noun.
fn find_predicate(tokens: &mut [Labelled<'_>]) {
    let full_stop = tokens.last().is_some_and(|t| t.text == ".");
    if !full_stop || tokens.iter().any(|t| matches!(t.upos, Upos::Verb | Upos::Aux)) {
        return;
    }
    let candidate = tokens.windows(3).position(|window| {
        let [noun, verb, next] = window else { return false };
        let plural = verb.text.len() > 3 && verb.text.ends_with('s') && !verb.text.ends_with("ss");
        let compound = matches!(noun.upos, Upos::Noun | Upos::Propn) && verb.chunk == Chunk::Inside;
        let ends = next.chunk != Chunk::Inside && matches!(next.upos, Upos::Adp | Upos::Adv | Upos::Det);
        verb.upos == Upos::Noun && plural && compound && ends
    });
    if let Some(at) = candidate {
        tokens[at + 1].upos = Upos::Verb;
        tokens[at + 1].chunk = Chunk::Outside;
    }
}

/// Walks words and phrases side by side; both come in text order.
struct Innermost<'p> {
    phrases: &'p [Phrase],
    next: usize,
    open: Vec<usize>,
}

impl Innermost<'_> {
    /// Index of the smallest phrase that holds `word`.
    fn of(&mut self, word: Span) -> Option<usize> {
        while self.phrases.get(self.next).is_some_and(|p| p.span.start <= word.start) {
            self.open.push(self.next);
            self.next += 1;
        }
        self.open.retain(|&i| self.phrases[i].span.end > word.start);
        self.open.iter().rev().copied().find(|&i| self.phrases[i].span.contains(word))
    }
}

/// End of the hyphen chain of letters that begins at token `i`: one past `i` when there is none.
fn chain_end(tokens: &[Labelled<'_>], i: usize) -> usize {
    let letters = |t: &Labelled<'_>| t.text.chars().all(char::is_alphabetic);
    let mut end = i + 1;
    if !letters(&tokens[i]) {
        return end;
    }
    while let [hyphen, part, ..] = &tokens[end..]
        && matches!(hyphen.text, "-" | "\u{2010}" | "\u{2011}")
        && letters(part)
        && tokens[end - 1].span.end == hyphen.span.start
        && hyphen.span.end == part.span.start
    {
        end += 2;
    }
    end
}
