//! Fields of a `config.json`: each is checked when it is read, and an error names it.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::{EncodeError, Result};

/// Larger figures in a config are a damaged file, not a model.
const LARGEST: i64 = 1 << 22;

/// A JSON object of a file.
#[derive(Debug)]
pub(super) struct Fields {
    path: PathBuf,
    /// Put before the names in errors.
    prefix: &'static str,
    values: Map<String, Value>,
}

impl Fields {
    pub(super) fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| EncodeError::io(path, e))?;
        let mut fields = Self { path: path.to_path_buf(), prefix: "", values: Map::new() };
        match serde_json::from_str(&text) {
            Ok(Value::Object(values)) => fields.values = values,
            Ok(other) => return Err(fields.bad("(whole file)", "a JSON object of a text model", &other)),
            Err(e) => return Err(fields.bad("(whole file)", "a JSON object of a text model", &e)),
        }
        Ok(fields)
    }

    /// The object under `name`.
    pub(super) fn inner(mut self, name: &'static str, prefix: &'static str) -> Result<Self> {
        match self.values.remove(name) {
            Some(Value::Object(values)) => Ok(Self { path: self.path, prefix, values }),
            other => Err(self.bad(name, "an object", &found(other.as_ref()))),
        }
    }

    /// The error about one field.
    pub(super) fn bad(&self, field: &str, expected: &str, found: &dyn std::fmt::Display) -> EncodeError {
        EncodeError::Model {
            path: self.path.clone(),
            field: format!("{}{field}", self.prefix),
            expected: expected.to_owned(),
            found: found.to_string(),
        }
    }

    /// A whole number between `least` and 4,194,304; `default` where the file has none, if there is one.
    pub(super) fn size(&self, field: &str, least: i64, default: Option<i64>) -> Result<i64> {
        match (self.values.get(field), default) {
            (None | Some(Value::Null), Some(default)) => Ok(default),
            (Some(value), _) if value.as_i64().is_some_and(|v| (least..=LARGEST).contains(&v)) => {
                Ok(value.as_i64().unwrap_or(least))
            }
            (value, _) => Err(self.bad(field, &format!("{least} to {LARGEST}"), &found(value))),
        }
    }

    /// One of the known words; `default` where the file has none, if there is one.
    pub(super) fn word<'k>(&self, field: &str, known: &[&'k str], default: Option<&'k str>) -> Result<&'k str> {
        let expected = || known.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ");
        match (self.values.get(field), default) {
            (None | Some(Value::Null), Some(default)) => Ok(default),
            (value, _) => {
                let word = value.and_then(Value::as_str).and_then(|word| known.iter().find(|k| **k == word));
                word.copied().ok_or_else(|| self.bad(field, &expected(), &found(value)))
            }
        }
    }

    /// Epsilon of a norm.
    pub(super) fn epsilon(&self, field: &str, default: f64) -> Result<f64> {
        match self.values.get(field) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => {
                let fits = value.as_f64().filter(|v| *v > 0.0 && *v < 1.0);
                fits.ok_or_else(|| self.bad(field, "between 0 and 1", value))
            }
        }
    }

    /// Refuses a width that the heads do not divide.
    pub(super) fn check_heads(&self, width: i64, heads: i64) -> Result<()> {
        if width % heads == 0 {
            return Ok(());
        }
        Err(self.bad("num_attention_heads", &format!("a divisor of {width}"), &heads))
    }
}

fn found(value: Option<&Value>) -> String {
    value.map_or_else(|| "nothing".to_owned(), ToString::to_string)
}
