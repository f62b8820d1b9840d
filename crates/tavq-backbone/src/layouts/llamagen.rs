//! Configurations of LlamaGen's tokenizers. They are code there: the fields of its `ModelArgs`, here as JSON or YAML,
//! with the arguments that its encoder and decoder have beside them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::read::{only, part};
use super::{LayoutError, Published};
use crate::VqganConfig;

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ModelArgs {
    codebook_size: i64,
    codebook_embed_dim: i64,
    codebook_l2_norm: bool,
    codebook_show_usage: bool,
    commit_loss_beta: f64,
    entropy_loss_ratio: f64,
    encoder_ch_mult: Vec<i64>,
    decoder_ch_mult: Vec<i64>,
    z_channels: i64,
    dropout_p: f64,
    /// Fixed in LlamaGen's constructors: width, residual blocks, channels.
    ch: i64,
    num_res_blocks: i64,
    in_channels: i64,
    out_channels: i64,
    /// Image size, which no part of the network depends on.
    resolution: i64,
}

impl Default for ModelArgs {
    fn default() -> Self {
        Self {
            codebook_size: 16384,
            codebook_embed_dim: 8,
            codebook_l2_norm: true,
            codebook_show_usage: true,
            commit_loss_beta: 0.25,
            entropy_loss_ratio: 0.0,
            encoder_ch_mult: vec![1, 1, 2, 2, 4],
            decoder_ch_mult: vec![1, 1, 2, 2, 4],
            z_channels: 256,
            dropout_p: 0.0,
            ch: 128,
            num_res_blocks: 2,
            in_channels: 3,
            out_channels: 3,
            resolution: 256,
        }
    }
}

pub(super) fn named(name: &str) -> Option<Published> {
    let args = match name.to_ascii_lowercase().as_str() {
        "vq-16" => ModelArgs::default(),
        "vq-8" => {
            let ch_mult = vec![1, 2, 2, 4];
            ModelArgs { encoder_ch_mult: ch_mult.clone(), decoder_ch_mult: ch_mult, ..ModelArgs::default() }
        }
        _ => return None,
    };
    published(&args).ok()
}

pub(super) fn read(value: &Value) -> Result<Published, LayoutError> {
    published(&part("", value)?)
}

fn published(args: &ModelArgs) -> Result<Published, LayoutError> {
    only("decoder_ch_mult", &args.encoder_ch_mult, &args.decoder_ch_mult)?;
    let stages = args.encoder_ch_mult.len();
    if !(1..=16).contains(&stages) {
        return Err(LayoutError::config("encoder_ch_mult", "1 to 16 stages", stages));
    }
    let backbone = VqganConfig {
        ch: args.ch,
        out_ch: args.out_channels,
        ch_mult: args.encoder_ch_mult.clone(),
        num_res_blocks: args.num_res_blocks,
        // Only the coarsest stage attends.
        attn_resolutions: vec![args.resolution >> (stages - 1)],
        dropout: args.dropout_p,
        in_channels: args.in_channels,
        resolution: args.resolution,
        z_channels: args.z_channels,
        double_z: false,
        embed_dim: args.codebook_embed_dim,
        levels: 1,
        ..VqganConfig::default()
    };
    let (codes, beta) = (args.codebook_size, args.commit_loss_beta);
    Ok(Published { backbone, codes, beta, legacy: false, normalize: args.codebook_l2_norm })
}

pub(super) fn write(published: &Published) -> Result<String, LayoutError> {
    let c = &published.backbone;
    super::diffusers::convolves(c)?;
    only("backbone.norm_num_groups", &32, &c.norm_num_groups)?;
    only("backbone.mid_attention", &true, &c.mid_attention)?;
    let last = c.stages() - 1;
    if (0..=last).any(|i| c.attends(i) != (i == last)) {
        let expected = format!("[{}]: LlamaGen attends at the coarsest size alone", c.resolution >> last);
        return Err(LayoutError::config("backbone.attn_resolutions", expected, format!("{:?}", c.attn_resolutions)));
    }
    let args = ModelArgs {
        codebook_size: published.codes,
        codebook_embed_dim: c.embed_dim,
        codebook_l2_norm: published.normalize,
        commit_loss_beta: published.beta,
        encoder_ch_mult: c.ch_mult.clone(),
        decoder_ch_mult: c.ch_mult.clone(),
        z_channels: c.z_channels,
        dropout_p: c.dropout,
        ch: c.ch,
        num_res_blocks: c.num_res_blocks,
        in_channels: c.in_channels,
        out_channels: c.out_ch,
        resolution: c.resolution,
        ..ModelArgs::default()
    };
    let text = serde_json::to_string_pretty(&args)
        .map_err(|e| LayoutError::Read { field: "config".to_owned(), message: e.to_string() })?;
    Ok(text + "\n")
}
