//! Reads the arrays of NumPy: f64 and f32, either byte order, C and Fortran order.
//!
//! ndarray-npy allocates what a header declares before it looks at the data; here a header is believed only when the file
//! has the bytes for it, so a small file cannot ask for a large array. Values come in order, in portions, which lets
//! `tavq ot batch` walk through a stack that does not fit into memory.

use std::io::{self, Read};

use anyhow::anyhow;
use ndarray::{Array1, Array2, ShapeBuilder};

use crate::failure::{Failure, Outcome};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Headers longer than NumPy itself ever writes are refused unread.
const LONGEST_HEADER: usize = 1 << 16;
/// Bytes read at once.
const PORTION: usize = 1 << 16;

/// Bytes of an array that is about to be read.
pub(super) struct Stream<'r> {
    pub(super) bytes: Box<dyn Read + 'r>,
    /// How many there are, where that is known (not of a pipe).
    pub(super) length: Option<u64>,
    /// What errors call it.
    pub(super) place: String,
}

/// An array whose header is checked and whose values are still to come.
pub(super) struct Values<'r> {
    bytes: Box<dyn Read + 'r>,
    place: String,
    kind: Kind,
    fortran: bool,
    shape: Vec<usize>,
    left: usize,
    sized: bool,
}

#[derive(Clone, Copy)]
struct Kind {
    width: usize,
    big_endian: bool,
}

fn refuse<T>(place: &str, words: impl std::fmt::Display) -> Outcome<T> {
    Err(Failure::input(anyhow!("{place}: {words}")))
}

fn broken(place: &str, error: &io::Error) -> Failure {
    Failure::input(anyhow!("{place}: expected readable bytes, found {error}"))
}

impl<'r> Stream<'r> {
    /// Reads the header and holds its promise against the bytes that are there.
    pub(super) fn open(mut self) -> Outcome<Values<'r>> {
        let (header, read) = self.header()?;
        let header = match Header::parse(&header) {
            Ok(header) => header,
            Err(found) => return refuse(&self.place, format_args!("expected a .npy header, found {found}")),
        };
        let Some(kind) = Kind::of(&header.kind) else {
            let found = name_of(&header.kind);
            return refuse(&self.place, format_args!("expected an array of float64 or float32, found {found}"));
        };
        let count = header.shape.iter().try_fold(1_usize, |all, n| all.checked_mul(*n));
        let needed = count.and_then(|count| count.checked_mul(kind.width));
        let (Some(count), Some(needed)) = (count, needed) else {
            return refuse(
                &self.place,
                format_args!("expected a shape that fits memory, found {}", show(&header.shape)),
            );
        };
        if let Some(found) = self.length.map(|length| length.saturating_sub(read as u64))
            && found != needed as u64
        {
            let shape = show(&header.shape);
            return refuse(
                &self.place,
                format_args!("expected {needed} bytes of data for shape {shape}, found {found}"),
            );
        }
        Ok(Values {
            bytes: self.bytes,
            place: self.place,
            kind,
            fortran: header.fortran,
            shape: header.shape,
            left: count,
            sized: self.length.is_some(),
        })
    }

    /// The text of the header and how many bytes came before the data.
    fn header(&mut self) -> Outcome<(String, usize)> {
        let start = self.some(8)?;
        if start.is_empty() {
            return refuse(&self.place, "expected a .npy array, found an empty file");
        }
        if start.starts_with(b"PK\x03\x04") {
            return refuse(&self.place, "expected a .npy array, found a .npz archive");
        }
        if start.len() < 8 || !start.starts_with(MAGIC) {
            return refuse(&self.place, "expected a .npy array, found other bytes");
        }
        let digits = match start[6] {
            1 => 2,
            2 | 3 => 4,
            other => return refuse(&self.place, format_args!("expected .npy version 1, 2 or 3, found {other}")),
        };
        let length = self.some(digits)?;
        let length = length.iter().rev().fold(0_usize, |all, byte| all << 8 | usize::from(*byte));
        if length > LONGEST_HEADER {
            let words = format_args!("expected a .npy header of at most {LONGEST_HEADER} bytes, found {length}");
            return refuse(&self.place, words);
        }
        let text = self.some(length)?;
        if text.len() < length {
            return refuse(&self.place, format_args!("expected a header of {length} bytes, found {}", text.len()));
        }
        Ok((String::from_utf8_lossy(&text).into_owned(), 8 + digits + length))
    }

    /// The next bytes; fewer at the end.
    fn some(&mut self, count: usize) -> Outcome<Vec<u8>> {
        let mut out = Vec::with_capacity(count);
        let read = (&mut self.bytes).take(count as u64).read_to_end(&mut out);
        read.map_err(|e| broken(&self.place, &e))?;
        Ok(out)
    }
}

