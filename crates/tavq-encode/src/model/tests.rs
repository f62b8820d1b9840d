use tavq_torch::{TensorFile, write_tensors};

use super::bert::Broken;
use super::*;
use crate::testing::{golden, largest_difference, real, write_tiny};
use crate::unit_encoder_laws;

const TOLERANCE: f64 = 1e-5;

fn raw() -> ModelOptions {
    ModelOptions { normalize: false, ..ModelOptions::default() }
}

fn texts(golden: &crate::testing::Golden) -> Vec<&str> {
    golden.texts.iter().map(|t| t.text.as_str()).collect()
}

#[test]
fn ids_and_vectors_agree_with_transformers() {
    let (golden, file) = golden();
    let expected = file.get("units").unwrap();
    let bert = real(raw());
    for t in &golden.texts {
        assert_eq!(bert.token_ids(&t.text).unwrap(), t.ids, "{:?}", t.text);
    }
    let found = bert.encode(&texts(&golden)).unwrap();
    let gap = largest_difference(&found, &expected);
    assert!(gap < TOLERANCE, "{gap:e}");
    let found = real(ModelOptions::default()).encode(&texts(&golden)).unwrap();
    let gap = largest_difference(&found, &unit_length(&expected).unwrap());
    assert!(gap < TOLERANCE, "normalised: {gap:e}");
}

#[test]
fn every_mutation_of_the_pass_breaks_parity() {
    let (golden, file) = golden();
    let expected = file.get("units").unwrap();
    let mut bert = real(raw());
    for broken in [Broken::TanhGelu, Broken::NoMask, Broken::NoTokenType] {
        break_pass(&mut bert, Some(broken));
        let gap = largest_difference(&bert.encode(&texts(&golden)).unwrap(), &expected);
        assert!(gap > 10.0 * TOLERANCE, "{broken:?}: {gap:e}");
    }
    break_pass(&mut bert, None);
    // Mean over pads: the states under padding join their text's mean.
    let all: Vec<Sequence> = [0, 4].map(|i| golden.texts[i].ids[0].clone()).map(of_ids).into();
    let refs: Vec<&Sequence> = all.iter().collect();
    let width = refs.iter().map(|s| s.ids.len()).max().unwrap();
    let padded = bert.batch_states(&refs, width).unwrap().mean_dim([1i64].as_slice(), false, Kind::Float);
    let picked = expected.index_select(0, &Tensor::from_slice(&[0i64, 4]));
    let gap = largest_difference(&padded, &picked);
    assert!(gap > 10.0 * TOLERANCE, "mean over pads: {gap:e}");
}

fn break_pass(model: &mut TextModel, broken: Option<Broken>) {
    let Pass::Bert(pass) = &mut model.pass else { panic!("not a BERT") };
    pass.broken = broken;
}

fn of_ids(ids: Vec<i64>) -> Sequence {
    Sequence { ids, takes: Vec::new() }
}

#[test]
fn the_laws_hold_for_the_real_model() {
    unit_encoder_laws(&real(ModelOptions { token_budget: Some(64), ..ModelOptions::default() })).unwrap();
}

#[test]
fn bf16_is_close_to_f32() {
    let units = ["a dark blue apron", "Two sparrows sit on its saddle.", "wet paint"];
    let exact = real(ModelOptions::default()).encode(&units).unwrap();
    let options = ModelOptions { precision: Precision::Bf16, ..ModelOptions::default() };
    let close = real(options).encode(&units).unwrap();
    let cosine = (&exact * &close).sum_dim_intlist([1i64].as_slice(), false, Kind::Float).min().double_value(&[]);
    assert!(cosine > 0.999 && cosine < 1.0 - 1e-9, "{cosine}");
}

fn tiny() -> (tempfile::TempDir, TextModel) {
    let dir = tempfile::tempdir().unwrap();
    write_tiny(dir.path(), 12);
    let bert = TextModel::load(dir.path(), Device::Cpu).unwrap();
    (dir, bert)
}

