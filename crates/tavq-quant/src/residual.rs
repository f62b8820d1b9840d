//! Residual quantization (Zeghidour et al. 2021, "SoundStream", algorithm 1; Lee et al. 2022, RQ-VAE): each stage quantizes
//! what the stages before it left over, and the sum of their codes is the code of the cell.
//!
//! vector-quantize-pytorch gives the losses of the stages one by one; here they are added up. With a shared codebook it decays
//! averages once a stage; here the statistics of all stages enter one step of them.

use std::cell::RefCell;

use serde::{Deserialize, Serialize};
use tavq_torch::check_shape;
use tch::{Device, Kind, Tensor, nn};

use crate::config::{QuantizerConfig, check_range};
use crate::start::Start;
use crate::{BatchUpdate, QuantError, Quantized, Quantizer, Result};

/// Which stages pass the gradient of the sum to the encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StagePath {
    /// The first, so that straight-through is the gradient itself, as in audiocraft (see facebookresearch/encodec, issue 25).
    #[default]
    First,
    /// Each of them, as in vector-quantize-pytorch: straight-through multiplies the gradient by the number of stages.
    Every,
}

/// `kind = "residual"`: several stages of another kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResidualConfig {
    /// Number of stages, 2 to 64.
    pub depth: i64,
    /// One codebook for all stages, or one each.
    pub shared: bool,
    /// Chance that a training step uses only the first stages, 0 to 1; how many, is drawn uniformly from `dropout_from` to
    /// `depth`. vector-quantize-pytorch's switch is 1.
    pub dropout: f64,
    /// Fewest stages of such a step, 1 to `depth`: vector-quantize-pytorch's `quantize_dropout_cutoff_index` plus 1.
    pub dropout_from: i64,
    /// A stage sees its residual, and its loss is taken, in units of `scale` times those of the stage before; more than 0, at
    /// most 1. Codes that do not learn where the residuals are (`fsq`, `lfq`) want less than 1.
    pub scale: f64,
    /// Which stages pass the gradient of the sum to the encoder. Every stage's own loss reaches it in any case.
    pub path: StagePath,
    /// The stages; any kind but this one.
    pub quantizer: Box<QuantizerConfig>,
}

impl Default for ResidualConfig {
    fn default() -> Self {
        Self {
            depth: 4,
            shared: false,
            dropout: 0.0,
            dropout_from: 1,
            scale: 1.0,
            path: StagePath::First,
            quantizer: Box::new(QuantizerConfig::Vq(crate::VqConfig::default())),
        }
    }
}

impl ResidualConfig {
    /// Checks ranges, those of the stages too.
    pub fn check(&self) -> Result<()> {
        let whole = |field: &str, low: i64, high: i64, found: i64| {
            if (low..=high).contains(&found) {
                return Ok(());
            }
            Err(QuantError::config(&format!("quantizer.{field}"), &format!("{low} to {high}"), found))
        };
        whole("depth", 2, 64, self.depth)?;
        check_range("dropout", self.dropout, 0.0, 1.0)?;
        whole("dropout_from", 1, self.depth, self.dropout_from)?;
        if !(self.scale > 0.0 && self.scale <= 1.0) {
            return Err(QuantError::config("quantizer.scale", "more than 0, at most 1", self.scale));
        }
        if matches!(*self.quantizer, QuantizerConfig::Residual(_)) {
            return Err(QuantError::config("quantizer.quantizer.kind", "any kind but residual", "residual"));
        }
        if matches!(*self.quantizer, QuantizerConfig::Gumbel(_)) && self.path != StagePath::Every {
            // It learns through its codes alone, which stages behind the first do not pass on.
            return Err(QuantError::config("quantizer.path", "every with stages of gumbel", "first"));
        }
        let last = self.scale.powi(self.depth as i32 - 1);
        if last < LEAST_UNIT {
            let expected =
                format!("a last stage in units of at least {LEAST_UNIT:e} (scale to the power of depth - 1)");
            return Err(QuantError::config("quantizer.scale", &expected, format!("{last:e}")));
        }
        self.quantizer.check().map_err(of_stage)
    }
}

/// An error of a stage's configuration, at its place within this one.
fn of_stage(error: QuantError) -> QuantError {
    match error {
        QuantError::Config { field, expected, found } => {
            let field =
                field.strip_prefix("quantizer.").map_or_else(|| field.clone(), |f| format!("quantizer.quantizer.{f}"));
            QuantError::Config { field, expected, found }
        }
        other => other,
    }
}

/// Residuals in smaller units than this leave the range of f32.
const LEAST_UNIT: f64 = 1e-30;

