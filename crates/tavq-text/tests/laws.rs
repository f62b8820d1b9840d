//! The laws on the English splitter, on broken splitters that must fail each, and the time of long inputs.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use tavq_text::laws::{LawBroken, splitter_laws};
use tavq_text::{EnglishSplitter, Phrase, PhraseKind, Sentence, Span, Splitter, TextTree, Token, Upos, Word};

const CAPTION: &str = "A group of five hikers walks in front of a red-roofed house, wearing dark blue jackets. \
    The sign reads “WELCOME!” in bold letters.The image isn't bright; it was taken at 5 p.m. near St. Anton. \
    1) A dog’s bowl 2) a pair of boots…\n\nIn the background, Mt. Fuji — 3,776 m tall — rises above www.example.com.";

fn splitter() -> EnglishSplitter {
    EnglishSplitter::default()
}

#[test]
fn english_keeps_the_laws() {
    let texts = [
        CAPTION,
        "",
        " ",
        ".",
        "\n\n",
        "…",
        "\"",
        "a",
        "don't",
        "\u{feff}a\u{200b}.",
        "e\u{301}. É.",
        "👩‍👩‍👧 waves. 猫。",
    ];
    assert_eq!(splitter_laws(&splitter(), &texts), Ok(()));
}

/// Splits well, then spoils the tree.
struct Broken(fn(&mut TextTree<'_>));

impl Splitter for Broken {
    fn split<'t>(&self, text: &'t str) -> TextTree<'t> {
        let mut tree = splitter().split(text);
        (self.0)(&mut tree);
        tree
    }
}

fn law_of(spoil: fn(&mut TextTree<'_>)) -> &'static str {
    let Err(LawBroken { law, .. }) = splitter_laws(&Broken(spoil), &[CAPTION]) else { return "none" };
    law
}

#[test]
fn every_law_can_be_broken() {
    assert_eq!(law_of(|_| ()), "none");
    assert_eq!(law_of(|t| t.words[0].span.end = t.words[0].span.start), "bounds");
    assert_eq!(law_of(|t| t.sentences.last_mut().unwrap().span.end += 1), "bounds");
    assert_eq!(law_of(|t| t.tokens[0].span.start = CAPTION.find('“').unwrap() + 1), "bounds");
    assert_eq!(law_of(|t| t.words.swap(0, 1)), "order");
    assert_eq!(law_of(|t| t.tokens.swap(3, 4)), "order");
    assert_eq!(law_of(|t| t.phrases.swap(0, 1)), "order");
    assert_eq!(law_of(|t| t.sentences[0].span.end = t.sentences[1].span.start + 1), "order");
    assert_eq!(law_of(|t| t.phrases[0].span.end = t.phrases[1].span.end - 1), "order");
    assert_eq!(law_of(|t| t.sentences[0].span.start += 1), "cover");
    assert_eq!(law_of(|t| t.sentences[0].span.end += 1), "cover");
    assert_eq!(law_of(|t| _ = t.sentences.remove(1)), "cover");
    assert_eq!(law_of(|t| _ = t.sentences.pop()), "cover");
    assert_eq!(law_of(|t| t.phrases[0].sentence = 1), "parents");
    assert_eq!(law_of(|t| t.words[0].sentence = 99), "parents");
    assert_eq!(law_of(|t| t.words[0].phrase = None), "parents");
    assert_eq!(law_of(|t| t.words[1].phrase = Some(0)), "parents");
}

#[test]
fn a_splitter_that_changes_its_mind_breaks_a_law() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    struct Fickle(AtomicUsize);
    impl Splitter for Fickle {
        fn split<'t>(&self, text: &'t str) -> TextTree<'t> {
            let mut tree = splitter().split(text);
            if self.0.fetch_add(1, Ordering::Relaxed) % 2 == 1 {
                tree.words.pop();
            }
            tree
        }
    }
    let broken = splitter_laws(&Fickle(AtomicUsize::new(0)), &[CAPTION]);
    assert_eq!(broken.map_err(|b| b.law), Err("same"));
}

