//! Quantizer core: the seams [`Backbone`] and [`Quantizer`], nearest-code search, the standard codebooks, usage.
//!
//! Statistics that a codebook gathers from a batch (EMA, CVQ) leave through [`BatchUpdate::collect`] as
//! plain tensors and come back summed through [`BatchUpdate::apply`], so that no collective operation
//! ever runs inside a quantizer.

use tch::Tensor;

mod candidates;
mod codebook;
mod config;
mod contrastive;
mod cvq;
mod ema;
mod error;
mod estimator;
mod fsq;
pub mod laws;
mod nearest;
mod simd;
mod simvq;
mod usage;
mod vq;

pub use codebook::{Form, Start};
pub use config::QuantizerConfig;
pub use cvq::{Anchor, Cvq, CvqConfig};
pub use ema::{Ema, EmaConfig};
pub use error::QuantError;
pub use estimator::Gradient;
pub use fsq::{Fsq, FsqConfig};
pub use nearest::{Distance, Nearest, nearest, tile_budget};
pub use simvq::{SimVq, SimVqConfig};
pub use usage::{Usage, UsageReport};
pub use vq::{Vq, VqConfig};

/// Result of this crate's seams.
pub type Result<T> = std::result::Result<T, QuantError>;

/// The shape of one level of a backbone, for an image of the size the backbone was built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LevelShape {
    /// Width D of the latent vectors.
    pub channels: i64,
    /// Pixels per cell, on both axes.
    pub stride: i64,
}

/// An image encoder and decoder around a quantizer.
pub trait Backbone: Send {
    /// The levels, fine to coarse; the last one is decoded.
    fn levels(&self) -> &[LevelShape];
    /// `[B, 3, H, W]` in `[-1, 1]` to one latent `[B, D, h, w]` per level.
    fn encode(&self, images: &Tensor, train: bool) -> Result<Vec<Tensor>>;
    /// A latent `[B, D, h, w]` of the last level to images `[B, 3, H, W]`, not clamped.
    fn decode(&self, latent: &Tensor, train: bool) -> Result<Tensor>;
}

/// What quantizing a latent gives.
#[derive(Debug)]
pub struct Quantized {
    /// `[B, D, h, w]`: the codes, with the gradient estimator's path to the encoder.
    pub latent: Tensor,
    /// `[B, h, w]`, int64, in `0..K`.
    pub indices: Tensor,
    /// Scalar: codebook and commitment terms (0 where a quantizer has none).
    pub loss: Tensor,
}

/// A codebook. Trainable rows and buffers live in the `VarStore` it was built on, so that one file holds its whole state.
pub trait Quantizer: Send {
    /// Number of codes K.
    fn codes(&self) -> i64;
    /// Quantizes `[B, D, h, w]`.
    fn quantize(&self, latent: &Tensor, train: bool) -> Result<Quantized>;
    /// Codes as the decoder sees them: indices `[...]` to `[..., D]`, differentiable in the codebook where it is trainable.
    fn lookup(&self, indices: &Tensor) -> Result<Tensor>;
    /// The statistics half, for codebooks that learn without gradients.
    fn batch_update(&mut self) -> Option<&mut dyn BatchUpdate> {
        None
    }
}

/// Learning from batch statistics, split so that a trainer can sum them over ranks in between.
pub trait BatchUpdate {
    /// Statistics of one batch; tensors that may be summed elementwise over batches and ranks.
    fn collect(&self, latent: &Tensor, quantized: &Quantized) -> Result<Vec<Tensor>>;
    /// Applies the summed statistics. `step` counts from 0.
    fn apply(&mut self, summed: &[Tensor], step: u64) -> Result<()>;
}
