//! A checkpoint is a folder `step-NNNNNN`: `config.toml` (resolved), `model.safetensors` (every
//! variable), `optimizer.safetensors` (moments, histograms) and `state.json` (step, cursor, values,
//! BLAKE3 hashes of the other files). It is filled beside its place and renamed, so a folder of that name is whole.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tavq_data::Cursor;
use tavq_torch::{TensorFile, load_variables, write_folder_atomic, write_tensors};
use tch::Tensor;
use tch::nn::VarStore;

use crate::state::{StateReader, StateWriter};
use crate::{Result, TrainError};

/// Version of the layout; a reader refuses any other.
pub const FORMAT: u32 = 1;
pub(crate) const CONFIG: &str = "config.toml";
pub(crate) const MODEL: &str = "model.safetensors";
pub(crate) const OPTIMIZER: &str = "optimizer.safetensors";
pub(crate) const STATE: &str = "state.json";

/// `state.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// [`FORMAT`].
    pub format: u32,
    /// Steps done.
    pub step: u64,
    /// Where the data stream goes on.
    pub cursor: Cursor,
    /// BLAKE3 of the other files, by name.
    pub hashes: Map<String, Value>,
    /// Values of the parts.
    pub values: Map<String, Value>,
}

/// A checkpoint on disk whose files were found whole.
#[derive(Debug)]
pub struct Checkpoint {
    /// Its folder.
    pub path: PathBuf,
    /// `state.json`.
    pub state: State,
    /// `config.toml`, as text.
    pub config: String,
}

impl Checkpoint {
    /// Opens a checkpoint folder and checks every file against its hash.
    pub fn open(path: &Path) -> Result<Self> {
        let bad = |file: &str, message: String| TrainError::Checkpoint { path: path.join(file), message };
        let state = fs::read_to_string(path.join(STATE)).map_err(|e| bad(STATE, e.to_string()))?;
        let state: State = serde_json::from_str(&state).map_err(|e| bad(STATE, e.to_string()))?;
        if state.format != FORMAT {
            return Err(bad(STATE, format!("format: expected {FORMAT}, found {}", state.format)));
        }
        for file in [CONFIG, MODEL, OPTIMIZER] {
            let found = hash_file(&path.join(file)).map_err(|e| bad(file, e.to_string()))?;
            let expected = state.hashes.get(file).and_then(Value::as_str).unwrap_or("no hash");
            if expected != found {
                return Err(bad(
                    file,
                    format!("BLAKE3: expected {expected}, found {found}; the file was changed or damaged"),
                ));
            }
        }
        let config = fs::read_to_string(path.join(CONFIG)).map_err(|e| bad(CONFIG, e.to_string()))?;
        Ok(Self { path: path.to_path_buf(), state, config })
    }

    /// The newest checkpoint under a run's folder, if there is one.
    pub fn newest(run: &Path) -> Result<Option<PathBuf>> {
        Ok(list(&folder(run))?.pop().map(|(_, path)| path))
    }

    /// The model's tensors.
    pub fn model(&self) -> Result<TensorFile> {
        Ok(TensorFile::open(&self.path.join(MODEL))?)
    }

    /// Loads the model's variables; every one must be there, and no other.
    pub fn load_model(&self, store: &VarStore) -> Result<()> {
        Ok(load_variables(store, &self.model()?, "")?)
    }

    /// The other parts' state.
    pub fn reader(&self) -> Result<StateReader> {
        let tensors = TensorFile::open(&self.path.join(OPTIMIZER))?;
        Ok(StateReader { tensors, values: self.state.values.clone() })
    }
}

/// Where a run keeps its checkpoints.
pub(crate) fn folder(run: &Path) -> PathBuf {
    run.join("checkpoints")
}

/// What goes into a checkpoint.
pub(crate) struct Contents<'a> {
    pub(crate) step: u64,
    pub(crate) cursor: Cursor,
    pub(crate) config: &'a str,
    pub(crate) store: &'a VarStore,
    pub(crate) parts: StateWriter,
}

