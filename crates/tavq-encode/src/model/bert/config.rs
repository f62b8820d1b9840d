//! `config.json` of a BERT model, parsed and then checked.

use std::path::Path;

use serde::Deserialize;

use crate::{EncodeError, Result};

/// The shape of a BERT encoder (Devlin et al. 2019; field names of the Hugging Face `config.json`).
#[derive(Debug, Clone, PartialEq)]
pub struct BertConfig {
    /// Rows of the token embedding.
    pub vocab_size: i64,
    /// Width D of the states.
    pub hidden_size: i64,
    /// Transformer layers.
    pub num_hidden_layers: i64,
    /// Attention heads; divides `hidden_size`.
    pub num_attention_heads: i64,
    /// Inner width of the feed-forward blocks.
    pub intermediate_size: i64,
    /// Rows of the position embedding: the longest input, special tokens included.
    pub max_position_embeddings: i64,
    /// Rows of the token-type embedding; row 0 is used.
    pub type_vocab_size: i64,
    /// Epsilon of the layer norms.
    pub layer_norm_eps: f64,
}

// What the file may say; every field that changes the result is checked or refused.
#[derive(Deserialize)]
struct Raw {
    model_type: Option<String>,
    vocab_size: Option<i64>,
    hidden_size: Option<i64>,
    num_hidden_layers: Option<i64>,
    num_attention_heads: Option<i64>,
    intermediate_size: Option<i64>,
    max_position_embeddings: Option<i64>,
    type_vocab_size: Option<i64>,
    layer_norm_eps: Option<f64>,
    hidden_act: Option<String>,
    position_embedding_type: Option<String>,
}

// Larger figures in a config are a damaged file, not a model.
const LARGEST: i64 = 1 << 22;

impl BertConfig {
    /// Reads and checks the file. The error names the field.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| EncodeError::io(path, e))?;
        let bad = |field: &str, expected: &str, found: String| EncodeError::Model {
            path: path.to_path_buf(),
            field: field.to_owned(),
            expected: expected.to_owned(),
            found,
        };
        let raw: Raw = serde_json::from_str(&text)
            .map_err(|e| bad("(whole file)", "a JSON object of a BERT model", e.to_string()))?;
        let word = |field: &str, value: &Option<String>, expected: &str, absent_is_fine: bool| match value.as_deref() {
            Some(v) if v == expected => Ok(()),
            Some(v) => Err(bad(field, &format!("\"{expected}\""), format!("\"{v}\""))),
            None if absent_is_fine => Ok(()),
            None => Err(bad(field, &format!("\"{expected}\""), "nothing".to_owned())),
        };
        word("model_type", &raw.model_type, "bert", false)?;
        word("hidden_act", &raw.hidden_act, "gelu", true)?;
        word("position_embedding_type", &raw.position_embedding_type, "absolute", true)?;
        let size = |field: &str, value: Option<i64>, least: i64| match value {
            Some(v) if (least..=LARGEST).contains(&v) => Ok(v),
            Some(v) => Err(bad(field, &format!("{least} to {LARGEST}"), v.to_string())),
            None => Err(bad(field, &format!("{least} to {LARGEST}"), "nothing".to_owned())),
        };
        let config = Self {
            vocab_size: size("vocab_size", raw.vocab_size, 1)?,
            hidden_size: size("hidden_size", raw.hidden_size, 1)?,
            num_hidden_layers: size("num_hidden_layers", raw.num_hidden_layers, 1)?,
            num_attention_heads: size("num_attention_heads", raw.num_attention_heads, 1)?,
            intermediate_size: size("intermediate_size", raw.intermediate_size, 1)?,
            // Room for the two special tokens and at least two of the text, so that windows advance.
            max_position_embeddings: size("max_position_embeddings", raw.max_position_embeddings, 4)?,
            type_vocab_size: size("type_vocab_size", raw.type_vocab_size, 1)?,
            layer_norm_eps: raw.layer_norm_eps.unwrap_or(1e-12),
        };
        if config.hidden_size % config.num_attention_heads != 0 {
            let found = config.num_attention_heads.to_string();
            return Err(bad("num_attention_heads", &format!("a divisor of {}", config.hidden_size), found));
        }
        if !(config.layer_norm_eps > 0.0 && config.layer_norm_eps < 1.0) {
            return Err(bad("layer_norm_eps", "between 0 and 1", config.layer_norm_eps.to_string()));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"model_type":"bert","vocab_size":10,"hidden_size":8,"num_hidden_layers":1,
        "num_attention_heads":2,"intermediate_size":16,"max_position_embeddings":12,"type_vocab_size":2}"#;

    fn load(text: &str) -> Result<BertConfig> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        BertConfig::load(&path)
    }

    #[test]
    fn each_refusal_names_its_field() {
        assert_eq!(load(GOOD).unwrap().layer_norm_eps, 1e-12);
        for (from, to, says) in [
            ("\"bert\"", "\"clip\"", "model_type: expected \"bert\", found \"clip\""),
            ("\"model_type\":\"bert\",", "", "model_type: expected \"bert\", found nothing"),
            ("\"num_attention_heads\":2", "\"num_attention_heads\":3", "num_attention_heads: expected a divisor of 8"),
            ("\"hidden_size\":8,", "", "hidden_size: expected 1 to"),
            ("\"vocab_size\":10", "\"vocab_size\":-1", "vocab_size: expected 1 to"),
            ("\"type_vocab_size\":2", "\"type_vocab_size\":2,\"hidden_act\":\"relu\"", "hidden_act: expected \"gelu\""),
            (
                "\"type_vocab_size\":2",
                "\"type_vocab_size\":2,\"position_embedding_type\":\"relative_key\"",
                "position_embedding_type: expected \"absolute\"",
            ),
            ("\"type_vocab_size\":2", "\"type_vocab_size\":2,\"layer_norm_eps\":0", "layer_norm_eps: expected"),
            ("{", "", "config.json: (whole file)"),
        ] {
            let error = load(&GOOD.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(says), "{says}: {error}");
        }
    }
}
