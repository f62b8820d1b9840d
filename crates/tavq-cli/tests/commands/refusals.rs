//! Bad usage and bad input: one line that says what and where, exit code 2, nothing half-written.

use std::path::Path;

use crate::common::{fixtures, folder, refuse, refuse_cleanly, small, text};

/// Trains on a manifest of the given lines; images are looked for beside it.
fn refuse_data(name: &str, lines: &str, image: Option<&[u8]>, parts: &[&str]) {
    let dir = folder(name);
    if let Some(bytes) = image {
        std::fs::write(dir.join("x.webp"), bytes).unwrap();
    }
    let manifest = dir.join("manifest.jsonl");
    std::fs::write(&manifest, lines).unwrap();
    let set = format!("data.manifest={}", manifest.display());
    let index = format!("text.index={}", dir.join("index").display());
    let out = dir.join("run");
    let args =
        ["train", "--config", text(&small().config), "--set", &set, "--set", &index, "--out", text(&out), "--json"];
    refuse(&args, parts);
    let saved = out.join("checkpoints");
    assert!(!saved.exists() || std::fs::read_dir(saved).unwrap().count() == 0);
}

const ROWS: &str = "{\"image\": \"x.webp\", \"text\": \"A thing.\", \"key\": \"a\", \"split\": \"train\"}\n\
    {\"image\": \"x.webp\", \"text\": \"A thing.\", \"key\": \"b\", \"split\": \"validation\"}\n";

#[test]
fn data() {
    let whole = std::fs::read(fixtures().join("emoji/images/1F600.webp")).unwrap();
    refuse_data("missing-image", ROWS, None, &["x.webp", "manifest.jsonl"]);
    refuse_data("empty-image", ROWS, Some(b""), &["x.webp"]);
    refuse_data("truncated-image", ROWS, Some(&whole[..whole.len() / 2]), &["x.webp"]);
    refuse_data("text-for-image", ROWS, Some(b"not an image at all, only words"), &["x.webp"]);
    refuse_data("not-json", &format!("{ROWS}oops\n"), Some(&whole), &["manifest.jsonl:3", "JSON"]);
    refuse_data("no-text", "{\"image\": \"x.webp\", \"key\": \"a\"}\n", Some(&whole), &["manifest.jsonl:1", "text"]);
    let empty = ROWS.replacen("A thing.", "", 1);
    refuse_data("empty-text", &empty, Some(&whole), &["manifest.jsonl:1", "text"]);
    let long = ROWS.replacen("A thing.", &"long ".repeat(300_000), 1);
    refuse_data("long-text", &long, Some(&whole), &["manifest.jsonl:1", "text"]);
    refuse_data("no-rows", "", Some(&whole), &["manifest.jsonl"]);
    refuse_data("no-such-split", &ROWS.replace("validation", "test"), Some(&whole), &["validation"]);
}

#[test]
fn usage_takes_one_line() {
    let dir = folder("usage");
    let with = |args: &[&str], parts: &[&str]| refuse_cleanly(&dir, args, parts);
    with(&["train", "--confg", "x"], &["unexpected argument '--confg' found", "--config"]);
    with(&["checkpoint", "import", "--from", "foo", "x", "--out", "y"], &["invalid value 'foo'", "taming, diffusers"]);
    with(&["reconstruct"], &["required arguments were not provided", "--checkpoint"]);
    with(&["ot", "solve"], &["--cost"]);
    with(&["trian"], &["unrecognized subcommand 'trian'", "train"]);
    // Without a word of what to do, what there is.
    let out = crate::common::tavq(&[]).output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&out.stderr).contains("Usage"));
}

