//! A safetensors file whose tensors are views into a memory map.
//!
//! libtorch maps the file, so that a view is an ordinary tensor and reading a row is one copy. Pages come and go
//! with the system's cache: nothing is held in memory.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use tavq_torch::TensorFile;
use tch::{Device, Kind, Tensor};

use crate::{EncodeError, Result};

/// The file, mapped whole as bytes, and where each tensor starts.
pub(super) struct Mapped {
    file: TensorFile,
    bytes: Tensor,
    starts: HashMap<String, i64>,
}

impl Mapped {
    /// Maps a file after checking its header against its length.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = TensorFile::open(path)?;
        let header = read_header(path)?;
        let damaged = |expected: &str, found: String| EncodeError::Index {
            path: path.to_path_buf(),
            expected: expected.to_owned(),
            found,
        };
        let entries: HashMap<String, serde_json::Value> =
            serde_json::from_slice(&header).map_err(|e| damaged("a safetensors header", e.to_string()))?;
        // The header is preceded by its length in 8 bytes.
        let data = 8 + header.len() as i64;
        let start = |v: &serde_json::Value| Some(data + v.get("data_offsets")?.get(0)?.as_i64()?);
        let starts = entries.iter().filter_map(|(name, v)| Some((name.clone(), start(v)?))).collect();
        let length = std::fs::metadata(path).map_err(|e| EncodeError::io(path, e))?.len();
        let name = path.to_str().ok_or_else(|| damaged("a path in UTF-8", path.display().to_string()))?;
        let bytes = Tensor::f_from_file(name, false, length as i64, (Kind::Uint8, Device::Cpu))?;
        Ok(Self { file, bytes, starts })
    }

    /// A view of one tensor, after a check of its shape (`-1`: any size).
    pub(super) fn view(&self, name: &str, kind: Kind, shape: &[i64]) -> Result<Tensor> {
        let (Some(found), Some(&start)) = (self.file.shape(name), self.starts.get(name)) else {
            return Err(self.file.problem(format!("{name}: missing")).into());
        };
        let fits = found.len() == shape.len() && found.iter().zip(shape).all(|(f, s)| *s < 0 || f == s);
        if !fits {
            return Err(self.file.problem(format!("{name}: expected shape {shape:?}, found {found:?}")).into());
        }
        let length = found.iter().product::<i64>() * kind.elt_size_in_bytes() as i64;
        let flat = self.bytes.f_narrow(0, start, length)?.f_view_dtype(kind)?;
        Ok(flat.f_view(found.as_slice())?)
    }

    /// A value of the file's metadata.
    pub(super) fn meta(&self, key: &str) -> Option<&str> {
        self.file.meta(key)
    }
}

// The file has passed `TensorFile::open`: the length in front is sound.
fn read_header(path: &Path) -> Result<Vec<u8>> {
    let read = || {
        let mut file = File::open(path)?;
        let mut length = [0u8; 8];
        file.read_exact(&mut length)?;
        let mut header = Vec::new();
        file.take(u64::from_le_bytes(length)).read_to_end(&mut header)?;
        Ok(header)
    };
    read().map_err(|e| EncodeError::io(path, e))
}
