//! Side levels: projections of encoder features to the width of the codes, and in a cascade back from the codes.

use serde::{Deserialize, Serialize};
use tavq_quant::{LevelShape, QuantError, Quantize, Result};
use tavq_torch::{ShapeError, check_shape};
use tch::{Tensor, nn};

use crate::layers::Conv;

/// How a side level is wired into the encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wiring {
    /// A projection on the side: the encoder goes on from its own features.
    #[default]
    Taps,
    /// The encoder goes on from the level's codes, projected back to its width.
    Cascade,
}

impl Wiring {
    /// A model of one level has no side levels to wire.
    pub(crate) fn check(self, levels: usize) -> Result<()> {
        if levels == 1 && self == Self::Cascade {
            return Err(QuantError::config("backbone.wiring", "taps with levels = 1", "cascade"));
        }
        Ok(())
    }
}

/// One pass of an encoder: its latents so far, and what gives their codes.
pub(crate) struct Pass<'a, 'q> {
    latents: Vec<Tensor>,
    quantize: &'a mut Quantize<'q>,
}

impl<'a, 'q> Pass<'a, 'q> {
    pub(crate) fn new(quantize: &'a mut Quantize<'q>) -> Self {
        Self { latents: Vec::new(), quantize }
    }

    /// Quantizes the next level and gives its codes.
    pub(crate) fn level(&mut self, latent: Tensor) -> Result<Tensor> {
        let codes = (self.quantize)(self.latents.len(), &latent)?;
        self.latents.push(latent);
        Ok(codes)
    }

    /// Quantizes the last level and ends the pass.
    pub(crate) fn finish(mut self, latent: Tensor) -> Result<Vec<Tensor>> {
        let _ = self.level(latent)?;
        Ok(self.latents)
    }
}

/// A quantizer's place where there is none: each latent stays as it is.
pub(crate) fn as_it_is(_level: usize, latent: &Tensor) -> Result<Tensor> {
    Ok(latent.shallow_clone())
}

/// One side level.
#[derive(Debug)]
struct Tap {
    /// What it reads, in the encoder's own count.
    stage: usize,
    down: Conv,
    back: Option<Conv>,
}

/// The side levels, fine to coarse: a 1x1 projection each in the variables `taps.{i}`, in a cascade another one back
/// in `cascade.{i}`.
#[derive(Debug)]
pub(crate) struct Taps {
    taps: Vec<Tap>,
}

impl Taps {
    /// `features`: for each side level the encoder stage it reads and that stage's width.
    pub(crate) fn new(path: &nn::Path<'_>, features: &[(usize, i64)], dim: i64, wiring: Wiring) -> Result<Self> {
        let project = |part: &str, i: usize, from, to| Conv::point(&path.sub(part).sub(i), from, to);
        let taps = features.iter().enumerate().map(|(i, &(stage, width))| {
            let down = project("taps", i, width, dim)?;
            let back = match wiring {
                Wiring::Taps => None,
                Wiring::Cascade => Some(project("cascade", i, dim, width)?),
            };
            Ok(Tap { stage, down, back })
        });
        Ok(Self { taps: taps.collect::<Result<_>>()? })
    }

    /// Whether a level reads this stage.
    pub(crate) fn read(&self, stage: usize) -> bool {
        self.taps.iter().any(|tap| tap.stage == stage)
    }

    /// Quantizes the levels that read this stage; gives the features to go on from.
    pub(crate) fn pass(&self, stage: usize, features: Tensor, pass: &mut Pass<'_, '_>) -> Result<Tensor> {
        let mut features = features;
        for tap in self.taps.iter().filter(|tap| tap.stage == stage) {
            let codes = pass.level(tap.down.forward(&features)?)?;
            if let Some(back) = &tap.back {
                features = back.forward(&codes)?;
            }
        }
        Ok(features)
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
