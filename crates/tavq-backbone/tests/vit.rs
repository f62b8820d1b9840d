//! The ViT against a plain PyTorch script; `golden/vit.py` says where the numbers come from.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{gap, noise, set_by_formula};
use tavq_backbone::{Vit, VitConfig};
use tavq_quant::{Backbone, Result};
use tavq_torch::TensorFile;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

fn rounded(_level: usize, latent: &Tensor) -> Result<Tensor> {
    Ok((latent * 4.0).f_round()? / 4.0)
}

#[test]
fn latents_and_images_equal_those_of_the_script() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/vit.safetensors");
    let file = TensorFile::open(&path).unwrap();
    let configs: BTreeMap<String, VitConfig> = serde_json::from_str(file.meta("configs").unwrap()).unwrap();
    assert_eq!(configs.len(), 2);
    let _guard = tch::no_grad_guard();
    for (wiring, config) in configs {
        let store = VarStore::new(Device::Cpu);
        let model = Vit::new(&store.root(), &config).unwrap();
        set_by_formula(&store);
        let mut found = model.encode_through(&noise("images", &[2, 3, 16, 24]), false, &mut rounded).unwrap();
        found.push(model.decode(&rounded(2, &found[2]).unwrap(), false).unwrap());
        for (name, tensor) in ["level.0", "level.1", "level.2", "images"].iter().zip(&found) {
            let gap = gap(tensor, &file.get(&format!("{wiring}.{name}")).unwrap());
            assert!(gap < 2e-5, "{wiring}: {name} differs by {gap:e}");
        }
    }
}

#[test]
fn the_default_is_vit_vqgan_small() {
    let store = VarStore::new(Device::Cpu);
    Vit::new(&store.root(), &VitConfig { levels: 1, ..VitConfig::default() }).unwrap();
    let count = |prefix: &str| -> usize {
        store.variables().iter().filter(|(n, _)| n.starts_with(prefix)).map(|(_, t)| t.numel()).sum()
    };
    // Two normalisations; queries, keys, values and their mixture; two layers.
    let block = 4 * 512 + (3 * 512 + 512) * 513 + 512 * 2048 * 2 + 2048 + 512;
    assert_eq!(count("encoder.block."), 8 * block);
    assert_eq!(count("encoder.patch."), 3 * 64 * 512 + 512);
    assert_eq!(count("decoder.in."), 32 * 512 + 512);
    assert_eq!(count("encoder.head."), 512 * 2048 + 2048 + 2048 * 32 + 32);
    assert_eq!(count("decoder.head."), 512 * 2048 + 2048 + 2048 * 192 + 192);
    assert_eq!(count("encoder.") + count("decoder."), count(""));
}

#[test]
fn cells_that_hold_the_same_differ_by_their_place() {
    let config = VitConfig { patch: 4, width: 16, depth: 1, heads: 2, mlp: 24, levels: 1, ..VitConfig::default() };
    let store = VarStore::new(Device::Cpu);
    let model = Vit::new(&store.root(), &config).unwrap();
    set_by_formula(&store);
    let latent = model.encode(&Tensor::zeros([1, 3, 12, 20], (Kind::Float, Device::Cpu)), false).unwrap().remove(0);
    let cells = latent.flatten(2, 3).squeeze_dim(0).transpose(0, 1);
    let apart = (cells.unsqueeze(0) - cells.unsqueeze(1)).abs().amax([2i64], false);
    let apart = apart + Tensor::eye(15, (Kind::Float, Device::Cpu));
    assert!(apart.min().double_value(&[]) > 1e-3);
}

#[test]
fn half_precision_stays_near_single_precision() {
    let config = VitConfig { patch: 4, width: 32, depth: 3, heads: 2, mlp: 64, embed_dim: 8, ..VitConfig::default() };
    let store = VarStore::new(Device::Cpu);
    let model = Vit::new(&store.root(), &config).unwrap();
    set_by_formula(&store);
    let images = noise("images", &[2, 3, 16, 24]);
    let run = |images: &Tensor| {
        let _guard = tch::no_grad_guard();
        let mut all = model.encode(images, false).unwrap();
        all.push(model.decode(&all[2], false).unwrap());
        all
    };
    let single = run(&images);
    let mut store = store;
    store.bfloat16();
    for (half, single) in run(&images.to_kind(Kind::BFloat16)).iter().zip(&single) {
        assert_eq!(half.kind(), Kind::BFloat16);
        let scale = single.abs().max().double_value(&[]);
        let gap = gap(half, single) / scale;
        // bfloat16 keeps 8 bits; each of the layers rounds a few times.
        assert!(gap < 0.05, "{gap}");
    }
}
