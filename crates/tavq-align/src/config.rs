//! The options of one level's alignment.

use serde::{Deserialize, Serialize};

use crate::{AlignError, CostConfig, Result, SamplerConfig, SinkhornConfig};

/// What is read off the transport plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransportValue {
    /// `<P, C>`. Its gradient here is P, with the plan held constant.
    #[default]
    Sharp,
    /// `<P, C> + epsilon KL(P | a b^T)`. Its gradient is P, exactly.
    Entropic,
}

/// How the transport values of a batch become one loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossForm {
    /// Mean over the images of the value against their own text.
    #[default]
    Plain,
    /// Symmetric InfoNCE over all image-text pairs of the batch.
    Contrastive,
}

/// The masses of a text's units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetMasses {
    /// Every distinct unit weighs the same.
    #[default]
    Uniform,
    /// A unit weighs as often as it occurs in the text.
    Counts,
}

/// The trainable map from the codes' width to the texts' width; `kind` names it. The braces make serde refuse keys
/// that a variant does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum MapConfig {
    /// One linear layer.
    Linear {},
    /// Two linear layers with a GELU between.
    Hidden {
        /// Width of the hidden layer, at least 1.
        width: i64,
    },
}

impl Default for MapConfig {
    fn default() -> Self {
        Self::Linear {}
    }
}

/// Options of one level's alignment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlignConfig {
    /// Cost between a mapped code and a text vector.
    pub cost: CostConfig,
    /// Which codes take part.
    pub sampler: SamplerConfig,
    /// The map phi from codes to the texts' space.
    pub map: MapConfig,
    /// Masses of the text's units.
    pub target: TargetMasses,
    /// Strength of the entropy, in units of the cost; above 0. Default 0.05.
    pub epsilon: f64,
    /// L1 error of the plan's marginals at which a problem counts as solved; above 0. Default 1e-3.
    pub tolerance: f64,
    /// Sinkhorn iterations at most; at least 1. Default 100.
    pub max_iterations: i64,
    /// What is read off the plan.
    pub value: TransportValue,
    /// How values become a loss.
    pub form: LossForm,
    /// Temperature tau of the contrastive form, in units of the cost; above 0. Default 0.05.
    pub temperature: f64,
}

impl Default for AlignConfig {
    fn default() -> Self {
        let SinkhornConfig { epsilon, tolerance, max_iterations } = SinkhornConfig::default();
        Self {
            cost: CostConfig::default(),
            sampler: SamplerConfig::default(),
            map: MapConfig::default(),
            target: TargetMasses::default(),
            epsilon,
            tolerance,
            max_iterations,
            value: TransportValue::default(),
            form: LossForm::default(),
            temperature: 0.05,
        }
    }
}

impl AlignConfig {
    /// The solver's part.
    pub fn sinkhorn(&self) -> SinkhornConfig {
        SinkhornConfig { epsilon: self.epsilon, tolerance: self.tolerance, max_iterations: self.max_iterations }
    }

    /// Refuses values out of their range; `field` is this configuration's own path (`"align"`).
    pub fn check(&self, field: &str) -> Result<()> {
        self.sinkhorn().check(field)?;
        positive(self.temperature, || format!("{field}.temperature"))?;
        self.sampler.build(&format!("{field}.sampler"))?;
        if let MapConfig::Hidden { width } = self.map {
            at_least_one(width, || format!("{field}.map.width"))?;
        }
        Ok(())
    }
}

pub(crate) fn positive(value: f64, field: impl Fn() -> String) -> Result<()> {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(AlignError::Config { field: field(), expected: "a number above 0".to_owned(), found: value.to_string() })
}

pub(crate) fn at_least_one(value: i64, field: impl Fn() -> String) -> Result<()> {
    if value >= 1 {
        return Ok(());
    }
    Err(AlignError::Config { field: field(), expected: "at least 1".to_owned(), found: value.to_string() })
}
