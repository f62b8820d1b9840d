use std::path::{Path, PathBuf};

use serde::Deserialize;
use tavq_text::Splitter;
use tch::{Device, Tensor};

use super::Broken;
use crate::model::{Family, ModelOptions, Pass, TextModel, unit_length};
use crate::testing::{PlainSplitter, largest_difference};
use crate::{Granularity, Mode, TreeEncoder, UnitEncoder, unit_encoder_laws};

const TOLERANCE: f64 = 1e-5;

/// A row of `golden/clip/*/expected.json`.
#[derive(Deserialize)]
struct Expected {
    text: String,
    ids: Vec<i64>,
    pooled: Vec<f32>,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/clip").join(name)
}

fn load(name: &str, normalize: bool) -> TextModel {
    TextModel::load_with(&folder(name), Device::Cpu, ModelOptions { normalize, ..ModelOptions::default() }).unwrap()
}

fn expected(name: &str) -> (Vec<Expected>, Tensor) {
    let text = std::fs::read_to_string(folder(name).join("expected.json")).unwrap();
    let rows: Vec<Expected> = serde_json::from_str(&text).unwrap();
    let pooled: Vec<f32> = rows.iter().flat_map(|row| row.pooled.iter().copied()).collect();
    let pooled = Tensor::from_slice(&pooled).view([rows.len() as i64, -1]);
    (rows, pooled)
}

#[test]
fn ids_and_vectors_agree_with_transformers() {
    for name in ["legacy", "projected"] {
        let (rows, pooled) = expected(name);
        let model = load(name, false);
        assert_eq!((model.family(), model.dim()), (Family::Clip, pooled.size()[1]));
        for row in &rows {
            assert_eq!(model.token_ids(&row.text).unwrap(), std::slice::from_ref(&row.ids), "{name} {:?}", row.text);
        }
        let texts: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
        let gap = largest_difference(&model.encode(&texts).unwrap(), &pooled);
        assert!(gap < TOLERANCE, "{name}: {gap:e}");
        let gap = largest_difference(&load(name, true).encode(&texts).unwrap(), &unit_length(&pooled).unwrap());
        assert!(gap < TOLERANCE, "{name}, normalised: {gap:e}");
    }
}

#[test]
fn every_mutation_of_the_pass_breaks_parity() {
    for name in ["legacy", "projected"] {
        let (rows, pooled) = expected(name);
        let texts: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
        let mut model = load(name, false);
        for broken in [Broken::NotCausal, Broken::OtherGelu, Broken::NoFinalNorm] {
            let Pass::Clip(pass) = &mut model.pass else { panic!("not a CLIP") };
            pass.broken = Some(broken);
            let gap = largest_difference(&model.encode(&texts).unwrap(), &pooled);
            assert!(gap > 10.0 * TOLERANCE, "{name} {broken:?}: {gap:e}");
        }
    }
    // The last end token instead of the first: texts that hold one themselves differ.
    let (rows, pooled) = expected("legacy");
    let inside = rows.iter().position(|row| row.text.contains("<|endoftext|>")).unwrap();
    let cut = rows[inside].text.split("<|endoftext|>").next().unwrap();
    let found = load("legacy", false).encode(&[cut]).unwrap().get(0);
    let gap = largest_difference(&found, &pooled.get(inside as i64));
    assert!(gap < TOLERANCE, "what stands behind the first end token counts: {gap:e}");
}

#[test]
fn the_laws_hold_in_batches_and_windows() {
    for name in ["legacy", "projected"] {
        for budget in [None, Some(1), Some(60)] {
            let options = ModelOptions { token_budget: budget, ..ModelOptions::default() };
            unit_encoder_laws(&TextModel::load_with(&folder(name), Device::Cpu, options).unwrap()).unwrap();
        }
    }
    let model = load("legacy", true);
    let long = "a red boat lies at anchor in the harbour ".repeat(20);
    assert!(model.token_ids(&long).unwrap().len() > 3);
    assert_eq!(model.encode(&[&long]).unwrap().isfinite().all().int64_value(&[]), 1);
}

#[test]
fn trees_have_the_vector_of_each_sentence_and_of_what_stands_before() {
    let text = "Two gulls sit on the mast. A red boat.";
    let other = "Two gulls sit on the quay. A red boat.";
    let trees = [text, other].map(|text| PlainSplitter.split(text));
    let encoder = TreeEncoder::new(load("projected", true), Mode::Hierarchical);
    let vectors = encoder.encode(&trees).unwrap();
    let sentence = encoder.units().encode(&["Two gulls sit on the mast."]).unwrap().get(0);
    assert!(largest_difference(&vectors[0].sentences.get(0), &sentence) < TOLERANCE);
    for granularity in Granularity::ALL {
        assert_eq!(vectors[0].get(granularity).size()[1], 6);
    }
    // A state sees only what stands before it: "gulls" is the same in both, the sentence is not.
    let gulls = trees[0].words.iter().position(|w| trees[0].slice(w.span) == "gulls").unwrap() as i64;
    assert!(largest_difference(&vectors[0].words.get(gulls), &vectors[1].words.get(gulls)) < TOLERANCE);
    assert!(largest_difference(&vectors[0].sentences.get(0), &vectors[1].sentences.get(0)) > 1e-3);
}

#[test]
fn wrong_families_and_end_tokens_are_named() {
    let dir = tempfile::tempdir().unwrap();
    for (name, from, to, says) in [
        (
            "legacy",
            "clip_text_model",
            "gpt2",
            "model_type: expected \"bert\" or \"clip\" or \"clip_text_model\", found \"gpt2\"",
        ),
        ("legacy", "\"eos_token_id\": 2", "\"eos_token_id\": 7", "eos_token_id: expected the token 516"),
        ("projected", "\"text_config\"", "\"text\"", "text_config: expected an object, found nothing"),
        ("projected", "\"hidden_act\": \"gelu\"", "\"hidden_act\": \"silu\"", "text_config.hidden_act: expected"),
        ("projected", "\"hidden_size\": 8", "\"hidden_size\": 4", "text_projection.weight: expected shape [any, 4]"),
        ("legacy", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", "encoder.layers.2.mlp.fc1.weight: missing"),
    ] {
        for file in ["config.json", "tokenizer.json", "model.safetensors"] {
            std::fs::copy(folder(name).join(file), dir.path().join(file)).unwrap();
        }
        let path = dir.path().join("config.json");
        let config = std::fs::read_to_string(&path).unwrap();
        assert!(config.contains(from), "{config}");
        std::fs::write(&path, config.replacen(from, to, 1)).unwrap();
        let error = TextModel::load(dir.path(), Device::Cpu).unwrap_err().to_string();
        assert!(error.contains(says), "{says}: {error}");
    }
}
