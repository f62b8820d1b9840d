//! `train`, `--resume`, `--study`, and what a killed run leaves behind.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::{files, folder, refuse, small, succeed, tavq, text};

#[test]
fn a_run_ends_with_a_table_and_its_files() {
    let small = small();
    for part in ["PSNR, dB", "R@5 text of image, centred", "R@5 by chance", "codes used in the last epoch", "picture: "]
    {
        assert!(small.printed.contains(part), "{part} is missing in {}", small.printed);
    }
    let pictures: Vec<&str> = small.printed.lines().filter_map(|l| l.strip_prefix("picture: ")).collect();
    assert_eq!(pictures.len(), 4, "{pictures:?}");
    for picture in pictures {
        let picture = image::open(picture).unwrap();
        assert!(picture.width() > 100 && picture.height() > 100);
    }
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(small.run.join("evaluation.json")).unwrap()).unwrap();
    assert_eq!((report["validation"]["images"].as_u64(), report["training"]["images"].as_u64()), (Some(4), Some(10)));
    assert!(report["validation"]["psnr"].as_f64().unwrap() > 3.0);
    let page: serde_json::Value =
        serde_json::from_slice(&std::fs::read(small.run.join("codebook.json")).unwrap()).unwrap();
    for (level, reported) in report["run"]["usage_last_epoch"].as_array().unwrap().iter().enumerate() {
        let level = &page["levels"][level];
        let counts: Vec<u64> = level["counts"].as_array().unwrap().iter().map(|c| c.as_u64().unwrap()).collect();
        assert_eq!((counts.iter().sum::<u64>(), counts.len() as u64), (reported["vectors"].as_u64().unwrap(), 24));
        assert_eq!(counts.iter().filter(|c| **c == 0).count() as u64, reported["dead"].as_u64().unwrap());
    }
    let metrics = std::fs::read_to_string(small.run.join("metrics.jsonl")).unwrap();
    let steps = metrics.lines().filter(|l| l.contains("\"train\"")).count();
    assert_eq!(steps, 8);
    // The saved configuration is whole: it makes the same run again.
    let again = folder("again").join("run");
    succeed(&["train", "--config", text(&small.run.join("config.toml")), "--out", text(&again), "--json"]);
    assert_eq!(std::fs::read_to_string(again.join("metrics.jsonl")).unwrap(), metrics);
}

#[test]
fn a_resumed_run_ends_bit_for_bit_like_a_straight_one() {
    let small = small();
    let out = folder("resumed").join("run");
    let from = small.checkpoint(4);
    succeed(&["train", "--config", text(&small.config), "--resume", text(&from), "--out", text(&out), "--json"]);
    assert_same(&small.checkpoint(8), &out.join("checkpoints/step-000008"));
}

fn assert_same(expected: &Path, found: &Path) {
    let (a, b) = (files(expected), files(found));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, bytes) in &a {
        assert!(&b[name] == bytes, "{name} differs");
    }
}

/// Kills the run at odd moments until it gets through; whatever lies on disk is whole each time.
#[test]
fn a_killed_run_resumes_from_its_last_checkpoint() {
    let small = small();
    let out = folder("killed").join("run");
    let every = "run.checkpoint_every=1";
    let args =
        ["train", "--config", text(&small.config), "--out", text(&out), "--resume", "auto", "--set", every, "--json"];
    let (mut kills, mut wait) = (0, 300);
    loop {
        let mut child =
            tavq(&args).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        let end = Instant::now() + Duration::from_millis(wait);
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if Instant::now() >= end => break None,
                None => std::thread::sleep(Duration::from_millis(3)),
            }
        };
        if let Some(status) = status {
            assert!(status.success());
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        // Longer each time, by a step that meets start-up, saving and evaluation alike, also on a busy machine.
        wait += 170 + wait / 8;
        if out.join("checkpoints").exists() && std::fs::read_dir(out.join("checkpoints")).unwrap().any(whole) {
            succeed(&["checkpoint", "inspect", text(&out), "--json"]);
        }
    }
    assert!(kills >= 2, "the run was over before it could be killed");
    let (a, b) = (files(&small.checkpoint(8)), files(&out.join("checkpoints/step-000008")));
    for name in ["model.safetensors", "optimizer.safetensors"] {
        assert!(a[name] == b[name], "{name} differs after {kills} kills");
    }
    let left: Vec<_> = std::fs::read_dir(out.join("checkpoints")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|n| n.to_string_lossy().starts_with("step-")), "{left:?}");
}

fn whole(entry: std::io::Result<std::fs::DirEntry>) -> bool {
    entry.unwrap().file_name().to_string_lossy().starts_with("step-")
}

#[test]
fn a_signal_saves_first() {
    let small = small();
    let out = folder("signal").join("run");
    let steps = "run.steps=100000";
    let args = [
        "train",
        "--config",
        text(&small.config),
        "--out",
        text(&out),
        "--set",
        steps,
        "--set",
        "run.checkpoint_every=100000",
    ];
    let child = tavq(&args).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let metrics = out.join("metrics.jsonl");
    let end = Instant::now() + Duration::from_secs(120);
    while std::fs::read_to_string(&metrics).is_ok_and(|t| t.lines().count() < 2) || !metrics.exists() {
        assert!(Instant::now() < end, "no step within two minutes");
        std::thread::sleep(Duration::from_millis(20));
    }
    let kill = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let ended = child.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{message}");
    assert!(message.contains("stopped by a signal after step") && message.contains("--resume auto"), "{message}");
    let inspected = succeed(&["checkpoint", "inspect", text(&out), "--json"]);
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    assert!(inspected["step"].as_u64().unwrap() >= 2);
}

