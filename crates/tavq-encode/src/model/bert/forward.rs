//! The forward pass (Devlin et al. 2019: post-LN, erf-GELU) on padded batches.

use tch::{Kind, Tensor};

use super::BertConfig;
use super::weights::{Linear, Norm, Weights};
use crate::Result;

/// Which part of the pass a test breaks, to show that the parity tests would notice.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    TanhGelu,
    NoMask,
    NoTokenType,
}

/// The pass with everything that stays the same between batches.
#[derive(Debug)]
pub(super) struct Forward {
    pub(super) weights: Weights,
    pub(super) config: BertConfig,
    /// Kind of the matrix products; norms, residuals and the softmax inside attention stay in f32.
    pub(super) kind: Kind,
    #[cfg(test)]
    pub(super) broken: Option<Broken>,
}

impl Forward {
    /// States `[B, T, D]` f32 of `ids` `[B, T]` i64. `mask` `[B, 1, 1, T]` bool is false at padding; without
    /// it there is none. T is at most the number of positions, every id below the vocabulary size.
    pub(super) fn states(&self, ids: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let (_, t) = ids.size2()?;
        let w = &self.weights;
        // Sums and activations are written over the product just made: less memory, and it is still in the cache.
        let mut x = Tensor::f_embedding(&w.words, ids, -1, false, false)?.f_add_(&w.positions.f_narrow(0, 0, t)?)?;
        if self.uses_token_type() {
            x = x.f_add_(&w.token_type)?;
        }
        let mut x = self.norm(&x, &w.norm)?;
        let mask = if self.uses_mask() { mask } else { None };
        for layer in &w.layers {
            let attended = self.attention(&self.linear(&x, &layer.qkv)?, mask)?;
            let out = self.linear(&attended, &layer.attention_out)?;
            x = self.norm(&x.f_add_(&out)?, &layer.attention_norm)?;
            let inner = self.linear(&x, &layer.inner)?.f_gelu_(self.gelu())?;
            let out = self.linear(&inner, &layer.outer)?;
            x = self.norm(&x.f_add_(&out)?, &layer.outer_norm)?;
        }
        Ok(x)
    }

    // [B, T, 3D] to [B, T, D].
    fn attention(&self, qkv: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let (b, t, _) = qkv.size3()?;
        let (d, heads) = (self.config.hidden_size, self.config.num_attention_heads);
        let parts = qkv.f_view([b, t, 3, heads, d / heads])?.f_permute([2, 0, 3, 1, 4])?;
        let (q, k, v) = (parts.f_select(0, 0)?, parts.f_select(0, 1)?, parts.f_select(0, 2)?);
        let out = Tensor::f_scaled_dot_product_attention(&q, &k, &v, mask, 0.0, false, None, false)?;
        Ok(out.f_transpose(1, 2)?.f_reshape([b, t, d])?)
    }

    fn linear(&self, x: &Tensor, l: &Linear) -> Result<Tensor> {
        Ok(x.f_to_kind(self.kind)?.f_linear(&l.weight, Some(&l.bias))?)
    }

    fn norm(&self, x: &Tensor, n: &Norm) -> Result<Tensor> {
        let width = [self.config.hidden_size];
        Ok(x.f_layer_norm(width, Some(&n.scale), Some(&n.shift), self.config.layer_norm_eps, true)?)
    }

    #[cfg(not(test))]
    fn uses_token_type(&self) -> bool {
        true
    }
    #[cfg(not(test))]
    fn uses_mask(&self) -> bool {
        true
    }
    #[cfg(not(test))]
    fn gelu(&self) -> &'static str {
        "none"
    }

    #[cfg(test)]
    fn uses_token_type(&self) -> bool {
        self.broken != Some(Broken::NoTokenType)
    }
    #[cfg(test)]
    fn uses_mask(&self) -> bool {
        self.broken != Some(Broken::NoMask)
    }
    #[cfg(test)]
    fn gelu(&self) -> &'static str {
        if self.broken == Some(Broken::TanhGelu) { "tanh" } else { "none" }
    }
}
