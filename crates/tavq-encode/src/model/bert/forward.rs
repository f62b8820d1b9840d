//! The forward pass on padded batches, and its tensors.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::BertConfig;
use crate::Result;
use crate::model::blocks::{Layer, Names, attention};
use crate::model::reader::{Norm, Reader};

/// Which part of the pass a test breaks, to show that the parity tests would notice.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::model) enum Broken {
    TanhGelu,
    NoMask,
    NoTokenType,
}

const NAMES: Names = Names {
    qkv: ["attention.self.query", "attention.self.key", "attention.self.value"],
    attention_out: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    inner: "intermediate.dense",
    outer: "output.dense",
    outer_norm: "output.LayerNorm",
};

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
        let d = config.sizes.hidden_size;
        let words = reader.tensor("embeddings.word_embeddings.weight", &[config.sizes.vocab_size, d])?;
        let positions =
            reader.tensor("embeddings.position_embeddings.weight", &[config.sizes.max_position_embeddings, d])?;
        let token_types = reader.tensor("embeddings.token_type_embeddings.weight", &[config.type_vocab_size, d])?;
        let token_type = token_types.f_narrow(0, 0, token_types.size()[0].min(1))?;
        let norm = reader.norm("embeddings.LayerNorm", d)?;
        let layers = Layer::load_all(&mut reader, "encoder.layer.", &NAMES, &config.sizes)?;
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
        let (epsilon, heads) = (self.config.sizes.layer_norm_eps, self.config.sizes.num_attention_heads);
        // Sums and activations are written over the product just made: less memory, and it is still in the cache.
        let mut x =
            Tensor::f_embedding(&self.words, ids, -1, false, false)?.f_add_(&self.positions.f_narrow(0, 0, t)?)?;
        if self.uses_token_type() {
            x = x.f_add_(&self.token_type)?;
        }
        let mut x = self.norm.apply(&x, epsilon)?;
        let mask = if self.uses_mask() { mask } else { None };
        for layer in &self.layers {
            let attended = attention(&layer.qkv.apply(&x)?, heads, mask, false)?;
            x = layer.attention_norm.apply(&x.f_add_(&layer.attention_out.apply(&attended)?)?, epsilon)?;
            let inner = layer.inner.apply(&x)?.f_gelu_(self.gelu())?;
            x = layer.outer_norm.apply(&x.f_add_(&layer.outer.apply(&inner)?)?, epsilon)?;
        }
        Ok(x)
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
