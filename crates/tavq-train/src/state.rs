//! What survives a restart: parts write tensors and values under their own names, and read them back.

use serde_json::{Map, Value};
use tavq_torch::TensorFile;
use tch::Tensor;

use crate::{Result, TrainError};

/// A part of a run whose state is saved with a checkpoint.
pub trait Stateful {
    /// Writes the state.
    fn save(&self, out: &mut StateWriter) -> Result<()>;
    /// Replaces the state by a saved one; on an error the part must not be used.
    fn load(&mut self, from: &StateReader) -> Result<()>;
}

/// Collects state before it is written.
#[derive(Debug, Default)]
pub struct StateWriter {
    pub(crate) tensors: Vec<(String, Tensor)>,
    pub(crate) values: Map<String, Value>,
}

impl StateWriter {
    /// Adds a tensor under a name that no other part uses.
    pub fn tensor(&mut self, name: String, tensor: &Tensor) {
        self.tensors.push((name, tensor.shallow_clone()));
    }

    /// Adds a value under a name that no other part uses.
    pub fn value(&mut self, name: &str, value: Value) {
        self.values.insert(name.to_owned(), value);
    }
}

/// Saved state.
#[derive(Debug)]
pub struct StateReader {
    pub(crate) tensors: TensorFile,
    pub(crate) values: Map<String, Value>,
}

impl StateReader {
    /// A tensor of the given shape (`-1`: any size).
    pub fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        Ok(self.tensors.get_shaped(name, shape)?)
    }

    /// A value.
    pub fn value<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T> {
        let value = self.values.get(name).cloned().unwrap_or(Value::Null);
        serde_json::from_value(value).map_err(|e| TrainError::Checkpoint {
            path: self.tensors.path().with_file_name(crate::checkpoint::STATE),
            message: format!("{name}: {e}"),
        })
    }

    /// A whole number.
    pub fn number(&self, name: &str) -> Result<u64> {
        self.value(name)
    }
}
