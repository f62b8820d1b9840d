//! Adam and AdamW with moments that can be saved (tch's own cannot), and the learning-rate schedule.
//!
//! The rate is a pure function of the step, so a resumed run has nothing to restore but the step itself.

use serde::{Deserialize, Serialize};
use tch::nn::VarStore;
use tch::{Kind, Tensor};

use crate::Result;
use crate::state::{StateReader, StateWriter, Stateful};

/// How the learning rate moves after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Stays.
    Constant,
    /// Falls along half a cosine to `final_share` of the rate at the last step.
    Cosine,
}

/// Optimiser settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// Rate after the warm-up, > 0.
    pub learning_rate: f64,
    /// Decay of the two moments, each in [0, 1). VQGAN uses 0.5 and 0.9 (Esser et al. 2021).
    pub betas: [f64; 2],
    /// Added to the root of the second moment, > 0.
    pub epsilon: f64,
    /// Decoupled weight decay (AdamW), >= 0. Not applied to tensors of one dimension (biases, norms).
    pub weight_decay: f64,
    /// Steps over which the rate rises linearly from 0.
    pub warmup_steps: u64,
    /// What the rate does afterwards.
    pub schedule: Schedule,
    /// The cosine's end, as a share of the rate, in [0, 1].
    pub final_share: f64,
    /// Largest L2 norm of all gradients together; 0 leaves them as they are.
    pub clip_norm: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            learning_rate: 1e-3,
            betas: [0.9, 0.99],
            epsilon: 1e-8,
            weight_decay: 0.0,
            warmup_steps: 20,
            schedule: Schedule::Cosine,
            final_share: 0.05,
            clip_norm: 1.0,
        }
    }
}

impl OptimizerConfig {
    /// Checks the ranges; the error names the field, what it expects and what it found.
    pub fn check(&self) -> std::result::Result<(), (&'static str, String)> {
        let bad = |field, expected: &str, found: f64| Err((field, format!("expected {expected}, found {found}")));
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return bad("learning_rate", "a number > 0", self.learning_rate);
        }
        for beta in self.betas {
            if !(0.0..1.0).contains(&beta) {
                return bad("betas", "numbers in [0, 1)", beta);
            }
        }
        if !(self.epsilon > 0.0 && self.epsilon.is_finite()) {
            return bad("epsilon", "a number > 0", self.epsilon);
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            return bad("weight_decay", "a number >= 0", self.weight_decay);
        }
        if !(0.0..=1.0).contains(&self.final_share) {
            return bad("final_share", "a number in [0, 1]", self.final_share);
        }
        if !(self.clip_norm >= 0.0 && self.clip_norm.is_finite()) {
            return bad("clip_norm", "a number >= 0", self.clip_norm);
        }
        Ok(())
    }

    /// The learning rate of step `step` (from 0) in a run of `steps`.
    pub fn rate(&self, step: u64, steps: u64) -> f64 {
        if step < self.warmup_steps {
            return self.learning_rate * (step + 1) as f64 / self.warmup_steps as f64;
        }
        match self.schedule {
            Schedule::Constant => self.learning_rate,
            Schedule::Cosine => {
                let span = steps.saturating_sub(self.warmup_steps).max(1) as f64;
                let t = ((step - self.warmup_steps) as f64 / span).min(1.0);
                let share = 0.5 * (1.0 + (std::f64::consts::PI * t).cos());
                self.learning_rate * (self.final_share + (1.0 - self.final_share) * share)
            }
        }
    }
}

struct Slot {
    name: String,
    variable: Tensor,
    first: Tensor,
    second: Tensor,
}

/// Adam (Kingma and Ba 2015) with decoupled weight decay (Loshchilov and Hutter 2019).
pub struct Adam {
    config: OptimizerConfig,
    slots: Vec<Slot>,
    updates: u64,
}

impl Adam {
    /// An optimiser of every trainable variable of `store`, in the order of their names.
    pub fn new(store: &VarStore, config: &OptimizerConfig) -> Self {
        let mut slots: Vec<Slot> = store
            .variables()
            .into_iter()
            .filter(|(_, v)| v.requires_grad())
            .map(|(name, variable)| {
                let first = variable.detach().zeros_like();
                let second = first.zeros_like();
                Slot { name, variable, first, second }
            })
            .collect();
        slots.sort_by(|a, b| a.name.cmp(&b.name));
        Self { config: config.clone(), slots, updates: 0 }
    }

    /// Number of trainable scalars.
    pub fn parameters(&self) -> usize {
        self.slots.iter().map(|s| s.variable.numel()).sum()
    }

    /// Forgets the gradients of the last step.
    pub fn zero_grad(&mut self) {
        for slot in &mut self.slots {
            slot.variable.zero_grad();
        }
    }

    /// L2 norm of all gradients together, before clipping.
    pub fn gradient_norm(&self) -> f64 {
        let norms: Vec<Tensor> = self.gradients().map(|(_, g)| g.norm()).collect();
        if norms.is_empty() { 0.0 } else { Tensor::stack(&norms, 0).norm().double_value(&[]) }
    }

    fn gradients(&self) -> impl Iterator<Item = (&Slot, Tensor)> {
        self.slots.iter().map(|s| (s, s.variable.grad())).filter(|(_, g)| g.defined())
    }

