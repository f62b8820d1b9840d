//! Bytes of a pickle, counted, and never more in memory than the file has.

use std::io::{ErrorKind, Read};

use crate::error::{Problem, Result};

/// Most bytes of a pickle; the values of tensors lie outside of it.
const MOST: u64 = 1 << 28;
/// Most bytes of a line (protocol 0).
const LINE: usize = 1 << 16;

pub(crate) struct Input<R> {
    bytes: R,
    /// What the bytes are part of, for messages.
    pub(crate) part: &'static str,
    /// Bytes taken.
    pub(crate) at: u64,
}

impl<R: Read> Input<R> {
    pub(crate) fn new(bytes: R, part: &'static str) -> Self {
        Self { bytes, part, at: 0 }
    }

    pub(crate) fn bad(&self, expected: &'static str, found: impl Into<String>) -> Problem {
        Problem::Instruction { at: self.at, part: self.part, expected, found: found.into() }
    }

    fn count(&mut self, n: u64) -> Result<()> {
        self.at = self.at.saturating_add(n);
        if self.at > MOST { Err(Problem::Limit { what: "bytes of a pickle", most: MOST }) } else { Ok(()) }
    }

    fn cut(&self, expected: &'static str, error: std::io::Error) -> Problem {
        match error.kind() {
            ErrorKind::UnexpectedEof => Problem::Cut { expected, at: self.at, part: self.part },
            _ => Problem::Io(error),
        }
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N]> {
        let mut out = [0; N];
        self.bytes.read_exact(&mut out).map_err(|e| self.cut(what, e))?;
        self.count(N as u64)?;
        Ok(out)
    }

    pub(crate) fn byte(&mut self, what: &'static str) -> Result<u8> {
        Ok(self.array::<1>(what)?[0])
    }

    /// `n` bytes. A length that the file only claims costs nothing: the buffer grows with what is there.
    pub(crate) fn take(&mut self, n: u64, what: &'static str) -> Result<Vec<u8>> {
        let start = self.at;
        self.count(n)?;
        let mut out = Vec::new();
        let got = self.bytes.by_ref().take(n).read_to_end(&mut out)? as u64;
        if got < n {
            return Err(Problem::Cut { expected: what, at: start + got, part: self.part });
        }
        Ok(out)
    }

    /// A line without its end.
    pub(crate) fn line(&mut self) -> Result<String> {
        let mut out = Vec::new();
        loop {
            match self.byte("the end of a line")? {
                b'\n' => break,
                _ if out.len() >= LINE => return Err(Problem::Limit { what: "bytes in a line", most: LINE as u64 }),
                byte => out.push(byte),
            }
        }
        String::from_utf8(out).map_err(|_| self.bad("a line of UTF-8", "other bytes"))
    }
}
