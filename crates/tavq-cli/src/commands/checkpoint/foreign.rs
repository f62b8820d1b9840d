//! Named tensors of a foreign file, whichever container it is: `.ckpt`, `.pt` and `.bin` of PyTorch, or safetensors.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use tavq_pickle::{Archive, Dtype, Problem, TensorInfo, Unknown};
use tavq_torch::TensorFile;
use tch::{Kind, Tensor};

use crate::failure::{Failure, Outcome, reading};

/// An open file of tensors.
pub(crate) enum Foreign {
    Pickle { archive: Archive, state: Vec<(String, TensorInfo)> },
    Safetensors(TensorFile),
}

/// A PyTorch file or a safetensors file, opened.
pub(crate) enum Container {
    Pickle(Archive),
    Safetensors(TensorFile),
}

/// What goes with a global that is not known.
pub(crate) fn unknown(skip: bool) -> Unknown {
    if skip { Unknown::Placeholder } else { Unknown::Refuse }
}

impl Container {
    /// Opens a file by what it begins with, not by its name.
    pub(crate) fn open(path: &Path, unknown: Unknown) -> Outcome<Self> {
        let mut start = [0u8; 9];
        let mut file = std::fs::File::open(path).map_err(reading(path))?;
        let safetensors = path.is_file() && file.read_exact(&mut start).is_ok() && start[8] == b'{';
        if safetensors {
            return Ok(Self::Safetensors(TensorFile::open(path)?));
        }
        Archive::open(path, unknown).map(Self::Pickle).map_err(advise)
    }
}

impl Foreign {
    /// Opens a file and the dict of tensors in it: the one under `wanted`, or under the first of `keys` that there is, or the
    /// outermost one.
    pub(crate) fn open(path: &Path, unknown: Unknown, wanted: Option<&str>, keys: &[&str]) -> Outcome<Self> {
        match Container::open(path, unknown)? {
            Container::Safetensors(file) => Ok(Self::Safetensors(file)),
            Container::Pickle(archive) => {
                let there = archive.keys();
                let key = wanted.or_else(|| keys.iter().copied().find(|k| there.contains(k)));
                let state = archive.state(key)?;
                Ok(Self::Pickle { archive, state })
            }
        }
    }

    /// Names and shapes, in the file's order.
    pub(crate) fn tensors(&self) -> Vec<(String, Vec<i64>)> {
        match self {
            // Sizes were checked against the file's length, so they fit.
            Self::Pickle { state, .. } => state.iter().map(|(n, info)| (n.clone(), signed(&info.shape))).collect(),
            Self::Safetensors(file) => {
                file.names().into_iter().filter_map(|n| file.shape(&n).map(|shape| (n, shape))).collect()
            }
        }
    }

    /// Names of unknown globals that were passed over.
    pub(crate) fn placeholders(&self) -> Vec<String> {
        match self {
            Self::Pickle { archive, .. } => archive.placeholders(),
            Self::Safetensors(_) => Vec::new(),
        }
    }

    /// A tensor in the file's own type.
    pub(crate) fn tensor(&mut self, name: &str) -> Outcome<Tensor> {
        match self {
            Self::Safetensors(file) => Ok(file.get(name)?),
            Self::Pickle { archive, state } => {
                let Some((_, info)) = state.iter().find(|(n, _)| n == name) else {
                    return Err(Failure::input(anyhow!("{}: {name}: missing", archive.path().display())));
                };
                let bytes = archive.read(info)?;
                Ok(Tensor::f_from_data_size(&bytes, &signed(&info.shape), kind_of(info.dtype))?)
            }
        }
    }
}

/// How to go on, for the one refusal that an option lifts.
fn advise(error: tavq_pickle::PickleError) -> Failure {
    match error.problem {
        Problem::Global(_) => Failure::input(anyhow!("{error}; --skip-unknown puts an inert placeholder in its place")),
        _ => error.into(),
    }
}

pub(crate) fn signed(shape: &[u64]) -> Vec<i64> {
    shape.iter().map(|d| i64::try_from(*d).unwrap_or(i64::MAX)).collect()
}

const KINDS: [(Dtype, Kind); 10] = [
    (Dtype::F64, Kind::Double),
    (Dtype::F32, Kind::Float),
    (Dtype::F16, Kind::Half),
    (Dtype::Bf16, Kind::BFloat16),
    (Dtype::I64, Kind::Int64),
    (Dtype::I32, Kind::Int),
    (Dtype::I16, Kind::Int16),
    (Dtype::I8, Kind::Int8),
    (Dtype::U8, Kind::Uint8),
    (Dtype::Bool, Kind::Bool),
];

fn kind_of(dtype: Dtype) -> Kind {
    KINDS.iter().find(|(d, _)| *d == dtype).map_or(Kind::Float, |(_, k)| *k)
}

/// The type of a tensor in a PyTorch file; `None` for one that such files do not have.
pub(crate) fn dtype_of(kind: Kind) -> Option<Dtype> {
    KINDS.iter().find(|(_, k)| *k == kind).map(|(d, _)| *d)
}

/// Configuration and weights of a folder of diffusers.
pub(crate) fn folder(path: &Path) -> Outcome<(PathBuf, PathBuf)> {
    const WEIGHTS: [&str; 2] = ["diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"];
    let config = path.join("config.json");
    let weights = WEIGHTS.iter().map(|name| path.join(name)).find(|p| p.is_file());
    match weights {
        Some(weights) if config.is_file() => Ok((config, weights)),
        _ => Err(Failure::input(anyhow!(
            "{}: expected a folder with config.json and {}, found {}",
            path.display(),
            WEIGHTS.join(" or "),
            if path.is_dir() { "a folder without them" } else { "none" }
        ))),
    }
}
