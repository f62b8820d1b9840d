//! Image descriptions with the answers written by hand: sentences must match exactly, phrases nearly all.

use std::collections::BTreeSet;

use serde::Deserialize;
use tavq_text::{EnglishSplitter, Flag, PhraseKind, Splitter, TextTree};

#[derive(Deserialize)]
struct Case {
    text: String,
    sentences: Vec<String>,
    nouns: BTreeSet<String>,
    partitives: BTreeSet<String>,
    relations: BTreeSet<String>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../golden/descriptions.json")).unwrap()
}

fn of_kind(tree: &TextTree<'_>, kind: PhraseKind) -> BTreeSet<String> {
    tree.phrases.iter().filter(|p| p.kind == kind).map(|p| tree.slice(p.span).to_owned()).collect()
}

#[test]
fn sentences_match_exactly() {
    for case in cases() {
        let tree = EnglishSplitter::default().split(&case.text);
        let found: Vec<&str> = (0..tree.sentences.len()).filter_map(|i| tree.sentence_text(i)).collect();
        assert_eq!(found, case.sentences);
    }
}

#[test]
fn phrases_match_nearly_all() {
    let (mut wrong, mut total) = ([0, 0, 0], [0, 0, 0]);
    let mut differences = Vec::new();
    for case in cases() {
        let tree = EnglishSplitter::default().split(&case.text);
        let kinds = [PhraseKind::Noun, PhraseKind::Partitive, PhraseKind::Relation];
        for (n, (kind, gold)) in kinds.into_iter().zip([case.nouns, case.partitives, case.relations]).enumerate() {
            let found = of_kind(&tree, kind);
            wrong[n] += found.symmetric_difference(&gold).count();
            total[n] += gold.len();
            differences.extend(found.symmetric_difference(&gold).map(|p| format!("{kind:?}: {p}")));
        }
    }
    assert_eq!(total, [48, 4, 24]);
    // Room for one phrase of each kind cut wrongly (that counts twice) and for words on signs read as nouns. Weights
    // that do not belong to the features of this build miss most of the list.
    assert!(wrong[0] <= 4 && wrong[1] <= 2 && wrong[2] <= 2, "{wrong:?} of {total:?} differ: {differences:#?}");
}

#[test]
fn names_signs_and_verbs_with_of() {
    let tree = EnglishSplitter::default()
        .split("Mr. Ito stands at a table made of dark wood. A neon sign above it reads \"OPEN!\" in pink letters.");
    let found = of_kind(&tree, PhraseKind::Noun);
    for noun in ["Mr. Ito", "a table", "dark wood", "A neon sign", "OPEN", "pink letters"] {
        assert!(found.contains(noun), "{noun}: {found:?}");
    }
    assert!(of_kind(&tree, PhraseKind::Relation).contains("made of dark wood"));
}

#[test]
fn phrases_of_the_picture_are_flagged() {
    let tree =
        EnglishSplitter::default().split("In the background, a framed photograph hangs on a wall. The image is dark.");
    let meta: Vec<&str> =
        tree.phrases.iter().filter(|p| p.flags.contains(&Flag::Meta)).map(|p| tree.slice(p.span)).collect();
    assert_eq!(meta, ["In the background", "the background", "The image"]);
}

#[test]
fn words_are_content_words_with_their_innermost_phrase() {
    let tree = EnglishSplitter::default().split("A black-and-white cat is sleeping near the 3 old barns.");
    let words: Vec<(&str, Option<&str>)> =
        tree.words.iter().map(|w| (tree.slice(w.span), w.phrase.and_then(|p| tree.phrase_text(p)))).collect();
    let (cat, barns) = (Some("A black-and-white cat"), Some("the 3 old barns"));
    let relation = Some("sleeping near the 3 old barns");
    let expected = [
        ("black-and-white", cat),
        ("cat", cat),
        ("sleeping", relation),
        ("3", barns),
        ("old", barns),
        ("barns", barns),
    ];
    assert_eq!(words, expected);
}
