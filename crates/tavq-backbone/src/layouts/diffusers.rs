//! `config.json` of diffusers' `VQModel`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::read::{only, part};
use super::{LayoutError, Published};
use crate::VqganConfig;

/// Arguments of the constructor (version 0.42), with its defaults.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct VqModel {
    in_channels: i64,
    out_channels: i64,
    down_block_types: Vec<String>,
    up_block_types: Vec<String>,
    block_out_channels: Vec<i64>,
    layers_per_block: i64,
    act_fn: String,
    latent_channels: i64,
    sample_size: i64,
    num_vq_embeddings: i64,
    norm_num_groups: i64,
    vq_embed_dim: Option<i64>,
    /// Of pipelines, which scale latents before they diffuse them; the model itself does not use it.
    #[allow(dead_code)]
    scaling_factor: f64,
    norm_type: String,
    mid_block_add_attention: bool,
    /// What `decode` does with indices; the network is the same.
    #[allow(dead_code)]
    lookup_from_codebook: bool,
    #[allow(dead_code)]
    force_upcast: bool,
}

impl Default for VqModel {
    fn default() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            down_block_types: vec![DOWN.0.to_owned()],
            up_block_types: vec![UP.0.to_owned()],
            block_out_channels: vec![64],
            layers_per_block: 1,
            act_fn: "silu".to_owned(),
            latent_channels: 3,
            sample_size: 32,
            num_vq_embeddings: 256,
            norm_num_groups: 32,
            vq_embed_dim: None,
            scaling_factor: SCALING,
            norm_type: "group".to_owned(),
            mid_block_add_attention: true,
            lookup_from_codebook: false,
            force_upcast: false,
        }
    }
}

/// Types of blocks without and with attention.
const DOWN: (&str, &str) = ("DownEncoderBlock2D", "AttnDownEncoderBlock2D");
const UP: (&str, &str) = ("UpDecoderBlock2D", "AttnUpDecoderBlock2D");
const SCALING: f64 = 0.18215;

pub(super) fn read(value: &Value) -> Result<Published, LayoutError> {
    let Value::Object(table) = value else {
        return Err(LayoutError::config("config.json", "an object", "another value"));
    };
    if let Some(class) = table.get("_class_name") {
        only("_class_name", &json!("VQModel"), class)?;
    }
    let own: serde_json::Map<_, _> =
        table.iter().filter(|(k, _)| !k.starts_with('_')).map(|(k, v)| (k.clone(), v.clone())).collect();
    let config: VqModel = part("", &Value::Object(own))?;
    only("norm_type", &"group".to_owned(), &config.norm_type)?;
    only("act_fn", &"silu".to_owned(), &config.act_fn)?;
    let widths = &config.block_out_channels;
    let Some(ch) = widths.first().copied() else {
        return Err(LayoutError::config("block_out_channels", "at least one width", "none"));
    };
    if ch < 1 || widths.iter().any(|w| *w < 1 || w % ch != 0) {
        return Err(LayoutError::config("block_out_channels", "multiples of the first one", format!("{widths:?}")));
    }
    let down = attended("down_block_types", &config.down_block_types, widths.len(), DOWN)?;
    let mut up = attended("up_block_types", &config.up_block_types, widths.len(), UP)?;
    up.reverse();
    if up != down {
        let expected = "attention at the same sizes as in down_block_types";
        return Err(LayoutError::config("up_block_types", expected, format!("{:?}", config.up_block_types)));
    }
    if widths.len() > 16 {
        return Err(LayoutError::config("block_out_channels", "at most 16", widths.len()));
    }
    // Sizes only say which stages attend, so any multiple of the coarsest stride serves as well as the trained one.
    let coarsest = 1 << (widths.len() - 1);
    let fits = config.sample_size >= coarsest && config.sample_size % coarsest == 0;
    let resolution = if fits { config.sample_size } else { coarsest };
    let backbone = VqganConfig {
        ch,
        out_ch: config.out_channels,
        ch_mult: widths.iter().map(|w| w / ch).collect(),
        num_res_blocks: config.layers_per_block,
        norm_num_groups: config.norm_num_groups,
        mid_attention: config.mid_block_add_attention,
        attn_resolutions: (0..widths.len()).filter(|i| down[*i]).map(|i| resolution >> i).collect(),
        dropout: 0.0,
        in_channels: config.in_channels,
        resolution,
        z_channels: config.latent_channels,
        double_z: false,
        embed_dim: config.vq_embed_dim.unwrap_or(config.latent_channels),
        levels: 1,
        ..VqganConfig::default()
    };
    Ok(Published { backbone, codes: config.num_vq_embeddings, beta: 0.25, legacy: true, normalize: false })
}

fn attended(field: &str, types: &[String], stages: usize, known: (&str, &str)) -> Result<Vec<bool>, LayoutError> {
    if types.len() != stages {
        return Err(LayoutError::config(field, format!("one for each of {stages} widths"), types.len()));
    }
    let one = |t: &String| match t {
        t if t == known.0 => Ok(false),
        t if t == known.1 => Ok(true),
        t => Err(LayoutError::config(field, format!("{} or {}", known.0, known.1), t)),
    };
    types.iter().map(one).collect()
}

/// The loss of these codebases is fixed in their code; a difference shows in further training only, but shows there.
pub(super) fn check_loss(published: &Published) -> Result<(), LayoutError> {
    if published.normalize {
        let expected = "codes as the decoder sees them (this layout does not normalise)";
        return Err(LayoutError::config("codebook", expected, "codes to be normalised"));
    }
    Ok(())
}

/// Refuses what only taming's and latent-diffusion's networks leave out or add.
pub(super) fn convolves(config: &VqganConfig) -> Result<(), LayoutError> {
    only("backbone.resamp_with_conv", &true, &config.resamp_with_conv)?;
    only("backbone.tanh_out", &false, &config.tanh_out)
}

pub(super) fn write(published: &Published) -> Result<String, LayoutError> {
    check_loss(published)?;
    let c = &published.backbone;
    if c.ch_mult.first() != Some(&1) {
        let expected = "1 as its first entry: diffusers' first convolution is as wide as its first stage";
        return Err(LayoutError::config("backbone.ch_mult", expected, format!("{:?}", c.ch_mult)));
    }
    convolves(c)?;
    let stages = c.stages();
    let typed = |i: usize, known: (&'static str, &'static str)| if c.attends(i) { known.1 } else { known.0 };
    let config = json!({
        "_class_name": "VQModel",
        "_diffusers_version": "0.42.1",
        "act_fn": "silu",
        "block_out_channels": (0..stages).map(|i| c.width(i)).collect::<Vec<_>>(),
        "down_block_types": (0..stages).map(|i| typed(i, DOWN)).collect::<Vec<_>>(),
        "force_upcast": false,
        "in_channels": c.in_channels,
        "latent_channels": c.z_channels,
        "layers_per_block": c.num_res_blocks,
        "lookup_from_codebook": false,
        "mid_block_add_attention": c.mid_attention,
        "norm_num_groups": c.norm_num_groups,
        "norm_type": "group",
        "num_vq_embeddings": published.codes,
        "out_channels": c.out_ch,
        "sample_size": c.resolution,
        "scaling_factor": SCALING,
        "up_block_types": (0..stages).rev().map(|i| typed(i, UP)).collect::<Vec<_>>(),
        "vq_embed_dim": c.embed_dim,
    });
    Ok(format!("{config:#}\n"))
}
