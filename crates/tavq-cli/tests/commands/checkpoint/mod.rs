//! `checkpoint import`, `export`, `inspect`. Here: a small network in the layouts of other codebases.

#[path = "../../../../tavq-backbone/tests/common/mod.rs"]
mod backbone;
mod foreign;
mod hostile;
mod layouts;
mod outputs;
mod runs;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tavq_backbone::layouts::{Codebook, Layout, Published};
use tavq_pickle::{Described, Dtype};
use tavq_torch::TensorFile;
use tch::{Kind, Tensor};

use self::backbone::{formula, small, variables};
use crate::common::{npy, succeed, text};

type Tensors = Vec<(String, Tensor)>;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tavq-backbone/golden").join(name)
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
    small(&[1, 2, 1], &[8, 4])
}

/// Its tensors under our names, which are taming's, with weights by the formula.
fn network(published: &Published) -> Tensors {
    variables(published).into_iter().map(|(name, shape)| (name.clone(), formula(&name, &shape))).collect()
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
