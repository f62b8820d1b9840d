//! What lies around and beside the weights of a foreign file, and what does not fit.

use serde_json::json;
use tavq_torch::TensorFile;
use tch::{Device, Kind, Tensor};

use super::{Tensors, contents, golden, import, inspect, network, pickle, published, taming};
use crate::common::{folder, refuse, refuse_cleanly, succeed, tavq, text};

#[test]
fn lightning_with_all_that_lies_around_the_weights() {
    let dir = folder("lightning");
    let (ckpt, yaml, out) = (golden("lightning.ckpt"), golden("lightning.yaml"), dir.join("m.safetensors"));
    let args = ["checkpoint", "import", "--from", "taming", text(&ckpt), "--config", text(&yaml), "--out", text(&out)];
    refuse_cleanly(
        &dir,
        &args,
        &["lightning.ckpt: expected tensors and plain containers only", "__main__.ModelCheckpoint", "--skip-unknown"],
    );
    let run = tavq(&[&args[..], &["--skip-unknown"]].concat()).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{said}");
    for part in [
        "clip_model (13)",
        "loss.discriminator (4)",
        "loss.perceptual_loss (2)",
        "model_ema (3)",
        "num_batches_tracked (1)",
        "text_prediction (1)",
        "argparse.Namespace",
        "ModelCheckpoint",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let found = inspect(&out);
    assert_eq!((found["kind"].as_str(), found["origin"]["layout"].as_str()), (Some("model file"), Some("taming")));
    assert_eq!(found["tensors"]["quantize.embedding.weight"], json!([6, 4]));
    assert!(found["tensors"].as_object().unwrap().keys().all(|n| !n.starts_with("loss") && !n.starts_with("clip")));
    let codes = TensorFile::open(&out).unwrap().get("quantize.embedding.weight").unwrap();
    assert_eq!(Vec::<f32>::try_from(codes.select(1, 3)).unwrap(), [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]);
    let foreign = succeed(&["checkpoint", "inspect", text(&ckpt), "--skip-unknown"]);
    for part in [
        "PyTorch file",
        "step 1234, epoch 3",
        "optimizer_states.0.state.0.exp_avg",
        "clip_model.text_projection",
        "codes used: not recorded",
    ] {
        assert!(foreign.contains(part), "{part}: {foreign}");
    }
    refuse(&["checkpoint", "inspect", text(&ckpt)], &["ModelCheckpoint", "--skip-unknown"]);
}

#[test]
fn a_model_inside_a_larger_one_is_found() {
    let dir = folder("prefix");
    let tensors = network(&published());
    let under =
        |prefix: &str| tensors.iter().map(|(n, t)| (format!("{prefix}{n}"), t.shallow_clone())).collect::<Tensors>();
    let (plain, yaml) = taming(&dir, &tensors);
    let expected = dir.join("plain.safetensors");
    import("taming", &plain, Some(&yaml), &expected);
    let mut stage = under("first_stage_model.");
    stage.push(("model.diffusion_model.out.0.weight".into(), Tensor::zeros([3], (Kind::Float, Device::Cpu))));
    let (whole, out) = (dir.join("whole.ckpt"), dir.join("out.safetensors"));
    pickle(&whole, Some("state_dict"), &stage);
    let report = import("taming", &whole, Some(&yaml), &out);
    assert_eq!(report["ignored"], json!([["model", 1]]));
    assert!(contents(&out) == contents(&expected));
    let two = [under("a."), under("b.")].into_iter().flatten().collect();
    pickle(&whole, None, &two);
    let args = ["checkpoint", "import", "--from", "taming", text(&whole), "--config", text(&yaml), "--out", text(&out)];
    refuse_cleanly(&dir, &args, &["whole.ckpt: expected one model, found several: under a., b."]);
    succeed(&[&args[..], &["--prefix", "b"]].concat());
    assert!(contents(&out) == contents(&expected));
}

#[test]
fn every_misfit_is_told_at_once() {
    let dir = folder("misfits");
    let mut tensors = network(&published());
    tensors.retain(|(name, _)| name != "decoder.norm_out.bias" && name != "encoder.mid.attn_1.k.weight");
    tensors.push(("encoder.down.7.block.0.conv1.weight".into(), Tensor::zeros([1], (Kind::Float, Device::Cpu))));
    tensors.push(("unrelated.weight".into(), Tensor::zeros([1], (Kind::Float, Device::Cpu))));
    for (name, tensor) in &mut tensors {
        if name == "quant_conv.weight" {
            *tensor = Tensor::zeros([8, 13, 1, 1], (Kind::Float, Device::Cpu));
        }
    }
    let (ckpt, yaml) = taming(&dir, &tensors);
    let out = dir.join("out.safetensors");
    let args = ["checkpoint", "import", "--from", "taming", text(&ckpt), "--config", text(&yaml), "--out", text(&out)];
    refuse_cleanly(
        &dir,
        &args,
        &[
            "model.ckpt: 4 tensors do not fit: ",
            "decoder.norm_out.bias: missing",
            "encoder.mid.attn_1.k.weight: missing",
            "encoder.down.7.block.0.conv1.weight: not expected",
            "quant_conv.weight: expected shape [8, 12, 1, 1], found [8, 13, 1, 1]",
        ],
    );
    // Of a file without anything fitting one name of each side says more than a list.
    pickle(&ckpt, Some("state_dict"), &vec![("encoder.x".into(), Tensor::zeros([1], (Kind::Float, Device::Cpu)))]);
    refuse_cleanly(&dir, &args, &["model.ckpt: tensors: expected 217 such as decoder.conv_in.bias, found encoder.x"]);
    // Values that no network has.
    let mut tensors = network(&published());
    tensors[0].1 = &tensors[0].1 * f64::NAN;
    tensors[1].1 = Tensor::zeros(tensors[1].1.size(), (Kind::Int64, Device::Cpu));
    taming(&dir, &tensors);
    refuse_cleanly(
        &dir,
        &args,
        &["2 tensors do not fit", "expected finite values", "expected floating-point values, found Int64"],
    );
}
