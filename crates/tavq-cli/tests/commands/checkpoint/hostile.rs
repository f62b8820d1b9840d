//! Checkpoints and configurations that mean harm or do not fit: exit code 2, one line, nothing left behind.

use std::path::Path;

use super::{network_of_tests, taming};
use crate::common::{folder, refuse, refuse_cleanly, succeed, text};

/// A file of the old format around one pickle: magic number, version, machine, object, storages.
fn legacy(object: &[u8]) -> Vec<u8> {
    let magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    [&magic[..], b"\x80\x02M\xe9\x03.", b"\x80\x02}.", object, b"\x80\x02]."].concat()
}

fn import<'a>(file: &'a Path, config: &'a Path, out: &'a Path) -> [&'a str; 9] {
    ["checkpoint", "import", "--from", "taming", text(file), "--config", text(config), "--out", text(out)]
}

#[test]
fn a_program_in_a_checkpoint_is_named_and_never_run() {
    let dir = folder("programs");
    let (_, yaml) = taming(&dir, &network_of_tests());
    let (bad, out, proof) = (dir.join("bad.ckpt"), dir.join("out.safetensors"), dir.join("executed"));
    let touch = format!("touch {}", proof.display());
    let pickles = [
        (format!("cposix\nsystem\n(S'{touch}'\ntR."), "posix.system"),
        (format!("}}S'state_dict'\ncos\nsystem\n(S'{touch}'\ntRs."), "os.system"),
        (format!("cbuiltins\neval\n(S'__import__(\"os\").system(\"{touch}\")'\ntR."), "builtins.eval"),
        (format!("(S'{touch}'\nios\nsystem\n."), "os.system"),
    ];
    for (pickle, name) in pickles {
        std::fs::write(&bad, legacy(pickle.as_bytes())).unwrap();
        refuse_cleanly(
            &dir,
            &import(&bad, &yaml, &out),
            &["bad.ckpt", "found the global", name, "nothing was executed"],
        );
        let skipping = [&import(&bad, &yaml, &out)[..], &["--skip-unknown"]].concat();
        refuse_cleanly(&dir, &skipping, &["bad.ckpt", "expected a dict of tensors"]);
        refuse_cleanly(&dir, &["checkpoint", "inspect", text(&bad)], &[name]);
    }
    assert!(!proof.exists());
}

/// Shapes that describe more than there is: strides of 0 repeat six bytes without end.
#[test]
fn endless_tensors_are_described_and_never_made() {
    let dir = folder("endless");
    let tensor = |name: &str, kind: &str, key: &str, shape: &str, strides: &str| {
        format!(
            "S'{name}'\nctorch._utils\n_rebuild_tensor_v2\n((S'storage'\nctorch\n{kind}Storage\nS'{key}'\nS'cpu'\nI6\ntQI0\n({shape}t({strides}tI00\nNtR"
        )
    };
    let object = format!(
        "}}S'state_dict'\n}}({}{}us.",
        tensor("quantize.codebook_used", "Float", "0", "I6\n", "I1\n"),
        tensor("quantize.embedding.weight", "Byte", "1", "L4611686018427387904L\nI3\n", "I0\nI0\n"),
    );
    let whole = legacy(object.as_bytes());
    let keys = b"\x80\x02].";
    let mut file = whole[..whole.len() - keys.len()].to_vec();
    file.extend(b"\x80\x02](S'0'\nS'1'\ne.");
    for size in [24, 6] {
        file.extend(6u64.to_le_bytes());
        file.extend(vec![0; size]);
    }
    let (bad, yaml, out) = (dir.join("bad.ckpt"), dir.join("x.yaml"), dir.join("out.safetensors"));
    std::fs::write(&bad, file).unwrap();
    let (_, good) = taming(&dir, &network_of_tests());
    std::fs::rename(good, &yaml).unwrap();
    let found = succeed(&["checkpoint", "inspect", text(&bad), "--json"]);
    let found: serde_json::Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found["values"].as_i64(), Some(i64::MAX));
    assert_eq!(found["usage"], serde_json::json!([]));
    refuse_cleanly(&dir, &import(&bad, &yaml, &out), &["bad.ckpt: expected at most", "bytes of values"]);
}

#[test]
fn files_that_are_cut_or_no_checkpoints() {
    let dir = folder("cut");
    let (ckpt, yaml) = taming(&dir, &network_of_tests());
    let (bad, out) = (dir.join("bad.ckpt"), dir.join("out.safetensors"));
    let whole = std::fs::read(&ckpt).unwrap();
    for n in [0, 1, 3, 200, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&bad, &whole[..n]).unwrap();
        refuse_cleanly(&dir, &import(&bad, &yaml, &out), &["bad.ckpt: expected a file of torch.save"]);
    }
    refuse(&import(&dir.join("gone.ckpt"), &yaml, &out), &["gone.ckpt: No such file"]);
    refuse(&import(&dir, &yaml, &out), &["found a folder"]);
    refuse(&import(&ckpt, &dir.join("gone.yaml"), &out), &["gone.yaml"]);
    let diffusers = ["checkpoint", "import", "--from", "diffusers", text(&dir), "--out", text(&out)];
    refuse(&diffusers, &["expected a folder with config.json and diffusion_pytorch_model.safetensors"]);
    let bare = ["checkpoint", "import", "--from", "taming", text(&ckpt), "--out", text(&out)];
    refuse(&bare, &["--config: expected the model's configuration"]);
    let key = [&import(&ckpt, &yaml, &out)[..], &["--weights", "ema"]].concat();
    refuse(&key, &["model.ckpt: ema: expected a dict of tensors, found no such key"]);
    refuse(&["checkpoint", "export", "--to", "taming", text(&ckpt), "--out", text(&out)], &["model.ckpt"]);
    assert!(!out.exists());
}

