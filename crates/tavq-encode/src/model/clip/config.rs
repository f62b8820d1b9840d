//! The shape of a CLIP text tower.

use crate::Result;
use crate::model::blocks::Sizes;
use crate::model::fields::Fields;

/// Activation of the feed-forward blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::model) enum Activation {
    /// `x sigmoid(1.702 x)`: OpenAI's models.
    QuickGelu,
    /// The exact one: most OpenCLIP models.
    Gelu,
}

/// Field names of the Hugging Face `config.json` with model_type `clip_text_model`, or of `text_config` in one with
/// model_type `clip`. What such a file leaves out has the value of ViT-B/32, as in transformers.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::model) struct ClipConfig {
    pub(in crate::model) sizes: Sizes,
    pub(in crate::model) activation: Activation,
    /// The end token; 2 in old files, where it means the largest id of a text.
    pub(in crate::model) eos_token_id: i64,
}

/// In files made before the end token was stored rightly.
pub(in crate::model) const LEGACY_EOS: i64 = 2;

impl ClipConfig {
    /// Every field that changes the result is checked or refused.
    pub(in crate::model) fn read(fields: &Fields) -> Result<Self> {
        let activation = match fields.word("hidden_act", &["quick_gelu", "gelu"], Some("quick_gelu"))? {
            "gelu" => Activation::Gelu,
            _ => Activation::QuickGelu,
        };
        let sizes = Sizes::read(fields, Some([49_408, 512, 12, 8, 2048, 77]), 1e-5)?;
        Ok(Self { sizes, activation, eos_token_id: fields.size("eos_token_id", 0, Some(49_407))? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<ClipConfig> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        ClipConfig::read(&Fields::load(&path)?)
    }

    #[test]
    fn what_a_file_leaves_out_is_vit_b_32() {
        let config = load(r#"{"hidden_size": 768, "num_attention_heads": 12, "eos_token_id": 2}"#).unwrap();
        let sizes = &config.sizes;
        assert_eq!((sizes.hidden_size, sizes.num_hidden_layers, sizes.max_position_embeddings), (768, 12, 77));
        assert_eq!((config.activation, sizes.layer_norm_eps, config.eos_token_id), (Activation::QuickGelu, 1e-5, 2));
        assert_eq!(load(r#"{"hidden_act": "gelu"}"#).unwrap().activation, Activation::Gelu);
    }

    #[test]
    fn each_refusal_names_its_field() {
        for (text, says) in [
            (r#"{"hidden_act": "relu"}"#, "hidden_act: expected \"quick_gelu\" or \"gelu\", found \"relu\""),
            (r#"{"num_attention_heads": 7}"#, "num_attention_heads: expected a divisor of 512, found 7"),
            (r#"{"max_position_embeddings": 3}"#, "max_position_embeddings: expected 4 to"),
            (r#"{"layer_norm_eps": 2}"#, "layer_norm_eps: expected between 0 and 1, found 2"),
        ] {
            let error = load(text).unwrap_err().to_string();
            assert!(error.contains(says), "{says}: {error}");
        }
    }
}