/// The index of a stage that a training step left out.
const DROPPED: i64 = -1;

/// The stages. Variables: those of stage i under `stage.I`, of a shared codebook under `stage.0`; where stages start from the
/// first batch, `begun` `[1]`, not trainable: one stage starts a step, from what the stages before it leave once they started.
///
/// The loss is the sum of the stages' losses; a dropped stage has none. A sum of codes that is quantized again need not give
/// itself: its first stage may find a nearer code.
pub struct Residual {
    /// In cells, because a quantizer lends its statistics half to a `&mut` only and collecting has none.
    stages: Vec<RefCell<Box<dyn Quantizer>>>,
    config: ResidualConfig,
    begun: Option<Tensor>,
}

impl Residual {
    /// Stages for vectors of width `dim`.
    pub fn new(path: &nn::Path<'_>, config: &ResidualConfig, dim: i64) -> Result<Self> {
        config.check()?;
        let count = if config.shared { 1 } else { config.depth };
        let stages = (0..count)
            .map(|stage| Ok(RefCell::new(config.quantizer.build(&(path / "stage" / stage), dim).map_err(of_stage)?)))
            .collect::<Result<Vec<_>>>()?;
        let waits = config.quantizer.start() != Start::Uniform;
        let begun = waits.then(|| path.zeros_no_train("begun", &[1]));
        Ok(Self { stages, config: config.clone(), begun })
    }

    fn stage(&self, stage: i64) -> &RefCell<Box<dyn Quantizer>> {
        &self.stages[if self.config.shared { 0 } else { stage as usize }]
    }

    /// The unit that a stage measures in.
    fn unit(&self, stage: i64) -> f64 {
        self.config.scale.powi(stage as i32)
    }

    /// How many stages a pass uses.
    fn kept(&self, train: bool) -> Result<i64> {
        let ResidualConfig { depth, dropout, dropout_from: from, .. } = self.config;
        if !train || dropout == 0.0 {
            return Ok(depth);
        }
        let lots = Tensor::f_rand([2], (Kind::Double, Device::Cpu))?;
        let kept = from + (lots.f_double_value(&[1])? * (depth - from + 1) as f64) as i64;
        Ok(if lots.f_double_value(&[0])? < dropout { kept } else { depth })
    }

    /// The last stage that may learn.
    fn last_begun(&self) -> Result<i64> {
        match &self.begun {
            Some(begun) => Ok(begun.f_double_value(&[0])? as i64),
            None => Ok(self.config.depth - 1),
        }
    }

    /// Codes of one stage's indices `[...]`, `[..., D]`; zero where it was dropped.
    fn codes_of(&self, stage: i64, indices: &Tensor) -> Result<Tensor> {
        let dropped = indices.f_eq(DROPPED)?;
        let codes = self.stage(stage).borrow().lookup(&indices.f_masked_fill(&dropped, 0)?)?;
        Ok(codes.f_mul_scalar(self.unit(stage))?.f_masked_fill(&dropped.f_unsqueeze(-1)?, 0)?)
    }
}

impl Quantizer for Residual {
    fn codes(&self) -> i64 {
        self.stages[0].borrow().codes()
    }

    fn depth(&self) -> i64 {
        self.config.depth
    }

    fn quantize(&self, latent: &Tensor, train: bool) -> Result<Quantized> {
        let mut rest = latent.f_to_kind(Kind::Float)?;
        let kept = self.kept(train)?;
        let mut sum = Tensor::f_zeros_like(&rest)?;
        let mut loss = Tensor::f_zeros([0i64; 0], (Kind::Float, latent.device()))?;
        let mut indices = Vec::new();
        for stage in 0..kept {
            let unit = self.unit(stage);
            let found = self.stage(stage).borrow().quantize(&rest.f_div_scalar(unit)?, train)?;
            let codes = found.latent.f_mul_scalar(unit)?;
            rest = rest.f_sub(&codes.detach())?;
            let passes = stage == 0 || self.config.path == StagePath::Every;
            sum = sum.f_add(&if passes { codes } else { codes.detach() })?;
            loss = loss.f_add(&found.loss)?;
            indices.push(found.indices);
        }
        while (indices.len() as i64) < self.config.depth {
            indices.push(indices[0].f_full_like(DROPPED)?);
        }
        Ok(Quantized { latent: sum.f_to_kind(latent.kind())?, indices: Tensor::f_stack(&indices, -1)?, loss })
    }

