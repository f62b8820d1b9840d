//! The serialised forms: what `tavq split` prints and what a configuration file may hold.

use tavq_text::{EnglishSplitter, Level, SplitConfig, Splitter, Upos, WeightsError, fold, render};

#[test]
fn json_has_the_documented_form() {
    let tree = EnglishSplitter::default().split("The image shows a group of cats.");
    let json = serde_json::to_value(&tree).unwrap();
    let expected = serde_json::json!({
        "sentences": [{"span": [0, 32]}],
        "phrases": [
            {"span": [0, 9], "kind": "noun", "sentence": 0, "flags": ["meta"]},
            {"span": [10, 31], "kind": "relation", "sentence": 0, "flags": []},
            {"span": [16, 31], "kind": "partitive", "sentence": 0, "flags": []},
            {"span": [16, 23], "kind": "noun", "sentence": 0, "flags": []},
            {"span": [27, 31], "kind": "noun", "sentence": 0, "flags": []},
        ],
        "words": [
            {"span": [4, 9], "upos": "NOUN", "sentence": 0, "phrase": 0},
            {"span": [10, 15], "upos": "VERB", "sentence": 0, "phrase": 1},
            {"span": [18, 23], "upos": "NOUN", "sentence": 0, "phrase": 3},
            {"span": [27, 31], "upos": "NOUN", "sentence": 0, "phrase": 4},
        ],
    });
    assert_eq!(json, expected);
    assert_eq!(tree.phrase_parents(), [None, None, Some(1), Some(2), Some(2)]);
    let with = serde_json::to_value(tree.with_tokens()).unwrap();
    assert_eq!(with["tokens"][0], serde_json::json!({"span": [0, 3], "upos": "DET"}));
    assert_eq!(with["tokens"].as_array().unwrap().len(), 8);
    assert_eq!(with["words"], json["words"]);
}

#[test]
fn units_fold_and_count() {
    let text = "The Cat’s hat. A cat. The cat's HAT!";
    let tree = EnglishSplitter::default().split(text);
    let words: Vec<(String, usize)> = tree.distinct(Level::Words).into_iter().map(|d| (d.key, d.units.len())).collect();
    assert_eq!(words, [("cat".to_owned(), 3), ("hat".to_owned(), 2)]);
    assert_eq!(fold("E\u{301}tude’s"), fold("étude"));
    assert_eq!(fold("a\u{a0} red\n cup"), "a red cup");
    assert_eq!(
        tree.units(Level::Sentences).map(|u| u.1).collect::<Vec<_>>(),
        ["The Cat’s hat.", "A cat.", "The cat's HAT!"]
    );
    for (span, unit) in Level::ALL.into_iter().flat_map(|l| tree.units(l)) {
        assert_eq!(&text[span.start..span.end], unit);
    }
}

#[test]
fn the_rendered_tree_is_indented_by_nesting() {
    let tree = EnglishSplitter::default().split("A dog sits on a mat.");
    let expected = "A dog sits on a mat.\n  A dog (noun)\n    dog NOUN\n  sits on a mat (relation)\n    sits VERB\n    a mat (noun)\n      mat NOUN\n";
    assert_eq!(render(&tree, false), expected);
    let coloured = render(&tree, true);
    assert!(coloured.contains("\u{1b}[32mA dog\u{1b}[0m"));
    // A unit cannot smuggle escapes or line breaks into the terminal.
    let tree = EnglishSplitter::default().split("A red\u{1b}[2Jdog\nsits.");
    assert!(!render(&tree, false).contains('\u{1b}'));
}

#[test]
fn the_configuration_chooses_units_and_refuses_unknown_keys() {
    let config: SplitConfig =
        toml::from_str("words = [\"NOUN\"]\nphrases = [\"noun\"]\ndrop_meta = true\nstop_words = [\"Cat\"]").unwrap();
    let splitter = EnglishSplitter::new(config);
    let tree = splitter.split("The image shows a cat and a group of red cups.");
    let units = |level| tree.units(level).map(|u| u.1).collect::<Vec<_>>();
    assert_eq!(units(Level::Words), ["image", "group", "cups"]);
    assert_eq!(units(Level::Phrases), ["a cat", "a group", "red cups"]);
    assert!(toml::from_str::<SplitConfig>("word = []").is_err());
    let again: SplitConfig = toml::from_str(&toml::to_string(&SplitConfig::default()).unwrap()).unwrap();
    assert_eq!(again, SplitConfig::default());
    assert!(again.words.contains(&Upos::Propn));

    let config = SplitConfig { max_sentences: 1, max_phrase_tokens: 2, ..SplitConfig::default() };
    let tree = EnglishSplitter::new(config).split("A very large cat sits. A dog runs.");
    assert_eq!((tree.sentences.len(), tree.phrases.len()), (2, 0));
    assert!(tree.words.iter().all(|w| w.sentence == 0));
}

#[test]
fn damaged_weights_are_refused() {
    let whole = include_bytes!("../data/english.weights");
    assert!(EnglishSplitter::from_weights(whole, SplitConfig::default()).is_ok());
    assert!(whole.len() <= 2_000_000);
    let error = |bytes: &[u8]| EnglishSplitter::from_weights(bytes, SplitConfig::default()).map(|_| ()).unwrap_err();
    assert!(matches!(error(b""), WeightsError::Magic { .. }));
    assert!(matches!(error(b"something else"), WeightsError::Magic { .. }));
    assert!(matches!(error(&whole[..whole.len() / 2]), WeightsError::Checksum { .. }));
    let mut flipped = whole.to_vec();
    flipped[1000] ^= 4;
    assert!(matches!(error(&flipped), WeightsError::Checksum { .. }));
    assert!(matches!(error(&whole[..9]), WeightsError::Truncated { .. }));
}
