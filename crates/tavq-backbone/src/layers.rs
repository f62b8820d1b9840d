//! Convolutions, group normalisation and the two blocks of the VQGAN, initialised as PyTorch does by default.

use tch::{Device, Kind, Tensor, nn};

use tavq_quant::Result;

/// A 2-D convolution with bias.
#[derive(Debug)]
pub(crate) struct Conv {
    weight: Tensor,
    bias: Tensor,
    stride: i64,
    padding: i64,
}

impl Conv {
    pub(crate) fn new(path: &nn::Path<'_>, from: i64, to: i64, kernel: i64, stride: i64, padding: i64) -> Result<Self> {
        let (weight, bias) = variables(path, &[to, from, kernel, kernel], to, from * kernel * kernel)?;
        Ok(Self { weight, bias, stride, padding })
    }

    /// 3x3, same size.
    pub(crate) fn same(path: &nn::Path<'_>, from: i64, to: i64) -> Result<Self> {
        Self::new(path, from, to, 3, 1, 1)
    }

    /// 1x1.
    pub(crate) fn point(path: &nn::Path<'_>, from: i64, to: i64) -> Result<Self> {
        Self::new(path, from, to, 1, 1, 0)
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_conv2d(&self.weight, Some(&self.bias), [self.stride; 2], [self.padding; 2], [1; 2], 1)?)
    }

    /// Nearest-neighbour doubling, then this convolution, which is one of [`Conv::same`].
    ///
    /// Both are linear. On a CPU they are taken as one transposed 4x4 convolution of stride 2: four products a pixel in place
    /// of nine, and the doubled image never exists.
    fn doubled(&self, x: &Tensor) -> Result<Tensor> {
        if x.device() != Device::Cpu {
            return self.forward(&doubled(x)?);
        }
        let size = self.weight.size();
        let spread = Tensor::from_slice(&SPREAD).f_view([3, 4])?.f_to_kind(self.weight.kind())?;
        let taps = self.weight.f_transpose(0, 1)?.f_reshape([-1, 9])?;
        let weight = taps.f_mm(&spread.f_kron(&spread)?)?.f_view([size[1], size[0], 4, 4])?;
        Ok(x.f_conv_transpose2d(&weight, Some(&self.bias), [2; 2], [1; 2], [0; 2], 1, [1; 2])?)
    }
}

/// Halving or doubling of the size, by a convolution or plainly.
#[derive(Debug)]
pub(crate) struct Resample(Option<Conv>);

impl Resample {
    pub(crate) fn halving(path: &nn::Path<'_>, width: i64, convolves: bool) -> Result<Self> {
        Ok(Self(if convolves { Some(Conv::new(&path.sub("conv"), width, width, 3, 2, 0)?) } else { None }))
    }

    pub(crate) fn doubling(path: &nn::Path<'_>, width: i64, convolves: bool) -> Result<Self> {
        Ok(Self(if convolves { Some(Conv::same(&path.sub("conv"), width, width)?) } else { None }))
    }

    /// Half the size: with one row and column of zeros at the right and bottom only, or means of 2 x 2.
    pub(crate) fn halve(&self, x: &Tensor) -> Result<Tensor> {
        match &self.0 {
            Some(conv) => conv.forward(&x.f_constant_pad_nd([0, 1, 0, 1])?),
            None => Ok(x.f_avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None)?),
        }
    }

    /// Twice the size.
    pub(crate) fn double(&self, x: &Tensor) -> Result<Tensor> {
        match &self.0 {
            Some(conv) => conv.doubled(x),
            None => doubled(x),
        }
    }
}

/// Nearest-neighbour doubling.
fn doubled(x: &Tensor) -> Result<Tensor> {
    let size = x.size();
    Ok(x.f_upsample_nearest2d([size[2] * 2, size[3] * 2], None, None)?)
}

/// On one axis, which of the four taps of the transposed convolution each of the three taps enters: a row for each of the
/// three. Tap m of the four meets the doubled pixels that taps 2 - m and 3 - m of the three meet.
const SPREAD: [f32; 12] = [0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0];

/// A transposed 4x4 convolution of stride 2 that doubles the size.
#[derive(Debug)]
pub(crate) struct Widen {
    weight: Tensor,
    bias: Tensor,
}

impl Widen {
    pub(crate) fn new(path: &nn::Path<'_>, from: i64, to: i64) -> Result<Self> {
        // PyTorch takes the fan of a transposed weight [from, to, k, k] from its second axis.
        let (weight, bias) = variables(path, &[from, to, 4, 4], to, to * 16)?;
        Ok(Self { weight, bias })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_conv_transpose2d(&self.weight, Some(&self.bias), [2; 2], [1; 2], [0; 2], 1, [1; 2])?)
    }
}

/// `weight` and `bias`, both uniform within 1/sqrt(fan): what `kaiming_uniform_(a = sqrt 5)` comes to.
fn variables(path: &nn::Path<'_>, shape: &[i64], bias: i64, fan: i64) -> Result<(Tensor, Tensor)> {
    let bound = 1.0 / (fan as f64).sqrt();
    Ok((path.f_uniform("weight", shape, -bound, bound)?, path.f_uniform("bias", &[bias], -bound, bound)?))
}

const EPSILON: f64 = 1e-6;

