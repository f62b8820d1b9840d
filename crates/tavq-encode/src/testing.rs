//! What the tests share: the real model's folder, the golden file, a tiny random model, a plain splitter.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use tavq_text::{Phrase, PhraseKind, Sentence, Span, Splitter, TextTree, Upos, Word};
use tavq_torch::{TensorFile, write_tensors};
use tch::{Device, Tensor};

use crate::{ModelOptions, TextModel};

/// The folder of all-MiniLM-L6-v2.
pub(crate) fn real_folder() -> PathBuf {
    let folder = std::env::var_os("TAVQ_TEXT_ENCODER").expect(
        "this test needs the weights of all-MiniLM-L6-v2: run it through `cargo xtask test`, or set TAVQ_TEXT_ENCODER to their folder",
    );
    PathBuf::from(folder)
}

pub(crate) fn real(options: ModelOptions) -> TextModel {
    TextModel::load_with(&real_folder(), Device::Cpu, options).unwrap()
}

/// `golden/bert.json`, made by `golden/bert.py`.
#[derive(Deserialize)]
pub(crate) struct Golden {
    pub(crate) texts: Vec<GoldenText>,
    pub(crate) trees: Vec<GoldenTree>,
}

#[derive(Deserialize)]
pub(crate) struct GoldenText {
    pub(crate) text: String,
    pub(crate) ids: Vec<Vec<i64>>,
}

#[derive(Deserialize)]
pub(crate) struct GoldenTree {
    pub(crate) text: usize,
    pub(crate) words: Vec<Span>,
    pub(crate) phrases: Vec<Span>,
    pub(crate) sentences: Vec<Span>,
    pub(crate) parents: GoldenParents,
}

#[derive(Deserialize)]
pub(crate) struct GoldenParents {
    pub(crate) words: Vec<(usize, Option<usize>)>,
    pub(crate) phrases: Vec<(usize, Option<usize>)>,
}

pub(crate) fn golden() -> (Golden, TensorFile) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let text = std::fs::read_to_string(dir.join("bert.json")).unwrap();
    (serde_json::from_str(&text).unwrap(), TensorFile::open(&dir.join("bert.safetensors")).unwrap())
}

impl GoldenTree {
    pub(crate) fn tree<'t>(&self, text: &'t str) -> TextTree<'t> {
        let words = self.words.iter().zip(&self.parents.words);
        let phrases = self.phrases.iter().zip(&self.parents.phrases);
        TextTree {
            text,
            sentences: self.sentences.iter().map(|&span| Sentence { span }).collect(),
            phrases: phrases.map(|(&span, &(sentence, _))| phrase(span, sentence)).collect(),
            words: words.map(|(&span, &(sentence, phrase))| word(span, sentence, phrase)).collect(),
            tokens: Vec::new(),
        }
    }
}

pub(crate) fn word(span: Span, sentence: usize, phrase: Option<usize>) -> Word {
    Word { span, upos: Upos::Noun, sentence, phrase }
}

pub(crate) fn phrase(span: Span, sentence: usize) -> Phrase {
    Phrase { span, kind: PhraseKind::Noun, sentence, flags: Vec::new() }
}

pub(crate) fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    if a.numel() == 0 { 0.0 } else { (a - b).abs().max().double_value(&[]) }
}

/// Splits at ". "; words are runs of letters; a phrase is every pair of neighbouring words.
pub(crate) struct PlainSplitter;

impl Splitter for PlainSplitter {
    fn split<'t>(&self, text: &'t str) -> TextTree<'t> {
        let mut tree =
            TextTree { text, sentences: Vec::new(), phrases: Vec::new(), words: Vec::new(), tokens: Vec::new() };
        let mut start = 0;
        for part in text.split_inclusive(". ") {
            let sentence = tree.sentences.len();
            let span = Span { start, end: start + part.trim_end().len() };
            if span.end > span.start {
                tree.sentences.push(Sentence { span });
                let spans = runs_of_letters(text, span);
                for pair in spans.chunks_exact(2) {
                    tree.phrases.push(phrase(Span { start: pair[0].start, end: pair[1].end }, sentence));
                }
                let first = tree.phrases.len() - spans.len() / 2;
                for (i, &span) in spans.iter().enumerate() {
                    let phrase = (first + i / 2 < tree.phrases.len()).then_some(first + i / 2);
                    tree.words.push(word(span, sentence, phrase));
                }
            }
            start += part.len();
        }
        tree
    }
}

