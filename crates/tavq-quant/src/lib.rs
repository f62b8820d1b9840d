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
mod entropy;
mod error;
mod estimator;
mod fsq;
mod gumbel;
pub mod laws;
mod lfq;
mod nearest;
mod pool;
mod residual;
mod simd;
mod simvq;
mod start;
mod usage;
mod vq;

pub use codebook::Form;
pub use config::QuantizerConfig;
pub use cvq::{Anchor, Cvq, CvqConfig};
pub use ema::{Ema, EmaConfig};
pub use error::QuantError;
pub use estimator::Gradient;
pub use fsq::{Fsq, FsqConfig};
pub use gumbel::{Gumbel, GumbelConfig};
pub use lfq::{Lfq, LfqConfig};
pub use nearest::{Distance, Nearest, nearest, tile_budget};
pub use residual::{Residual, ResidualConfig, StagePath};
pub use simvq::{SimVq, SimVqConfig};
pub use start::Start;
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

/// Gives the codes `[B, D, h, w]` of a level's latent, of its shape and type. The level counts from 0, the finest.
pub type Quantize<'a> = dyn FnMut(usize, &Tensor) -> Result<Tensor> + 'a;

/// An image encoder and decoder around a quantizer.
pub trait Backbone: Send {
    /// The levels, fine to coarse; the last one is decoded.
    fn levels(&self) -> &[LevelShape];
    /// `[B, 3, H, W]` in `[-1, 1]` to one latent `[B, D, h, w]` per level.
    fn encode(&self, images: &Tensor, train: bool) -> Result<Vec<Tensor>>;
    /// A latent `[B, D, h, w]` of the last level, which is not changed, to images `[B, 3, H, W]`, not clamped.
    fn decode(&self, latent: &Tensor, train: bool) -> Result<Tensor>;
    /// [`Backbone::encode`] with quantization in between: hands each level's latent to `quantize` as soon as it is there,
    /// once and in order, and returns these latents. A trainer calls this one alone.
    ///
    /// Override it where a level is computed from the codes of the level before (a cascade). `encode` is then the same
    /// pass with each latent in the place of its codes.
    fn encode_through(&self, images: &Tensor, train: bool, quantize: &mut Quantize<'_>) -> Result<Vec<Tensor>> {
        let latents = self.encode(images, train)?;
        for (level, latent) in latents.iter().enumerate() {
            let _ = quantize(level, latent)?;
        }
        Ok(latents)
    }
}

/// What quantizing a latent gives.
#[derive(Debug)]
pub struct Quantized {
    /// `[B, D, h, w]`: the codes, with the gradient estimator's path to the encoder. Not to be changed in place: the loss may
    /// need it for its gradient.
    pub latent: Tensor,
    /// `[B, h, w]`, int64, in `0..K`; of several indices a cell `[B, h, w, depth]`, where -1 marks one that a training step
    /// left out.
    pub indices: Tensor,
    /// Scalar: codebook and commitment terms (0 where a quantizer has none).
    pub loss: Tensor,
}

/// A codebook. Trainable rows and buffers live in the `VarStore` it was built on, so that one file holds its whole state. The
/// loss or the latent gives every trainable variable a gradient; the others change through [`BatchUpdate`] alone.
pub trait Quantizer: Send {
    /// Number of codes K: every index is in `0..K`.
    fn codes(&self) -> i64;
    /// Indices a cell, at least 1.
    fn depth(&self) -> i64 {
        1
    }
    /// Quantizes `[B, D, h, w]`.
    fn quantize(&self, latent: &Tensor, train: bool) -> Result<Quantized>;
    /// Codes as the decoder sees them: indices `[...]` to `[..., D]`, differentiable in the codebook where it is trainable. Of
    /// several indices a cell, `[..., depth]` to `[..., D]`; -1 adds nothing.
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
