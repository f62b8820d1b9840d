//! A frozen text model in tch: weights and tokenizer from a model folder, padded batches by length, pooled means.
//!
//! Every use is one operation: inputs go in with, for each position, the sums that its state joins; means come
//! out. A unit, a word inside a sentence and a sentence cut into windows differ only in that list, so batching,
//! padding and precision are handled once, and a family is a forward pass and the positions that stand for a whole text.

mod bert;
mod blocks;
mod clip;
mod fields;
mod reader;
mod sequence;
#[cfg(test)]
mod tests;
mod tokens;

use std::collections::HashMap;
use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::{EncodeError, Result, UnitEncoder};

use bert::BertConfig;
use blocks::Sizes;
use clip::ClipConfig;
use fields::Fields;
pub(crate) use sequence::{Sequence, Special, Target};
pub(crate) use tokens::Tokens;

use sequence::{batches, sequences};
use tokens::TokenReader;

/// What a model is, by the model_type of its `config.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Family {
    /// `bert` (MiniLM, BGE, ...): a text is the mean of the states of its tokens, the special ones included.
    Bert,
    /// `clip_text_model`, or the text part of `clip`: a text is the state at its end token, projected where the file has
    /// `text_projection.weight`. A state sees only what stands before it.
    Clip,
}

/// Kind of the matrix products. Norms, residuals, softmax and pooling are always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// bfloat16: for CUDA; vectors agree with f32 to about two digits.
    Bf16,
}

/// What [`TextModel::load_with`] lets a caller choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelOptions {
    /// Scale every pooled vector to length 1, as the published all-MiniLM-L6-v2 does after its mean pooling
    /// (its `modules.json` ends in `Normalize`), and CLIP before it compares. Default true.
    pub normalize: bool,
    /// Kind of the matrix products.
    pub precision: Precision,
    /// Tokens, padding included, of one batch; `None` picks 384 on the CPU, where the widest states of a
    /// MiniLM then stay near the second-level cache, and 65536 on a GPU.
    pub token_budget: Option<usize>,
}

impl Default for ModelOptions {
    fn default() -> Self {
        Self { normalize: true, precision: Precision::F32, token_budget: None }
    }
}

/// A frozen text model: BERT or the text tower of CLIP ([`Family`]).
#[derive(Debug)]
pub struct TextModel {
    pass: Pass,
    tokens: TokenReader,
    device: Device,
    options: ModelOptions,
    identity: String,
}

/// The forward pass of a family.
#[derive(Debug)]
enum Pass {
    Bert(bert::Forward),
    Clip(clip::Forward),
}

enum Config {
    Bert(BertConfig),
    Clip(ClipConfig),
}

impl Config {
    fn load(path: &Path) -> Result<Self> {
        let fields = Fields::load(path)?;
        match fields.word("model_type", &["bert", "clip", "clip_text_model"], None)? {
            "bert" => Ok(Self::Bert(BertConfig::read(&fields)?)),
            "clip" => Ok(Self::Clip(ClipConfig::read(&fields.inner("text_config", "text_config.")?)?)),
            _ => Ok(Self::Clip(ClipConfig::read(&fields)?)),
        }
    }

    fn vocab_size(&self) -> i64 {
        match self {
            Self::Bert(config) => config.sizes.vocab_size,
            Self::Clip(config) => config.sizes.vocab_size,
        }
    }
}

impl Pass {
    fn sizes(&self) -> &Sizes {
        match self {
            Self::Bert(pass) => &pass.config.sizes,
            Self::Clip(pass) => &pass.config.sizes,
        }
    }
}

impl TextModel {
    /// Loads `config.json`, `tokenizer.json` and `model.safetensors` of a folder, with the default options.
    ///
    /// # Errors
    /// Names the file and the field, or all tensors that are missing or misshapen.
    pub fn load(dir: &Path, device: Device) -> Result<Self> {
        Self::load_with(dir, device, ModelOptions::default())
    }

