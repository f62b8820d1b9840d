//! `checkpoint import`, `export`, `inspect`: other codebases' models, there and back, and against their own results.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tavq_backbone::layouts::{Codebook, Layout, Published};
use tavq_backbone::{Vqgan, VqganConfig};
use tavq_pickle::{Described, Dtype};
use tavq_torch::{TensorFile, write_tensors};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::common::{files, folder, npy, refuse, refuse_cleanly, small, succeed, tavq, text};

pub(crate) type Tensors = Vec<(String, Tensor)>;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tavq-backbone/golden").join(name)
}

/// A weight that follows from its name, as `golden/formula.py` has it.
fn formula(name: &str, shape: &[i64]) -> Tensor {
    let start = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    let uniform = |i: u64| {
        let x = start.wrapping_add(i);
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let x = x ^ (x >> 31);
        (x >> 40) as f64 / f64::from(1 << 23) - 1.0
    };
    let fan = shape[1..].iter().product::<i64>() as f64;
    let value = |x: f64| match shape.len() {
        1 => x * 0.2 + if name.ends_with("weight") { 1.0 } else { 0.0 },
        _ if name.contains("embedding") => x,
        _ => x * (2.0 / fan.sqrt()),
    };
    let values: Vec<f32> = (0..shape.iter().product::<i64>() as u64).map(|i| value(uniform(i)) as f32).collect();
    Tensor::from_slice(&values).view(shape)
}

fn bytes(tensor: &Tensor) -> Vec<u8> {
    let flat = tensor.contiguous();
    let mut out = vec![0; flat.numel() * flat.kind().elt_size_in_bytes()];
    flat.copy_data_u8(&mut out, flat.numel());
    out
}

/// Writes a PyTorch file.
fn pickle(path: &Path, key: Option<&str>, tensors: &Tensors) {
    let described: Vec<Described> = tensors
        .iter()
        .map(|(name, t)| Described {
            name: name.clone(),
            dtype: match t.kind() {
                Kind::Float => Dtype::F32,
                Kind::Half => Dtype::F16,
                Kind::Int64 => Dtype::I64,
                other => panic!("{other:?}"),
            },
            shape: t.size().iter().map(|d| *d as u64).collect(),
        })
        .collect();
    let mut out = Vec::new();
    tavq_pickle::write(&mut out, key, &[], &described, |i| Ok(bytes(&tensors[i].1))).unwrap();
    std::fs::write(path, out).unwrap();
}

/// A network with three stages of different widths, attention in two of them.
fn published() -> Published {
    let backbone = VqganConfig {
        ch: 32,
        ch_mult: vec![1, 2, 1],
        num_res_blocks: 1,
        attn_resolutions: vec![8, 4],
        resolution: 16,
        z_channels: 12,
        embed_dim: 8,
        levels: 1,
        ..VqganConfig::default()
    };
    Published { backbone, codes: 48, beta: 0.25, legacy: true, normalize: false }
}

/// Its tensors under our names, which are taming's, with weights by the formula.
fn network(published: &Published) -> Tensors {
    let store = VarStore::new(Device::Cpu);
    Vqgan::new(&store.root(), &published.backbone).unwrap();
    let names = store.variables().into_iter().map(|(name, t)| (name, t.size()));
    let table = ("quantize.embedding.weight".to_owned(), vec![published.codes, published.backbone.embed_dim]);
    let mut out: Tensors = names.chain([table]).map(|(name, size)| (name.clone(), formula(&name, &size))).collect();
    out.sort_by(|a, b| a.0.cmp(&b.0));
    out
}

/// The tensors of [`published`].
pub(crate) fn network_of_tests() -> Tensors {
    network(&published())
}

/// A taming checkpoint and its YAML.
pub(crate) fn taming(dir: &Path, tensors: &Tensors) -> (PathBuf, PathBuf) {
    let (ckpt, yaml) = (dir.join("model.ckpt"), dir.join("model.yaml"));
    pickle(&ckpt, Some("state_dict"), tensors);
    std::fs::write(&yaml, Layout::Taming.write_config(&published(), Codebook::Table).unwrap()).unwrap();
    (ckpt, yaml)
}

