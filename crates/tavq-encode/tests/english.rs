//! The crate as its users see it: the real splitter, the real model, an index on disk.

use std::path::{Path, PathBuf};

use tavq_encode::{Granularity, Mode, TextIndex, TextModel, TreeEncoder, unit_encoder_laws};
use tavq_text::{EnglishSplitter, Sentence, Span, Splitter, TextTree};
use tavq_torch::TensorFile;
use tch::{Device, Kind};

const TEXTS: [(&str, &str); 5] = [
    (
        "harbour",
        "A small wooden boat with a torn sail drifts past the harbour wall. Two fishermen in dark blue jackets stand \
         on the wall. The boat is red.",
    ),
    ("café", "The café’s crème brûlée costs €7.50. Señor Núñez pours œufs à la neige 🙂 next to “老街”."),
    ("nothing", ""),
    ("marks", "?! … 🙂🙂 —"),
    ("twice", "A red boat lies at anchor. A red boat lies at anchor."),
];

fn folder() -> PathBuf {
    let folder = std::env::var_os("TAVQ_TEXT_ENCODER").expect(
        "this test needs the weights of all-MiniLM-L6-v2: run it through `cargo xtask test`, or set TAVQ_TEXT_ENCODER to their folder",
    );
    PathBuf::from(folder)
}

/// Every second description of the embedded pictures.
fn descriptions() -> Vec<String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/emoji/manifest.jsonl");
    let text =
        |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["text"].as_str().unwrap().to_owned();
    std::fs::read_to_string(manifest).unwrap().lines().step_by(2).map(text).collect()
}

#[test]
fn two_hundred_texts_agree_with_sentence_transformers_in_both_modes() {
    let texts = descriptions();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let file = TensorFile::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/texts.safetensors")).unwrap();
    let expected = file.get_shaped("vectors", &[200, 48]).unwrap();
    let ids = Vec::<i64>::try_from(file.get("ids").unwrap().to_kind(Kind::Int64)).unwrap();
    let ends = Vec::<i64>::try_from(file.get("ends").unwrap()).unwrap();
    let model = TextModel::load(&folder(), Device::Cpu).unwrap();
    let mut start = 0;
    for (text, &end) in texts.iter().zip(&ends) {
        assert_eq!(model.token_ids(text).unwrap(), [&ids[start..end as usize]], "{text}");
        start = end as usize;
    }
    // A text as a tree of one sentence: what the two modes both give.
    let trees: Vec<TextTree<'_>> = texts
        .iter()
        .map(|text| TextTree {
            text,
            sentences: vec![Sentence { span: Span { start: 0, end: text.len() } }],
            phrases: Vec::new(),
            words: Vec::new(),
            tokens: Vec::new(),
        })
        .collect();
    for mode in [Mode::Hierarchical, Mode::Independent] {
        let encoder = TreeEncoder::new(TextModel::load(&folder(), Device::Cpu).unwrap(), mode);
        for (found, expected) in encoder.encode(&trees).unwrap().iter().zip(expected.split(1, 0)) {
            let gap = (found.sentences.narrow(1, 0, 48) - expected).abs().max().double_value(&[]);
            assert!(gap < 1e-5, "{mode:?}: {gap:e}");
        }
    }
}

#[test]
fn every_text_has_units_of_every_granularity_in_both_modes() {
    let splitter = EnglishSplitter::default();
    let dir = tempfile::tempdir().unwrap();
    for mode in [Mode::Hierarchical, Mode::Independent] {
        let encoder = TreeEncoder::new(TextModel::load(&folder(), Device::Cpu).unwrap(), mode);
        unit_encoder_laws(encoder.units()).unwrap();
        let open = || TextIndex::open_or_build(dir.path(), &TEXTS, &splitter, &encoder, &mut |_, _| ()).unwrap();
        assert_eq!(open().opened().encoded, TEXTS.len());
        let index = open();
        assert_eq!(index.opened().reused, TEXTS.len());
        for (row, (key, text)) in TEXTS.iter().enumerate() {
            assert_eq!(index.key(row).unwrap(), *key);
            for g in Granularity::ALL {
                let units = index.units(row, g).unwrap();
                assert!(!units.spans.is_empty() && units.spans.iter().all(|s| s.get(text).is_some()));
                assert_eq!(units.vectors.size(), [units.spans.len() as i64, 384]);
                let lengths = units.vectors.norm_scalaropt_dim(2, [-1i64], false);
                let off = (lengths - 1.0).abs().max().double_value(&[]);
                assert!(off < 1e-5, "{mode:?} {key} {g:?}: {off:e}");
            }
        }
        let batch = index.batch(&[0, 2, 4], Granularity::Word, 64).unwrap();
        assert_eq!(batch.vectors.kind(), Kind::Float);
        assert_eq!(index.units(4, Granularity::Sentence).unwrap().counts, [2]);
    }
}

#[test]
fn a_phrase_is_nearer_to_its_own_words_in_context() {
    let text = TEXTS[0].1;
    let tree = EnglishSplitter::default().split(text);
    let encoder = TreeEncoder::new(TextModel::load(&folder(), Device::Cpu).unwrap(), Mode::Hierarchical);
    let vectors = encoder.encode(std::slice::from_ref(&tree)).unwrap().remove(0);
    let boat = tree.words.iter().position(|w| w.span.get(text) == Some("boat")).unwrap();
    let phrase = tree.words[boat].phrase.expect("\"boat\" stands in a noun phrase");
    let other = tree.phrases.iter().position(|p| p.sentence != tree.phrases[phrase].sentence).unwrap();
    let word = vectors.words.get(boat as i64);
    let near = word.dot(&vectors.phrases.get(phrase as i64)).double_value(&[]);
    let far = word.dot(&vectors.phrases.get(other as i64)).double_value(&[]);
    assert!(near > far + 0.1, "{near} {far}");
}
