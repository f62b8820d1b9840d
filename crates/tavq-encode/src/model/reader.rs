//! Tensors of a model file, looked up by name; all that do not fit are listed in one error.

use std::path::Path;

use tavq_torch::{FileError, TensorFile};
use tch::{Device, Kind, Tensor};

use crate::Result;

/// A matrix and its bias.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
}

/// Scale and shift of a layer norm, always f32.
#[derive(Debug)]
pub(super) struct Norm {
    pub(super) scale: Tensor,
    pub(super) shift: Tensor,
}

impl Linear {
    /// `x W^T + b` in the kind of the matrix.
    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_to_kind(self.weight.kind())?.f_linear(&self.weight, Some(&self.bias))?)
    }
}

impl Norm {
    pub(super) fn apply(&self, x: &Tensor, epsilon: f64) -> Result<Tensor> {
        Ok(x.f_layer_norm(self.scale.size(), Some(&self.scale), Some(&self.shift), epsilon, true)?)
    }
}

/// Reads tensors and collects what is wrong with them.
pub(super) struct Reader {
    file: TensorFile,
    prefix: &'static str,
    /// Kind of the matrices; norms and embeddings stay f32.
    kind: Kind,
    device: Device,
    problems: Vec<String>,
}

impl Reader {
    /// Opens the file; every name has `prefix` in front when `probe` has.
    pub(super) fn open(path: &Path, (prefix, probe): (&'static str, &str), kind: Kind, device: Device) -> Result<Self> {
        let file = TensorFile::open(path)?;
        let prefix = if file.shape(&format!("{prefix}{probe}")).is_some() { prefix } else { "" };
        Ok(Self { file, prefix, kind, device, problems: Vec::new() })
    }

    /// The error that lists every problem, if there was one.
    pub(super) fn finish(self, path: &Path) -> Result<()> {
        if self.problems.is_empty() {
            return Ok(());
        }
        Err(FileError::Tensors { path: path.to_path_buf(), problems: self.problems }.into())
    }

    /// Shape of a tensor of the file.
    pub(super) fn shape(&self, name: &str) -> Option<Vec<i64>> {
        self.file.shape(&format!("{}{name}", self.prefix))
    }

    /// Several matrices as one: one large product instead of several.
    pub(super) fn joined(&mut self, names: &[String], out: i64, into: i64) -> Result<Linear> {
        let parts = names.iter().map(|name| self.linear(name, out, into)).collect::<Result<Vec<_>>>()?;
        Ok(Linear {
            weight: Tensor::f_cat(&parts.iter().map(|p| &p.weight).collect::<Vec<_>>(), 0)?,
            bias: Tensor::f_cat(&parts.iter().map(|p| &p.bias).collect::<Vec<_>>(), 0)?,
        })
    }

    pub(super) fn linear(&mut self, name: &str, out: i64, into: i64) -> Result<Linear> {
        let weight = self.tensor(&format!("{name}.weight"), &[out, into])?.f_to_kind(self.kind)?;
        let bias = self.tensor(&format!("{name}.bias"), &[out])?.f_to_kind(self.kind)?;
        Ok(Linear { weight, bias })
    }

    pub(super) fn norm(&mut self, name: &str, d: i64) -> Result<Norm> {
        // The first BERT checkpoints call scale and shift gamma and beta.
        let old = self.shape(&format!("{name}.gamma")).is_some();
        let (scale, shift) = if old { ("gamma", "beta") } else { ("weight", "bias") };
        let scale = self.tensor(&format!("{name}.{scale}"), &[d])?;
        Ok(Norm { scale, shift: self.tensor(&format!("{name}.{shift}"), &[d])? })
    }

    /// A matrix without a prefix and of any number of rows, f32, where the file has it.
    pub(super) fn bare(&mut self, name: &str, into: i64) -> Result<Option<Tensor>> {
        match self.file.shape(name).as_deref() {
            None => Ok(None),
            Some([rows, columns]) if *rows > 0 && *columns == into => {
                Ok(Some(self.file.get(name)?.f_to_kind(Kind::Float)?.f_to_device(self.device)?))
            }
            Some(found) => {
                self.problems.push(format!("{name}: expected shape [any, {into}], found {found:?}"));
                Ok(None)
            }
        }
    }

    /// f32. A tensor that is missing or misshapen is noted and an empty one stands in, so that one pass finds them all
    /// and a damaged config costs no memory.
    pub(super) fn tensor(&mut self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let full = format!("{}{name}", self.prefix);
        match self.file.shape(&full) {
            Some(found) if found == shape => {
                return Ok(self.file.get(&full)?.f_to_kind(Kind::Float)?.f_to_device(self.device)?);
            }
            Some(found) => self.problems.push(format!("{full}: expected shape {shape:?}, found {found:?}")),
            None => self.problems.push(format!("{full}: missing, expected shape {shape:?}")),
        }
        Ok(Tensor::f_zeros([0], (Kind::Float, self.device))?)
    }
}
