//! The tensors of a BERT encoder, looked up by name; all that do not fit are listed in one error.

use std::path::Path;

use tavq_torch::{FileError, TensorFile};
use tch::{Device, Kind, Tensor};

use super::BertConfig;
use crate::Result;

/// A matrix and its bias.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
}

/// Scale and shift of a layer norm, always f32.
#[derive(Debug)]
pub(super) struct Norm {
    pub(super) scale: Tensor,
    pub(super) shift: Tensor,
}

/// One transformer layer. Query, key and value are one matrix: one large product instead of three.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) qkv: Linear,
    pub(super) attention_out: Linear,
    pub(super) attention_norm: Norm,
    pub(super) inner: Linear,
    pub(super) outer: Linear,
    pub(super) outer_norm: Norm,
}

/// All tensors that the forward pass reads.
#[derive(Debug)]
pub(super) struct Weights {
    pub(super) words: Tensor,
    pub(super) positions: Tensor,
    pub(super) token_type: Tensor,
    pub(super) norm: Norm,
    pub(super) layers: Vec<Layer>,
}

impl Weights {
    /// Reads the tensors of `config` from a safetensors file, with or without the prefix `bert.`; matrices
    /// become `kind`, norms and embeddings stay f32. Tensors that the encoder does not use (pooler, heads) are ignored.
    pub(super) fn load(path: &Path, config: &BertConfig, kind: Kind, device: Device) -> Result<Self> {
        let file = TensorFile::open(path)?;
        let prefixed = file.shape("bert.embeddings.word_embeddings.weight").is_some();
        let mut reader =
            Reader { file: &file, prefix: if prefixed { "bert." } else { "" }, device, problems: Vec::new() };
        let weights = reader.weights(config, kind)?;
        if !reader.problems.is_empty() {
            return Err(FileError::Tensors { path: path.to_path_buf(), problems: reader.problems }.into());
        }
        Ok(weights)
    }
}

struct Reader<'f> {
    file: &'f TensorFile,
    prefix: &'f str,
    device: Device,
    problems: Vec<String>,
}

impl Reader<'_> {
    fn weights(&mut self, config: &BertConfig, kind: Kind) -> Result<Weights> {
        let d = config.hidden_size;
        let words = self.tensor("embeddings.word_embeddings.weight", &[config.vocab_size, d])?;
        let positions = self.tensor("embeddings.position_embeddings.weight", &[config.max_position_embeddings, d])?;
        let token_types = self.tensor("embeddings.token_type_embeddings.weight", &[config.type_vocab_size, d])?;
        let token_type = token_types.f_narrow(0, 0, token_types.size()[0].min(1))?;
        let norm = self.norm("embeddings.LayerNorm", d)?;
        let layers = (0..config.num_hidden_layers).map(|i| self.layer(i, config, kind)).collect::<Result<_>>()?;
        Ok(Weights { words, positions, token_type, norm, layers })
    }

    fn layer(&mut self, i: i64, config: &BertConfig, kind: Kind) -> Result<Layer> {
        let (d, inner) = (config.hidden_size, config.intermediate_size);
        let at = format!("encoder.layer.{i}.");
        let mut parts = Vec::with_capacity(3);
        for name in ["query", "key", "value"] {
            parts.push(self.linear(&format!("{at}attention.self.{name}"), d, d, kind)?);
        }
        let weight = Tensor::f_cat(&parts.iter().map(|p| &p.weight).collect::<Vec<_>>(), 0)?;
        let bias = Tensor::f_cat(&parts.iter().map(|p| &p.bias).collect::<Vec<_>>(), 0)?;
        Ok(Layer {
            qkv: Linear { weight, bias },
            attention_out: self.linear(&format!("{at}attention.output.dense"), d, d, kind)?,
            attention_norm: self.norm(&format!("{at}attention.output.LayerNorm"), d)?,
            inner: self.linear(&format!("{at}intermediate.dense"), inner, d, kind)?,
            outer: self.linear(&format!("{at}output.dense"), d, inner, kind)?,
            outer_norm: self.norm(&format!("{at}output.LayerNorm"), d)?,
        })
    }

    fn linear(&mut self, name: &str, out: i64, into: i64, kind: Kind) -> Result<Linear> {
        let weight = self.tensor(&format!("{name}.weight"), &[out, into])?.f_to_kind(kind)?;
        let bias = self.tensor(&format!("{name}.bias"), &[out])?.f_to_kind(kind)?;
        Ok(Linear { weight, bias })
    }

    fn norm(&mut self, name: &str, d: i64) -> Result<Norm> {
        // The first BERT checkpoints call scale and shift gamma and beta.
        let old = self.file.shape(&format!("{}{name}.gamma", self.prefix)).is_some();
        let (scale, shift) = if old { ("gamma", "beta") } else { ("weight", "bias") };
        let scale = self.tensor(&format!("{name}.{scale}"), &[d])?;
        Ok(Norm { scale, shift: self.tensor(&format!("{name}.{shift}"), &[d])? })
    }

    // A tensor that is missing or misshapen is noted and an empty one stands in, so that one pass finds them all
    // and a damaged config costs no memory.
    fn tensor(&mut self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let full = format!("{}{name}", self.prefix);
        match self.file.shape(&full) {
            Some(found) if found == shape => {
                return Ok(self.file.get(&full)?.f_to_kind(Kind::Float)?.f_to_device(self.device)?);
            }
            Some(found) => self.problems.push(format!("{full}: expected shape {shape:?}, found {found:?}")),
            None => self.problems.push(format!("{full}: missing")),
        }
        Ok(Tensor::f_zeros([0], (Kind::Float, self.device))?)
    }
}
