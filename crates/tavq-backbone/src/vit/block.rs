//! What a ViT is made of: linear layers, layer normalisation, the transformer block, positions.

use tavq_quant::Result;
use tch::{Kind, Tensor, nn};

/// A linear layer with bias on `[..., from]`, started as ViT does: Xavier-uniform, bias 0.
#[derive(Debug)]
pub(super) struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    pub(super) fn new(path: &nn::Path<'_>, from: i64, to: i64) -> Result<Self> {
        let bound = (6.0 / (from + to) as f64).sqrt();
        let weight = path.f_uniform("weight", &[to, from], -bound, bound)?;
        Ok(Self { weight, bias: path.f_zeros("bias", &[to])? })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_linear(&self.weight, Some(&self.bias))?)
    }
}

/// Layer normalisation over the last axis, in f32 whatever the input's type.
#[derive(Debug)]
pub(super) struct Norm {
    weight: Tensor,
    bias: Tensor,
}

impl Norm {
    pub(super) fn new(path: &nn::Path<'_>, width: i64) -> Result<Self> {
        Ok(Self { weight: path.f_ones("weight", &[width])?, bias: path.f_zeros("bias", &[width])? })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (self.weight.f_to_kind(Kind::Float)?, self.bias.f_to_kind(Kind::Float)?);
        let normed = x.f_to_kind(Kind::Float)?.f_layer_norm(weight.size(), Some(&weight), Some(&bias), 1e-6, true)?;
        Ok(normed.f_to_kind(x.kind())?)
    }
}

/// Attention over all tokens and two layers with a GELU between, each on normalised input and added to it.
#[derive(Debug)]
pub(super) struct Block {
    norm1: Norm,
    qkv: Linear,
    proj: Linear,
    norm2: Norm,
    fc1: Linear,
    fc2: Linear,
    heads: i64,
}

impl Block {
    pub(super) fn new(path: &nn::Path<'_>, width: i64, heads: i64, mlp: i64) -> Result<Self> {
        Ok(Self {
            norm1: Norm::new(&path.sub("norm1"), width)?,
            qkv: Linear::new(&path.sub("qkv"), width, 3 * width)?,
            proj: Linear::new(&path.sub("proj"), width, width)?,
            norm2: Norm::new(&path.sub("norm2"), width)?,
            fc1: Linear::new(&path.sub("fc1"), width, mlp)?,
            fc2: Linear::new(&path.sub("fc2"), mlp, width)?,
            heads,
        })
    }

    /// `[B, N, width]` to the same.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.f_add(&self.attend(&self.norm1.forward(x)?)?)?;
        let h = self.fc1.forward(&self.norm2.forward(&x)?)?.f_gelu("none")?;
        Ok(x.f_add(&self.fc2.forward(&h)?)?)
    }

    fn attend(&self, x: &Tensor) -> Result<Tensor> {
        let size = x.size();
        let (b, n, width) = (size[0], size[1], size[2]);
        // [3, B, heads, N, width of a head]
        let qkv = self.qkv.forward(x)?.f_view([b, n, 3, self.heads, width / self.heads])?.f_permute([2, 0, 3, 1, 4])?;
        let part = |i: i64| qkv.f_select(0, i);
        // Fused: no kernel of it keeps the weights of all pairs, and all sum the softmax in f32.
        let none = None::<&Tensor>;
        let mixed =
            Tensor::f_scaled_dot_product_attention(&part(0)?, &part(1)?, &part(2)?, none, 0.0, false, None, false)?;
        self.proj.forward(&mixed.f_transpose(1, 2)?.f_reshape([b, n, width])?)
    }
}

/// Fixed positions of an `h` x `w` grid, `[h w, width]`, f32: sine and cosine of the row in the first half of the channels,
/// of the column in the second, at frequencies 10000^(-4k/width). They depend on no image size, so any grid has them.
pub(super) fn positions(h: i64, w: i64, width: i64, device: tch::Device) -> Result<Tensor> {
    let quarter = width / 4;
    let options = (Kind::Float, device);
    let rates = Tensor::f_arange(quarter, options)?.f_mul_scalar(-(1e4f64.ln()) / quarter as f64)?.f_exp()?;
    let half = |count: i64| -> Result<Tensor> {
        let angles = Tensor::f_arange(count, options)?.f_outer(&rates)?;
        Ok(Tensor::f_cat(&[angles.f_sin()?, angles.f_cos()?], 1)?)
    };
    let rows = half(h)?.f_unsqueeze(1)?.f_expand([h, w, 2 * quarter], false)?;
    let columns = half(w)?.f_unsqueeze(0)?.f_expand([h, w, 2 * quarter], false)?;
    Ok(Tensor::f_cat(&[rows, columns], 2)?.f_view([h * w, width])?)
}
