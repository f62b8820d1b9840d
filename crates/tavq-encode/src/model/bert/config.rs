//! The shape of a BERT encoder.

use crate::Result;
use crate::model::blocks::Sizes;
use crate::model::fields::Fields;

/// Field names of the Hugging Face `config.json` with model_type `bert`.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::model) struct BertConfig {
    pub(in crate::model) sizes: Sizes,
    /// Rows of the token-type embedding; row 0 is used.
    pub(in crate::model) type_vocab_size: i64,
}

impl BertConfig {
    /// Every field that changes the result is checked or refused.
    pub(in crate::model) fn read(fields: &Fields) -> Result<Self> {
        fields.word("hidden_act", &["gelu"], Some("gelu"))?;
        fields.word("position_embedding_type", &["absolute"], Some("absolute"))?;
        let sizes = Sizes::read(fields, None, 1e-12)?;
        Ok(Self { sizes, type_vocab_size: fields.size("type_vocab_size", 1, None)? })
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
        BertConfig::read(&Fields::load(&path)?)
    }

    #[test]
    fn each_refusal_names_its_field() {
        assert_eq!(load(GOOD).unwrap().sizes.layer_norm_eps, 1e-12);
        for (from, to, says) in [
            ("\"num_attention_heads\":2", "\"num_attention_heads\":3", "num_attention_heads: expected a divisor of 8"),
            ("\"hidden_size\":8,", "", "hidden_size: expected 1 to 4194304, found nothing"),
            ("\"hidden_size\":8", "\"hidden_size\":\"8\"", "hidden_size: expected 1 to 4194304, found \"8\""),
            ("\"vocab_size\":10", "\"vocab_size\":-1", "vocab_size: expected 1 to 4194304, found -1"),
            ("\"type_vocab_size\":2", "\"type_vocab_size\":2,\"hidden_act\":\"relu\"", "hidden_act: expected \"gelu\""),
            (
                "\"type_vocab_size\":2",
                "\"type_vocab_size\":2,\"position_embedding_type\":\"relative_key\"",
                "position_embedding_type: expected \"absolute\"",
            ),
            ("\"type_vocab_size\":2", "\"type_vocab_size\":2,\"layer_norm_eps\":0", "layer_norm_eps: expected"),
            ("{", "", "config.json: (whole file)"),
            ("{", "[{", "config.json: (whole file)"),
        ] {
            let error = load(&GOOD.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(says), "{says}: {error}");
        }
    }
}
