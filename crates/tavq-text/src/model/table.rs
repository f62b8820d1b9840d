//! The weights of one averaged perceptron: an open-addressing table from feature hash to a row of `i8` weights.
//!
//! Features are identified by 32-bit hashes, so neither the file nor the table holds a string. In the file the keys are
//! sorted and stored as differences, and of each row only the weights that are not zero; in memory rows are dense,
//! because the hot path adds about 25 of them per token.

use super::WeightsError;

/// `L` labels; a row is the weight of one feature towards each of them.
#[derive(Debug, Clone)]
pub(crate) struct Table<const L: usize> {
    /// Feature hash and row per slot; [`EMPTY`] where free. A power of two slots, at most half of them taken. Side by
    /// side, so that a hit costs one cache line.
    slots: Vec<(u32, [i8; L])>,
    /// A key's slot is its high bits: keys read in order then fill the table from front to back.
    shift: u32,
}

const EMPTY: u32 = 0;

impl<const L: usize> Table<L> {
    /// Builds the table from pairs of feature hash and row. Of equal hashes the last one stays.
    pub(crate) fn new(pairs: &[(u32, [i8; L])]) -> Self {
        let slots = (pairs.len() * 2).next_power_of_two().max(2);
        let mut table = Self { slots: vec![(EMPTY, [0; L]); slots], shift: 32 - slots.trailing_zeros().min(31) };
        for &(key, row) in pairs {
            if key == EMPTY {
                continue;
            }
            let mut at = (key >> table.shift) as usize;
            while table.slots[at].0 != EMPTY && table.slots[at].0 != key {
                at = (at + 1) % slots;
            }
            table.slots[at] = (key, row);
        }
        table
    }

    /// The row of `key`; `None` for a feature never seen in training.
    #[inline]
    pub(crate) fn get(&self, key: u32) -> Option<&[i8; L]> {
        let mut at = (key >> self.shift) as usize;
        loop {
            let (found, row) = &self.slots[at];
            if *found == key && key != EMPTY {
                return Some(row);
            }
            if *found == EMPTY {
                return None;
            }
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
        }
    }

    /// Adds the row of `key` to `scores`.
    #[inline]
    pub(crate) fn add(&self, key: u32, scores: &mut [i16; L]) {
        if let Some(row) = self.get(key) {
            for (score, &weight) in scores.iter_mut().zip(row) {
                *score += i16::from(weight);
            }
        }
    }

    /// Appends the table in its file form: count, then per feature the key's difference to the one before (LEB128),
    /// a bit mask of the labels with a weight (`L / 8` bytes, rounded up) and those weights.
    pub(crate) fn write(pairs: &[(u32, [i8; L])], out: &mut Vec<u8>) {
        let mut sorted = pairs.to_vec();
        sorted.sort_unstable_by_key(|p| p.0);
        write_varint(sorted.len() as u32, out);
        let mut before = 0;
        for (key, row) in sorted {
            write_varint(key - before, out);
            before = key;
            let mut bits = vec![0u8; L.div_ceil(8)];
            for (label, _) in row.iter().enumerate().filter(|(_, w)| **w != 0) {
                bits[label / 8] |= 1 << (label % 8);
            }
            out.extend_from_slice(&bits);
            out.extend(row.iter().filter(|w| **w != 0).map(|&w| w as u8));
        }
    }

    /// Reads what [`Table::write`] wrote; `at` moves behind it.
    pub(crate) fn read(bytes: &[u8], at: &mut usize) -> Result<Self, WeightsError> {
        Self::read_checked(bytes, at, |_| true)
    }

    /// As [`Table::read`], and refuses a row that `valid` does not hold for.
    pub(crate) fn read_checked(
        bytes: &[u8],
        at: &mut usize,
        valid: impl Fn(&[i8; L]) -> bool,
    ) -> Result<Self, WeightsError> {
        let count = read_varint(bytes, at)? as usize;
        // Every feature takes at least its key byte and its mask: a count beyond that is damage, not a reason to allocate.
        if count > bytes.len() {
            return Err(WeightsError::Truncated { at: *at });
        }
        let mut pairs = Vec::with_capacity(count);
        let mut key = 0u32;
        for _ in 0..count {
            key = key.wrapping_add(read_varint(bytes, at)?);
            let bits = take(bytes, at, L.div_ceil(8))?;
            let mut row = [0i8; L];
            for (label, weight) in row.iter_mut().enumerate() {
                if bits[label / 8] >> (label % 8) & 1 == 1 {
                    *weight = take(bytes, at, 1)?[0] as i8;
                }
            }
            if !valid(&row) {
                return Err(WeightsError::Truncated { at: *at });
            }
            pairs.push((key, row));
        }
        Ok(Self::new(&pairs))
    }
}

/// The next `n` bytes; `at` moves behind them.
pub(crate) fn take<'b>(bytes: &'b [u8], at: &mut usize, n: usize) -> Result<&'b [u8], WeightsError> {
    let part = at.checked_add(n).and_then(|end| bytes.get(*at..end)).ok_or(WeightsError::Truncated { at: *at })?;
    *at += n;
    Ok(part)
}

fn write_varint(mut value: u32, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn read_varint(bytes: &[u8], at: &mut usize) -> Result<u32, WeightsError> {
    let mut value = 0u32;
    for shift in (0..35).step_by(7) {
        let byte = take(bytes, at, 1)?[0];
        value |= u32::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(WeightsError::Truncated { at: *at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_read_back_scores_the_same() {
        let pairs = [(7, [1, 0, -3]), (0x8000_0007, [0, 5, 0]), (u32::MAX, [-128, 127, 1])];
        let mut bytes = Vec::new();
        Table::write(&pairs, &mut bytes);
        let mut at = 0;
        let table = Table::<3>::read(&bytes, &mut at).unwrap();
        assert_eq!(at, bytes.len());
        for (key, row) in pairs {
            let mut scores = [10i16; 3];
            table.add(key, &mut scores);
            assert_eq!(scores, row.map(|w| 10 + i16::from(w)));
        }
        let mut scores = [0i16; 3];
        table.add(8, &mut scores);
        table.add(0, &mut scores);
        assert_eq!(scores, [0; 3]);
    }

    #[test]
    fn every_truncation_is_an_error() {
        let mut bytes = Vec::new();
        Table::write(&[(7, [1, 0, -3]), (900, [0, 5, 0])], &mut bytes);
        for cut in 0..bytes.len() {
            assert!(Table::<3>::read(&bytes[..cut], &mut 0).is_err(), "cut at {cut}");
        }
    }
}