#[test]
fn the_laws_hold_for_a_tiny_model_with_windows() {
    let (dir, bert) = tiny();
    for budget in [1, 30, 100_000] {
        let options = ModelOptions { token_budget: Some(budget), ..ModelOptions::default() };
        unit_encoder_laws(&TextModel::load_with(dir.path(), Device::Cpu, options).unwrap()).unwrap();
    }
    // Padding and truncation of the tokenizer file (4 tokens) are off.
    assert_eq!(bert.token_ids("abcdefg").unwrap()[0].len(), 9);
    assert_eq!(bert.token_ids("abcdefghijklmnop").unwrap().len(), 2);
}

#[test]
fn prefixed_and_old_names_load_and_change_nothing() {
    let (dir, bert) = tiny();
    let path = dir.path().join("model.safetensors");
    let file = TensorFile::open(&path).unwrap();
    let renamed: Vec<_> = file
        .names()
        .iter()
        .map(|name| {
            let old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
            (format!("bert.{old}"), file.get(name).unwrap())
        })
        .collect();
    write_tensors(&path, &renamed, &[]).unwrap();
    let again = TextModel::load(dir.path(), Device::Cpu).unwrap();
    let units = ["some words", "dog"];
    assert_eq!(again.encode(&units).unwrap(), bert.encode(&units).unwrap());
    assert_ne!(again.identity(), bert.identity());
}

#[test]
fn missing_and_misshapen_tensors_are_all_named() {
    let (dir, _) = tiny();
    let path = dir.path().join("model.safetensors");
    let file = TensorFile::open(&path).unwrap();
    let damaged: Vec<_> = file
        .names()
        .iter()
        .filter(|n| *n != "encoder.layer.1.output.dense.bias" && *n != "embeddings.token_type_embeddings.weight")
        .map(|n| {
            let t = file.get(n).unwrap();
            (n.clone(), if n == "encoder.layer.0.attention.self.key.weight" { t.narrow(0, 0, 4) } else { t })
        })
        .collect();
    write_tensors(&path, &damaged, &[]).unwrap();
    let text = TextModel::load(dir.path(), Device::Cpu).unwrap_err().to_string();
    for part in [
        "model.safetensors",
        "encoder.layer.1.output.dense.bias: missing",
        "embeddings.token_type_embeddings.weight: missing",
        "encoder.layer.0.attention.self.key.weight: expected shape [8, 8], found [4, 8]",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn damaged_files_are_named() {
    type Damage = fn(&Path);
    let cut = |p: &Path| {
        let whole = std::fs::read(p).unwrap();
        std::fs::write(p, &whole[..whole.len() - 5]).unwrap();
    };
    let remove = |p: &Path| std::fs::remove_file(p).unwrap();
    let ten_words = |p: &Path| {
        let text = std::fs::read_to_string(p).unwrap();
        std::fs::write(p, text.replace("\"vocab_size\":59", "\"vocab_size\":10")).unwrap();
    };
    let no_frame = |p: &Path| {
        let text = std::fs::read_to_string(p).unwrap();
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json["post_processor"] = serde_json::Value::Null;
        std::fs::write(p, json.to_string()).unwrap();
    };
    let cases: [(&str, Damage, &[&str]); 7] = [
        ("model.safetensors", cut, &["model.safetensors: expected a whole safetensors file"]),
        ("model.safetensors", remove, &["model.safetensors: "]),
        ("tokenizer.json", remove, &["tokenizer.json: "]),
        ("tokenizer.json", cut, &["tokenizer.json: (whole file): expected a Hugging Face tokenizer"]),
        ("tokenizer.json", no_frame, &["tokenizer.json: post_processor: expected one token before and one after"]),
        ("config.json", remove, &["config.json: "]),
        ("config.json", ten_words, &["tokenizer.json: vocab: expected ids below the 10 of the model, found 58"]),
    ];
    for (name, damage, says) in cases {
        let (dir, _) = tiny();
        damage(&dir.path().join(name));
        let text = TextModel::load(dir.path(), Device::Cpu).unwrap_err().to_string();
        for part in says {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
