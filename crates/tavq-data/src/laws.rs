//! What every [`Source`] keeps, as a test kit: call [`source_laws`] on your own.

use std::collections::HashSet;

use crate::{Cursor, DataError, Sample, Source};

/// A broken law of a source.
#[derive(Debug, thiserror::Error)]
pub enum LawBroken {
    /// Two streams that began alike went apart.
    #[error("determinism: two new streams differ at sample {at}")]
    Determinism {
        /// The sample.
        at: usize,
    },
    /// A stream that was resumed went another way than the one that was not.
    #[error("resume: a stream resumed after {after} samples differs {later} samples later")]
    Resume {
        /// Samples before the cursor.
        after: usize,
        /// Samples after it.
        later: usize,
    },
    /// An epoch left out or repeated a row.
    #[error("epoch: {samples} samples with {rows} different rows")]
    Epoch {
        /// Samples of the epoch.
        samples: usize,
        /// Different rows among them.
        rows: usize,
    },
    /// An image value outside its range.
    #[error("range: sample {at} holds {value}, expected [-1, 1]")]
    Range {
        /// The sample.
        at: usize,
        /// The value.
        value: f32,
    },
    /// A stream that had ended gave another sample.
    #[error("end: a stream that had ended gave another sample")]
    End,
    /// The source failed.
    #[error("the source failed: {0}")]
    Failed(#[from] DataError),
}

/// Holds a source to its laws over `samples` samples: two streams agree, a stream resumed after any
/// sample agrees with one that was not, no epoch repeats a row, values lie in [-1, 1], an end is final.
///
/// `make` gives a new stream at its beginning; calls must give equal streams.
pub fn source_laws(make: &mut dyn FnMut() -> Box<dyn Source>, samples: usize) -> Result<(), LawBroken> {
    let whole = read(make().as_mut(), samples)?;
    let again = read(make().as_mut(), samples)?;
    if let Some(at) = first_difference(&whole, &again) {
        return Err(LawBroken::Determinism { at });
    }
    for after in 1..=whole.len().saturating_sub(1) {
        let mut resumed = make();
        resumed.seek(&whole[after - 1].1)?;
        let rest = read(resumed.as_mut(), whole.len() - after)?;
        if let Some(later) = first_difference(&whole[after..], &rest) {
            return Err(LawBroken::Resume { after, later });
        }
    }
    epochs(&whole)?;
    for (at, (sample, _)) in whole.iter().enumerate() {
        if let Some(value) = sample.image.iter().find(|v| !(-1.0..=1.0).contains(*v)) {
            return Err(LawBroken::Range { at, value: *value });
        }
    }
    if whole.len() < samples {
        let mut ended = make();
        while ended.pull()?.is_some() {}
        if ended.pull()?.is_some() {
            return Err(LawBroken::End);
        }
    }
    Ok(())
}

fn epochs(whole: &[(Sample, Cursor)]) -> Result<(), LawBroken> {
    let mut rows = HashSet::new();
    let (mut count, mut epoch) = (0, 0);
    for (sample, _) in whole {
        if sample.epoch != epoch {
            rows.clear();
            (count, epoch) = (0, sample.epoch);
        }
        count += 1;
        rows.insert(sample.row);
        if rows.len() != count {
            return Err(LawBroken::Epoch { samples: count, rows: rows.len() });
        }
    }
    Ok(())
}

fn read(source: &mut dyn Source, most: usize) -> Result<Vec<(Sample, Cursor)>, DataError> {
    let mut all = Vec::new();
    while all.len() < most {
        match source.pull()? {
            Some(next) => all.push(next),
            None => break,
        }
    }
    Ok(all)
}

fn first_difference(a: &[(Sample, Cursor)], b: &[(Sample, Cursor)]) -> Option<usize> {
    (0..a.len().max(b.len())).find(|i| a.get(*i) != b.get(*i))
}