fn import(from: &str, file: &Path, config: Option<&Path>, out: &Path) -> Value {
    let mut args = vec!["checkpoint", "import", "--from", from, text(file), "--out", text(out), "--json"];
    if let Some(config) = config {
        args.extend(["--config", text(config)]);
    }
    serde_json::from_str(&succeed(&args)).unwrap()
}

fn inspect(path: &Path) -> Value {
    serde_json::from_str(&succeed(&["checkpoint", "inspect", text(path), "--json"])).unwrap()
}

/// Every tensor of a file, to the bit, with type and shape.
fn contents(path: &Path) -> BTreeMap<String, (Kind, Vec<i64>, Vec<u8>)> {
    let file = TensorFile::open(path).unwrap();
    let one = |name: String| {
        let t = file.get(&name).unwrap();
        (name, (t.kind(), t.size(), bytes(&t)))
    };
    file.names().into_iter().map(one).collect()
}

/// Reconstructs a golden file's images and compares what another codebase found for them.
fn compare(model: &Path, dir: &Path, golden: &TensorFile) {
    let images: Vec<f32> = Vec::try_from(golden.get("images").unwrap().view([-1])).unwrap();
    let size: Vec<usize> = golden.shape("images").unwrap().iter().map(|d| *d as usize).collect();
    let images = ndarray::ArrayD::from_shape_vec(size, images).unwrap();
    let input = npy(&dir.join("images.npy"), &images);
    succeed(&["reconstruct", "--checkpoint", text(model), "--out", text(dir), "--tensors", &input]);
    let out = TensorFile::open(&dir.join("out.safetensors")).unwrap();
    let get = |file: &TensorFile, name: &str| file.get(name).unwrap().view([-1]);
    assert_eq!(get(&out, "indices"), get(golden, "indices"));
    for (name, most) in [("latent", 1e-5), ("reconstruction", 1e-4)] {
        let gap = (get(&out, name) - get(golden, name)).abs().max().double_value(&[]);
        println!("{name}: {gap:e}");
        assert!(gap < most, "{name} differs by {gap:e}");
    }
}

/// diffusers' own code computed the golden values; the folder is built here as it saves it.
#[test]
fn a_folder_of_diffusers_gives_its_reconstruction() {
    let file = TensorFile::open(&golden("diffusers.safetensors")).unwrap();
    let shapes: BTreeMap<String, Vec<i64>> = serde_json::from_str(file.meta("shapes").unwrap()).unwrap();
    let tensors: Tensors = shapes.iter().map(|(name, shape)| (name.clone(), formula(name, shape))).collect();
    assert!(shapes["encoder.mid_block.attentions.0.to_q.weight"].len() == 2 && tensors.len() > 150);
    let dir = folder("import-diffusers");
    let make = |name: &str| {
        let path = dir.join(name);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("config.json"), file.meta("config").unwrap()).unwrap();
        path
    };
    let (new, old) = (make("new"), make("old"));
    write_tensors(&new.join("diffusion_pytorch_model.safetensors"), &tensors, &[]).unwrap();
    // Before version 0.15: a pickle, and other names in the attention.
    let renamed = |name: &str| {
        let swaps = [(".to_q.", ".query."), (".to_k.", ".key."), (".to_v.", ".value."), (".to_out.0.", ".proj_attn.")];
        swaps.iter().fold(name.to_owned(), |n, (a, b)| n.replace(a, b))
    };
    let older = tensors.iter().map(|(name, t)| (renamed(name), t.shallow_clone())).collect();
    pickle(&old.join("diffusion_pytorch_model.bin"), None, &older);
    for source in [&new, &old] {
        let model = source.with_extension("safetensors");
        let report = import("diffusers", source, None, &model);
        assert_eq!((report["codes"].as_i64(), report["tensors"].as_u64()), (Some(48), Some(tensors.len() as u64)));
        compare(&model, &dir, &file);
    }
    assert_eq!(contents(&dir.join("new.safetensors")), contents(&dir.join("old.safetensors")));
    // Back again: the folder holds what it held.
    let back = dir.join("back");
    succeed(&["checkpoint", "export", "--to", "diffusers", text(&dir.join("new.safetensors")), "--out", text(&back)]);
    let weights = "diffusion_pytorch_model.safetensors";
    assert!(contents(&back.join(weights)) == contents(&new.join(weights)));
    let read =
        |dir: &Path| -> Value { serde_json::from_slice(&std::fs::read(dir.join("config.json")).unwrap()).unwrap() };
    let (mut a, mut b) = (read(&new), read(&back));
    for config in [&mut a, &mut b] {
        config.as_object_mut().unwrap().retain(|key, _| key == "_class_name" || !key.starts_with('_'));
    }
    assert_eq!(a, b);
    // An export replaces an export, and nothing else.
    succeed(&["checkpoint", "export", "--to", "diffusers", text(&dir.join("new.safetensors")), "--out", text(&back)]);
    let other = dir.join("other");
    std::fs::create_dir_all(other.join("inner")).unwrap();
    let model = dir.join("new.safetensors");
    let args = ["checkpoint", "export", "--to", "diffusers", text(&model), "--out", text(&other)];
    refuse_cleanly(&dir, &args, &["other: expected a new folder or one of diffusers"]);
}