/// Writes a checkpoint and then removes the oldest past `keep`.
pub(crate) fn write(run: &Path, contents: Contents<'_>, keep: usize) -> Result<PathBuf> {
    let root = folder(run);
    let path = root.join(format!("step-{:06}", contents.step));
    let io = |source| TrainError::Io { path: path.clone(), source };
    let mut model: Vec<(String, Tensor)> = contents.store.variables().into_iter().collect();
    model.sort_by(|a, b| a.0.cmp(&b.0));
    write_folder_atomic(&path, |dir| {
        fs::write(dir.join(CONFIG), contents.config)?;
        write_tensors(&dir.join(MODEL), &model, &[]).map_err(std::io::Error::other)?;
        write_tensors(&dir.join(OPTIMIZER), &contents.parts.tensors, &[]).map_err(std::io::Error::other)?;
        let mut hashes = Map::new();
        for file in [CONFIG, MODEL, OPTIMIZER] {
            hashes.insert(file.to_owned(), hash_file(&dir.join(file))?.into());
        }
        let state = State {
            format: FORMAT,
            step: contents.step,
            cursor: contents.cursor,
            hashes,
            values: contents.parts.values,
        };
        fs::write(dir.join(STATE), serde_json::to_string_pretty(&state)?)
    })
    .map_err(io)?;
    let mut all = list(&root)?;
    while all.len() > keep.max(1) {
        let (_, old) = all.remove(0);
        fs::remove_dir_all(&old).map_err(|source| TrainError::Io { path: old, source })?;
    }
    Ok(path)
}

/// Removes what a killed run left half-written.
pub(crate) fn sweep(run: &Path) -> Result<()> {
    let root = folder(run);
    let io = |source| TrainError::Io { path: root.clone(), source };
    let Ok(entries) = fs::read_dir(&root) else { return Ok(()) };
    for entry in entries {
        let entry = entry.map_err(io)?;
        if entry.file_name().to_string_lossy().starts_with(".tavq-") {
            fs::remove_dir_all(entry.path()).map_err(io)?;
        }
    }
    Ok(())
}

fn list(root: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let io = |source| TrainError::Io { path: root.to_path_buf(), source };
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(io(e)),
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io)?;
        let name = entry.file_name();
        if let Some(step) = name.to_str().and_then(|n| n.strip_prefix("step-")).and_then(|n| n.parse().ok()) {
            all.push((step, entry.path()));
        }
    }
    all.sort();
    Ok(all)
}

/// BLAKE3 of a file, in hexadecimal.
pub fn hash_file(path: &Path) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    std::io::copy(&mut fs::File::open(path)?, &mut hasher)?;
    Ok(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    fn save(run: &Path, step: u64, value: f64) -> PathBuf {
        let store = VarStore::new(Device::Cpu);
        let _ = store.root().var("w", &[3], tch::nn::Init::Const(value));
        let mut parts = StateWriter::default();
        parts.tensor("moment".into(), &Tensor::from_slice(&[value]));
        parts.value("count", 7.into());
        let cursor = Cursor { epoch: 1, position: 2, skipped: 0 };
        write(run, Contents { step, cursor, config: "seed = 1\n", store: &store, parts }, 2).unwrap()
    }

    #[test]
    fn keeps_the_newest_and_reads_them_back() {
        let run = tempfile::tempdir().unwrap();
        for step in [5, 10, 15] {
            save(run.path(), step, step as f64);
        }
        let newest = Checkpoint::newest(run.path()).unwrap().unwrap();
        assert!(newest.ends_with("step-000015"));
        assert_eq!(list(&folder(run.path())).unwrap().len(), 2);
        let ck = Checkpoint::open(&newest).unwrap();
        let store = VarStore::new(Device::Cpu);
        let w = store.root().zeros("w", &[3]);
        ck.load_model(&store).unwrap();
        assert_eq!(w.double_value(&[2]), 15.0);
        let reader = ck.reader().unwrap();
        assert_eq!(reader.number("count").unwrap(), 7);
        assert_eq!(reader.tensor("moment", &[1]).unwrap().double_value(&[0]), 15.0);
        assert!(reader.number("other").unwrap_err().to_string().contains("other"));
    }

    #[test]
    fn a_damaged_file_is_named() {
        let run = tempfile::tempdir().unwrap();
        let path = save(run.path(), 1, 1.0);
        for file in [CONFIG, MODEL, OPTIMIZER, STATE] {
            let whole = fs::read(path.join(file)).unwrap();
            let mut bent = whole.clone();
            let middle = bent.len() / 2;
            bent[middle] ^= 1;
            for bytes in [&bent[..], &whole[..middle], &[]] {
                fs::write(path.join(file), bytes).unwrap();
                // A bit inside state.json may leave it valid JSON: only its own hashes are guarded then.
                if file != STATE || bytes.len() < whole.len() {
                    let text = Checkpoint::open(&path).unwrap_err().to_string();
                    assert!(text.contains(file), "{text}");
                }
            }
            fs::write(path.join(file), &whole).unwrap();
        }
        assert!(Checkpoint::open(&path).is_ok());
    }

    #[test]
    fn what_a_killed_run_left_is_swept() {
        let run = tempfile::tempdir().unwrap();
        let path = save(run.path(), 1, 1.0);
        let half = folder(run.path()).join(".tavq-abc");
        fs::create_dir(&half).unwrap();
        sweep(run.path()).unwrap();
        assert!(!half.exists() && path.exists());
    }
}
