//! `checkpoint import`, `export`, `inspect`. Here: a small network in the layouts of other codebases.

mod foreign;
mod hostile;
mod layouts;
mod outputs;
mod runs;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tavq_backbone::layouts::{Codebook, Layout, Published};
use tavq_backbone::{Vqgan, VqganConfig};
use tavq_pickle::{Described, Dtype};
use tavq_torch::TensorFile;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::common::{npy, succeed, text};

type Tensors = Vec<(String, Tensor)>;

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
fn network_of_tests() -> Tensors {
    network(&published())
}

/// A taming checkpoint and its YAML.
fn taming(dir: &Path, tensors: &Tensors) -> (PathBuf, PathBuf) {
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