/// The other way: diffusers loaded this very export and reconstructed (`golden/diffusers_model.py exported`).
#[test]
fn diffusers_reads_our_export() {
    let dir = folder("export-diffusers");
    let (ckpt, yaml) = taming(&dir, &network(&published()));
    let model = dir.join("model.safetensors");
    import("taming", &ckpt, Some(&yaml), &model);
    let out = std::env::var_os("TAVQ_EXPORTED").map_or(dir.join("exported"), PathBuf::from);
    succeed(&["checkpoint", "export", "--to", "diffusers", text(&model), "--out", text(&out)]);
    if std::env::var_os("TAVQ_EXPORTED").is_none() {
        compare(&model, &dir, &TensorFile::open(&golden("diffusers_export.safetensors")).unwrap());
    }
}

#[test]
fn there_and_back_is_exact_to_the_bit() {
    let dir = folder("round-trips");
    let mut tensors = network(&published());
    // Half precision stays half precision.
    for (name, tensor) in tensors.iter_mut().filter(|(name, _)| name.starts_with("decoder.up.1")) {
        *tensor = formula(name, &tensor.size()).to_kind(Kind::Half);
    }
    let (ckpt, yaml) = taming(&dir, &tensors);
    let first = dir.join("first.safetensors");
    import("taming", &ckpt, Some(&yaml), &first);
    let whole = contents(&first);
    assert_eq!(whole.len(), tensors.len());
    assert_eq!(whole["decoder.up.1.block.0.conv1.weight"].0, Kind::Half);
    for (name, tensor) in &tensors {
        assert_eq!(whole[name].2, bytes(tensor), "{name}");
    }
    for (layout, file, config) in [("taming", "a/x.ckpt", Some("a/x.yaml")), ("diffusers", "b", None)] {
        let (out, back) = (dir.join(file), dir.join(format!("{layout}.safetensors")));
        succeed(&["checkpoint", "export", "--to", layout, text(&first), "--out", text(&out)]);
        import(layout, &out, config.map(|c| dir.join(c)).as_deref(), &back);
        assert!(contents(&back) == whole, "{layout}");
        assert_eq!(inspect(&back)["config"], inspect(&first)["config"], "{layout}");
    }
    // LlamaGen attends at the coarsest stage alone.
    let out = dir.join("c.pt");
    let args = ["checkpoint", "export", "--to", "llamagen", text(&first), "--out", text(&out)];
    refuse_cleanly(&dir, &args, &["attn_resolutions: expected [4]", "found [8, 4]"]);
}

