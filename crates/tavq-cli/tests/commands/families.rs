//! Every family of backbones and every wiring trains, resumes and reconstructs through the same command.

use crate::common::{files, fixtures, folder, small, succeed, text};

const VIT: &str = r#"kind = "vit", patch = 4, width = 16, depth = 3, heads = 2, mlp = 24, embed_dim = 16"#;
const VQVAE: &str = r#"kind = "vqvae", width = 32, block_width = 8, embed_dim = 16"#;
const VQGAN: &str = r#"kind = "vqgan", ch = 32, ch_mult = [1, 1, 2], num_res_blocks = 1, attn_resolutions = [4], resolution = 16, z_channels = 16, embed_dim = 16"#;

fn trains(name: &str, family: &str, wiring: &str) {
    let dir = folder(name);
    let backbone = format!("model.backbone={{{family}, wiring = \"{wiring}\"}}");
    let run = |out: &std::path::Path, more: &[&str]| {
        let config = text(&small().config);
        let args =
            ["train", "--config", config, "--out", text(out), "--json", "--set", &backbone, "--set", "run.steps=3"];
        let printed = succeed(&[&args, more].concat());
        serde_json::from_str::<serde_json::Value>(&printed).unwrap()
    };
    let (whole, rest) = (dir.join("whole"), dir.join("rest"));
    let report = run(&whole, &[]);
    let usage = report["validation"]["usage"].as_array().unwrap();
    assert_eq!(usage.len(), 3, "{report}");
    assert!(report["validation"]["psnr"].as_f64().unwrap() > 0.0, "{report}");
    // The third step from the second's checkpoint ends like the straight run, to the bit.
    run(&rest, &["--resume", text(&whole.join("checkpoints/step-000002"))]);
    let [a, b] = [&whole, &rest].map(|run| files(&run.join("checkpoints/step-000003")));
    for part in ["model.safetensors", "optimizer.safetensors"] {
        assert!(a[part] == b[part], "{part} differs when resumed");
    }
    let picture = fixtures().join("emoji/images/1F600.webp");
    succeed(&["reconstruct", "--checkpoint", text(&whole), "--out", text(&dir), text(&picture)]);
    assert_eq!(image::open(dir.join("1F600.png")).unwrap().width(), 32);
}

#[test]
fn a_transformer_by_taps() {
    trains("vit-taps", VIT, "taps");
}

#[test]
fn a_transformer_in_cascade() {
    trains("vit-cascade", VIT, "cascade");
}

#[test]
fn a_residual_network_in_cascade() {
    trains("vqvae-cascade", VQVAE, "cascade");
}

#[test]
fn a_vqgan_in_cascade() {
    trains("vqgan-cascade", VQGAN, "cascade");
}

/// The side levels of a cascade carry features on, quantized or not.
#[test]
fn a_cascade_without_side_levels() {
    let dir = folder("cascade-alone");
    let backbone = format!("model.backbone={{{VQVAE}, wiring = \"cascade\"}}");
    let sets = [&backbone, "model.side_levels=false", "run.steps=2", "loss.alignment=[0.0, 0.0, 0.0]"];
    let mut args = vec!["train", "--config", text(&small().config), "--json"];
    let out = dir.join("run");
    args.extend(["--out", text(&out)]);
    args.extend(sets.iter().flat_map(|s| ["--set", s]));
    let report: serde_json::Value = serde_json::from_str(&succeed(&args)).unwrap();
    assert_eq!(report["validation"]["usage"].as_array().unwrap().len(), 1, "{report}");
}
