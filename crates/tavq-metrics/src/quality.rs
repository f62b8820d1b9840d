//! PSNR and SSIM of image batches.

use tavq_torch::check_shape;
use tch::{Kind, Tensor, no_grad};

use crate::{MetricError, Result};

const WINDOW: i64 = 11;
const SIGMA: f64 = 1.5;
const K1: f64 = 0.01;
const K2: f64 = 0.03;

/// Peak signal-to-noise ratio of each image in decibels: `10 log10(data_range^2 / MSE)`, `[B]`.
///
/// `x` and `y` are `[B, C, H, W]`; `data_range` is the width of the value range, 2 for images in `[-1, 1]`.
/// The mean square error is taken over channels and pixels. Equal images give +inf.
pub fn psnr(x: &Tensor, y: &Tensor, data_range: f64) -> Result<Tensor> {
    let (x, y) = check_images(x, y, data_range)?;
    Ok(no_grad(|| {
        let mse = (x - y).square().mean_dim([1i64, 2, 3].as_slice(), false, None::<Kind>);
        (mse / (data_range * data_range)).log10() * -10.0
    }))
}

/// Structural similarity of each image, `[B]`, at most 1 (Wang et al. 2004, equation 13).
///
/// Gaussian window of 11 pixels, sigma 1.5, K1 = 0.01, K2 = 0.03, population covariance; the mean over the
/// channels and over the pixels whose window lies inside the image, as in scikit-image's
/// `structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)`.
/// `x` and `y` are `[B, C, H, W]` with H and W at least 11; `data_range` as for [`psnr`].
pub fn ssim(x: &Tensor, y: &Tensor, data_range: f64) -> Result<Tensor> {
    let (x, y) = check_images(x, y, data_range)?;
    let (b, c, h, w) = x.size4()?;
    if h < WINDOW || w < WINDOW {
        let found = format!("{h} x {w}");
        return Err(MetricError::Values { what: "images", expected: "at least 11 x 11 pixels for SSIM", found });
    }
    Ok(no_grad(|| {
        let (c1, c2) = ((K1 * data_range).powi(2), (K2 * data_range).powi(2));
        // Every channel is an image of its own; the five moments go through the blur as one batch.
        let (x, y) = (x.reshape([b * c, 1, h, w]), y.reshape([b * c, 1, h, w]));
        let moments = blur(&Tensor::cat(&[&x, &y, &(&x * &x), &(&y * &y), &(&x * &y)], 0)).chunk(5, 0);
        let [mx, my, xx, yy, xy] = [0, 1, 2, 3, 4].map(|i: usize| &moments[i]);
        let (mxx, myy, mxy) = (mx * mx, my * my, mx * my);
        let luminance = (&mxy * 2.0 + c1) / (&mxx + &myy + c1);
        let structure = ((xy - &mxy) * 2.0 + c2) / ((xx - &mxx) + (yy - &myy) + c2);
        (luminance * structure).view([b, -1]).mean_dim([1i64].as_slice(), false, None::<Kind>)
    }))
}

/// Blurs `[n, 1, H, W]` with the Gaussian window, without padding.
fn blur(x: &Tensor) -> Tensor {
    let taps: Vec<f64> = (0..WINDOW).map(|i| (-0.5 * ((i - WINDOW / 2) as f64 / SIGMA).powi(2)).exp()).collect();
    let sum: f64 = taps.iter().sum();
    let taps = Tensor::from_slice(&taps).to_kind(x.kind()).to_device(x.device()) / sum;
    let convolve = |x: &Tensor, kernel: Tensor| x.conv2d::<Tensor>(&kernel, None, [1i64, 1], [0i64, 0], [1i64, 1], 1);
    convolve(&convolve(x, taps.view([1, 1, -1, 1])), taps.view([1, 1, 1, -1]))
}

fn check_images(x: &Tensor, y: &Tensor, data_range: f64) -> Result<(Tensor, Tensor)> {
    check_shape("images", x, &[-1, -1, -1, -1])?;
    check_shape("other images", y, &x.size())?;
    if x.numel() == 0 {
        let found = format!("{:?}", x.size());
        return Err(MetricError::Values { what: "images", expected: "no empty axis", found });
    }
    if !(data_range > 0.0 && data_range.is_finite()) {
        let found = data_range.to_string();
        return Err(MetricError::Values { what: "data_range", expected: "a number above 0", found });
    }
    let kind = if x.kind() == Kind::Double { Kind::Double } else { Kind::Float };
    Ok((x.detach().to_kind(kind), y.detach().to_kind(kind)))
}
