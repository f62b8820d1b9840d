//! Where results go: never over an input, a device or another's files; and what a wrong source is told.

use std::path::{Path, PathBuf};

use super::{import, network, published, taming};
use crate::common::{folder, refuse, refuse_cleanly, succeed, text};

/// A folder with a taming checkpoint, its YAML and the model file imported from them.
fn imported(name: &str) -> (PathBuf, PathBuf, PathBuf, PathBuf) {
    let dir = folder(name);
    let (ckpt, yaml) = taming(&dir, &network(&published()));
    let model = dir.join("model.safetensors");
    import("taming", &ckpt, Some(&yaml), &model);
    (dir, ckpt, yaml, model)
}

#[test]
fn an_output_never_replaces_an_input() {
    let (dir, ckpt, yaml, model) = imported("outputs");
    let args = |out: &Path| {
        ["checkpoint", "import", "--from", "taming", text(&ckpt), "--config", text(&yaml), "--out", text(out)]
            .map(str::to_owned)
    };
    for input in [&ckpt, &yaml] {
        let args = args(input);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        refuse_cleanly(&dir, &args, &["--out", "expected another place than the input"]);
    }
    let export = |layout: &str, out: &Path| {
        refuse_cleanly(
            &dir,
            &["checkpoint", "export", "--to", layout, text(&model), "--out", text(out)],
            &["--out", "expected"],
        );
    };
    export("taming", &model);
    // The configuration would go over the model.
    let yaml_model = dir.join("named.yaml");
    std::fs::copy(&model, &yaml_model).unwrap();
    let out = dir.join("named.ckpt");
    refuse_cleanly(
        &dir,
        &["checkpoint", "export", "--to", "taming", text(&yaml_model), "--out", text(&out)],
        &["another place than the input"],
    );
    export("diffusers", &dir);
    export("taming", Path::new("/dev/null"));
}

#[test]
fn a_place_that_is_none_is_refused() {
    let (dir, ckpt, yaml, model) = imported("outputs-place");
    // Below a file nothing can lie.
    for out in [yaml.join("x.ckpt"), yaml.join("inner").join("x.ckpt")] {
        a_place_is_refused(&dir, &ckpt, &yaml, &model, &out);
    }
}

fn a_place_is_refused(dir: &Path, ckpt: &Path, yaml: &Path, model: &Path, out: &Path) {
    let import = ["checkpoint", "import", "--from", "taming", text(ckpt), "--config", text(yaml), "--out", text(out)];
    refuse_cleanly(dir, &import, &["model.yaml"]);
    for layout in ["taming", "diffusers"] {
        refuse_cleanly(
            dir,
            &["checkpoint", "export", "--to", layout, text(model), "--out", text(out)],
            &["model.yaml"],
        );
    }
}

#[test]
fn a_folder_with_other_files_is_not_replaced() {
    let (dir, _, _, model) = imported("outputs-folder");
    let out = dir.join("exported");
    let args = ["checkpoint", "export", "--to", "diffusers", text(&model), "--out", text(&out)];
    succeed(&args);
    succeed(&args);
    std::fs::write(out.join("README.md"), "mine").unwrap();
    refuse_cleanly(&dir, &args, &["exported: expected a new folder", "found README.md"]);
}

#[test]
fn the_same_import_gives_the_same_file() {
    let (dir, ckpt, yaml, first) = imported("outputs-same");
    let first = std::fs::read(first).unwrap();
    let bytes = ["a", "b", "c"].map(|name| {
        let out = dir.join(name).with_extension("safetensors");
        import("taming", &ckpt, Some(&yaml), &out);
        std::fs::read(out).unwrap()
    });
    assert!(bytes.iter().all(|other| *other == first));
}

#[test]
fn a_wrong_source_is_told_what_to_do() {
    let (dir, ckpt, _, model) = imported("outputs-source");
    let exported = dir.join("exported");
    succeed(&["checkpoint", "export", "--to", "diffusers", text(&model), "--out", text(&exported)]);
    let with = |source: &Path, parts: &[&str]| {
        refuse(&["reconstruct", "--checkpoint", text(source), "--tensors", "x.npy", "--out", text(&dir)], parts);
    };
    with(&ckpt, &["found one of PyTorch", "tavq checkpoint import"]);
    with(&exported, &["a folder of another codebase", "tavq checkpoint import"]);
    with(&dir.join("nothing"), &["nothing: expected a checkpoint", "found nothing"]);
    let import_from = |layout: &str, config: &str, parts: &[&str]| {
        let out = dir.join("out.safetensors");
        let args = ["checkpoint", "import", "--from", layout, text(&ckpt), "--config", config, "--out", text(&out)];
        refuse_cleanly(&dir, &args, parts);
    };
    import_from("llamagen", "vq-17", &["--config: expected vq-8, vq-16 or a YAML or JSON file, found no vq-17"]);
}
