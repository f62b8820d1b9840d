//! A tree for people: sentences, their phrases by nesting, and the words of each, indented.

use std::fmt::Write as _;

use crate::tree::{PhraseKind, TextTree};

/// The tree as lines of text. With `colour`, ANSI codes set the levels apart: sentences bold, noun phrases green,
/// partitives cyan, relations yellow, words plain with their part of speech dimmed, meta phrases dimmed.
pub fn render(tree: &TextTree<'_>, colour: bool) -> String {
    let paint = |code: &str, text: &str| {
        if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    };
    let mut out = String::new();
    let parents = tree.phrase_parents();
    let mut depth = vec![1; parents.len()];
    for (i, parent) in parents.iter().enumerate() {
        depth[i] = parent.map_or(1, |p| depth[p] + 1);
    }
    let (mut phrase, mut word) = (0, 0);
    for (s, sentence) in tree.sentences.iter().enumerate() {
        line(&mut out, 0, &paint("1", &one_line(tree.slice(sentence.span))));
        loop {
            let p = tree.phrases.get(phrase).filter(|p| p.sentence == s);
            let w = tree.words.get(word).filter(|w| w.sentence == s);
            match (p, w) {
                (Some(p), w) if w.is_none_or(|w| p.span.start <= w.span.start) => {
                    let (code, kind) = match p.kind {
                        PhraseKind::Noun => ("32", "noun"),
                        PhraseKind::Partitive => ("36", "partitive"),
                        PhraseKind::Relation => ("33", "relation"),
                    };
                    let (code, mark) = if p.flags.is_empty() { (code, "") } else { ("2", ", meta") };
                    let text = one_line(tree.slice(p.span));
                    line(&mut out, depth[phrase], &format!("{} ({kind}{mark})", paint(code, &text)));
                    phrase += 1;
                }
                (_, Some(w)) => {
                    let level = w.phrase.map_or(1, |p| depth[p] + 1);
                    let tag = paint("2", w.upos.name());
                    line(&mut out, level, &format!("{} {tag}", one_line(tree.slice(w.span))));
                    word += 1;
                }
                _ => break,
            }
        }
    }
    out
}

fn line(out: &mut String, level: usize, text: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{:width$}{text}", "", width = level * 2);
}

/// White space and control characters as one space each, so a unit keeps its line and cannot steer the terminal.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_whitespace() || c.is_control() { ' ' } else { c }).collect()
}