    /// One update at the rate of `step`, of gradients of the given norm. Variables that never had a gradient keep their
    /// value; of those that had one, no gradient counts as zero, so that a resumed run does as a straight one.
    pub fn step(&mut self, norm: f64, step: u64, steps: u64) {
        let clip = self.config.clip_norm;
        let scale = if clip > 0.0 && norm > clip { clip / (norm + 1e-6) } else { 1.0 };
        let rate = self.config.rate(step, steps);
        let [b1, b2] = self.config.betas;
        self.updates += 1;
        let t = i32::try_from(self.updates).unwrap_or(i32::MAX);
        let (c1, c2) = (1.0 - b1.powi(t), 1.0 - b2.powi(t));
        tch::no_grad(|| {
            for slot in &mut self.slots {
                let mut gradient = slot.variable.grad();
                if !gradient.defined() {
                    if !bool::try_from(slot.second.any()).unwrap_or(false) {
                        continue;
                    }
                    gradient = slot.variable.detach().zeros_like();
                }
                let gradient = if scale == 1.0 { gradient } else { gradient * scale };
                let _ = slot.first.lerp_(&gradient, 1.0 - b1);
                let _ = slot.second.g_mul_scalar_(b2);
                let _ = slot.second.addcmul_(&gradient, &(gradient.shallow_clone() * (1.0 - b2)));
                let denominator = (&slot.second / c2).sqrt() + self.config.epsilon;
                if self.config.weight_decay > 0.0 && slot.variable.dim() > 1 {
                    let _ = slot.variable.g_mul_scalar_(1.0 - rate * self.config.weight_decay);
                }
                let _ = slot.variable.addcdiv_(&(&slot.first * (-rate / c1)), &denominator);
            }
        });
    }
}

impl Stateful for Adam {
    fn save(&self, out: &mut StateWriter) -> Result<()> {
        out.value("adam.updates", self.updates.into());
        for slot in &self.slots {
            out.tensor(format!("adam.first.{}", slot.name), &slot.first);
            out.tensor(format!("adam.second.{}", slot.name), &slot.second);
        }
        Ok(())
    }

    fn load(&mut self, from: &StateReader) -> Result<()> {
        self.updates = from.number("adam.updates")?;
        for slot in &mut self.slots {
            let size = slot.variable.size();
            for (part, target) in [("first", &mut slot.first), ("second", &mut slot.second)] {
                let value = from.tensor(&format!("adam.{part}.{}", slot.name), &size)?;
                tch::no_grad(|| target.f_copy_(&value.to_kind(Kind::Float)))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, nn};

    #[test]
    fn rate_rises_then_falls_to_its_share() {
        let c = OptimizerConfig { learning_rate: 1.0, warmup_steps: 10, final_share: 0.1, ..Default::default() };
        assert!((c.rate(0, 110) - 0.1).abs() < 1e-12);
        assert!((c.rate(9, 110) - 1.0).abs() < 1e-12);
        assert!((c.rate(60, 110) - 0.55).abs() < 1e-12);
        assert!((c.rate(110, 110) - 0.1).abs() < 1e-12);
        assert!((c.rate(500, 110) - 0.1).abs() < 1e-12);
    }

    /// The same problem in torch.optim.AdamW: golden/adam.py.
    #[test]
    fn agrees_with_torch() {
        let golden: Vec<f64> =
            include_str!("../golden/adam.txt").split_whitespace().map(|x| x.parse().unwrap()).collect();
        let store = nn::VarStore::new(Device::Cpu);
        let w = store.root().var_copy("w", &Tensor::from_slice(&[1.0f32, -2.0, 0.5, 3.0]).view([2, 2]));
        let b = store.root().var_copy("b", &Tensor::from_slice(&[0.1f32, -0.3]));
        let config = OptimizerConfig {
            learning_rate: 0.05,
            betas: [0.8, 0.95],
            weight_decay: 0.1,
            warmup_steps: 0,
            schedule: Schedule::Constant,
            clip_norm: 0.0,
            ..Default::default()
        };
        let x = Tensor::from_slice(&[0.5f32, -1.0, 2.0, 0.25]).view([2, 2]);
        let mut adam = Adam::new(&store, &config);
        for step in 0..20 {
            adam.zero_grad();
            (x.matmul(&w) + &b).tanh().square().sum(Kind::Float).backward();
            adam.step(adam.gradient_norm(), step, 20);
        }
        let found: Vec<f64> =
            Vec::<f32>::try_from(Tensor::cat(&[w.view([4]), b], 0)).unwrap().iter().map(|x| f64::from(*x)).collect();
        for (f, g) in found.iter().zip(&golden) {
            assert!((f - g).abs() < 2e-6, "{found:?} {golden:?}");
        }
        assert_eq!(found.len(), golden.len());
    }

    #[test]
    fn clipping_bounds_the_update_direction() {
        let store = nn::VarStore::new(Device::Cpu);
        let w = store.root().var_copy("w", &Tensor::from_slice(&[3.0f32, 4.0]));
        let config = OptimizerConfig { clip_norm: 1.0, ..Default::default() };
        let mut adam = Adam::new(&store, &config);
        (w.square().sum(Kind::Float) / 2.0).backward();
        let norm = adam.gradient_norm();
        assert!((norm - 5.0).abs() < 1e-5);
        adam.step(norm, 0, 1);
        let first = Vec::<f32>::try_from(&adam.slots[0].first).unwrap();
        assert!((first[0] - 0.06).abs() < 1e-4 && (first[1] - 0.08).abs() < 1e-4, "{first:?}");
    }
}