#[test]
fn llamagen_there_and_back() {
    let dir = folder("llamagen");
    let args = json!({
        "codebook_size": 40, "codebook_embed_dim": 8, "ch": 32, "z_channels": 12,
        "encoder_ch_mult": [1, 2, 1], "decoder_ch_mult": [1, 2, 1], "num_res_blocks": 1, "resolution": 16,
    });
    let published = Layout::LlamaGen.read_config(&args).unwrap();
    let ours = network(&published);
    let theirs = |name: &str| Layout::LlamaGen.name_of(name, 3);
    let named = |prefix: f64| -> Tensors {
        let of = |(name, t): &(String, Tensor)| (theirs(name), t * prefix);
        let mut out: Tensors = ours.iter().map(of).collect();
        let window = Tensor::zeros([65536], (Kind::Float, Device::Cpu));
        window.narrow(0, 0, 3).copy_(&Tensor::from_slice(&[5.0f32, 6.0, 39.0]));
        out.push(("quantize.codebook_used".into(), window));
        out
    };
    let (pt, config) = (dir.join("vq.pt"), dir.join("vq.json"));
    pickle(&pt, Some("model"), &named(1.0));
    std::fs::write(&config, args.to_string()).unwrap();
    let model = dir.join("vq.safetensors");
    let report = import("llamagen", &pt, Some(&config), &model);
    assert_eq!(report["ignored"], json!([["quantize.codebook_used", 1]]));
    let whole = contents(&model);
    for (name, tensor) in &ours {
        assert_eq!(whole[name].2, bytes(tensor), "{name}");
    }
    let out = dir.join("out.pt");
    succeed(&["checkpoint", "export", "--to", "llamagen", text(&model), "--out", text(&out)]);
    let found = inspect(&out);
    assert_eq!(found["tensors"]["model.decoder.conv_blocks.0.attn.1.q.weight"], json!([32, 32, 1, 1]));
    assert_eq!(found["tensors"]["model.quantize.codebook_used"], json!([65536]), "LlamaGen loads strictly");
    let back = dir.join("back.safetensors");
    import("llamagen", &out, Some(&dir.join("out.json")), &back);
    assert!(contents(&back) == whole);
    assert_eq!(inspect(&back)["config"], inspect(&model)["config"]);
    let used = &inspect(&pt)["usage"][0];
    assert_eq!((used["used"].as_u64(), used["codes"].as_u64()), (Some(4), Some(40)), "0, 5, 6, 39");
    // Weights averaged over steps are preferred, as LlamaGen does.
    let ema = dir.join("ema.safetensors");
    write_tensors(&dir.join("x.safetensors"), &named(1.0), &[]).unwrap();
    import("llamagen", &dir.join("x.safetensors"), Some(&config), &ema);
    assert!(contents(&ema) == whole, "a safetensors file under the same names");
    // Known by name: the published sizes are asked for.
    let args = ["checkpoint", "import", "--from", "llamagen", text(&pt), "--config", "VQ-16", "--out", text(&back)];
    refuse(
        &args,
        &["tensors do not fit: ", "decoder.conv_blocks.0.attn.0.k.bias: expected shape [512], found [32]", " more"],
    );

    // Vectors and codes meet at length 1, and the decoder sees codes of length 1.
    let unit = |t: &Tensor, axis: i64| t / t.square().sum_dim_intlist([axis].as_slice(), true, Kind::Float).sqrt();
    let codes = unit(&TensorFile::open(&model).unwrap().get("quantize.embedding.weight").unwrap(), 1);
    let images =
        ndarray::Array4::from_shape_fn((2, 3, 16, 16), |(b, c, y, x)| ((b + c * y + x) % 13) as f32 / 6.5 - 1.0);
    let input = npy(&dir.join("x.npy"), &images);
    let rebuild = |model: &Path, name: &str| {
        let out = dir.join(name);
        succeed(&["reconstruct", "--checkpoint", text(model), "--tensors", &input, "--out", text(&out)]);
        TensorFile::open(&out.join("out.safetensors")).unwrap()
    };
    let found = rebuild(&model, "own");
    let z = unit(&found.get("latent").unwrap(), 1).permute([0, 2, 3, 1]);
    assert_eq!(found.get("indices").unwrap(), z.matmul(&codes.tr()).argmax(-1, false));
    // A layout that knows no such thing gets the codes at length 1, and finds and decodes the same.
    let (folder, plain) = (dir.join("diffusers"), dir.join("plain.safetensors"));
    let args = ["checkpoint", "export", "--to", "diffusers", text(&model), "--out", text(&folder)];
    let report = tavq(&args).output().unwrap();
    assert!(report.status.success() && report.stderr.is_empty(), "{}", String::from_utf8_lossy(&report.stderr));
    import("diffusers", &folder, None, &plain);
    let other = rebuild(&plain, "other");
    assert_eq!(other.get("indices").unwrap(), found.get("indices").unwrap());
    let gap =
        (other.get("reconstruction").unwrap() - found.get("reconstruction").unwrap()).abs().max().double_value(&[]);
    assert!(gap < 1e-5, "{gap:e}");
}

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
    // Of a file without anything fitting the list is cut, and still one line.
    pickle(&ckpt, Some("state_dict"), &vec![("encoder.x".into(), Tensor::zeros([1], (Kind::Float, Device::Cpu)))]);
    refuse_cleanly(&dir, &args, &["tensors do not fit: ", "; and ", " more"]);
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

