//! Archives of arrays (.npz): members by name, guarded against sizes that a header only claims, and written as a stream.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use ndarray::{ArrayBase, Data, Dimension};
use ndarray_npy::{WritableElement, WriteNpyExt};
use zip::write::{SimpleFileOptions, StreamWriter};
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::npy::{Stream, Values};
use crate::failure::{Failure, Outcome, reading};

/// A member larger than this must not be compressed to less than one part in [`DENSEST`]: no array of costs is, and a file
/// of a few megabytes could fill the memory otherwise.
const LARGE: u64 = 1 << 28;
const DENSEST: u64 = 200;

/// An open archive whose members are all known by name.
pub(super) struct Archive {
    zip: ZipArchive<BufReader<File>>,
    path: PathBuf,
}

impl Archive {
    /// Opens an archive and refuses members that are none of `known`.
    pub(super) fn open(path: &Path, known: &[&str]) -> Outcome<Self> {
        let file = File::open(path).map_err(reading(path))?;
        let meta = file.metadata().map_err(reading(path))?;
        let refuse = |found: String| {
            Failure::input(anyhow!("{}: expected a .npz archive of arrays, found {found}", path.display()))
        };
        if meta.is_dir() {
            return Err(refuse("a folder".to_owned()));
        }
        if meta.is_file() && meta.len() == 0 {
            return Err(refuse("an empty file".to_owned()));
        }
        let zip = ZipArchive::new(BufReader::new(file)).map_err(|e| refuse(e.to_string()))?;
        if let Some(name) = zip.file_names().find(|name| !known.contains(&name.strip_suffix(".npy").unwrap_or(name))) {
            let (path, known) = (path.display(), known.join(", "));
            return Err(Failure::input(anyhow!("{path}: expected only members among {known}, found {name:?}")));
        }
        Ok(Self { zip, path: path.to_owned() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The values of a member; `None` when the archive has none of this name.
    pub(super) fn member(&mut self, name: &str) -> Outcome<Option<Values<'_>>> {
        let place = format!("{}: {name}", self.path.display());
        let refuse = |found: String| Failure::input(anyhow!("{place}: {found}"));
        let Some(index) = self.zip.index_for_name(&format!("{name}.npy")).or_else(|| self.zip.index_for_name(name))
        else {
            return Ok(None);
        };
        let file = self.zip.by_index(index).map_err(|e| refuse(format!("expected a readable member, found {e}")))?;
        let (size, packed) = (file.size(), file.compressed_size());
        if size > LARGE && size / DENSEST > packed {
            return Err(refuse(format!(
                "expected at most {DENSEST} bytes of a large array for a byte of archive (more has to be stored without compression), found {size} for {packed}"
            )));
        }
        Stream { bytes: Box::new(file), length: Some(size), place }.open().map(Some)
    }
}

/// Writes an archive member by member, without compression; the bytes depend on the arrays alone.
pub(super) struct ArchiveWriter<'w> {
    // Dropped unfinished, the writer would complain on standard error beside the one line of the command.
    zip: ManuallyDrop<ZipWriter<StreamWriter<&'w mut dyn Write>>>,
}

impl<'w> ArchiveWriter<'w> {
    pub(super) fn new(out: &'w mut dyn Write) -> Self {
        Self { zip: ManuallyDrop::new(ZipWriter::new_stream(out)) }
    }

    pub(super) fn add<A, S, D>(&mut self, name: &str, array: &ArrayBase<S, D>) -> io::Result<()>
    where
        A: WritableElement,
        S: Data<Elem = A>,
        D: Dimension,
    {
        let bytes = array.len().saturating_mul(size_of::<A>()) as u64;
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(bytes > u64::from(u32::MAX) - (1 << 16));
        self.zip.start_file(format!("{name}.npy"), options)?;
        array.write_npy(&mut *self.zip).map_err(io::Error::other)
    }

    pub(super) fn finish(self) -> io::Result<()> {
        ManuallyDrop::into_inner(self.zip).finish().map(drop).map_err(io::Error::from)
    }
}
