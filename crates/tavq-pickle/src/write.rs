//! Writes the zip format of `torch.save`: a dict of tensors that `torch.load(weights_only=True)` reads.

use std::io::{self, Write};
use std::mem::ManuallyDrop;

use zip::write::{SimpleFileOptions, StreamWriter};
use zip::{CompressionMethod, ZipWriter};

use crate::dtype::Dtype;

/// A tensor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// Type of its values.
    pub dtype: Dtype,
    /// Sizes.
    pub shape: Vec<u64>,
}

/// Bytes of storages start at multiples of this, as PyTorch wants them for mapping a file into memory.
const ALIGNMENT: u16 = 64;

/// Writes `{key: {name: tensor, ...}, number: value, ...}`, or without `key` the inner dict alone.
///
/// `values` gives the bytes of the tensor of a place in `tensors`, in order, little endian; it is asked once for each, in
/// order. The bytes written depend on the arguments alone.
pub fn write(
    out: &mut dyn Write,
    key: Option<&str>,
    numbers: &[(&str, i64)],
    tensors: &[Described],
    mut values: impl FnMut(usize) -> io::Result<Vec<u8>>,
) -> io::Result<()> {
    // Dropped unfinished, the writer would complain on standard error.
    let mut zip = ManuallyDrop::new(ZipWriter::new_stream(out));
    member(&mut zip, "data.pkl", &pickle(key, numbers, tensors))?;
    member(&mut zip, "byteorder", b"little")?;
    for (place, tensor) in tensors.iter().enumerate() {
        let bytes = values(place)?;
        let expected = tensor.shape.iter().product::<u64>() * tensor.dtype.size();
        if bytes.len() as u64 != expected {
            let found = bytes.len();
            return Err(io::Error::other(format!("{}: expected {expected} bytes, found {found}", tensor.name)));
        }
        member(&mut zip, &format!("data/{place}"), &bytes)?;
    }
    member(&mut zip, "version", b"3\n")?;
    ManuallyDrop::into_inner(zip).finish().map(drop).map_err(io::Error::from)
}

fn member(zip: &mut ZipWriter<StreamWriter<&mut dyn Write>>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .with_alignment(ALIGNMENT)
        .large_file(bytes.len() as u64 > u64::from(u32::MAX) - (1 << 16));
    zip.start_file(format!("archive/{name}"), options)?;
    zip.write_all(bytes)
}

/// Protocol 2, without a memo: no object is referred to twice.
fn pickle(key: Option<&str>, numbers: &[(&str, i64)], tensors: &[Described]) -> Vec<u8> {
    let mut out = vec![0x80, 2];
    if let Some(key) = key {
        out.extend(b"}(");
        text(&mut out, key);
    }
    out.extend(b"}(");
    for (place, tensor) in tensors.iter().enumerate() {
        text(&mut out, &tensor.name);
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage");
        out.extend(format!("ctorch\n{}\n", tensor.dtype.storage()).bytes());
        text(&mut out, &place.to_string());
        text(&mut out, "cpu");
        integer(&mut out, tensor.shape.iter().product::<u64>().cast_signed());
        out.extend(b"tQ");
        integer(&mut out, 0);
        tuple(&mut out, &tensor.shape);
        tuple(&mut out, &strides(&tensor.shape));
        // No gradient wanted, no hooks; call, and the tensor is there.
        out.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    out.push(b'u');
    if key.is_some() {
        for (name, value) in numbers {
            text(&mut out, name);
            integer(&mut out, *value);
        }
        out.push(b'u');
    }
    out.push(b'.');
    out
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    // Names of tensors are far shorter than 4 GB.
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.bytes());
}

fn integer(out: &mut Vec<u8>, value: i64) {
    match i32::try_from(value) {
        Ok(small) => {
            out.push(b'J');
            out.extend(small.to_le_bytes());
        }
        Err(_) => {
            out.extend([0x8a, 8]);
            out.extend(value.to_le_bytes());
        }
    }
}

fn tuple(out: &mut Vec<u8>, items: &[u64]) {
    out.push(b'(');
    for item in items {
        integer(out, item.cast_signed());
    }
    out.push(b't');
}

fn strides(shape: &[u64]) -> Vec<u64> {
    let mut step = 1;
    let mut out: Vec<u64> = shape
        .iter()
        .rev()
        .map(|d| {
            let stride = step;
            step *= (*d).max(1);
            stride
        })
        .collect();
    out.reverse();
    out
}
