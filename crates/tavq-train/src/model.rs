//! A model as the trainer sees it: one variable store, a backbone, quantizers and one alignment per
//! level, all behind traits.
//!
//! Every part is initialised under a seed of its own, so adding or leaving out one part changes no
//! other part's first weights.

use tavq_align::LevelAlignment;
use tavq_encode::Granularity;
use tavq_quant::{Backbone, LevelShape, QuantError, Quantized, Quantizer};
use tavq_torch::{check_shape, seed_from};
use tch::nn::VarStore;
use tch::{Device, Tensor};

use crate::config::{Config, Gradient, device};
use crate::registry::Registry;
use crate::{Result, TrainError};

/// What one pass gives: per used level a latent and its quantised form, and the reconstruction.
#[derive(Debug)]
pub struct Forward {
    /// `[B, D, h, w]` per level, fine to coarse.
    pub latents: Vec<Tensor>,
    /// The same, quantised.
    pub quantized: Vec<Quantized>,
    /// `[B, 3, H, W]`, not clamped.
    pub reconstruction: Tensor,
}

/// Backbone, quantizers and alignment maps over one store.
pub struct Model {
    store: VarStore,
    backbone: Box<dyn Backbone>,
    quantizers: Vec<Box<dyn Quantizer>>,
    alignments: Vec<LevelAlignment>,
    levels: Vec<LevelShape>,
}

impl Model {
    /// Builds what `config` names. `text_dim`: width of the text vectors; without it there are no alignment maps.
    pub fn new(config: &Config, registry: &Registry, text_dim: Option<i64>) -> Result<Self> {
        let device = device(&config.run.device).unwrap_or(Device::Cpu);
        if device.is_cuda() && !tch::Cuda::is_available() {
            return Err(TrainError::Config {
                origin: "configuration".into(),
                path: "run.device".into(),
                message: format!("found \"{}\", but this libtorch sees no CUDA device", config.run.device),
            });
        }
        let store = VarStore::new(device);
        let root = store.root();
        let seed = |part: &str, n: usize| tch::manual_seed(seed_from(config.run.seed, part, n as u64, 0));
        seed("backbone", 0);
        let backbone = registry.build_backbone(&root, &config.model.backbone)?;
        let mut levels = backbone.levels().to_vec();
        if !config.model.side_levels {
            levels.drain(..levels.len().saturating_sub(1));
        }
        let shared = config.model.shared_codebook;
        let mut quantizers = Vec::new();
        // The decoded level's codebook is `quantize` in every layout, as in published checkpoints.
        for (i, level) in levels.iter().enumerate().rev() {
            let last = i + 1 == levels.len();
            if shared && !last {
                check_width(&levels, level)?;
                continue;
            }
            seed("quantizer", levels.len() - 1 - i);
            let path = if last { root.sub("quantize") } else { root.sub("side_quantize").sub(i) };
            quantizers.insert(0, registry.build_quantizer(&path, &config.model.quantizer, level.channels)?);
        }
        let mut alignments = Vec::new();
        if let Some(text_dim) = text_dim {
            for (i, level) in levels.iter().enumerate() {
                seed("align", i);
                let path = root.sub("align").sub(i);
                alignments.push(LevelAlignment::new(&path, level.channels, text_dim, &config.align)?);
            }
        }
        Ok(Self { store, backbone, quantizers, alignments, levels })
    }

    /// The variables.
    pub fn store(&self) -> &VarStore {
        &self.store
    }

    /// Where the model lives.
    pub fn device(&self) -> Device {
        self.store.device()
    }

    /// The levels in use, fine to coarse.
    pub fn levels(&self) -> &[LevelShape] {
        &self.levels
    }

    /// The text granularity that level `i` is aligned with: the coarsest level with sentences, and so on down.
    pub fn granularity(&self, i: usize) -> Granularity {
        let from_end = self.levels.len() - 1 - i;
        Granularity::ALL[Granularity::ALL.len().saturating_sub(1 + from_end)]
    }

    /// The alignment of each level; empty without text.
    pub fn alignments(&self) -> &[LevelAlignment] {
        &self.alignments
    }

    fn quantizer_at(&self, level: usize) -> usize {
        if self.quantizers.len() == 1 { 0 } else { level }
    }

    /// The codebook of a level.
    pub fn quantizer(&self, level: usize) -> &dyn Quantizer {
        self.quantizers[self.quantizer_at(level)].as_ref()
    }

