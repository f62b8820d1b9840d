//! The trainable map phi from the codes' space to the texts' space.

use tch::{Tensor, nn};

use crate::MapConfig;

/// phi, applied to the last axis.
#[derive(Debug)]
pub(crate) enum CodeMap {
    Linear(nn::Linear),
    Hidden(nn::Linear, nn::Linear),
}

impl CodeMap {
    pub(crate) fn new(path: &nn::Path, from: i64, to: i64, config: &MapConfig) -> Self {
        let linear = |name: &str, i, o| nn::linear(path / name, i, o, nn::LinearConfig::default());
        match *config {
            MapConfig::Linear {} => Self::Linear(linear("out", from, to)),
            MapConfig::Hidden { width } => Self::Hidden(linear("hidden", from, width), linear("out", width, to)),
        }
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        match self {
            Self::Linear(out) => x.apply(out),
            Self::Hidden(hidden, out) => x.apply(hidden).gelu("none").apply(out),
        }
    }
}