/// A splitter written elsewhere: one sentence per line, nothing else. It passes without phrases or words.
struct Lines;

impl Splitter for Lines {
    fn split<'t>(&self, text: &'t str) -> TextTree<'t> {
        let mut tree = TextTree { text, sentences: vec![], phrases: vec![], words: vec![], tokens: vec![] };
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            let body = line.trim();
            let start = at + line.len() - line.trim_start().len();
            if !body.is_empty() {
                tree.sentences.push(Sentence { span: Span { start, end: start + body.len() } });
            }
            at += line.len();
        }
        tree
    }
}

#[test]
fn another_splitter_passes() {
    assert_eq!(splitter_laws(&Lines, &[CAPTION, "a\n\nb\r\n c", ""]), Ok(()));
    // The types are enough to build any tree by hand.
    let span = Span { start: 0, end: 3 };
    let hand = TextTree {
        text: "cat",
        sentences: vec![Sentence { span }],
        phrases: vec![Phrase { span, kind: PhraseKind::Noun, sentence: 0, flags: vec![] }],
        words: vec![Word { span, upos: Upos::Noun, sentence: 0, phrase: Some(0) }],
        tokens: vec![Token { span, upos: Upos::Noun }],
    };
    assert_eq!(hand.phrase_parents(), [None]);
}

/// Pieces that the rules react to, for texts that look like damaged captions.
fn piece() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        ".", "!", "?", "…", ". . .", "\"", "“", "”", "'s", "n't", "(", ")", "[", "]", " ", "\n", "\n\n", "\r\n",
        "\u{a0}", "1)", "2.", "a.", "•", "-", "--", "http://x.y/z", "a@b.c", "U.S.", "Mr.", "The", "the", "image",
        "of", "group", "in front of", "cannot", "red", "cup", "é", "e\u{301}", "👩‍👩‍👧", "猫", "。", "İ", "ß", "\u{200b}",
        "\u{feff}", "\u{2028}",
    ]);
    prop_oneof![4 => fixed.prop_map(str::to_owned), 1 => any::<String>()]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn any_text_gives_a_lawful_tree(text in any::<String>()) {
        prop_assert_eq!(splitter_laws(&splitter(), &[&text]), Ok(()));
    }

    #[test]
    fn any_mix_of_pieces_gives_a_lawful_tree(pieces in prop::collection::vec((piece(), any::<bool>()), 0..60)) {
        let text: String = pieces.into_iter().map(|(p, space)| if space { p + " " } else { p }).collect();
        prop_assert_eq!(splitter_laws(&splitter(), &[&text]), Ok(()));
    }

    #[test]
    fn mutated_captions_give_lawful_trees(edits in prop::collection::vec((0usize..400, piece(), 0usize..6), 1..8)) {
        let mut chars: Vec<char> = CAPTION.chars().collect();
        for (at, piece, cut) in edits {
            let at = at.min(chars.len());
            let end = (at + cut).min(chars.len());
            chars.splice(at..end, piece.chars());
        }
        let text: String = chars.into_iter().collect();
        prop_assert_eq!(splitter_laws(&splitter(), &[&text]), Ok(()));
    }
}

#[test]
fn a_megabyte_of_repetition_takes_linear_time() {
    let units = [
        "a", " ", ".", "\"", "\n", "'", "-", "a.", ". ", ". \" ", "1. ", "1) ", "(", "• ", "...a", "a-", "a@b.",
        "U.S. ", "of ", "a group of ", "red ", "in front of ", "The cat is red. ", "rim.The", "\u{a0}", "猫", "。",
        "e\u{301}", "!?", ". . ",
    ];
    for unit in units {
        let text = unit.repeat(1_000_000 / unit.len());
        let start = Instant::now();
        let tree = splitter().split(&text);
        let time = start.elapsed();
        assert!(tree.text.len() > 999_000);
        assert!(time < Duration::from_secs(12), "{unit:?}: {time:?}");
    }
}
