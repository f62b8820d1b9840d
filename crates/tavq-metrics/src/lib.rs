//! Image quality and text retrieval, on plain tensors.
//!
//! Everything is computed per image or per query and without gradient; averaging is left to the caller, who
//! knows the whole split.

mod baseline;
mod error;
mod quality;
mod ranks;
mod retrieval;

pub use baseline::MeanImage;
pub use error::MetricError;
pub use quality::{psnr, ssim};
pub use retrieval::{RetrievalReport, RetrievalScores, retrieval, subtract_text_means, sum_levels};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, MetricError>;