/// Group normalisation.
#[derive(Debug)]
pub(crate) struct Norm {
    groups: i64,
    weight: Tensor,
    bias: Tensor,
}

impl Norm {
    /// `groups` divide the channels.
    pub(crate) fn new(path: &nn::Path<'_>, channels: i64, groups: i64) -> Result<Self> {
        Ok(Self { groups, weight: path.f_ones("weight", &[channels])?, bias: path.f_zeros("bias", &[channels])? })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_group_norm(self.groups, Some(&self.weight), Some(&self.bias), EPSILON, true)?)
    }

    /// Followed by x sigmoid(x).
    pub(crate) fn swish(&self, x: &Tensor) -> Result<Tensor> {
        let mut normed = self.forward(x)?;
        // In place only where no gradient flows: autograd would copy the input to keep it.
        Ok(if normed.requires_grad() { normed.f_silu()? } else { normed.f_silu_()? })
    }
}

/// Two normalised 3x3 convolutions around a shortcut.
#[derive(Debug)]
pub(crate) struct ResnetBlock {
    norm1: Norm,
    conv1: Conv,
    norm2: Norm,
    conv2: Conv,
    shortcut: Option<Conv>,
    dropout: f64,
}

impl ResnetBlock {
    pub(crate) fn new(path: &nn::Path<'_>, from: i64, to: i64, groups: i64, dropout: f64) -> Result<Self> {
        Ok(Self {
            norm1: Norm::new(&path.sub("norm1"), from, groups)?,
            conv1: Conv::same(&path.sub("conv1"), from, to)?,
            norm2: Norm::new(&path.sub("norm2"), to, groups)?,
            conv2: Conv::same(&path.sub("conv2"), to, to)?,
            shortcut: if from == to { None } else { Some(Conv::point(&path.sub("nin_shortcut"), from, to)?) },
            dropout,
        })
    }

    pub(crate) fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let h = self.conv1.forward(&self.norm1.swish(x)?)?;
        let mut h = self.norm2.swish(&h)?;
        if train && self.dropout > 0.0 {
            h = h.f_dropout(self.dropout, true)?;
        }
        let mut h = self.conv2.forward(&h)?;
        // In place: a convolution does not need its own result either.
        match &self.shortcut {
            Some(shortcut) => Ok(h.f_add_(&shortcut.forward(x)?)?),
            None => Ok(h.f_add_(x)?),
        }
    }
}

/// Self-attention of one head over all positions, by 1x1 convolutions.
#[derive(Debug)]
pub(crate) struct Attention {
    norm: Norm,
    q: Conv,
    k: Conv,
    v: Conv,
    proj_out: Conv,
}

impl Attention {
    pub(crate) fn new(path: &nn::Path<'_>, channels: i64, groups: i64) -> Result<Self> {
        let conv = |name: &str| Conv::point(&path.sub(name), channels, channels);
        Ok(Self {
            norm: Norm::new(&path.sub("norm"), channels, groups)?,
            q: conv("q")?,
            k: conv("k")?,
            v: conv("v")?,
            proj_out: conv("proj_out")?,
        })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let size = x.size();
        let (b, c, h, w) = (size[0], size[1], size[2], size[3]);
        let normed = self.norm.forward(x)?;
        let flat = |conv: &Conv| -> Result<Tensor> { Ok(conv.forward(&normed)?.f_reshape([b, c, h * w])?) };
        let (q, k, v) = (flat(&self.q)?, flat(&self.k)?, flat(&self.v)?);
        // [B, query, key]
        let weights = (q.f_transpose(1, 2)? * (c as f64).powf(-0.5))
            .f_bmm(&k)?
            .f_softmax(-1, Kind::Float)?
            .f_to_kind(v.kind())?;
        let mixed = v.f_bmm(&weights.f_transpose(1, 2)?)?.f_reshape([b, c, h, w])?;
        Ok(self.proj_out.forward(&mixed)?.f_add_(x)?)
    }
}

#[cfg(test)]
mod tests {
    use tch::nn::VarStore;

    use super::*;

    #[test]
    fn doubling_is_what_doubling_and_a_convolution_are() {
        let store = VarStore::new(Device::Cpu);
        let conv = Conv::same(&store.root(), 3, 5).unwrap();
        let weights = store.trainable_variables();
        for size in [[1, 1], [2, 3], [7, 4]] {
            let x = Tensor::randn([2, 3, size[0], size[1]], (Kind::Float, Device::Cpu)).set_requires_grad(true);
            let direction = Tensor::randn([2, 5, 2 * size[0], 2 * size[1]], (Kind::Float, Device::Cpu));
            let plain = conv.forward(&x.upsample_nearest2d([2 * size[0], 2 * size[1]], None, None)).unwrap();
            let found = [plain, conv.doubled(&x).unwrap()].map(|out| {
                let mut parts = vec![out.detach()];
                let inputs: Vec<&Tensor> = std::iter::once(&x).chain(&weights).collect();
                parts.extend(Tensor::run_backward(&[(&out * &direction).sum(Kind::Float)], &inputs, true, false));
                parts
            });
            for (one, other) in found[0].iter().zip(&found[1]) {
                assert!(one.allclose(other, 1e-4, 1e-5, false), "{size:?}: {:?}", one.size());
            }
        }
    }
}
