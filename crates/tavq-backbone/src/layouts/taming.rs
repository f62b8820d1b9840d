//! Configurations of taming-transformers and latent-diffusion.

use serde::Deserialize;
use serde_json::Value;

use super::read::{only, part};
use super::{Codebook, LayoutError, Published};
use crate::VqganConfig;

/// `ddconfig`: arguments of the encoder and decoder, with the defaults of their constructors.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Network {
    ch: i64,
    out_ch: i64,
    ch_mult: Vec<i64>,
    num_res_blocks: i64,
    attn_resolutions: Vec<i64>,
    #[serde(default)]
    dropout: f64,
    in_channels: i64,
    resolution: i64,
    z_channels: i64,
    #[serde(default = "yes")]
    double_z: bool,
    #[serde(default = "yes")]
    resamp_with_conv: bool,
    #[serde(default)]
    give_pre_end: bool,
    #[serde(default)]
    tanh_out: bool,
    #[serde(default)]
    use_linear_attn: bool,
    #[serde(default = "vanilla")]
    attn_type: String,
}

fn yes() -> bool {
    true
}

fn vanilla() -> String {
    "vanilla".to_owned()
}

/// Looks for the model's parameters where the two codebases have them, and in a bare file of them.
pub(super) fn read(value: &Value) -> Result<Published, LayoutError> {
    let places = ["model.params.first_stage_config.params", "model.params", "params", ""];
    let at = |place: &'static str| {
        let found = place.split('.').filter(|key| !key.is_empty()).try_fold(value, |v, key| v.get(key))?;
        found.get("ddconfig").map(|network| (place, found, network))
    };
    let Some((place, params, network)) = places.into_iter().find_map(at) else {
        return Err(LayoutError::config("model.params.ddconfig", "a table", "none"));
    };
    let join = |key: &str| if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") };
    let net: Network = part(&join("ddconfig"), network)?;
    let key = |name: &str, expected: bool, found: bool| only(&join(&format!("ddconfig.{name}")), &expected, &found);
    key("resamp_with_conv", true, net.resamp_with_conv)?;
    key("give_pre_end", false, net.give_pre_end)?;
    key("tanh_out", false, net.tanh_out)?;
    key("use_linear_attn", false, net.use_linear_attn)?;
    only(&join("ddconfig.attn_type"), &vanilla(), &net.attn_type)?;
    let number = |name: &str| match params.get(name) {
        Some(value) => part::<i64>(&join(name), value),
        None => Err(LayoutError::config(&join(name), "a whole number", "none")),
    };
    // The rest of the parameters is about training and loading; of these one changes what indices mean.
    if params.get("remap").is_some_and(|v| !v.is_null()) {
        return Err(LayoutError::config(&join("remap"), "none", "a map of indices"));
    }
    let codes = match params.get("n_embed") {
        Some(_) => number("n_embed")?,
        None => {
            return Err(LayoutError::config(&join("n_embed"), "the number of codes (a model with a codebook)", "none"));
        }
    };
    let backbone = VqganConfig {
        ch: net.ch,
        out_ch: net.out_ch,
        ch_mult: net.ch_mult,
        num_res_blocks: net.num_res_blocks,
        attn_resolutions: net.attn_resolutions,
        dropout: net.dropout,
        in_channels: net.in_channels,
        resolution: net.resolution,
        z_channels: net.z_channels,
        double_z: net.double_z,
        embed_dim: number("embed_dim")?,
        levels: 1,
        ..VqganConfig::default()
    };
    Ok(Published { backbone, codes, beta: 0.25, legacy: true, normalize: false })
}

/// What its constructor wants beside the rest: the published weight, and a schedule that stays at temperature 1.
const GUMBEL: &str = "    kl_weight: 1.0e-08
    temperature_scheduler_config:
      target: taming.lr_scheduler.LambdaWarmUpCosineScheduler
      params: {warm_up_steps: 0, max_decay_steps: 1, lr_start: 1.0, lr_max: 1.0, lr_min: 1.0, verbosity_interval: 0}
";

pub(super) fn write(published: &Published, kind: Codebook) -> Result<String, LayoutError> {
    if kind == Codebook::Table {
        super::diffusers::check_loss(published)?;
    }
    let c = &published.backbone;
    let target = match kind {
        Codebook::Table => "VQModel",
        Codebook::Averages => "EMAVQ",
        Codebook::Gumbel => "GumbelVQ",
    };
    let more = if kind == Codebook::Gumbel { GUMBEL } else { "" };
    Ok(format!(
        "model:\n  target: taming.models.vqgan.{target}\n  params:\n    embed_dim: {}\n    n_embed: {}\n{more}    ddconfig:\n      \
         double_z: false\n      z_channels: {}\n      resolution: {}\n      in_channels: {}\n      out_ch: {}\n      ch: {}\n      \
         ch_mult: {:?}\n      num_res_blocks: {}\n      attn_resolutions: {:?}\n      dropout: {:?}\n    lossconfig:\n      \
         target: taming.modules.losses.DummyLoss\n",
        c.embed_dim,
        published.codes,
        c.z_channels,
        c.resolution,
        c.in_channels,
        c.out_ch,
        c.ch,
        c.ch_mult,
        c.num_res_blocks,
        c.attn_resolutions,
        c.dropout,
    ))
}
