//! Text alignment of image codes: samplers, costs, batched masked Sinkhorn in tch with envelope
//! gradients, and the alignment loss in its plain and contrastive form. Plain tensors and masks in.
//!
//! One [`LevelAlignment`] serves one level of the image encoder. Its only trainable part is the map from
//! the codes' width to the texts' width; the text side has none, so that no constant map can bring the cost
//! to zero. The solver works on detached costs and hands the plan back to the graph as a constant, so the
//! memory of a step does not grow with the iterations.

use tch::Tensor;

mod config;
mod cost;
mod error;
pub mod laws;
mod level;
mod loss;
mod map;
mod sampler;
mod scaling;
mod sinkhorn;
mod text;
mod value;

pub use config::{AlignConfig, LossForm, MapConfig, TargetMasses, TransportValue};
pub use cost::{CosineCost, CostConfig, SquaredEuclidean, all_pairs};
pub use error::AlignError;
pub use level::LevelAlignment;
pub use loss::{AlignLoss, contrastive_loss, plain_loss};
pub use sampler::{AllCodes, SamplerConfig, SubsetCodes};
pub use sinkhorn::{SinkhornConfig, Status, Transport, sinkhorn};
pub use text::TextBatch;
pub use value::transport_value;

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

/// Chooses the codes that take part in the transport. Its laws are [`laws::sampler_laws`].
pub trait CodeSampler: Send {
    /// Draws from `[B, N, D]`. Uses libtorch's generator (`tch::manual_seed`) and nothing else for randomness;
    /// with `train` false it is deterministic.
    fn sample(&self, codes: &Tensor, train: bool) -> Result<Sampled>;
}

/// A cost between points. Its laws are [`laws::cost_laws`].
pub trait Cost: Send + Sync {
    /// `[B, S, D]` and `[B, M, D]` to `[B, S, M]`, differentiable in both. An entry depends on its two points only.
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor>;
}
