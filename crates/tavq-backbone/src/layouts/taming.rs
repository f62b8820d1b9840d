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
    key("give_pre_end", false, net.give_pre_end)?;
    key("use_linear_attn", false, net.use_linear_attn)?;
    // The type of all attention, that of stages included.
    let attends = match net.attn_type.as_str() {
        "vanilla" => true,
        "none" => false,
        other => return Err(LayoutError::config(join("ddconfig.attn_type").as_str(), "vanilla or none", other)),
    };
    let target = match place.strip_suffix("params") {
        Some(above) => above.split('.').filter(|key| !key.is_empty()).try_fold(value, |v, key| v.get(key)),
        None => None,
    };
    let target = target.and_then(|model| model.get("target")).and_then(Value::as_str);
    if target.is_some_and(|name| name.starts_with("taming.")) {
        // Passed over by that network.
        key("tanh_out", false, net.tanh_out)?;
    }
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
        attn_resolutions: if attends { net.attn_resolutions } else { Vec::new() },
        mid_attention: attends,
        resamp_with_conv: net.resamp_with_conv,
        dropout: net.dropout,
        in_channels: net.in_channels,
        resolution: net.resolution,
        z_channels: net.z_channels,
        double_z: net.double_z,
        tanh_out: net.tanh_out,
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
    only("backbone.norm_num_groups", &32, &c.norm_num_groups)?;
    let target = match kind {
        // taming's network has no such parts, and would pass over the keys that name them.
        _ if published.beyond_taming() => latent_diffusion(c, kind)?,
        Codebook::Table => "taming.models.vqgan.VQModel",
        Codebook::Averages => "taming.models.vqgan.EMAVQ",
        Codebook::Gumbel => "taming.models.vqgan.GumbelVQ",
    };
    let attn_type = if c.mid_attention { "" } else { "      attn_type: none\n" };
    let tanh_out = if c.tanh_out { "      tanh_out: true\n" } else { "" };
    let plain = if c.resamp_with_conv { "" } else { "      resamp_with_conv: false\n" };
    let loss = if target.starts_with("ldm") { "torch.nn.Identity" } else { "taming.modules.losses.DummyLoss" };
    let more = if kind == Codebook::Gumbel { GUMBEL } else { "" };
    Ok(format!(
        "model:\n  target: {target}\n  params:\n    embed_dim: {}\n    n_embed: {}\n{more}    ddconfig:\n      \
         double_z: false\n      z_channels: {}\n      resolution: {}\n      in_channels: {}\n      out_ch: {}\n      ch: {}\n      \
         ch_mult: {:?}\n      num_res_blocks: {}\n      attn_resolutions: {:?}\n      dropout: {:?}\n{attn_type}{tanh_out}{plain}    \
         lossconfig:\n      target: {loss}\n",
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

/// The class of latent-diffusion, which knows no other codebook than a table and one type for all attention.
fn latent_diffusion(config: &VqganConfig, kind: Codebook) -> Result<&'static str, LayoutError> {
    if kind != Codebook::Table {
        let expected = "a plain table (latent-diffusion, whose network this is, has no other)";
        return Err(LayoutError::config("codebook", expected, format!("{kind:?}")));
    }
    if !config.mid_attention && (0..config.stages()).any(|i| config.attends(i)) {
        let expected = "none without mid_attention (latent-diffusion has one type for all attention)";
        let found = format!("{:?}", config.attn_resolutions);
        return Err(LayoutError::config("backbone.attn_resolutions", expected, found));
    }
    Ok("ldm.models.autoencoder.VQModel")
}