impl Values<'_> {
    pub(super) fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub(super) fn is_fortran(&self) -> bool {
        self.fortran
    }

    /// The next `count` values as they lie in the file.
    pub(super) fn next(&mut self, count: usize) -> Outcome<Vec<f64>> {
        let count = count.min(self.left);
        let mut out = Vec::new();
        // Of a pipe the header is the only word for the size, so the memory grows with what arrives.
        if self.sized && out.try_reserve_exact(count).is_err() {
            return Err(Failure::work(anyhow!(
                "{}: no memory for an array of shape {}",
                self.place,
                show(&self.shape)
            )));
        }
        let mut buffer = vec![0; PORTION];
        while out.len() < count {
            let bytes = &mut buffer[..(PORTION / self.kind.width).min(count - out.len()) * self.kind.width];
            self.bytes.read_exact(bytes).map_err(|e| match e.kind() {
                io::ErrorKind::UnexpectedEof => {
                    let (shape, missing) = (show(&self.shape), self.left - out.len());
                    Failure::input(anyhow!(
                        "{}: expected shape {shape}, found an end {missing} values early",
                        self.place
                    ))
                }
                _ => broken(&self.place, &e),
            })?;
            self.kind.decode(bytes, &mut out);
        }
        self.left -= count;
        Ok(out)
    }

    /// Demands that nothing follows. An archive checks its sum of a member here.
    pub(super) fn finish(mut self) -> Outcome {
        match self.bytes.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => refuse(&self.place, format_args!("expected an end after shape {}, found more", show(&self.shape))),
            Err(e) => Err(broken(&self.place, &e)),
        }
    }

    pub(super) fn vector(mut self, what: &str) -> Outcome<Array1<f64>> {
        let [n] = self.shape[..] else { return self.misshapen("1 dimension", what) };
        let values = self.next(n)?;
        self.finish()?;
        Ok(Array1::from_vec(values))
    }

    pub(super) fn matrix(mut self, what: &str) -> Outcome<Array2<f64>> {
        let [n, m] = self.shape[..] else { return self.misshapen("2 dimensions", what) };
        // A side without a length lets the other one claim any, and masses are made for it.
        if n == 0 || m == 0 {
            return self.misshapen("at least 1 x 1", what);
        }
        let values = self.next(n * m)?;
        let array = Array2::from_shape_vec((n, m).set_f(self.fortran), values).map_err(Failure::work)?;
        self.finish()?;
        Ok(if array.is_standard_layout() { array } else { array.as_standard_layout().into_owned() })
    }

    pub(super) fn misshapen<T>(&self, expected: &str, what: &str) -> Outcome<T> {
        refuse(&self.place, format_args!("expected {expected} ({what}), found shape {}", show(&self.shape)))
    }
}

impl Kind {
    fn of(descr: &str) -> Option<Self> {
        let (order, kind) = descr.split_at_checked(1)?;
        let width = match kind {
            "f8" => 8,
            "f4" => 4,
            _ => return None,
        };
        let big_endian = match order {
            "<" => false,
            ">" => true,
            "=" | "|" => cfg!(target_endian = "big"),
            _ => return None,
        };
        Some(Self { width, big_endian })
    }

    fn decode(self, bytes: &[u8], out: &mut Vec<f64>) {
        let (doubles, singles) = (bytes.as_chunks::<8>().0, bytes.as_chunks::<4>().0);
        match (self.width, self.big_endian) {
            (8, false) => out.extend(doubles.iter().map(|b| f64::from_le_bytes(*b))),
            (8, true) => out.extend(doubles.iter().map(|b| f64::from_be_bytes(*b))),
            (_, false) => out.extend(singles.iter().map(|b| f64::from(f32::from_le_bytes(*b)))),
            (_, true) => out.extend(singles.iter().map(|b| f64::from(f32::from_be_bytes(*b)))),
        }
    }
}

