//! Named tensors on disk (the safetensors format): memory-mapped on reading, atomic on writing.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::tensor::Metadata;
use safetensors::{Dtype, SafeTensors, View};
use tch::{Device, Kind, Tensor};

/// Why a named-tensor file was refused.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not in the safetensors format, or cut short.
    #[error("{path}: expected a whole safetensors file, found {found}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        found: String,
    },
    /// Tensors are missing, superfluous or of another shape; all of them are listed.
    #[error("{path}: {} tensors do not fit: {}", problems.len(), listed(problems))]
    Tensors {
        /// The file.
        path: PathBuf,
        /// One entry for each tensor.
        problems: Vec<String>,
    },
}

/// Problems in one line. Past fifty they are counted: a file of another model has hundreds, all for one reason.
pub fn listed(problems: &[String]) -> String {
    const MOST: usize = 50;
    let mut text = problems.iter().take(MOST).map(String::as_str).collect::<Vec<_>>().join("; ");
    if problems.len() > MOST {
        text += &format!("; and {} more", problems.len() - MOST);
    }
    text
}

/// A safetensors file, mapped into memory: opening reads the header only.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    map: Mmap,
    header: usize,
    metadata: Metadata,
}

impl TensorFile {
    /// Opens a file and checks its header against its length.
    ///
    /// The file must not be changed while it is open; files written by [`write_tensors`] are only ever replaced.
    #[allow(unsafe_code)]
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let io = |source| FileError::Io { path: path.to_path_buf(), source };
        let file = File::open(path).map_err(io)?;
        // SAFETY: a map is unsound only when the file shrinks under it; our own writers replace files by renaming.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        let bad = |found: String| FileError::Format { path: path.to_path_buf(), found };
        let (n, metadata) = SafeTensors::read_metadata(&map).map_err(|e| bad(format!("{e} ({} bytes)", map.len())))?;
        // The header is preceded by its length in 8 bytes.
        let header = n + 8;
        let expected = header + metadata.data_len();
        if expected != map.len() {
            return Err(bad(format!("{} bytes where the header promises {expected}", map.len())));
        }
        Ok(Self { path: path.to_path_buf(), map, header, metadata })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tensors' names, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names = self.metadata.offset_keys();
        names.sort();
        names
    }

    /// The shape of a tensor; `None` when there is none of that name.
    pub fn shape(&self, name: &str) -> Option<Vec<i64>> {
        let info = self.metadata.info(name)?;
        // A shape that was checked against the file's length fits an i64.
        Some(info.shape.iter().map(|d| *d as i64).collect())
    }

    /// Name of a tensor's type as the format has it, in small letters; `None` when there is none of that name.
    pub fn dtype(&self, name: &str) -> Option<String> {
        Some(format!("{:?}", self.metadata.info(name)?.dtype).to_lowercase())
    }

    /// The value of a metadata key.
    pub fn meta(&self, key: &str) -> Option<&str> {
        self.metadata.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// A copy of a tensor, on the CPU, in the file's own type.
    pub fn get(&self, name: &str) -> Result<Tensor, FileError> {
        let Some(info) = self.metadata.info(name) else {
            return Err(self.problem(format!("{name}: missing")));
        };
        let Some(kind) = kind_of(info.dtype) else {
            return Err(self.problem(format!("{name}: type {:?} is not supported", info.dtype)));
        };
        let (start, end) = info.data_offsets;
        let bytes = &self.map[self.header + start..self.header + end];
        let shape: Vec<i64> = info.shape.iter().map(|d| *d as i64).collect();
        Tensor::f_from_data_size(bytes, &shape, kind).map_err(|e| self.problem(format!("{name}: {e}")))
    }

    /// Like [`TensorFile::get`], with a check of the shape (`-1`: any size).
    pub fn get_shaped(&self, name: &str, expected: &[i64]) -> Result<Tensor, FileError> {
        let tensor = self.get(name)?;
        crate::check_shape(name, &tensor, expected).map_err(|e| self.problem(e.to_string()))?;
        Ok(tensor)
    }

    /// Where the bytes of a tensor lie, for [`TensorFile::bytes`], after checks of its kind and shape (`-1`: any size).
    pub fn place(&self, name: &str, kind: Kind, expected: &[i64]) -> Result<Range<usize>, FileError> {
        let (Some(info), Some(found)) = (self.metadata.info(name), self.shape(name)) else {
            return Err(self.problem(format!("{name}: missing")));
        };
        let fits = found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| *e < 0 || f == e);
        if !fits || kind_of(info.dtype) != Some(kind) {
            let found = format!("{:?} of shape {found:?}", info.dtype);
            return Err(self.problem(format!("{name}: expected {kind:?} of shape {expected:?}, found {found}")));
        }
        let (start, end) = info.data_offsets;
        Ok(self.header + start..self.header + end)
    }

    /// Bytes of the mapped file, little endian; nothing beyond its end.
    pub fn bytes(&self, place: Range<usize>) -> &[u8] {
        self.map.get(place).unwrap_or_default()
    }

    /// An error of this file about one tensor.
    pub fn problem(&self, problem: String) -> FileError {
        FileError::Tensors { path: self.path.clone(), problems: vec![problem] }
    }
}

