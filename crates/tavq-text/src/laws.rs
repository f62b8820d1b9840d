//! The laws of every [`Splitter`], as a function that a third party calls on its own type.

use crate::Splitter;
use crate::tree::{Span, TextTree};

/// A law that a splitter broke on one text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{law}: {what} (text {text:?})")]
pub struct LawBroken {
    /// Name of the law.
    pub law: &'static str,
    /// Which unit broke it and how.
    pub what: String,
    /// The first 80 characters of the text.
    pub text: String,
}

/// Checks every law on every text; the first breach is the error.
///
/// * *bounds*: every span is not empty, lies in the text and on character boundaries;
/// * *order*: sentences, words and tokens are ordered and disjoint; phrases are ordered by start, the longer first, and
///   nest or are disjoint;
/// * *cover*: every character outside the sentences is white space, and a sentence neither starts nor ends with it;
/// * *parents*: the sentence of a phrase or word exists and holds it; the phrase of a word is the smallest that holds
///   it, and none only when no phrase does;
/// * *same*: splitting again gives an equal tree, over the same text.
///
/// # Errors
/// The first law that a tree breaks.
pub fn splitter_laws(splitter: &dyn Splitter, texts: &[&str]) -> Result<(), LawBroken> {
    for text in texts {
        let tree = splitter.split(text);
        let broken = bounds(&tree, text)
            .or_else(|| order(&tree))
            .or_else(|| cover(&tree))
            .or_else(|| parents(&tree))
            .or_else(|| (splitter.split(text) != tree).then(|| ("same", "a second split differs".to_owned())));
        if let Some((law, what)) = broken {
            return Err(LawBroken { law, what, text: text.chars().take(80).collect() });
        }
    }
    Ok(())
}

type Breach = Option<(&'static str, String)>;

fn spans<'a>(tree: &'a TextTree<'_>) -> impl Iterator<Item = (&'static str, usize, Span)> + 'a {
    let sentences = tree.sentences.iter().enumerate().map(|(i, s)| ("sentence", i, s.span));
    let phrases = tree.phrases.iter().enumerate().map(|(i, p)| ("phrase", i, p.span));
    let words = tree.words.iter().enumerate().map(|(i, w)| ("word", i, w.span));
    let tokens = tree.tokens.iter().enumerate().map(|(i, t)| ("token", i, t.span));
    sentences.chain(phrases).chain(words).chain(tokens)
}

fn bounds(tree: &TextTree<'_>, text: &str) -> Breach {
    if tree.text != text {
        return Some(("bounds", "the tree is over another text".to_owned()));
    }
    spans(tree)
        .find(|(_, _, s)| s.get(text).is_none_or(str::is_empty))
        .map(|(unit, i, s)| ("bounds", format!("{unit} {i} at {}..{} of {} bytes", s.start, s.end, text.len())))
}

fn order(tree: &TextTree<'_>) -> Breach {
    let mut last = ("", Span { start: 0, end: 0 });
    for (unit, i, span) in spans(tree).filter(|(unit, ..)| *unit != "phrase") {
        if last.0 == unit && span.start < last.1.end {
            return Some(("order", format!("{unit} {i} at {} starts before {}", span.start, last.1.end)));
        }
        last = (unit, span);
    }
    let mut open: Vec<Span> = Vec::new();
    for (i, span) in tree.phrases.iter().map(|p| p.span).enumerate() {
        if let Some(before) = i.checked_sub(1).map(|j| tree.phrases[j].span)
            && (before.start > span.start || (before.start == span.start && before.end < span.end))
        {
            return Some(("order", format!("phrase {i} stands behind its place")));
        }
        while open.last().is_some_and(|o| o.end <= span.start) {
            open.pop();
        }
        if open.last().is_some_and(|o| !o.contains(span)) {
            return Some(("order", format!("phrase {i} overlaps another without lying in it")));
        }
        open.push(span);
    }
    None
}

fn cover(tree: &TextTree<'_>) -> Breach {
    let mut at = 0;
    for (i, sentence) in tree.sentences.iter().enumerate() {
        let gap = &tree.text[at..sentence.span.start];
        if !gap.trim().is_empty() {
            return Some(("cover", format!("text before sentence {i} is in no sentence")));
        }
        let body = tree.slice(sentence.span);
        if body.trim().len() != body.len() {
            return Some(("cover", format!("sentence {i} has white space at an end")));
        }
        at = sentence.span.end;
    }
    let rest = &tree.text[at..];
    (!rest.trim().is_empty()).then(|| ("cover", "text behind the last sentence is in no sentence".to_owned()))
}

fn parents(tree: &TextTree<'_>) -> Breach {
    let held = |sentence: usize, span: Span| tree.sentences.get(sentence).is_some_and(|s| s.span.contains(span));
    if let Some(i) = tree.phrases.iter().position(|p| !held(p.sentence, p.span)) {
        return Some(("parents", format!("phrase {i} is not in its sentence {}", tree.phrases[i].sentence)));
    }
    // Phrases nest, so those that hold a word form a stack and the last of them is the smallest.
    let (mut next, mut open) = (0, Vec::<usize>::new());
    for (i, word) in tree.words.iter().enumerate() {
        if !held(word.sentence, word.span) {
            return Some(("parents", format!("word {i} is not in its sentence {}", word.sentence)));
        }
        while tree.phrases.get(next).is_some_and(|p| p.span.start <= word.span.start) {
            open.push(next);
            next += 1;
        }
        open.retain(|&p| tree.phrases[p].span.end > word.span.start);
        let smallest = open.iter().rev().copied().find(|&p| tree.phrases[p].span.contains(word.span));
        if word.phrase != smallest {
            return Some(("parents", format!("word {i} names phrase {:?}, its smallest is {smallest:?}", word.phrase)));
        }
    }
    None
}
