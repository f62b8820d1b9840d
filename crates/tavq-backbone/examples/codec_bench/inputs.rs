//! What is worked on, the same for us and the peers.

use std::path::Path;

use tavq_backbone::{Vqgan, VqganConfig};
use tavq_quant::VqConfig;
use tavq_torch::write_tensors;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::{Outcome, Tensors};

const ON: (Kind, Device) = (Kind::Float, Device::Cpu);

/// Most images, vectors and codes of any case.
const IMAGES: i64 = 16;
const VECTORS: i64 = 65_536;
const CODES: i64 = 16_384;
/// Width of the codes, and of those of models with narrow ones.
const WIDTHS: [i64; 2] = [256, 8];

/// The f = 16 model at 256 pixels: the latent alone.
pub(crate) fn config() -> VqganConfig {
    VqganConfig { levels: 1, ..VqganConfig::default() }
}

pub(crate) fn codebook() -> VqConfig {
    VqConfig::default()
}

pub(crate) fn write(folder: &Path) -> Outcome<()> {
    tch::manual_seed(1);
    std::fs::create_dir_all(folder)?;
    let store = VarStore::new(Device::Cpu);
    Vqgan::new(&store.root(), &config())?;
    let model: Tensors = store.variables().into_iter().collect();
    write_tensors(&folder.join("model.safetensors"), &model, &[])?;
    // As far apart as latents of the untrained encoder: the choice of a code must not hang on the last bit.
    let codes = Tensor::f_randn([codebook().codes, config().embed_dim], ON)?;
    write_tensors(&folder.join("codebook.safetensors"), &[("quantize.embedding.weight".into(), codes)], &[])?;
    let images = Tensor::f_rand([IMAGES, 3, 256, 256], ON)? * 2.0 - 1.0;
    write_tensors(&folder.join("images.safetensors"), &[("images".into(), images)], &[])?;
    let mut vectors: Tensors = Vec::new();
    for width in WIDTHS {
        vectors.push((format!("points.{width}"), Tensor::f_randn([VECTORS, width], ON)?));
        vectors.push((format!("codes.{width}"), Tensor::f_randn([CODES, width], ON)?));
    }
    Ok(write_tensors(&folder.join("vectors.safetensors"), &vectors, &[])?)
}