#[test]
fn a_study_trains_both_and_prints_them_side_by_side() {
    let small = small();
    let out = folder("study").join("run");
    let steps = "run.steps=3";
    let args = ["train", "--config", text(&small.config), "--out", text(&out), "--set", steps, "--study", "--json"];
    let both: serde_json::Value = serde_json::from_str(&succeed(&args)).unwrap();
    for side in ["on", "off"] {
        assert!(both[side]["validation"]["retrieval"]["centred"]["image_to_text"]["recall_at_5"].is_number());
        assert!(out.join(side).join("evaluation.json").exists());
    }
    // Without alignment the codes differ; the first step's reconstruction error does not, for both start alike.
    let first = |side: &str| {
        let text = std::fs::read_to_string(out.join(side).join("metrics.jsonl")).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        line["l1"].as_f64().unwrap()
    };
    assert_eq!(first("on"), first("off"));
    assert_ne!(both["on"]["validation"]["psnr"], both["off"]["validation"]["psnr"]);
}

#[test]
fn a_model_or_batch_that_does_not_fit_leaves_nothing_behind() {
    let small = small();
    let out = folder("unfit").join("run");
    let with = |set: &str, parts: &[&str]| {
        let args = ["train", "--config", text(&small.config), "--out", text(&out), "--set", set];
        refuse(&args, parts);
        assert!(!out.exists(), "{set}");
    };
    with(r#"model.backbone={kind="vit", patch=7, width=32, heads=2, depth=3}"#, &["multiple of 7"]);
    with("data.batch_size=100000", &["batch_size", "100000"]);
    with("data.transform.flip=2.0", &["data.transform.flip: expected a number in [0, 1], found 2"]);
    with("run.threads=-3", &["run.threads: expected 0 to 4096, found -3"]);
    let dry = |set: &str, parts: &[&str]| {
        refuse(&["train", "--config", text(&small.config), "--dry-run", "--set", set], parts);
    };
    dry(r#"model.quantizer={kind="vq", codez=5}"#, &["model.quantizer", "unknown field `codez`"]);
    dry(r#"model.quantizer={kind="nope"}"#, &["model.quantizer.kind", "nope"]);
    dry(r#"model.backbone={kind="vit", heads=0}"#, &["model.backbone.heads", "found 0"]);
}

#[test]
fn a_run_is_never_overwritten() {
    let small = small();
    refuse(
        &["train", "--config", text(&small.config), "--out", text(&small.run)],
        &[text(&small.run), "expected an empty folder, found a run", "--resume auto"],
    );
}

#[test]
fn a_dry_run_prints_what_would_run() {
    let small = small();
    let printed = succeed(&["train", "--config", text(&small.config), "--dry-run", "--set", "run.seed=41"]);
    let table: toml::Table = printed.parse().unwrap();
    assert_eq!(table["run"]["seed"].as_integer(), Some(41));
    assert_eq!(table["optimizer"]["clip_norm"].as_float(), Some(1.0));
}

/// The plain backbone, trained and applied, to the bit: levels = 1 knows nothing of side levels or text.
#[test]
fn without_alignment_and_side_levels_it_is_the_plain_backbone() {
    let (small, dir) = (small(), folder("plain"));
    let input = dir.join("in.npy");
    let images = ndarray::Array4::<f32>::from_shape_fn((2, 3, 16, 16), |(b, c, y, x)| {
        ((b * 5 + c * 3 + y * x) % 11) as f32 / 5.5 - 1.0
    });
    ndarray_npy::write_npy(&input, &images).unwrap();
    let train = |name: &str, levels: &str| {
        let run = dir.join(name);
        let sets = ["run.steps=4", "loss.alignment=[0.0, 0.0, 0.0]", "model.side_levels=false", levels];
        let mut args = vec!["train", "--config", text(&small.config), "--out", text(&run), "--json"];
        args.extend(sets.iter().flat_map(|s| ["--set", s]));
        succeed(&args);
        succeed(&["reconstruct", "--checkpoint", text(&run), "--out", text(&run), "--tensors", text(&input)]);
        run
    };
    let (with_taps, plain) = (train("taps", "model.backbone.levels=3"), train("plain", "model.backbone.levels=1"));
    assert!(files(&with_taps)["out.safetensors"] == files(&plain)["out.safetensors"], "outputs differ");
    let open =
        |run: &Path| tavq_torch::TensorFile::open(&run.join("checkpoints/step-000004/model.safetensors")).unwrap();
    let (a, b) = (open(&with_taps), open(&plain));
    assert!(a.names().len() > b.names().len() && b.names().len() > 40);
    for name in b.names() {
        assert_eq!(a.get(&name).unwrap(), b.get(&name).unwrap(), "{name}");
    }
}