    /// Like [`TextModel::load`], with options.
    pub fn load_with(dir: &Path, device: Device, options: ModelOptions) -> Result<Self> {
        let files = ["config.json", "tokenizer.json", "model.safetensors"].map(|name| dir.join(name));
        let config = Config::load(&files[0])?;
        let tokens = TokenReader::load(&files[1], config.vocab_size())?;
        let kind = match options.precision {
            Precision::F32 => Kind::Float,
            Precision::Bf16 => Kind::BFloat16,
        };
        let pass = tch::no_grad(|| -> Result<Pass> {
            Ok(match config {
                Config::Bert(config) => Pass::Bert(bert::Forward::load(&files[2], config, kind, device)?),
                Config::Clip(config) => {
                    tokens.check_end(&files[0], config.eos_token_id)?;
                    Pass::Clip(clip::Forward::load(&files[2], config, kind, device)?)
                }
            })
        })?;
        let mut hash = blake3::Hasher::new();
        for path in &files {
            let file = std::fs::File::open(path).map_err(|e| EncodeError::io(path, e))?;
            let length = file.metadata().map_err(|e| EncodeError::io(path, e))?.len();
            hash.update(&length.to_le_bytes());
            hash.update_reader(file).map_err(|e| EncodeError::io(path, e))?;
        }
        let (family, pooling) = match pass {
            Pass::Bert(_) => ("bert", "mean"),
            Pass::Clip(_) => ("clip", "end"),
        };
        let length = if options.normalize { "normalized" } else { "raw" };
        let identity = format!("{family} {} {pooling} {length} {:?}", hash.finalize().to_hex(), options.precision);
        Ok(Self { pass, tokens, device, options, identity })
    }

    /// What the model is.
    pub fn family(&self) -> Family {
        match self.pass {
            Pass::Bert(_) => Family::Bert,
            Pass::Clip(_) => Family::Clip,
        }
    }

    /// The longest input, in tokens, the special ones included. What is longer is seen in overlapping windows.
    pub fn positions(&self) -> usize {
        // A checked config has at least 4.
        self.pass.sizes().max_position_embeddings as usize
    }

    /// Names the model's files by their content, and the options that change its vectors. Two encoders of one
    /// identity give the same vectors.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Token ids of a text as the model sees it, special tokens included; of all windows when it is too long for one.
    pub fn token_ids(&self, text: &str) -> Result<Vec<Vec<i64>>> {
        let tokens = self.tokenize(&[text])?;
        Ok(tokens.iter().flat_map(|t| self.sequences(t, &[])).map(|s| s.ids).collect())
    }

    /// What stands for a whole text.
    pub(crate) fn whole(&self, index: usize, tokens: &Tokens) -> Target {
        match self.pass {
            Pass::Bert(_) => Target { index, tokens: 0..tokens.ids.len(), special: Special::Frame },
            Pass::Clip(_) => Target { index, tokens: 0..0, special: Special::End },
        }
    }

    /// Width of the states.
    fn width(&self) -> i64 {
        self.pass.sizes().hidden_size
    }

    pub(crate) fn tokenize(&self, texts: &[&str]) -> Result<Vec<Tokens>> {
        self.tokens.read(texts)
    }

    pub(crate) fn sequences(&self, tokens: &Tokens, targets: &[Target]) -> Vec<Sequence> {
        sequences(tokens, targets, self.tokens.first, self.tokens.last, self.positions())
    }

    /// `[targets, D]` f32 on the CPU: for each target the mean of the states that join it, scaled to length 1
    /// where the options say so. A target that nothing joins is a row of zeros.
    pub(crate) fn pool(&self, sequences: &[Sequence], targets: usize) -> Result<Tensor> {
        tch::no_grad(|| self.pool_frozen(sequences, targets))
    }

