//! Text alignment of image codes: samplers, costs, batched masked Sinkhorn in tch with envelope
//! gradients, and the alignment loss in its plain and contrastive form. Plain tensors and masks in.

use tch::Tensor;

mod error;

pub use error::AlignError;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, AlignError>;

/// Codes drawn by a sampler.
#[derive(Debug)]
pub struct Sampled {
    /// `[B, S, D]`.
    pub codes: Tensor,
    /// `[B, S]` int64: the grid cell (row-major) each code came from.
    pub positions: Tensor,
}

/// Chooses the codes that take part in the transport.
pub trait CodeSampler: Send {
    /// Draws from `[B, N, D]`. Uses libtorch's generator (`tch::manual_seed`) and nothing else for randomness;
    /// with `train` false it is deterministic.
    fn sample(&self, codes: &Tensor, train: bool) -> Result<Sampled>;
}

/// A cost between points.
pub trait Cost: Send + Sync {
    /// `[B, S, D]` and `[B, M, D]` to `[B, S, M]`, differentiable in both.
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor>;
}
