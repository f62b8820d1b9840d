//! Every quantizer that a configuration may name, from training to reconstruction.

use ndarray::Array4;
use serde_json::Value;
use tavq_torch::TensorFile;

use crate::common::{folder, npy, refuse, small, succeed, text};

/// Trains two steps with a quantizer, evaluates, and gives what `reconstruct --tensors` writes.
fn through(name: &str, quantizer: &str, more: &[&str]) -> (Value, TensorFile) {
    let small = small();
    let dir = folder(&format!("quantizer-{name}"));
    let run = dir.join("run");
    let sets = [format!("model.quantizer={quantizer}"), "run.steps=2".into(), "run.sample_every=0".into()];
    let mut args = vec!["train", "--config", text(&small.config), "--out", text(&run), "--json"];
    args.extend(sets.iter().map(String::as_str).chain(more.iter().copied()).flat_map(|set| ["--set", set]));
    succeed(&args);
    let data = small.config.with_file_name("manifest.jsonl");
    let out = dir.join("evaluation");
    let args = ["evaluate", "--checkpoint", text(&run), "--data", text(&data), "--out", text(&out), "--json"];
    let report = serde_json::from_str(&succeed(&args)).unwrap();
    let images = Array4::from_shape_fn((3, 3, 16, 16), |(b, c, y, x)| ((b + c + y * x) as f32 * 0.7).sin());
    let input = npy(&dir.join("x.npy"), &images);
    succeed(&["reconstruct", "--checkpoint", text(&run), "--tensors", &input, "--out", text(&dir)]);
    (report, TensorFile::open(&dir.join("out.safetensors")).unwrap())
}

#[test]
fn one_index_a_cell() {
    let kinds = [
        ("vq", r#"{kind="vq", codes=24, normalize=true, start="kmeans"}"#),
        ("ema", r#"{kind="ema", codes=24, start="first_batch", expire_below=0.5}"#),
        ("cvq", r#"{kind="cvq", codes=24, anchor="random"}"#),
        ("simvq", r#"{kind="simvq", codes=24}"#),
        ("fsq", r#"{kind="fsq", levels=[5, 3, 3, 3]}"#),
        ("lfq", r#"{kind="lfq", bits=4}"#),
    ];
    for (name, quantizer) in kinds {
        let plain = ["loss.alignment=[0.0, 0.0, 0.0]", "model.backbone.embed_dim=4"];
        let (report, file) = through(name, quantizer, &plain);
        assert_eq!(file.shape("indices").unwrap(), [3, 4, 4], "{name}");
        assert!(report["validation"]["psnr"].is_number(), "{name}: {report}");
    }
}

#[test]
fn what_is_wrong_in_a_quantizer_is_named() {
    let config = text(&small().config);
    let out = folder("quantizer-wrong").join("run");
    let table = [
        (r#"{kind="lfq", bits=5}"#, ["quantizer.bits", "16, found 5"]),
        (r#"{kind="residual", quantizer={kind="vq", codes=0}}"#, ["quantizer.quantizer.codes", "found 0"]),
        (r#"{kind="residual", quantizer={kind="residual"}}"#, ["quantizer.quantizer.kind", "found residual"]),
        (r#"{kind="residual", deep=3}"#, ["unknown field `deep`", "`depth`"]),
    ];
    for (quantizer, parts) in table {
        let set = format!("model.quantizer={quantizer}");
        refuse(&["train", "--config", config, "--out", text(&out), "--set", &set], &parts);
    }
}

#[test]
fn several_indices_a_cell() {
    let stages = [
        (
            "residual-ema",
            3,
            r#"{kind="residual", depth=3, dropout=1.0, quantizer={kind="ema", codes=24, start="kmeans"}}"#,
        ),
        ("residual-lfq", 2, r#"{kind="residual", depth=2, scale=0.5, quantizer={kind="lfq", bits=16}}"#),
    ];
    for (name, depth, quantizer) in stages {
        let (report, file) = through(name, quantizer, &[]);
        let indices = file.get_shaped("indices", &[3, 4, 4, depth]).unwrap();
        assert!(indices.min().int64_value(&[]) >= 0, "{name}");
        // Four pictures of 16 cells in the decoded level.
        let usage = &report["validation"]["usage"][2];
        assert_eq!(usage["vectors"].as_i64(), Some(4 * 16 * depth), "{name}: {report}");
    }
}
