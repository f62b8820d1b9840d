//! The patch discriminator of taming-transformers (Isola et al. 2017, "Image-to-image translation with conditional
//! adversarial networks"): strided 4x4 convolutions whose every output judges one patch of the image.

use serde::{Deserialize, Serialize};
use tavq_quant::{QuantError, Result};
use tavq_torch::{ShapeError, check_shape};
use tch::{Tensor, nn};

/// Shape of a [`Discriminator`]. Defaults are taming-transformers' (2,765,633 parameters, patches of 70 pixels).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiscriminatorConfig {
    /// Channels of the images.
    pub in_channels: i64,
    /// Width of the first convolution; each further one doubles it, up to eight times as wide.
    pub ndf: i64,
    /// Convolutions of stride 2.
    pub n_layers: i64,
}

impl Default for DiscriminatorConfig {
    fn default() -> Self {
        Self { in_channels: 3, ndf: 64, n_layers: 3 }
    }
}

impl DiscriminatorConfig {
    /// Checks ranges; the error names the field.
    pub fn check(&self) -> Result<()> {
        let fields =
            [("in_channels", self.in_channels, 1 << 16), ("ndf", self.ndf, 1 << 13), ("n_layers", self.n_layers, 8)];
        for (field, value, most) in fields {
            if !(1..=most).contains(&value) {
                return Err(QuantError::config(&format!("discriminator.{field}"), &format!("1 to {most}"), value));
            }
        }
        Ok(())
    }
}

/// A 4x4 convolution, with a bias where no normalisation follows.
#[derive(Debug)]
struct Conv {
    weight: Tensor,
    bias: Option<Tensor>,
    stride: i64,
}

impl Conv {
    fn new(path: &nn::Path<'_>, from: i64, to: i64, stride: i64, biased: bool) -> Result<Self> {
        let weight = path.f_randn("weight", &[to, from, 4, 4], 0.0, 0.02)?;
        // PyTorch's own start; only weights get another one there.
        let bound = 1.0 / ((from * 16) as f64).sqrt();
        let bias = if biased { Some(path.f_uniform("bias", &[to], -bound, bound)?) } else { None };
        Ok(Self { weight, bias, stride })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_conv2d(&self.weight, self.bias.as_ref(), [self.stride; 2], [1; 2], [1; 2], 1)?)
    }
}

/// Batch normalisation. Running statistics are variables that no optimiser sees; a count of batches, which PyTorch keeps
/// beside them, is not there: it decides nothing where the momentum is fixed.
#[derive(Debug)]
struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
}

const MOMENTUM: f64 = 0.1;
const EPSILON: f64 = 1e-5;

impl BatchNorm {
    fn new(path: &nn::Path<'_>, channels: i64) -> Result<Self> {
        Ok(Self {
            weight: path.f_randn("weight", &[channels], 1.0, 0.02)?,
            bias: path.f_zeros("bias", &[channels])?,
            running_mean: path.f_zeros_no_train("running_mean", &[channels])?,
            running_var: path.f_ones_no_train("running_var", &[channels])?,
        })
    }

    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let (weight, bias) = (Some(&self.weight), Some(&self.bias));
        let (mean, var) = (Some(&self.running_mean), Some(&self.running_var));
        Ok(x.f_batch_norm(weight, bias, mean, var, train, MOMENTUM, EPSILON, true)?)
    }
}

/// Judges patches of images. Variables: `main.{i}` with taming-transformers' numbers (0, 2, 3, 5, ...), so that its
/// `loss.discriminator` loads by name once each `num_batches_tracked` is left out.
#[derive(Debug)]
pub struct Discriminator {
    config: DiscriminatorConfig,
    layers: Vec<(Conv, Option<BatchNorm>)>,
    last: Conv,
    slope: Tensor,
}

impl Discriminator {
    /// A discriminator with random weights from libtorch's generator, which the caller seeds: N(0, 0.02) in
    /// convolutions, N(1, 0.02) in normalisations.
    pub fn new(path: &nn::Path<'_>, config: &DiscriminatorConfig) -> Result<Self> {
        config.check()?;
        let main = path.sub("main");
        let width = |n: i64| config.ndf * (1 << n.min(3));
        let mut layers = vec![(Conv::new(&main.sub(0), config.in_channels, width(0), 2, true)?, None)];
        // A convolution, its normalisation and an activation count three; the first has no normalisation.
        let mut at = 2;
        for n in 1..=config.n_layers {
            let stride = if n < config.n_layers { 2 } else { 1 };
            let conv = Conv::new(&main.sub(at), width(n - 1), width(n), stride, false)?;
            layers.push((conv, Some(BatchNorm::new(&main.sub(at + 1), width(n))?)));
            at += 3;
        }
        let last = Conv::new(&main.sub(at), width(config.n_layers), 1, 1, true)?;
        let slope = Tensor::f_from_slice(&[0.2f32])?.f_to_device(path.device())?;
        Ok(Self { config: config.clone(), layers, last, slope })
    }

    /// Images `[B, C, H, W]` to one unbounded score a patch, `[B, 1, h, w]`: high for a real one. Both sizes are at least
    /// 3 x 2^n_layers. With `train`, normalisation is by the batch, and the running statistics follow it.
    pub fn forward(&self, images: &Tensor, train: bool) -> Result<Tensor> {
        self.check_images(images)?;
        let mut h = images.shallow_clone();
        for (conv, norm) in &self.layers {
            h = conv.forward(&h)?;
            if let Some(norm) = norm {
                h = norm.forward(&h, train)?;
            }
            // libtorch's leaky rectifier has a fixed slope in tch; this one is the same function of x.
            h = h.f_prelu(&self.slope.f_to_kind(h.kind())?)?;
        }
        self.last.forward(&h)
    }

    fn check_images(&self, images: &Tensor) -> Result<()> {
        let channels = self.config.in_channels;
        check_shape("images", images, &[-1, channels, -1, -1])?;
        let (size, least) = (images.size(), 3 << self.config.n_layers);
        if size[0] > 0 && size[2..].iter().all(|s| *s >= least) {
            return Ok(());
        }
        let expected = format!("[at least 1, {channels}, at least {least}, at least {least}]");
        Err(ShapeError { what: "images".into(), expected, found: size }.into())
    }
}
