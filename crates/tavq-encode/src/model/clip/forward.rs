//! The forward pass on padded batches, and its tensors.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::ClipConfig;
use super::config::Activation;
use crate::Result;
use crate::model::blocks::{Layer, Names, attention};
use crate::model::reader::{Norm, Reader};

/// Which part of the pass a test breaks, to show that the parity tests would notice.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::model) enum Broken {
    NotCausal,
    OtherGelu,
    NoFinalNorm,
}

const NAMES: Names = Names {
    qkv: ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    attention_out: "self_attn.out_proj",
    attention_norm: "layer_norm1",
    inner: "mlp.fc1",
    outer: "mlp.fc2",
    outer_norm: "layer_norm2",
};

/// The pass with everything that stays the same between batches; kinds as in BERT's.
#[derive(Debug)]
pub(in crate::model) struct Forward {
    pub(in crate::model) config: ClipConfig,
    words: Tensor,
    positions: Tensor,
    layers: Vec<Layer>,
    norm: Norm,
    /// `[P, D]`, where the file has one.
    pub(in crate::model) projection: Option<Tensor>,
    #[cfg(test)]
    pub(in crate::model) broken: Option<Broken>,
}

impl Forward {
    /// Reads the tensors of `config` from a safetensors file; those of the vision tower are ignored.
    pub(in crate::model) fn load(path: &Path, config: ClipConfig, kind: Kind, device: Device) -> Result<Self> {
        let mut reader = Reader::open(path, ("text_model.", "embeddings.token_embedding.weight"), kind, device)?;
        let d = config.sizes.hidden_size;
        let words = reader.tensor("embeddings.token_embedding.weight", &[config.sizes.vocab_size, d])?;
        let positions =
            reader.tensor("embeddings.position_embedding.weight", &[config.sizes.max_position_embeddings, d])?;
        let layers = Layer::load_all(&mut reader, "encoder.layers.", &NAMES, &config.sizes)?;
        let norm = reader.norm("final_layer_norm", d)?;
        let projection = reader.bare("text_projection.weight", d)?;
        reader.finish(path)?;
        Ok(Self {
            config,
            words,
            positions,
            layers,
            norm,
            projection,
            #[cfg(test)]
            broken: None,
        })
    }

    /// States `[B, T, D]` f32 of `ids` `[B, T]` i64, after the last norm. A state sees those before it alone, so that padding
    /// behind a text needs no mask. T is at most the number of positions, every id below the vocabulary size.
    pub(in crate::model) fn states(&self, ids: &Tensor) -> Result<Tensor> {
        let (_, t) = ids.size2()?;
        let (epsilon, heads) = (self.config.sizes.layer_norm_eps, self.config.sizes.num_attention_heads);
        let words = Tensor::f_embedding(&self.words, ids, -1, false, false)?;
        let mut x = words.f_add(&self.positions.f_narrow(0, 0, t)?)?;
        for layer in &self.layers {
            let qkv = layer.qkv.apply(&layer.attention_norm.apply(&x, epsilon)?)?;
            let attended = attention(&qkv, heads, None, self.is_causal())?;
            x = x.f_add_(&layer.attention_out.apply(&attended)?)?;
            let inner = self.activate(&layer.inner.apply(&layer.outer_norm.apply(&x, epsilon)?)?)?;
            x = x.f_add_(&layer.outer.apply(&inner)?)?;
        }
        if self.ends_in_norm() { self.norm.apply(&x, epsilon) } else { Ok(x) }
    }

    fn activate(&self, x: &Tensor) -> Result<Tensor> {
        match self.activation() {
            Activation::QuickGelu => Ok(x.f_mul(&x.f_mul_scalar(1.702)?.f_sigmoid_()?)?),
            Activation::Gelu => Ok(x.f_gelu("none")?),
        }
    }

    #[cfg(not(test))]
    fn is_causal(&self) -> bool {
        true
    }
    #[cfg(not(test))]
    fn ends_in_norm(&self) -> bool {
        true
    }
    #[cfg(not(test))]
    fn activation(&self) -> Activation {
        self.config.activation
    }

    #[cfg(test)]
    fn is_causal(&self) -> bool {
        self.broken != Some(Broken::NotCausal)
    }
    #[cfg(test)]
    fn ends_in_norm(&self) -> bool {
        self.broken != Some(Broken::NoFinalNorm)
    }
    #[cfg(test)]
    fn activation(&self) -> Activation {
        match (self.config.activation, self.broken) {
            (Activation::QuickGelu, Some(Broken::OtherGelu)) => Activation::Gelu,
            (Activation::Gelu, Some(Broken::OtherGelu)) => Activation::QuickGelu,
            (activation, _) => activation,
        }
    }
}