    /// Encodes and quantizes every used level. Levels that are not in use keep their latents where codes would be.
    pub fn encode(&self, images: &Tensor, train: bool) -> Result<(Vec<Tensor>, Vec<Quantized>)> {
        check_shape("images", images, &[-1, 3, -1, -1])?;
        let all = self.backbone.levels().len();
        let unused = all.saturating_sub(self.levels.len());
        let (mut next, mut quantized) = (0, Vec::with_capacity(self.levels.len()));
        let mut latents = self.backbone.encode_through(images, train, &mut |level, latent| {
            if level != next || next == all {
                let due = if next < all { format!("level {next}") } else { "no further level".to_owned() };
                return Err(wrong_levels(&format!("{due} at the quantizer"), &format!("level {level}")));
            }
            next += 1;
            let Some(used) = level.checked_sub(unused) else { return Ok(latent.shallow_clone()) };
            let q = self.quantizer(used).quantize(latent, train)?;
            let codes = q.latent.shallow_clone();
            quantized.push(q);
            Ok(codes)
        })?;
        if (next, latents.len()) != (all, all) {
            let found = format!("{next} and {}", latents.len());
            return Err(wrong_levels(&format!("{all} levels at the quantizer and {all} latents"), &found).into());
        }
        latents.drain(..unused);
        Ok((latents, quantized))
    }

    /// One whole pass.
    pub fn forward(&self, images: &Tensor, train: bool) -> Result<Forward> {
        let (latents, quantized) = self.encode(images, train)?;
        let Some(last) = quantized.last() else {
            return Err(TrainError::Unknown {
                field: "model.backbone".into(),
                found: "no level".into(),
                known: "at least one level".into(),
            });
        };
        let reconstruction = self.backbone.decode(&last.latent, train)?;
        check_shape("reconstruction", &reconstruction, &images.size())?;
        Ok(Forward { latents, quantized, reconstruction })
    }

    /// The pictures that codes of the decoded level stand for: indices `[B, h, w]`, or `[B, h, w, depth]` of several a cell, to
    /// `[B, 3, H, W]`, not clamped.
    pub fn decode_codes(&self, indices: &Tensor) -> Result<Tensor> {
        let codes = self.quantizer(self.levels.len().saturating_sub(1)).lookup(indices)?;
        Ok(self.backbone.decode(&codes.f_permute([0, 3, 1, 2])?, false)?)
    }

    /// The codes of a level as the alignment sees them, `[B, D, h, w]`, with the gradient that `gradient` asks for.
    pub fn codes(&self, pass: &Forward, level: usize, gradient: Gradient) -> Result<Tensor> {
        let q = &pass.quantized[level];
        let rows = || -> Result<Tensor> { Ok(self.quantizer(level).lookup(&q.indices)?.permute([0, 3, 1, 2])) };
        Ok(match gradient {
            Gradient::Map => q.latent.detach(),
            Gradient::Encoder => q.latent.shallow_clone(),
            Gradient::Codebook => rows()?,
            // The difference is exactly zero: the codes keep their values, and the encoder the quantizer's own gradient.
            Gradient::Both => rows()? + (&q.latent - q.latent.detach()),
        })
    }

    /// Lets codebooks learn from the batch's statistics. `sum` adds tensors up over ranks.
    pub fn update_codebooks(
        &mut self,
        pass: &Forward,
        step: u64,
        sum: &dyn Fn(&mut [Tensor]) -> Result<()>,
    ) -> Result<()> {
        let levels = self.levels.len();
        let shared = self.quantizers.len() == 1;
        for (slot, quantizer) in self.quantizers.iter_mut().enumerate() {
            let Some(update) = quantizer.batch_update() else { continue };
            let mine = if shared { 0..levels } else { slot..slot + 1 };
            let mut total: Vec<Tensor> = Vec::new();
            for level in mine {
                let part = update.collect(&pass.latents[level].detach(), &pass.quantized[level])?;
                if total.is_empty() {
                    total = part;
                } else {
                    for (t, p) in total.iter_mut().zip(part) {
                        let _ = t.g_add_(&p);
                    }
                }
            }
            sum(&mut total)?;
            update.apply(&total, step)?;
        }
        Ok(())
    }
}

fn wrong_levels(expected: &str, found: &str) -> QuantError {
    QuantError::Levels { expected: expected.to_owned(), found: found.to_owned() }
}

fn check_width(levels: &[LevelShape], level: &LevelShape) -> Result<()> {
    let last = levels[levels.len() - 1];
    if level.channels == last.channels {
        return Ok(());
    }
    Err(TrainError::Config {
        origin: "configuration".into(),
        path: "model.shared_codebook".into(),
        message: format!(
            "expected levels of one width, found {} and {}; set it to false",
            level.channels, last.channels
        ),
    })
}
