//! Storages: the flat arrays that tensors are views of, where they lie in the file, and reading them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use crate::dtype::Dtype;
use crate::error::{Problem, Result};
use crate::node::TensorInfo;

/// Where the bytes of a storage lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// CRC-32 of the bytes, where the format has one.
    pub(crate) checksum: Option<u32>,
}

#[derive(Debug)]
struct Storage {
    key: String,
    dtype: Dtype,
    elements: u64,
    place: Option<Place>,
}

/// Every storage that the pickle names, once each.
#[derive(Debug, Default)]
pub(crate) struct Storages {
    all: Vec<Storage>,
    by_key: HashMap<String, u32>,
}

impl Storages {
    /// The number of a storage; one key always means the same storage.
    pub(crate) fn name(&mut self, key: String, dtype: Dtype, elements: u64) -> Result<u32> {
        if let Some(id) = self.by_key.get(&key) {
            let known = &self.all[*id as usize];
            if (known.dtype, known.elements) != (dtype, elements) {
                let text = |dtype: Dtype, n: u64| format!("{n} x {}", dtype.name());
                let (expected, found) = (text(known.dtype, known.elements), text(dtype, elements));
                return Err(Problem::Storage { storage: key, expected: format!("{expected} again"), found });
            }
            return Ok(*id);
        }
        let id = self.all.len() as u32;
        self.by_key.insert(key.clone(), id);
        self.all.push(Storage { key, dtype, elements, place: None });
        Ok(id)
    }

    /// Key, type and elements.
    pub(crate) fn described(&self, id: u32) -> (&str, Dtype, u64) {
        let storage = &self.all[id as usize];
        (&storage.key, storage.dtype, storage.elements)
    }

    /// Type and elements of the storage of a key.
    pub(crate) fn by_name(&self, key: &str) -> Option<(Dtype, u64)> {
        let storage = &self.all[*self.by_key.get(key)? as usize];
        Some((storage.dtype, storage.elements))
    }

    /// Says where each storage lies; its bytes must be as many as its elements need.
    pub(crate) fn locate(&mut self, place_of: impl Fn(&str) -> Option<Place>) -> Result<()> {
        for storage in &mut self.all {
            let bad = |expected: String, found: String| Problem::Storage {
                storage: crate::error::shown(&storage.key),
                expected,
                found,
            };
            let needed = storage.elements.checked_mul(storage.dtype.size());
            match (place_of(&storage.key), needed) {
                (None, _) => return Err(bad("its bytes in the file".to_owned(), "none".to_owned())),
                (Some(place), Some(needed)) if place.length == needed => storage.place = Some(place),
                (Some(place), Some(needed)) => {
                    return Err(bad(
                        format!("{needed} bytes ({} x {})", storage.elements, storage.dtype.name()),
                        format!("{}", place.length),
                    ));
                }
                (Some(_), None) => {
                    let found = format!("{} x {}", storage.elements, storage.dtype.name());
                    return Err(bad("as many bytes as 64 bits can count".to_owned(), found));
                }
            }
        }
        Ok(())
    }
}

/// Reads storages whole and keeps the last one: tensors that share a storage come one after the other.
#[derive(Debug)]
pub(crate) struct Reader {
    file: File,
    swap: bool,
    last: Option<(u32, Vec<u8>)>,
}

impl Reader {
    /// `swap`: the values were written on a big-endian machine.
    pub(crate) fn new(file: File, swap: bool) -> Self {
        Self { file, swap, last: None }
    }

    /// The values of a tensor in order, little endian.
    pub(crate) fn tensor(&mut self, storages: &Storages, info: &TensorInfo) -> Result<Vec<u8>> {
        if info.values() == 0 {
            return Ok(Vec::new());
        }
        let size = info.dtype.size();
        if self.last.as_ref().is_none_or(|(id, _)| *id != info.storage) {
            self.last = None;
            let bytes = self.storage(storages, info.storage)?;
            self.last = Some((info.storage, bytes));
        }
        let bytes = self.last.as_ref().map_or(&[][..], |(_, bytes)| bytes);
        let lost = || Problem::Storage {
            storage: storages.described(info.storage).0.to_owned(),
            expected: "a tensor inside its storage".to_owned(),
            found: format!("shape {:?}", info.shape),
        };
        let range = |at: u64, n: u64| bytes.get((at * size) as usize..((at + n) * size) as usize).ok_or_else(lost);
        if info.contiguous() {
            return Ok(range(info.offset, info.values())?.to_vec());
        }
        let mut out = Vec::with_capacity(info.bytes() as usize);
        let mut place = vec![0u64; info.shape.len()];
        loop {
            let at = place.iter().zip(&info.strides).fold(info.offset, |at, (i, stride)| at + i * stride);
            out.extend_from_slice(range(at, 1)?);
            let next = (0..place.len()).rev().find(|axis| place[*axis] + 1 < info.shape[*axis]);
            let Some(axis) = next else { return Ok(out) };
            place[axis] += 1;
            place[axis + 1..].fill(0);
        }
    }

    fn storage(&mut self, storages: &Storages, id: u32) -> Result<Vec<u8>> {
        let storage = &storages.all[id as usize];
        let bad = |expected: String, found: String| Problem::Storage { storage: storage.key.clone(), expected, found };
        let Some(place) = storage.place else { return Err(bad("a place in the file".into(), "none".into())) };
        self.file.seek(SeekFrom::Start(place.offset))?;
        let mut bytes = Vec::new();
        self.file.by_ref().take(place.length).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != place.length {
            return Err(bad(format!("{} bytes", place.length), bytes.len().to_string()));
        }
        if let Some(expected) = place.checksum {
            let found = crc32fast::hash(&bytes);
            if found != expected {
                return Err(bad(format!("CRC-32 {expected:08x}"), format!("{found:08x}; the file is damaged")));
            }
        }
        if self.swap {
            for value in bytes.chunks_exact_mut(storage.dtype.size() as usize) {
                value.reverse();
            }
        }
        Ok(bytes)
    }
}