/// Writes named tensors with string metadata; the file appears whole or not at all.
///
/// Tensors may live on any device and have any strides. Names are written sorted, so equal contents give equal bytes.
pub fn write_tensors(path: &Path, tensors: &[(String, Tensor)], metadata: &[(&str, String)]) -> Result<(), FileError> {
    let unsupported = |problem| FileError::Tensors { path: path.to_path_buf(), problems: vec![problem] };
    let mut rows = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let row = Row::new(tensor).map_err(|e| unsupported(format!("{name}: {e}")))?;
        rows.push((name.clone(), row));
    }
    let meta: HashMap<String, String> = metadata.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
    let meta = (!meta.is_empty()).then_some(meta);
    let io = |source| FileError::Io { path: path.to_path_buf(), source };
    let body = safetensors::serialize(rows, meta).map_err(|e| io(io::Error::other(e.to_string())))?;
    let (header, values) = sorted_header(&body).map_err(io)?;
    crate::write_atomic(path, |out| {
        out.write_all(&header)?;
        out.write_all(values)
    })
    .map_err(io)
}

/// A serialized file as its header, with the keys in order, and its values: equal contents are equal bytes, which a hash map
/// of metadata is not.
fn sorted_header(body: &[u8]) -> io::Result<(Vec<u8>, &[u8])> {
    let cut = || io::Error::other("a header that was cut short");
    let (length, rest) = body.split_first_chunk::<8>().ok_or_else(cut)?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(io::Error::other)?;
    let (header, values) = rest.split_at_checked(length).ok_or_else(cut)?;
    let mut header: BTreeMap<String, serde_json::Value> = serde_json::from_slice(header)?;
    if let Some(metadata) = header.get_mut("__metadata__") {
        let sorted: BTreeMap<String, String> = serde_json::from_value(metadata.take())?;
        *metadata = serde_json::to_value(sorted)?;
    }
    let mut text = serde_json::to_vec(&header)?;
    text.resize(text.len().next_multiple_of(8), b' ');
    Ok(([&(text.len() as u64).to_le_bytes(), text.as_slice()].concat(), values))
}

struct Row {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Row {
    fn new(tensor: &Tensor) -> Result<Self, String> {
        let kind = tensor.f_kind().map_err(|e| e.to_string())?;
        let dtype = dtype_of(kind).ok_or_else(|| format!("type {kind:?} is not supported"))?;
        let flat = tensor.detach().to_device(Device::Cpu).contiguous();
        let mut bytes = vec![0u8; flat.numel() * kind.elt_size_in_bytes()];
        flat.f_copy_data_u8(&mut bytes, flat.numel()).map_err(|e| e.to_string())?;
        // Sizes of a tensor are never negative.
        let shape = flat.size().iter().map(|d| *d as usize).collect();
        Ok(Self { dtype, shape, bytes })
    }
}

impl View for Row {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

fn kind_of(dtype: Dtype) -> Option<Kind> {
    KINDS.iter().find(|(d, _)| *d == dtype).map(|(_, k)| *k)
}

fn dtype_of(kind: Kind) -> Option<Dtype> {
    KINDS.iter().find(|(_, k)| *k == kind).map(|(d, _)| *d)
}

const KINDS: [(Dtype, Kind); 10] = [
    (Dtype::F32, Kind::Float),
    (Dtype::F64, Kind::Double),
    (Dtype::F16, Kind::Half),
    (Dtype::BF16, Kind::BFloat16),
    (Dtype::I64, Kind::Int64),
    (Dtype::I32, Kind::Int),
    (Dtype::I16, Kind::Int16),
    (Dtype::I8, Kind::Int8),
    (Dtype::U8, Kind::Uint8),
    (Dtype::BOOL, Kind::Bool),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<(String, Tensor)> {
        vec![
            ("b".into(), Tensor::arange(6, (Kind::Float, Device::Cpu)).view([2, 3]).transpose(0, 1)),
            ("a".into(), Tensor::from_slice(&[1i64, -2])),
            ("empty".into(), Tensor::zeros([0, 4], (Kind::Float, Device::Cpu))),
        ]
    }

    #[test]
    fn round_trip_keeps_values_strided_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        write_tensors(&path, &sample(), &[("kind", "test".into())]).unwrap();
        let file = TensorFile::open(&path).unwrap();
        assert_eq!(file.names(), ["a", "b", "empty"]);
        assert_eq!(file.meta("kind"), Some("test"));
        for (name, tensor) in sample() {
            let back = file.get(&name).unwrap();
            assert_eq!(back.kind(), tensor.kind());
            assert_eq!(back, tensor.contiguous(), "{name}");
        }
        let e = file.get_shaped("a", &[3]).unwrap_err().to_string();
        assert!(e.ends_with("a: expected shape [3], found [2]"), "{e}");
        assert!(file.get("c").unwrap_err().to_string().ends_with("c: missing"));
    }

    #[test]
    fn a_file_cut_anywhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        write_tensors(&path, &sample(), &[]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for n in 0..whole.len() {
            std::fs::write(&path, &whole[..n]).unwrap();
            assert!(TensorFile::open(&path).is_err(), "{n} of {} bytes", whole.len());
        }
        let mut longer = whole.clone();
        longer.push(0);
        std::fs::write(&path, &longer).unwrap();
        assert!(TensorFile::open(&path).is_err());
    }

    #[test]
    fn a_header_that_promises_terabytes_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        let header = br#"{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}"#;
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header);
        bytes.extend_from_slice(&[0; 16]);
        std::fs::write(&path, bytes).unwrap();
        assert!(TensorFile::open(&path).is_err());
    }
}
