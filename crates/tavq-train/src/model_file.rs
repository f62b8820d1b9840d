//! A model in one file: the variables as safetensors, with the configuration that builds it in the file's metadata.
//!
//! It is what `tavq checkpoint import` writes and every command that needs no state of a training reads.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tavq_torch::{TensorFile, load_variables, write_tensors};
use tch::Tensor;
use tch::nn::VarStore;

use crate::{Result, TrainError};

/// Version of the metadata; a reader refuses any other.
pub const MODEL_FORMAT: &str = "1";
const FORMAT_KEY: &str = "tavq.format";
const CONFIG_KEY: &str = "tavq.config";
const ORIGIN_KEY: &str = "tavq.origin";

/// Where a model came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Layout it was read from.
    pub layout: String,
    /// Name of the file, without its folder.
    pub file: String,
    /// BLAKE3 of that file.
    pub blake3: String,
}

/// An open model file.
#[derive(Debug)]
pub struct ModelFile {
    tensors: TensorFile,
    /// The configuration, as TOML.
    pub config: String,
    /// Where it came from, where that was noted.
    pub origin: Option<Origin>,
}

impl ModelFile {
    /// Writes variables with a configuration; the file appears whole or not at all.
    pub fn write(path: &Path, variables: &[(String, Tensor)], config: &str, origin: &Origin) -> Result<()> {
        let origin = serde_json::to_string(origin)
            .map_err(|e| TrainError::Checkpoint { path: path.to_path_buf(), message: e.to_string() })?;
        let metadata = [(FORMAT_KEY, MODEL_FORMAT.to_owned()), (CONFIG_KEY, config.to_owned()), (ORIGIN_KEY, origin)];
        Ok(write_tensors(path, variables, &metadata)?)
    }

    /// Opens a file; one of plain tensors without a configuration is refused.
    pub fn open(path: &Path) -> Result<Self> {
        Self::of(TensorFile::open(path)?)
    }

    /// The same of a file that is open already.
    pub fn of(tensors: TensorFile) -> Result<Self> {
        let bad = |message: String| TrainError::Checkpoint { path: tensors.path().to_path_buf(), message };
        let Some(config) = tensors.meta(CONFIG_KEY) else {
            return Err(bad(format!(
                "expected a model with its configuration (metadata \"{CONFIG_KEY}\"), found plain tensors; \
                 `tavq checkpoint import` makes one"
            )));
        };
        match tensors.meta(FORMAT_KEY) {
            Some(MODEL_FORMAT) => {}
            found => {
                let found = found.unwrap_or("none");
                return Err(bad(format!("metadata \"{FORMAT_KEY}\": expected {MODEL_FORMAT}, found {found}")));
            }
        }
        let origin = tensors.meta(ORIGIN_KEY).map(serde_json::from_str).transpose();
        let origin = origin.map_err(|e| bad(format!("metadata \"{ORIGIN_KEY}\": {e}")))?;
        Ok(Self { config: config.to_owned(), origin, tensors })
    }

    /// The variables.
    pub fn tensors(&self) -> &TensorFile {
        &self.tensors
    }

    /// Loads the model's variables; every one must be there, and no other.
    pub fn load_model(&self, store: &VarStore) -> Result<()> {
        Ok(load_variables(store, &self.tensors, "")?)
    }
}