#[test]
fn train() {
    let small = small();
    let config = text(&small.config);
    let out = folder("refused").join("run");
    let with = |args: &[&str], parts: &[&str]| {
        let all = [&["train", "--out", text(&out)], args].concat();
        refuse(&all, parts);
        assert!(!out.exists(), "{args:?} left {}", out.display());
    };
    with(&[], &["--config", "--preset"]);
    with(&["--preset", "emojis"], &["--preset: expected one of emoji, found emojis"]);
    with(&["--config", "no/such.toml"], &["no/such.toml"]);
    with(&["--config", config, "--set", "optimizer.lr=1"], &["optimizer", "lr"]);
    with(&["--config", config, "--set", "run.steps=many"], &["run.steps", "many"]);
    with(&["--config", config, "--set", "run.steps"], &["--set: run.steps: expected key.path=value"]);
    with(&["--config", config, "--set", "model.quantizer.kind=gambol"], &["model.quantizer.kind", "gambol", "gumbel"]);
    with(&["--config", config, "--set", "model.quantizer.codes=0"], &["codes", "found 0"]);
    with(&["--config", config, "--set", "model.backbone.width=3"], &["model.backbone", "width"]);
    with(&["--config", config, "--set", "model.backbone.ch=33"], &["ch", "multiple of 32", "33"]);
    with(&["--config", config, "--set", "model.backbone.ch=a"], &["model.backbone.ch: ", "\"a\""]);
    with(&["--config", config, "--set", "model.quantizer.codes=1.5"], &["model.quantizer.codes: ", "1.5"]);
    with(&["--config", config, "--set", "align.epsilon=-1"], &["align", "epsilon", "-1"]);
    with(&["--config", config, "--set", "run.device=tpu"], &["run.device", "tpu"]);
    with(&["--config", config, "--set", "text.encoder=nowhere"], &["nowhere"]);
    with(&["--config", config, "--resume", "nowhere"], &["nowhere", "found nothing"]);
    // Only the backbone knows its strides, so this is seen when it gets a batch.
    with(&["--config", config, "--set", "data.transform.size=15"], &["a multiple of", "15"]);
}

#[test]
fn a_cause_is_told_once() {
    let out = crate::common::tavq(&["train", "--config", "no/such.toml"]).output().unwrap();
    assert_eq!(String::from_utf8(out.stderr).unwrap(), "error: no/such.toml: No such file or directory (os error 2)\n");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for (name, bytes) in crate::common::files(from) {
        std::fs::write(to.join(name), bytes).unwrap();
    }
}

#[test]
fn checkpoints() {
    let (small, dir) = (small(), folder("bad-checkpoint"));
    refuse(&["checkpoint", "inspect", "nowhere"], &["nowhere", "found nothing"]);
    let path = dir.join("step-000008");
    copy(&small.checkpoint(8), &path);
    for file in ["model.safetensors", "optimizer.safetensors", "config.toml"] {
        let whole = std::fs::read(path.join(file)).unwrap();
        for cut in [0, whole.len() / 2, whole.len() - 1] {
            std::fs::write(path.join(file), &whole[..cut]).unwrap();
            refuse(&["checkpoint", "inspect", text(&path)], &[file, "BLAKE3"]);
        }
        std::fs::write(path.join(file), &whole).unwrap();
    }
    let state = std::fs::read_to_string(path.join("state.json")).unwrap();
    std::fs::write(path.join("state.json"), &state[..state.len() / 2]).unwrap();
    refuse(&["evaluate", "--checkpoint", text(&path), "--out", text(&dir)], &["state.json"]);
    std::fs::write(path.join("state.json"), state.replacen("\"format\": 1", "\"format\": 2", 1)).unwrap();
    refuse(&["checkpoint", "inspect", text(&path)], &["state.json", "format: expected 1, found 2"]);
}

#[test]
fn files() {
    let (small, dir) = (small(), folder("bad-files"));
    let (bad, out) = (dir.join("bad.npy"), dir.join("out"));
    std::fs::write(&bad, b"no array").unwrap();
    refuse(&["ot", "solve", "--cost", text(&bad)], &["bad.npy", ".npy"]);
    refuse(&["ot", "solve", "--cost", "gone.npy"], &["gone.npy"]);
    refuse(&["split", "gone.txt"], &["gone.txt"]);
    let embed = ["embed", "gone.txt", "--out", text(&out)];
    refuse(&embed, &["gone.txt"]);
    refuse(&["embed", "gone.txt", "--index", text(&out), "--encoder", text(&dir)], &["config.json"]);
    refuse(&["embed", "gone.txt", "--out", text(&out), "--device", "cuda:99"], &["cuda:99", "GPU"]);
    let run = text(&small.run);
    refuse(&["reconstruct", "--checkpoint", run, "--out", text(&out), "gone.png"], &["gone.png"]);
    refuse(&["reconstruct", "--checkpoint", run, "--out", text(&out), "--tensors", text(&bad)], &["bad.npy"]);
    std::fs::write(dir.join("empty.txt"), " \n").unwrap();
    let (picture, empty) = (fixtures().join("emoji/images/1F600.webp"), dir.join("empty.txt"));
    let explain = ["explain", "--checkpoint", run, "--out", text(&out), text(&picture), "--text", text(&empty)];
    refuse(&explain, &["empty.txt", "expected a text"]);
    assert!(!out.exists());
}
