//! Names and shapes of variables: ours, which are taming-transformers', in the other layouts.

use super::Layout;

/// One variable's name in another layout.
pub(super) fn name_of(layout: Layout, ours: &str, stages: usize) -> String {
    let parts: Vec<&str> = ours.split('.').collect();
    let named = match layout {
        Layout::Taming => None,
        Layout::Diffusers => diffusers(&parts, stages),
        Layout::LlamaGen => llamagen(&parts, stages),
    };
    // What has no other name is called alike.
    named.unwrap_or_else(|| ours.to_owned())
}

/// The name that a variable of diffusers had before its attention was rewritten (version 0.15).
pub(super) fn older_name(layout: Layout, theirs: &str) -> Option<String> {
    if layout != Layout::Diffusers {
        return None;
    }
    let (place, part) = theirs.rsplit_once('.')?;
    let (place, projection) = match place.strip_suffix(".to_out.0") {
        Some(place) => (place, "proj_attn"),
        None => {
            let (place, name) = place.rsplit_once('.')?;
            let old = match name {
                "to_q" => "query",
                "to_k" => "key",
                "to_v" => "value",
                _ => return None,
            };
            (place, old)
        }
    };
    Some(format!("{place}.{projection}.{part}"))
}

/// One variable's shape in another layout: diffusers' attention is linear, so its weights have two axes.
pub(super) fn shape_of(layout: Layout, ours: &str, shape: &[i64]) -> Vec<i64> {
    let attention = ours.contains(".attn") && !ours.contains(".norm.");
    match shape {
        [to, from, 1, 1] if layout == Layout::Diffusers && attention => vec![*to, *from],
        _ => shape.to_vec(),
    }
}

/// `decoder.up.0` is the finest stage and runs last; the other layouts count in the order they run.
fn turned(stage: &str, stages: usize) -> Option<usize> {
    stages.checked_sub(1)?.checked_sub(stage.parse().ok()?)
}

fn diffusers(parts: &[&str], stages: usize) -> Option<String> {
    let block = |rest: &[&str]| rest.join(".").replace("nin_shortcut", "conv_shortcut");
    let attention = |rest: &[&str]| match rest {
        ["norm", part] => format!("group_norm.{part}"),
        ["proj_out", part] => format!("to_out.0.{part}"),
        [name, part] => format!("to_{name}.{part}"),
        other => other.join("."),
    };
    Some(match parts {
        [side, "mid", "block_1", rest @ ..] => format!("{side}.mid_block.resnets.0.{}", block(rest)),
        [side, "mid", "block_2", rest @ ..] => format!("{side}.mid_block.resnets.1.{}", block(rest)),
        [side, "mid", "attn_1", rest @ ..] => format!("{side}.mid_block.attentions.0.{}", attention(rest)),
        [side, "norm_out", part] => format!("{side}.conv_norm_out.{part}"),
        [side, way @ ("down" | "up"), i, rest @ ..] => {
            let stage = if *way == "up" { turned(i, stages)? } else { i.parse().ok()? };
            let rest = match rest {
                ["block", j, rest @ ..] => format!("resnets.{j}.{}", block(rest)),
                ["attn", j, rest @ ..] => format!("attentions.{j}.{}", attention(rest)),
                ["downsample", rest @ ..] => format!("downsamplers.0.{}", rest.join(".")),
                ["upsample", rest @ ..] => format!("upsamplers.0.{}", rest.join(".")),
                _ => return None,
            };
            format!("{side}.{way}_blocks.{stage}.{rest}")
        }
        _ => return None,
    })
}

