//! Runs of tavq that go out, and model files as any command takes them.

use serde_json::Value;
use tavq_torch::write_tensors;

use super::{contents, import, inspect, network, published, taming};
use crate::common::{folder, refuse, small, succeed, tavq, text};

/// A run of tavq with side levels and alignment: the decoded path alone has a place in other layouts.
#[test]
fn a_trained_run_goes_out_and_its_export_comes_in() {
    let (small, dir) = (small(), folder("export-run"));
    let (out, back) = (dir.join("run.ckpt"), dir.join("run.safetensors"));
    let run =
        tavq(&["checkpoint", "export", "--to", "taming", text(&small.run), "--out", text(&out)]).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{said}");
    for part in ["left out: ", "align (", "taps (", "side_quantize (", "quantize.embed_prob (1)", "by the cosine"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    import("taming", &out, Some(&dir.join("run.yaml")), &back);
    let trained = contents(&small.checkpoint(8).join("model.safetensors"));
    let found = contents(&back);
    assert!(found.len() > 40 && found.iter().all(|(name, value)| &trained[name] == value));
    assert_eq!(inspect(&out)["step"].as_u64(), Some(8));
    let usage = inspect(&small.run)["usage"].clone();
    assert_eq!(usage.as_array().unwrap().len(), 3);
    assert!(usage[2]["used"].as_u64().unwrap() > 0 && usage[2]["source"] == "the last whole epoch", "{usage}");

    // A model file serves as a start: its parts are taken over, the others start at random.
    let init = format!("model.init={}", back.display());
    let start = dir.join("start");
    let sets = ["model.quantizer.kind=vq", "run.steps=1", "optimizer.learning_rate=1e-30", &init];
    let mut args = vec!["train", "--config", text(&small.config), "--out", text(&start)];
    args.extend(sets.iter().flat_map(|set| ["--set", set]));
    let run = tavq(&args).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && said.contains("at random: align, side_quantize, taps"), "{said}");
    let after = contents(&start.join("checkpoints/step-000001/model.safetensors"));
    assert!(found.iter().all(|(name, value)| &after[name] == value), "a step this small changes nothing");
    let evaluated = succeed(&[
        "evaluate",
        "--checkpoint",
        text(&back),
        "--data",
        text(&small.config.with_file_name("manifest.jsonl")),
        "--out",
        text(&dir),
        "--json",
    ]);
    let evaluated: Value = serde_json::from_str(&evaluated).unwrap();
    assert_eq!(evaluated["validation"]["images"].as_u64(), Some(4));
    assert!(evaluated["validation"]["retrieval"].is_null());
    let picture = small.config.with_file_name("1F600.webp");
    refuse(
        &["explain", "--checkpoint", text(&back), text(&picture), "--text", text(&small.config), "--out", text(&dir)],
        &["run.safetensors: expected a model trained with alignment"],
    );
}

#[test]
fn inspect_knows_every_kind() {
    let dir = folder("inspect");
    let tensors = network(&published());
    let (ckpt, yaml) = taming(&dir, &tensors);
    let model = dir.join("m.safetensors");
    import("taming", &ckpt, Some(&yaml), &model);
    let values: i64 = tensors.iter().map(|(_, t)| t.numel() as i64).sum();
    let diffusers = dir.join("d");
    succeed(&["checkpoint", "export", "--to", "diffusers", text(&model), "--out", text(&diffusers)]);
    write_tensors(&dir.join("plain.safetensors"), &tensors, &[]).unwrap();
    for (path, kind, config) in [
        (&ckpt, "PyTorch file", false),
        (&model, "model file", true),
        (&diffusers, "safetensors", true),
        (&dir.join("plain.safetensors"), "safetensors", false),
    ] {
        let found = inspect(path);
        assert_eq!((found["kind"].as_str(), found["values"].as_i64()), (Some(kind), Some(values)));
        assert_eq!(found["config"].is_string(), config, "{kind}");
        assert!(found["hashes"].as_object().unwrap().values().all(|h| h.as_str().unwrap().len() == 64));
        assert!(found["dtypes"].as_object().unwrap().values().all(|t| t == "f32"));
    }
    // Plain tensors are no model.
    let out = dir.join("out");
    refuse(
        &["reconstruct", "--checkpoint", text(&dir.join("plain.safetensors")), "--out", text(&out), "x.png"],
        &["plain.safetensors: expected a model with its configuration", "checkpoint import"],
    );
    let whole = std::fs::read(&model).unwrap();
    std::fs::write(&model, &whole[..whole.len() - 5]).unwrap();
    refuse(&["checkpoint", "inspect", text(&model)], &["m.safetensors: expected a whole safetensors file"]);
    assert!(!out.exists());
}

/// What other codebases have no word for is refused before anything is written.
#[test]
fn models_of_no_other_layout_stay_here() {
    let (small, dir) = (small(), folder("export-refused"));
    let out = dir.join("out.ckpt");
    let cases = [
        (r#"model.backbone.wiring="cascade""#, "model.backbone.wiring: expected taps", "found cascade"),
        (
            r#"model.backbone={kind="vqvae", width=32, embed_dim=4, levels=1}"#,
            "model.backbone.kind: expected vqgan",
            "found vqvae",
        ),
        (r#"model.quantizer={kind="fsq", levels=[3, 3, 3, 3]}"#, "model.quantizer.kind: expected vq", "found fsq"),
    ];
    for (set, expected, found) in cases {
        let run = dir.join("run");
        let _ = std::fs::remove_dir_all(&run);
        let sets = ["run.steps=1", "loss.alignment=[0.0, 0.0, 0.0]", "model.backbone.embed_dim=4", set];
        let mut args = vec!["train", "--config", text(&small.config), "--out", text(&run), "--json"];
        args.extend(sets.iter().flat_map(|set| ["--set", set]));
        succeed(&args);
        refuse(&["checkpoint", "export", "--to", "taming", text(&run), "--out", text(&out)], &[expected, found]);
        assert!(!out.exists() && !dir.join("out.yaml").exists());
    }
}
