//! Side levels: projections of encoder features to the width of the codes.

use tavq_quant::{LevelShape, Result};
use tavq_torch::{ShapeError, check_shape};
use tch::{Tensor, nn};

use crate::layers::Conv;

/// One 1x1 projection per side level, fine to coarse, in the variables `taps.{i}`.
#[derive(Debug)]
pub(crate) struct Taps {
    taps: Vec<(usize, Conv)>,
}

impl Taps {
    /// `features`: for each side level the encoder stage it reads and that stage's width.
    pub(crate) fn new(path: &nn::Path<'_>, features: &[(usize, i64)], dim: i64) -> Result<Self> {
        let path = path.sub("taps");
        let taps = features
            .iter()
            .enumerate()
            .map(|(i, (stage, width))| Ok((*stage, Conv::point(&path.sub(i), *width, dim)?)))
            .collect::<Result<_>>()?;
        Ok(Self { taps })
    }

    /// Adds the projections of a stage's features to `levels`.
    pub(crate) fn read(&self, stage: usize, features: &Tensor, levels: &mut Vec<Tensor>) -> Result<()> {
        for (_, conv) in self.taps.iter().filter(|(s, _)| *s == stage) {
            levels.push(conv.forward(features)?);
        }
        Ok(())
    }
}

/// Checks `[B, C, H, W]` with both sizes a multiple of the coarsest stride.
pub(crate) fn check_images(images: &Tensor, channels: i64, levels: &[LevelShape]) -> Result<()> {
    check_shape("images", images, &[-1, channels, -1, -1])?;
    let stride = levels.last().map_or(1, |l| l.stride);
    let size = images.size();
    if size[2..].iter().all(|s| *s > 0 && s % stride == 0) {
        return Ok(());
    }
    let expected = format!("[?, {channels}, a multiple of {stride}, a multiple of {stride}]");
    Err(ShapeError { what: "images".into(), expected, found: size }.into())
}
