//! The crate as its users see it: the real splitter, the real model, an index on disk.

use std::path::PathBuf;

use tavq_encode::{Granularity, Mode, TextIndex, TextModel, TreeEncoder, unit_encoder_laws};
use tavq_text::{EnglishSplitter, Splitter};
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
