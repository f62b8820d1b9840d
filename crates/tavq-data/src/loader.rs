//! Batches from a source, kept ready by a background thread.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use ndarray::{Array4, Axis};

use crate::{Cursor, DataError, Sample, Source};

/// How samples become batches.
#[derive(Debug, Clone, Copy)]
pub struct LoaderOptions {
    /// Samples of a batch, at least 1.
    pub batch_size: usize,
    /// Leave out the smaller batch at the end of an epoch. Batches never reach over the end of an epoch either way.
    pub drop_last: bool,
    /// Batches kept ready, at least 1.
    pub depth: usize,
}

/// Samples side by side.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Rows of the manifest.
    pub rows: Vec<usize>,
    /// Keys.
    pub keys: Vec<String>,
    /// Texts.
    pub texts: Vec<String>,
    /// `[B, 3, H, W]` in [-1, 1].
    pub images: Array4<f32>,
    /// The epoch that the samples belong to.
    pub epoch: u64,
    /// Resumes after the last sample.
    pub cursor: Cursor,
}

/// Batches of a source. Dropping it ends the thread.
pub struct Loader {
    batches: Option<Receiver<Result<Option<Batch>, DataError>>>,
    thread: Option<JoinHandle<()>>,
    ended: bool,
}

impl Loader {
    /// Starts reading `source` at `start`.
    pub fn new(mut source: Box<dyn Source>, start: &Cursor, options: LoaderOptions) -> Result<Self, DataError> {
        if options.batch_size == 0 || options.depth == 0 {
            let found = format!("{} and {}", options.batch_size, options.depth);
            return Err(DataError::Config { field: "batch_size and prefetch", expected: "at least 1 each", found });
        }
        source.seek(start)?;
        let (send, batches) = sync_channel(options.depth);
        let filler = Filler { source, at: start.clone(), options };
        let thread = std::thread::Builder::new()
            .name("tavq-loader".into())
            .spawn(move || filler.run(&send))
            .map_err(|source| DataError::Io { path: "loader thread".into(), source })?;
        Ok(Self { batches: Some(batches), thread: Some(thread), ended: false })
    }

    /// The next batch; `None` after the end of a stream that ends. An error ends the stream.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Batch>, DataError> {
        let Some(batches) = self.batches.as_ref().filter(|_| !self.ended) else { return Ok(None) };
        let next = batches.recv().unwrap_or(Err(DataError::Thread));
        self.ended = !matches!(next, Ok(Some(_)));
        next
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // Without a receiver the thread's next send fails, and it ends.
        drop(self.batches.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Filler {
    source: Box<dyn Source>,
    at: Cursor,
    options: LoaderOptions,
}

impl Filler {
    fn run(mut self, out: &SyncSender<Result<Option<Batch>, DataError>>) {
        loop {
            let next = self.fill();
            let last = !matches!(next, Ok(Some(_)));
            if out.send(next).is_err() || last {
                return;
            }
        }
    }

    fn fill(&mut self) -> Result<Option<Batch>, DataError> {
        let mut samples: Vec<Sample> = Vec::with_capacity(self.options.batch_size);
        // Whether `samples` holds all that the epoch gave so far.
        let mut whole = self.at.position == 0;
        loop {
            let Some((sample, after)) = self.source.pull()? else {
                let keep = !samples.is_empty() && !self.options.drop_last;
                return if keep { stack(samples, &self.at).map(Some) } else { Ok(None) };
            };
            // The last places of an epoch may have been skipped: only the next epoch's first sample tells.
            if samples.first().is_some_and(|s| s.epoch != sample.epoch) {
                if !self.options.drop_last {
                    let next = Cursor { epoch: sample.epoch, position: 0, skipped: self.at.skipped };
                    self.source.seek(&next)?;
                    self.at = next;
                    return stack(samples, &self.at).map(Some);
                }
                self.drop_short(&mut samples, whole)?;
                whole = true;
            }
            samples.push(sample);
            self.at = after;
            let ended = self.at.position == 0;
            if samples.len() == self.options.batch_size || (ended && !self.options.drop_last) {
                return stack(samples, &self.at).map(Some);
            }
            if ended {
                self.drop_short(&mut samples, whole)?;
                whole = true;
            }
        }
    }

    /// Lets go of an epoch's remainder; an epoch that is all remainder would go on for ever.
    fn drop_short(&self, samples: &mut Vec<Sample>, whole: bool) -> Result<(), DataError> {
        if whole {
            return Err(DataError::SmallEpoch { samples: samples.len(), batch_size: self.options.batch_size });
        }
        samples.clear();
        Ok(())
    }
}

fn stack(samples: Vec<Sample>, cursor: &Cursor) -> Result<Batch, DataError> {
    let views: Vec<_> = samples.iter().map(|s| s.image.view()).collect();
    let images = ndarray::stack(Axis(0), &views).map_err(|_| DataError::Config {
        field: "source",
        expected: "images of one size",
        found: "images of several".into(),
    })?;
    let mut batch = Batch {
        rows: Vec::with_capacity(samples.len()),
        keys: Vec::with_capacity(samples.len()),
        texts: Vec::with_capacity(samples.len()),
        images,
        epoch: samples.first().map_or(cursor.epoch, |s| s.epoch),
        cursor: cursor.clone(),
    };
    for sample in samples {
        batch.rows.push(sample.row);
        batch.keys.push(sample.key);
        batch.texts.push(sample.text);
    }
    Ok(batch)
}