fn llamagen(parts: &[&str], stages: usize) -> Option<String> {
    Some(match parts {
        [side, "mid", "block_1", rest @ ..] => format!("{side}.mid.0.{}", rest.join(".")),
        [side, "mid", "attn_1", rest @ ..] => format!("{side}.mid.1.{}", rest.join(".")),
        [side, "mid", "block_2", rest @ ..] => format!("{side}.mid.2.{}", rest.join(".")),
        [side, way @ ("down" | "up"), i, part, rest @ ..] => {
            let stage = if *way == "up" { turned(i, stages)? } else { i.parse().ok()? };
            let part = if *part == "block" { "res" } else { part };
            format!("{side}.conv_blocks.{stage}.{part}.{}", rest.join("."))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_published_checkpoints() {
        let table = [
            ("encoder.conv_in.weight", "encoder.conv_in.weight", "encoder.conv_in.weight"),
            (
                "encoder.down.2.block.0.nin_shortcut.bias",
                "encoder.down_blocks.2.resnets.0.conv_shortcut.bias",
                "encoder.conv_blocks.2.res.0.nin_shortcut.bias",
            ),
            (
                "encoder.down.4.attn.1.norm.weight",
                "encoder.down_blocks.4.attentions.1.group_norm.weight",
                "encoder.conv_blocks.4.attn.1.norm.weight",
            ),
            (
                "encoder.down.3.downsample.conv.bias",
                "encoder.down_blocks.3.downsamplers.0.conv.bias",
                "encoder.conv_blocks.3.downsample.conv.bias",
            ),
            (
                "encoder.mid.block_1.norm1.weight",
                "encoder.mid_block.resnets.0.norm1.weight",
                "encoder.mid.0.norm1.weight",
            ),
            ("encoder.mid.attn_1.q.bias", "encoder.mid_block.attentions.0.to_q.bias", "encoder.mid.1.q.bias"),
            ("decoder.mid.block_2.conv2.bias", "decoder.mid_block.resnets.1.conv2.bias", "decoder.mid.2.conv2.bias"),
            (
                "decoder.up.4.attn.2.proj_out.weight",
                "decoder.up_blocks.0.attentions.2.to_out.0.weight",
                "decoder.conv_blocks.0.attn.2.proj_out.weight",
            ),
            (
                "decoder.up.1.upsample.conv.weight",
                "decoder.up_blocks.3.upsamplers.0.conv.weight",
                "decoder.conv_blocks.3.upsample.conv.weight",
            ),
            (
                "decoder.up.0.block.2.conv1.bias",
                "decoder.up_blocks.4.resnets.2.conv1.bias",
                "decoder.conv_blocks.4.res.2.conv1.bias",
            ),
            ("decoder.norm_out.bias", "decoder.conv_norm_out.bias", "decoder.norm_out.bias"),
            ("quantize.embedding.weight", "quantize.embedding.weight", "quantize.embedding.weight"),
            ("post_quant_conv.weight", "post_quant_conv.weight", "post_quant_conv.weight"),
        ];
        for (ours, diffusers, llamagen) in table {
            assert_eq!(name_of(Layout::Taming, ours, 5), ours);
            assert_eq!(name_of(Layout::Diffusers, ours, 5), diffusers);
            assert_eq!(name_of(Layout::LlamaGen, ours, 5), llamagen);
        }
    }

    #[test]
    fn attention_of_diffusers_is_linear_and_had_other_names() {
        let shape = |name: &str| shape_of(Layout::Diffusers, name, &[8, 8, 1, 1]);
        assert_eq!(shape("encoder.mid.attn_1.q.weight"), [8, 8]);
        assert_eq!(shape("decoder.up.1.attn.0.proj_out.weight"), [8, 8]);
        assert_eq!(shape("encoder.down.1.block.0.nin_shortcut.weight"), [8, 8, 1, 1]);
        assert_eq!(shape_of(Layout::Taming, "encoder.mid.attn_1.q.weight", &[8, 8, 1, 1]), [8, 8, 1, 1]);
        let old = |name: &str| older_name(Layout::Diffusers, name);
        assert_eq!(old("a.attentions.0.to_q.weight").unwrap(), "a.attentions.0.query.weight");
        assert_eq!(old("a.attentions.0.to_out.0.bias").unwrap(), "a.attentions.0.proj_attn.bias");
        assert_eq!(old("a.attentions.0.group_norm.bias"), None);
    }
}