fn runs_of_letters(text: &str, within: Span) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for (i, c) in text[within.start..within.end].char_indices() {
        let (start, end) = (within.start + i, within.start + i + c.len_utf8());
        if !c.is_alphabetic() {
            continue;
        }
        match spans.last_mut() {
            Some(s) if s.end == start => s.end = end,
            _ => spans.push(Span { start, end }),
        }
    }
    spans
}

/// Writes a random model of width 8, 2 layers, 2 heads and `positions` positions that spells words letter by letter.
pub(crate) fn write_tiny(dir: &Path, positions: i64) {
    let mut vocab = vec!["[PAD]".to_owned(), "[UNK]".to_owned(), "[CLS]".to_owned(), "[SEP]".to_owned()];
    vocab.extend(('a'..='z').flat_map(|c| [c.to_string(), format!("##{c}")]));
    vocab.extend([".", ",", "'"].map(str::to_owned));
    let config = serde_json::json!({
        "model_type": "bert", "vocab_size": vocab.len(), "hidden_size": 8, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": positions,
        "type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_act": "gelu"
    });
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let ids: serde_json::Map<_, _> = vocab.iter().enumerate().map(|(i, w)| (w.clone(), i.into())).collect();
    let special = |w: &str, id: u32| serde_json::json!({"id": w, "ids": [id], "tokens": [w]});
    let tokenizer = serde_json::json!({
        "version": "1.0",
        "truncation": {"max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 4}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
            "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": [],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"[CLS]": special("[CLS]", 2), "[SEP]": special("[SEP]", 3)}},
        "decoder": null,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": ids}
    });
    std::fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let shapes = tiny_shapes(vocab.len() as i64, positions);
    // A generator of our own: libtorch's is shared by all tests that run at once.
    let mut state = 7u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let mut tensors = Vec::new();
    for (name, shape) in shapes {
        let one = if name.ends_with("LayerNorm.weight") { 1.0 } else { 0.0 };
        let values: Vec<f32> = (0..shape.iter().product::<i64>()).map(|_| noise() + one).collect();
        tensors.push((name, Tensor::from_slice(&values).view(shape.as_slice())));
    }
    write_tensors(&dir.join("model.safetensors"), &tensors, &[]).unwrap();
}

fn tiny_shapes(vocab: i64, positions: i64) -> Vec<(String, Vec<i64>)> {
    let (d, inner) = (8, 16);
    let mut out = vec![
        ("embeddings.word_embeddings.weight".to_owned(), vec![vocab, d]),
        ("embeddings.position_embeddings.weight".to_owned(), vec![positions, d]),
        ("embeddings.token_type_embeddings.weight".to_owned(), vec![2, d]),
        ("embeddings.LayerNorm.weight".to_owned(), vec![d]),
        ("embeddings.LayerNorm.bias".to_owned(), vec![d]),
    ];
    for layer in 0..2 {
        for (name, shape) in [
            ("attention.self.query", [d, d]),
            ("attention.self.key", [d, d]),
            ("attention.self.value", [d, d]),
            ("attention.output.dense", [d, d]),
            ("intermediate.dense", [inner, d]),
            ("output.dense", [d, inner]),
        ] {
            out.push((format!("encoder.layer.{layer}.{name}.weight"), shape.to_vec()));
            out.push((format!("encoder.layer.{layer}.{name}.bias"), vec![shape[0]]));
        }
        for name in ["attention.output.LayerNorm", "output.LayerNorm"] {
            out.push((format!("encoder.layer.{layer}.{name}.weight"), vec![d]));
            out.push((format!("encoder.layer.{layer}.{name}.bias"), vec![d]));
        }
    }
    out
}
