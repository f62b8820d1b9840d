//! The mean image: what a model that has learned nothing but the average would answer.

use tavq_torch::check_shape;
use tch::{Kind, Tensor, no_grad};

use crate::{MetricError, Result, psnr};

/// The mean of all images seen so far.
#[derive(Debug, Default)]
pub struct MeanImage {
    // f64: a sum of many images.
    sum: Option<Tensor>,
    images: i64,
}

impl MeanImage {
    /// Adds a batch `[B, C, H, W]`; every batch has the C, H and W of the first.
    pub fn add(&mut self, images: &Tensor) -> Result<()> {
        check_shape("images", images, &[-1, -1, -1, -1])?;
        let sum = no_grad(|| images.detach().sum_dim_intlist([0i64].as_slice(), true, Kind::Double));
        self.sum = Some(match self.sum.take() {
            None => sum,
            Some(before) => {
                if before.size() != sum.size() {
                    let error = check_shape("images", &sum, &before.size());
                    self.sum = Some(before);
                    error?;
                    return Ok(());
                }
                before + sum
            }
        });
        self.images += images.size()[0];
        Ok(())
    }

    /// `[1, C, H, W]` f32; `None` before the first image.
    pub fn image(&self) -> Option<Tensor> {
        let sum = self.sum.as_ref().filter(|_| self.images > 0)?;
        Some((sum / self.images).to_kind(Kind::Float))
    }

    /// PSNR `[B]` of answering every image of a batch with the mean; see [`psnr`].
    pub fn psnr(&self, images: &Tensor, data_range: f64) -> Result<Tensor> {
        let mean = self.image().ok_or(MetricError::Values {
            what: "mean image",
            expected: "at least one image added",
            found: "none".to_owned(),
        })?;
        let size = mean.size();
        check_shape("images", images, &[-1, size[1], size[2], size[3]])?;
        psnr(images, &mean.to_device(images.device()).expand_as(images), data_range)
    }
}
