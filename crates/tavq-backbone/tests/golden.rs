//! The VQGAN against taming-transformers' outputs and layout; `golden/vqgan.py` says where the numbers come from.

mod common;

use std::path::{Path, PathBuf};

use common::{gap, set_by_formula};
use tavq_backbone::{Vqgan, VqganConfig};
use tavq_quant::{Backbone, Form, Quantizer, Vq, VqConfig};
use tavq_torch::{TensorFile, load_variables};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

/// A model with its codebook under `quantize`, as published.
fn build(file: &TensorFile, codes: i64) -> (VarStore, Vqgan, Vq) {
    let config: VqganConfig = serde_json::from_str(file.meta("config").unwrap()).unwrap();
    let store = VarStore::new(Device::Cpu);
    let model = Vqgan::new(&store.root(), &config).unwrap();
    let book = VqConfig { codes, form: Form::Legacy, ..VqConfig::default() };
    let book = Vq::new(&(store.root() / "quantize"), &book, config.embed_dim).unwrap();
    (store, model, book)
}

/// Runs a file's images through a loaded model and compares every recorded result.
fn replay(file: &TensorFile, model: &Vqgan, book: &Vq) {
    let get = |name: &str| file.get(name).unwrap();
    let _guard = tch::no_grad_guard();
    let levels = model.encode(&get("images"), false).unwrap();
    let quantized = book.quantize(&levels[0], false).unwrap();
    let back = model.decode(&quantized.latent, false).unwrap();
    let indices = get("indices");
    assert_eq!(quantized.indices.view([-1]), indices.view([-1]));
    let found = [("z", &levels[0]), ("recon", &back), ("loss", &quantized.loss)];
    let gaps: Vec<_> = found.iter().map(|(name, t)| (*name, gap(&t.view([-1]), &get(name).view([-1])))).collect();
    println!("{}: {} equal indices, {gaps:?}", file.path().display(), indices.numel());
    for (name, gap) in gaps {
        assert!(gap < 1e-4, "{}: {name} differs by {gap:e}", file.path().display());
    }
}

#[test]
fn outputs_equal_those_of_the_published_network() {
    for (name, codes) in [("f2", 64), ("f8", 96), ("bare", 64)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(format!("vqgan_{name}.safetensors"));
        let file = TensorFile::open(&path).unwrap();
        let (store, model, book) = build(&file, codes);
        set_by_formula(&store);
        replay(&file, &model, &book);
    }
}

#[test]
fn recorded_models() {
    let Some(folder) = std::env::var_os("TAVQ_CASES").map(PathBuf::from) else {
        eprintln!("not run: TAVQ_CASES names no folder of recorded models (golden/vqgan.py makes one)");
        return;
    };
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "safetensors") {
            continue;
        }
        let file = TensorFile::open(&path).unwrap();
        let codes = file.shape("model.quantize.embedding.weight").unwrap()[0];
        let (store, model, book) = build(&file, codes);
        load_variables(&store, &file, "model.").unwrap();
        replay(&file, &model, &book);
        count += 1;
    }
    assert!(count > 0, "no recorded model in {}", folder.display());
}

#[test]
fn the_default_is_the_published_f16_model() {
    let store = VarStore::new(Device::Cpu);
    let config = VqganConfig { levels: 1, ..VqganConfig::default() };
    Vqgan::new(&store.root(), &config).unwrap();
    Vq::new(&(store.root() / "quantize"), &VqConfig { codes: 1024, ..VqConfig::default() }, config.embed_dim).unwrap();
    let variables = store.variables();
    let part = |prefix: &str| {
        let sizes: Vec<usize> =
            variables.iter().filter(|(n, _)| n.starts_with(prefix)).map(|(_, t)| t.numel()).collect();
        (sizes.len(), sizes.iter().sum::<usize>())
    };
    assert_eq!(part("encoder."), (144, 29_298_176));
    assert_eq!(part("decoder."), (194, 42_449_795));
    assert_eq!(part("quant_conv."), (2, 65_792));
    assert_eq!(part("post_quant_conv."), (2, 65_792));
    assert_eq!(part("quantize."), (1, 262_144));
    assert_eq!(part(""), (144 + 194 + 4 + 1, 72_141_699));
    for name in [
        "encoder.down.4.attn.1.proj_out.weight",
        "encoder.down.3.downsample.conv.bias",
        "encoder.mid.block_2.norm2.weight",
        "decoder.up.4.attn.2.q.weight",
        "decoder.up.1.upsample.conv.weight",
        "decoder.up.1.block.0.nin_shortcut.bias",
    ] {
        assert!(variables.contains_key(name), "{name}");
    }
}

#[test]
fn a_checkpoint_that_does_not_fit_is_refused_with_every_misfit() {
    let small = VqganConfig { ch: 32, ch_mult: vec![1, 2], num_res_blocks: 1, levels: 1, ..VqganConfig::default() };
    let store = VarStore::new(Device::Cpu);
    Vqgan::new(&store.root(), &small).unwrap();
    let mut tensors: Vec<_> = store.variables().into_iter().collect();
    tensors.retain(|(name, _)| name != "decoder.norm_out.bias");
    tensors.push(("loss.discriminator.main.0.bias".into(), Tensor::zeros([1], (Kind::Float, Device::Cpu))));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    tavq_torch::write_tensors(&path, &tensors, &[]).unwrap();
    let other = VarStore::new(Device::Cpu);
    Vqgan::new(&other.root(), &VqganConfig { embed_dim: 8, ..small }).unwrap();
    let error = load_variables(&other, &TensorFile::open(&path).unwrap(), "").unwrap_err().to_string();
    for part in [
        "5 tensors do not fit",
        "decoder.norm_out.bias: missing",
        "loss.discriminator.main.0.bias: not expected",
        "quant_conv.weight: expected shape [8, 256, 1, 1], found [256, 256, 1, 1]",
        "quant_conv.bias: expected shape [8], found [256]",
        "post_quant_conv.weight: expected shape [256, 8, 1, 1], found [256, 256, 1, 1]",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}