/// What NumPy calls a kind of element.
fn name_of(descr: &str) -> String {
    let plain = descr.trim_start_matches(['<', '>', '=', '|']);
    let (kind, size) = plain.split_at_checked(1).unwrap_or((plain, ""));
    let bits = size.parse::<usize>().map_or(0, |bytes| bytes.saturating_mul(8));
    match kind {
        "f" => format!("float{bits}"),
        "i" => format!("int{bits}"),
        "u" => format!("uint{bits}"),
        "c" => format!("complex{bits}"),
        "b" => "bool".to_owned(),
        "U" | "S" | "T" => "strings".to_owned(),
        "O" => "Python objects".to_owned(),
        "[" => "records".to_owned(),
        _ => format!("elements of kind '{}'", descr.escape_default()),
    }
}

/// A shape as NumPy writes it.
pub(super) fn show(shape: &[usize]) -> String {
    let numbers = shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if shape.len() == 1 { format!("({numbers},)") } else { format!("({numbers})") }
}

/// The three entries of a header.
struct Header {
    kind: String,
    fortran: bool,
    shape: Vec<usize>,
}

impl Header {
    /// A Python dictionary of string keys, as NumPy writes it; what was found instead otherwise.
    fn parse(text: &str) -> Result<Self, String> {
        let (mut kind, mut fortran, mut shape) = (None, None, None);
        let mut rest = text.trim().strip_prefix('{').ok_or("no dictionary")?.trim_start();
        while !rest.starts_with('}') {
            let (key, after) = quoted(rest).ok_or("a key that is no string")?;
            let after = after.trim_start().strip_prefix(':').ok_or("a key without a value")?.trim_start();
            let (value, after) = value(after)?;
            match key {
                "descr" => kind = Some(value),
                "fortran_order" if value == "True" || value == "False" => fortran = Some(value == "True"),
                "shape" => shape = Some(numbers(value).ok_or_else(|| format!("shape {value}"))?),
                _ => return Err(format!("the entry '{}: {}'", key.escape_default(), value.escape_default())),
            }
            rest = after.trim_start();
            rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
        }
        let kind = kind.ok_or("no 'descr'")?;
        let kind = quoted(kind).map_or(kind, |(kind, _)| kind).to_owned();
        Ok(Self { kind, fortran: fortran.ok_or("no 'fortran_order'")?, shape: shape.ok_or("no 'shape'")? })
    }
}

/// A string in either quotation mark and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let mark = text.chars().next().filter(|c| *c == '\'' || *c == '"')?;
    text[1..].split_once(mark)
}

/// The text of one value and what follows it.
fn value(text: &str) -> Result<(&str, &str), String> {
    let end = match text.chars().next() {
        Some('\'' | '"') => text.len() - quoted(text).ok_or("a string without an end")?.1.len(),
        Some('(') => text.find(')').ok_or("a shape without an end")? + 1,
        // A record type; its inside does not matter, for it is refused.
        Some('[') => text.rfind(']').ok_or("a list without an end")? + 1,
        _ => text.find([',', '}']).ok_or("a value without an end")?,
    };
    Ok((text[..end].trim_end(), &text[end..]))
}

/// `(3, 4)`, `(3,)` or `()`; Python 2 wrote `3L`.
fn numbers(text: &str) -> Option<Vec<usize>> {
    let inside = text.strip_prefix('(')?.strip_suffix(')')?.trim();
    let inside = inside.strip_suffix(',').unwrap_or(inside);
    if inside.is_empty() {
        return Some(Vec::new());
    }
    inside.split(',').map(|n| n.trim().trim_end_matches('L').parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_every_writer() {
        let parse = |text: &str| Header::parse(text).map(|h| (h.kind, h.fortran, h.shape));
        let found = parse("{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }   \n");
        assert_eq!(found, Ok(("<f8".to_owned(), false, vec![3, 4])));
        let found = parse("{\"shape\":(7L,),\"fortran_order\":True,\"descr\":\">f4\"}");
        assert_eq!(found, Ok((">f4".to_owned(), true, vec![7])));
        let found = parse("{'descr': [('a', '<f8'), ('b', '<i4')], 'fortran_order': False, 'shape': ()}");
        assert_eq!(found.map(|f| name_of(&f.0)), Ok("records".to_owned()));
        for bad in ["", "{", "{'descr'", "{'descr': }", "{'shape': (-1,)}", "{'shape': (1", "[]", "{'a': 1}", "{\u{e9}"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn elements_are_called_by_their_names() {
        for (descr, name) in
            [("<i8", "int64"), ("<c16", "complex128"), ("<U5", "strings"), ("|b1", "bool"), ("|O", "Python objects")]
        {
            assert!(Kind::of(descr).is_none());
            assert_eq!(name_of(descr), name);
        }
    }
}