    fn pool_frozen(&self, sequences: &[Sequence], targets: usize) -> Result<Tensor> {
        let f32s = (Kind::Float, self.device);
        let mut sums = Tensor::f_zeros([targets as i64, self.width()], f32s)?;
        let mut counts = vec![0f32; targets];
        let lengths: Vec<usize> = sequences.iter().map(|s| s.ids.len()).collect();
        for batch in batches(&lengths, self.token_budget()) {
            let batch: Vec<&Sequence> = batch.into_iter().map(|i| &sequences[i]).collect();
            let width = batch.iter().map(|s| s.ids.len()).max().unwrap_or(0);
            let states = self.batch_states(&batch, width)?.f_view([-1, self.width()])?;
            let (mut from, mut to) = (Vec::new(), Vec::new());
            for (row, sequence) in batch.iter().enumerate() {
                for &(position, target) in &sequence.takes {
                    from.push((row * width + position) as i64);
                    to.push(target as i64);
                    counts[target] += 1.0;
                }
            }
            let from = Tensor::f_from_slice(&from)?.f_to_device(self.device)?;
            let to = Tensor::f_from_slice(&to)?.f_to_device(self.device)?;
            let _ = sums.f_index_add_(0, &to, &states.f_index_select(0, &from)?)?;
        }
        let counts = Tensor::f_from_slice(&counts)?.f_clamp_min(1.0)?.f_unsqueeze(1)?.f_to_device(self.device)?;
        let mut means = sums.f_div(&counts)?;
        if let Pass::Clip(clip::Forward { projection: Some(projection), .. }) = &self.pass {
            means = means.f_linear(projection, None::<&Tensor>)?;
        }
        let means = means.f_to_device(Device::Cpu)?;
        if self.options.normalize { unit_length(&means) } else { Ok(means) }
    }

    // [B, width, D]. The token under the padding does not matter: nothing reads its state, nothing attends to it.
    fn batch_states(&self, batch: &[&Sequence], width: usize) -> Result<Tensor> {
        let (b, t) = (batch.len(), width);
        let mut ids = vec![0i64; b * t];
        let mut real = vec![false; b * t];
        for (row, sequence) in batch.iter().enumerate() {
            let n = sequence.ids.len();
            ids[row * t..row * t + n].copy_from_slice(&sequence.ids);
            real[row * t..row * t + n].fill(true);
        }
        let padded = real.contains(&false) && matches!(self.pass, Pass::Bert(_));
        let shape = [b as i64, t as i64];
        let ids = Tensor::f_from_slice(&ids)?.f_view(shape)?.f_to_device(self.device)?;
        let mask = if padded {
            Some(Tensor::f_from_slice(&real)?.f_view([shape[0], 1, 1, shape[1]])?.f_to_device(self.device)?)
        } else {
            None
        };
        match &self.pass {
            Pass::Bert(pass) => pass.states(&ids, mask.as_ref()),
            Pass::Clip(pass) => pass.states(&ids),
        }
    }

    fn token_budget(&self) -> usize {
        let default = if self.device == Device::Cpu { 384 } else { 65536 };
        self.options.token_budget.unwrap_or(default)
    }
}

/// Rows of a `[n, D]` tensor scaled to length 1; a row of zeros stays one.
pub(crate) fn unit_length(rows: &Tensor) -> Result<Tensor> {
    let length = rows.f_linalg_norm(2, [-1i64].as_slice(), true, Kind::Float)?.f_clamp_min(1e-12)?;
    Ok(rows.f_div(&length)?)
}

impl UnitEncoder for TextModel {
    fn dim(&self) -> i64 {
        match &self.pass {
            Pass::Clip(clip::Forward { projection: Some(projection), .. }) => projection.size()[0],
            _ => self.width(),
        }
    }

    /// What stands for a whole text of the [`Family`]. Equal units are encoded once. A unit longer than the model's
    /// positions is seen in overlapping windows, none of it is cut off: the states are those of the windows, and the end
    /// tokens of all windows have equal parts. A BERT unit without tokens is the mean of the two special ones.
    fn encode(&self, units: &[&str]) -> Result<Tensor> {
        let mut distinct: Vec<&str> = Vec::new();
        let mut seen: HashMap<&str, i64> = HashMap::new();
        let rows: Vec<i64> = units
            .iter()
            .map(|unit| {
                *seen.entry(unit).or_insert_with(|| {
                    distinct.push(unit);
                    distinct.len() as i64 - 1
                })
            })
            .collect();
        let mut all = Vec::with_capacity(distinct.len());
        for (index, tokens) in self.tokenize(&distinct)?.iter().enumerate() {
            all.extend(self.sequences(tokens, &[self.whole(index, tokens)]));
        }
        let vectors = self.pool(&all, distinct.len())?;
        Ok(vectors.f_index_select(0, &Tensor::f_from_slice(&rows)?)?)
    }
}
