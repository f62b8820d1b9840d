//! The forward pass on padded batches, and its tensors.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::BertConfig;
use crate::Result;
use crate::model::reader::{Linear, Norm, Reader};

/// Which part of the pass a test breaks, to show that the parity tests would notice.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::model) enum Broken {
    TanhGelu,
    NoMask,
    NoTokenType,
}

/// One transformer layer.
#[derive(Debug)]
struct Layer {
    qkv: Linear,
    attention_out: Linear,
    attention_norm: Norm,
    inner: Linear,
    outer: Linear,
    outer_norm: Norm,
}

/// The pass with everything that stays the same between batches. Norms, residuals and the softmax inside attention are
/// f32, matrix products in the kind of the matrices.
#[derive(Debug)]
pub(in crate::model) struct Forward {
    pub(in crate::model) config: BertConfig,
    words: Tensor,
    positions: Tensor,
    token_type: Tensor,
    norm: Norm,
    layers: Vec<Layer>,
    #[cfg(test)]
    pub(in crate::model) broken: Option<Broken>,
}

impl Forward {
    /// Reads the tensors of `config` from a safetensors file, with or without the prefix `bert.`; matrices become `kind`.
    /// Tensors that the encoder does not use (pooler, heads) are ignored.
    pub(in crate::model) fn load(path: &Path, config: BertConfig, kind: Kind, device: Device) -> Result<Self> {
        let mut reader = Reader::open(path, ("bert.", "embeddings.word_embeddings.weight"), kind, device)?;
        let d = config.hidden_size;
        let words = reader.tensor("embeddings.word_embeddings.weight", &[config.vocab_size, d])?;
        let positions = reader.tensor("embeddings.position_embeddings.weight", &[config.max_position_embeddings, d])?;
        let token_types = reader.tensor("embeddings.token_type_embeddings.weight", &[config.type_vocab_size, d])?;
        let token_type = token_types.f_narrow(0, 0, token_types.size()[0].min(1))?;
        let norm = reader.norm("embeddings.LayerNorm", d)?;
        let layers = (0..config.num_hidden_layers).map(|i| layer(&mut reader, i, &config)).collect::<Result<_>>()?;
        reader.finish(path)?;
        Ok(Self {
            config,
            words,
            positions,
            token_type,
            norm,
            layers,
            #[cfg(test)]
            broken: None,
        })
    }

    /// States `[B, T, D]` f32 of `ids` `[B, T]` i64. `mask` `[B, 1, 1, T]` bool is false at padding; without
    /// it there is none. T is at most the number of positions, every id below the vocabulary size.
    pub(in crate::model) fn states(&self, ids: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let (_, t) = ids.size2()?;
        let epsilon = self.config.layer_norm_eps;
        // Sums and activations are written over the product just made: less memory, and it is still in the cache.
        let mut x =
            Tensor::f_embedding(&self.words, ids, -1, false, false)?.f_add_(&self.positions.f_narrow(0, 0, t)?)?;
        if self.uses_token_type() {
            x = x.f_add_(&self.token_type)?;
        }
        let mut x = self.norm.apply(&x, epsilon)?;
        let mask = if self.uses_mask() { mask } else { None };
        for layer in &self.layers {
            let attended = self.attention(&layer.qkv.apply(&x)?, mask)?;
            x = layer.attention_norm.apply(&x.f_add_(&layer.attention_out.apply(&attended)?)?, epsilon)?;
            let inner = layer.inner.apply(&x)?.f_gelu_(self.gelu())?;
            x = layer.outer_norm.apply(&x.f_add_(&layer.outer.apply(&inner)?)?, epsilon)?;
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

fn layer(reader: &mut Reader, i: i64, config: &BertConfig) -> Result<Layer> {
    let (d, inner) = (config.hidden_size, config.intermediate_size);
    let at = format!("encoder.layer.{i}.");
    let qkv = ["query", "key", "value"].map(|name| format!("{at}attention.self.{name}"));
    Ok(Layer {
        qkv: reader.joined(&qkv, d, d)?,
        attention_out: reader.linear(&format!("{at}attention.output.dense"), d, d)?,
        attention_norm: reader.norm(&format!("{at}attention.output.LayerNorm"), d)?,
        inner: reader.linear(&format!("{at}intermediate.dense"), inner, d)?,
        outer: reader.linear(&format!("{at}output.dense"), d, inner)?,
        outer_norm: reader.norm(&format!("{at}output.LayerNorm"), d)?,
    })
}