#[test]
fn gumbel_and_moving_averages() {
    let dir = folder("gumbel");
    let mut published = published();
    // GumbelVQ scores z_channels, which its codes are as wide as.
    published.backbone.z_channels = 8;
    let mut tensors = network(&published);
    let table = tensors.iter().position(|(n, _)| n == "quantize.embedding.weight").unwrap();
    drop(tensors.remove(table));
    let add = |tensors: &mut Tensors, name: &str, shape: &[i64]| {
        tensors.push((name.to_owned(), formula(name, shape)));
    };
    let mut gumbel: Tensors = tensors.iter().map(|(n, t)| (n.clone(), t.shallow_clone())).collect();
    add(&mut gumbel, "quantize.proj.weight", &[48, 8, 1, 1]);
    add(&mut gumbel, "quantize.proj.bias", &[48]);
    add(&mut gumbel, "quantize.embed.weight", &[48, 8]);
    let mut averages = tensors;
    add(&mut averages, "quantize.embedding.weight", &[48, 8]);
    add(&mut averages, "quantize.embedding.embed_avg", &[48, 8]);
    averages.push(("quantize.embedding.cluster_size".into(), Tensor::arange(48, (Kind::Float, Device::Cpu))));
    let yaml = dir.join("model.yaml");
    std::fs::write(&yaml, Layout::Taming.write_config(&published, Codebook::Table).unwrap()).unwrap();
    let input = npy(
        &dir.join("x.npy"),
        &ndarray::Array4::from_shape_fn((1, 3, 16, 16), |(_, c, y, x)| ((c + 2 * y * x) % 9) as f32 / 4.5 - 1.0),
    );
    for (kind, tensors) in [("gumbel", gumbel), ("ema", averages)] {
        let (ckpt, model) = (dir.join("x.ckpt"), dir.join(format!("{kind}.safetensors")));
        pickle(&ckpt, Some("state_dict"), &tensors);
        import("taming", &ckpt, Some(&yaml), &model);
        assert!(inspect(&model)["config"].as_str().unwrap().contains(&format!("kind = \"{kind}\"")));
        let (out, back) = (dir.join(format!("{kind}.ckpt")), dir.join("back.safetensors"));
        succeed(&["checkpoint", "export", "--to", "taming", text(&model), "--out", text(&out)]);
        let yaml = std::fs::read_to_string(dir.join(format!("{kind}.yaml"))).unwrap();
        assert!(yaml.contains(if kind == "ema" { "EMAVQ" } else { "GumbelVQ" }), "{yaml}");
        import("taming", &out, Some(&out.with_extension("yaml")), &back);
        assert!(contents(&back) == contents(&model));
        succeed(&["reconstruct", "--checkpoint", text(&model), "--tensors", &input, "--out", text(&dir)]);
        let result = TensorFile::open(&dir.join("out.safetensors")).unwrap();
        let get = |name: &str| result.get(name).unwrap();
        if kind == "gumbel" {
            let weights = TensorFile::open(&model).unwrap();
            let proj = weights.get("quantize.proj.weight").unwrap().view([48, 8]);
            let z = get("latent").permute([0, 2, 3, 1]);
            let logits = z.matmul(&proj.tr()) + weights.get("quantize.proj.bias").unwrap();
            assert_eq!(get("indices"), logits.argmax(-1, false));
            refuse(
                &["checkpoint", "export", "--to", "diffusers", text(&model), "--out", text(&dir.join("d"))],
                &["codebook: expected a plain table, all that the layout diffusers has, found Gumbel"],
            );
        } else {
            // Elsewhere the averages have no place; the codes have.
            let run = tavq(&["checkpoint", "export", "--to", "diffusers", text(&model), "--out", text(&dir.join("d"))])
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&run.stderr);
            assert!(run.status.success() && said.contains("quantize.embedding.cluster_size (1)"), "{said}");
            let used = &inspect(&model)["usage"][0];
            assert_eq!((used["used"].as_u64(), used["codes"].as_u64()), (Some(47), Some(48)));
        }
        assert_eq!(get("reconstruction").size(), [1, 3, 16, 16]);
    }
}

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
    assert!(files(&dir).len() > 3);
}