#[test]
fn configurations() {
    let dir = folder("configurations");
    let (ckpt, yaml) = taming(&dir, &network_of_tests());
    let (bad, out) = (dir.join("bad.yaml"), dir.join("out.safetensors"));
    let good = std::fs::read_to_string(&yaml).unwrap();
    let with = |text: &str, parts: &[&str]| {
        std::fs::write(&bad, text).unwrap();
        let parts = [&["bad.yaml"], parts].concat();
        refuse_cleanly(&dir, &import(&ckpt, &bad, &out), &parts);
    };
    with("", &["model.params.ddconfig: expected a table, found none"]);
    with("a: [1, 2", &[]);
    with("just words", &["ddconfig"]);
    with(&good.replace("double_z: false", "double_z: true"), &["double_z", "found true"]);
    with(&good.replace("double_z: false", "doble_z: false"), &["model.params.ddconfig", "doble_z"]);
    with(&good.replace("ch: 32", "ch: many"), &["model.params.ddconfig.ch", "many"]);
    with(&good.replace("ch: 32", "ch: 33"), &["backbone.ch", "multiple of 32", "33"]);
    with(&good.replace("n_embed: 48", "n_embed: 0"), &["number of codes", "found 0"]);
    with(&good.replace("    n_embed: 48\n", ""), &["model.params.n_embed", "a model with a codebook"]);
    with(&good.replace("n_embed: 48", "n_embed: 48\n    remap: used.npy"), &["model.params.remap: expected none"]);
    with(&good.replace("dropout: 0.0", "attn_type: linear"), &["attn_type: expected vanilla or none, found linear"]);
    with(&good.replace("ch_mult: [1, 2, 1]", "ch_mult: [1, 99999, 1]"), &["ch_mult[1]"]);
    let huge = good.replace("num_res_blocks: 1", "num_res_blocks: 60000");
    with(&huge, &["expected the configuration of", "model.ckpt", "million values"]);
    with(
        &good.replace("n_embed: 48", "n_embed: 16777216").replace("embed_dim: 8", "embed_dim: 65536"),
        &["million values"],
    );
    // References that grow without end, and nesting without end.
    let mut laughs = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (one, next) in ('a'..'k').zip('b'..'l') {
        laughs += &format!("{next}: &{next} [{}]\n", vec![format!("*{one}"); 9].join(", "));
    }
    with(&laughs, &[]);
    with(&"[".repeat(200_000), &[]);
    with(&"#".repeat(2 << 20), &["configuration of at most 1048576 bytes"]);
}

#[test]
fn networks_that_diffusers_has_and_we_have_not() {
    let dir = folder("bad-diffusers");
    let config = dir.join("config.json");
    std::fs::write(dir.join("diffusion_pytorch_model.safetensors"), b"").unwrap();
    let out = dir.join("out.safetensors");
    let args = ["checkpoint", "import", "--from", "diffusers", text(&dir), "--out", text(&out)];
    let base = serde_json::json!({"_class_name": "VQModel", "block_out_channels": [32, 64],
        "down_block_types": ["DownEncoderBlock2D", "AttnDownEncoderBlock2D"],
        "up_block_types": ["AttnUpDecoderBlock2D", "UpDecoderBlock2D"]});
    for (key, value, parts) in [
        ("norm_type", serde_json::json!("spatial"), vec!["norm_type: expected \"group\", found \"spatial\""]),
        ("act_fn", serde_json::json!("relu"), vec!["act_fn", "silu"]),
        ("mid_block_add_attention", serde_json::json!(1), vec!["mid_block_add_attention"]),
        ("norm_num_groups", serde_json::json!(5), vec!["ch: expected a multiple of 5"]),
        ("norm_num_groups", serde_json::json!(0), vec!["norm_num_groups: expected 1 to"]),
        ("block_out_channels", serde_json::json!([32, 48]), vec!["block_out_channels", "[32, 48]"]),
        ("block_out_channels", serde_json::json!([]), vec!["block_out_channels", "none"]),
        ("block_out_channels", serde_json::json!([48, 48]), vec!["ch: expected a multiple of 32"]),
        ("down_block_types", serde_json::json!(["DownEncoderBlock2D"]), vec!["one for each of 2 widths"]),
        ("down_block_types", serde_json::json!(["DownBlock2D", "x"]), vec!["down_block_types", "DownBlock2D"]),
        (
            "up_block_types",
            serde_json::json!(["UpDecoderBlock2D", "UpDecoderBlock2D"]),
            vec!["up_block_types: expected attention at the same sizes"],
        ),
        ("_class_name", serde_json::json!("AutoencoderKL"), vec!["_class_name", "VQModel", "AutoencoderKL"]),
        ("some_new_key", serde_json::json!(1), vec!["some_new_key"]),
        ("num_vq_embeddings", serde_json::json!("x"), vec!["num_vq_embeddings"]),
    ] {
        let mut bad = base.clone();
        bad[key] = value;
        std::fs::write(&config, bad.to_string()).unwrap();
        refuse_cleanly(&dir, &args, &[&["config.json"], &parts[..]].concat());
    }
    std::fs::write(&config, base.to_string()).unwrap();
    refuse_cleanly(&dir, &args, &["diffusion_pytorch_model.safetensors"]);
    std::fs::write(&config, "{").unwrap();
    refuse_cleanly(&dir, &args, &["config.json"]);
}