    fn lookup(&self, indices: &Tensor) -> Result<Tensor> {
        let mut expected = vec![-1; indices.dim().saturating_sub(1)];
        expected.push(self.config.depth);
        check_shape("indices", indices, &expected)?;
        let mut sum = self.codes_of(0, &indices.f_select(-1, 0)?)?;
        for stage in 1..self.config.depth {
            sum = sum.f_add(&self.codes_of(stage, &indices.f_select(-1, stage)?)?)?;
        }
        Ok(sum)
    }

    fn batch_update(&mut self) -> Option<&mut dyn BatchUpdate> {
        let learns = self.stages[0].get_mut().batch_update().is_some();
        if learns { Some(self) } else { None }
    }
}

/// Statistics: `[3, depth]`, f64, with ones, the number of tensors that each codebook gave, and the number of vectors that each
/// stage saw; then those tensors. A shared codebook's are summed over its stages.
impl BatchUpdate for Residual {
    fn collect(&self, latent: &Tensor, quantized: &Quantized) -> Result<Vec<Tensor>> {
        let depth = self.config.depth;
        check_shape("indices", &quantized.indices, &[-1, -1, -1, depth])?;
        tch::no_grad(|| {
            let mut rest = latent.detach().f_to_kind(Kind::Float)?;
            let last = self.last_begun()?;
            let (mut seen, mut tensors) = (Vec::new(), Vec::new());
            let mut gathered: Vec<Vec<Tensor>> = Vec::new();
            for stage in 0..depth {
                let indices = quantized.indices.f_select(-1, stage)?;
                // A training step drops a stage in all cells or in none.
                let dropped = indices.numel() > 0 && indices.f_min()?.f_int64_value(&[])? == DROPPED;
                let codes = self.codes_of(stage, &indices)?.f_permute([0, 3, 1, 2])?;
                let images = if dropped || stage > last { 0 } else { indices.size()[0] };
                let given = rest.f_narrow(0, 0, images)?.f_div_scalar(self.unit(stage))?;
                let found = Quantized {
                    latent: codes.f_narrow(0, 0, images)?.f_div_scalar(self.unit(stage))?,
                    indices: indices.f_narrow(0, 0, images)?,
                    loss: Tensor::f_zeros([0i64; 0], (Kind::Float, latent.device()))?,
                };
                seen.push(found.indices.numel() as f64);
                let mut cell = self.stage(stage).borrow_mut();
                let part = match cell.batch_update() {
                    Some(update) => update.collect(&given, &found)?,
                    None => Vec::new(),
                };
                rest = rest.f_sub(&codes)?;
                match gathered.last_mut().filter(|_| self.config.shared) {
                    Some(sum) => {
                        tensors.push(0.0);
                        for (total, more) in sum.iter_mut().zip(part) {
                            *total = total.f_add(&more)?;
                        }
                    }
                    None => {
                        tensors.push(part.len() as f64);
                        gathered.push(part);
                    }
                }
            }
            let head = [vec![1.0; seen.len()], tensors, seen].concat();
            let head = Tensor::f_from_slice(&head)?.f_view([3, depth])?.f_to_device(latent.device())?;
            Ok(std::iter::once(head).chain(gathered.into_iter().flatten()).collect())
        })
    }

    fn apply(&mut self, summed: &[Tensor], step: u64) -> Result<()> {
        let Some((head, mut rest)) = summed.split_first() else {
            return Err(QuantError::Statistics { expected: 1, found: 0 });
        };
        check_shape("statistics", head, &[3, self.config.depth])?;
        let head: Vec<f64> = Vec::try_from(&head.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?.f_view([-1])?)?;
        let depth = self.config.depth as usize;
        let (parts, seen) = (head[0], &head[2 * depth..]);
        let lengths: Vec<usize> = head[depth..2 * depth].iter().map(|sum| (sum / parts).round() as usize).collect();
        let expected: usize = lengths.iter().sum();
        if rest.len() != expected {
            return Err(QuantError::Statistics { expected: 1 + expected, found: summed.len() });
        }
        for (stage, (cell, length)) in self.stages.iter_mut().zip(lengths).enumerate() {
            let (mine, others) = rest.split_at(length);
            rest = others;
            // A stage that was left out learns nothing: its averages do not decay either.
            let vectors = if self.config.shared { seen.iter().sum() } else { seen[stage] };
            if let Some(update) = cell.get_mut().batch_update().filter(|_| vectors > 0.0) {
                update.apply(mine, step)?;
            }
        }
        let last = self.last_begun()?;
        if let Some(begun) = self.begun.as_mut().filter(|_| seen[last as usize] > 0.0 && last + 1 < depth as i64) {
            let _ = tch::no_grad(|| begun.f_fill_((last + 1) as f64))?;
        }
        Ok(())
    }
}
