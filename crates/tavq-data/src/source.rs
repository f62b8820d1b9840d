//! The rows of a manifest as a stream: shuffled or in order, once or for ever.
//!
//! An epoch's order is a permutation drawn from (seed, epoch) and a sample's augmentation from (seed, epoch, row),
//! so a cursor of two numbers is enough to go on anywhere.

use std::collections::HashMap;
use std::sync::Arc;

use image::RgbImage;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::image_file::decode;
use crate::{Cursor, DataError, Manifest, OnError, Sample, Source, Transform};

/// The order of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// As the rows were given.
    Sequential,
    /// A new permutation each epoch.
    Shuffled,
}

/// How rows become a stream.
#[derive(Debug, Clone)]
pub struct SourceOptions {
    /// Order of an epoch.
    pub order: Order,
    /// For ever, or once.
    pub repeat: bool,
    /// Seed of order and augmentation.
    pub seed: u64,
    /// What is done to an image.
    pub transform: Transform,
    /// What a bad image does.
    pub on_error: OnError,
    /// Decoded and resized images are kept in memory up to this many bytes.
    pub cache_bytes: usize,
    /// This process and the number of processes: each takes every `world`-th place of the epoch.
    pub rank: usize,
    /// See `rank`.
    pub world: usize,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            order: Order::Sequential,
            repeat: false,
            seed: 0,
            transform: Transform::default(),
            on_error: OnError::Fail,
            cache_bytes: 256 << 20,
            rank: 0,
            world: 1,
        }
    }
}

/// Rows of a manifest as a [`Source`].
pub struct ManifestSource {
    manifest: Arc<Manifest>,
    rows: Vec<usize>,
    options: SourceOptions,
    at: Cursor,
    order: Vec<usize>,
    order_of: Option<u64>,
    given: bool,
    first_problem: Option<String>,
    cache: HashMap<usize, Arc<RgbImage>>,
    cached: usize,
}

impl ManifestSource {
    /// A stream of the given rows of `manifest`.
    pub fn new(manifest: Arc<Manifest>, rows: Vec<usize>, options: SourceOptions) -> Result<Self, DataError> {
        options.transform.check()?;
        if options.rank >= options.world {
            let found = format!("{} of {}", options.rank, options.world);
            return Err(DataError::Config { field: "rank", expected: "a number below world", found });
        }
        if let Some(row) = rows.iter().find(|r| **r >= manifest.rows().len()) {
            return Err(DataError::Config { field: "rows", expected: "rows of the manifest", found: row.to_string() });
        }
        // Equal shares, so that all ranks finish an epoch together; the remainder falls to later epochs' shuffles.
        let share = rows.len() / options.world;
        if share == 0 {
            return Err(DataError::Empty { manifest: manifest.path().to_path_buf(), skipped: 0, first: None });
        }
        Ok(Self {
            manifest,
            rows,
            options,
            at: Cursor::default(),
            order: Vec::new(),
            order_of: None,
            given: false,
            first_problem: None,
            cache: HashMap::new(),
            cached: 0,
        })
    }

    /// Samples that this process sees in an epoch, bad ones included.
    pub fn epoch_len(&self) -> usize {
        self.rows.len() / self.options.world
    }

    fn arrange(&mut self) {
        if self.order_of == Some(self.at.epoch) {
            return;
        }
        let mut all = self.rows.clone();
        if self.options.order == Order::Shuffled {
            all.shuffle(&mut rng_of(self.options.seed, "order", self.at.epoch, 0));
        }
        let share = self.epoch_len();
        let (rank, world) = (self.options.rank, self.options.world);
        self.order = all.into_iter().skip(rank).step_by(world).take(share).collect();
        self.order_of = Some(self.at.epoch);
    }

    fn advance(&mut self) {
        self.at.position += 1;
        if self.at.position as usize == self.epoch_len() {
            self.at.epoch += 1;
            self.at.position = 0;
        }
    }

    fn sample(&mut self, row: usize, epoch: u64) -> Result<Sample, DataError> {
        let picture = self.picture(row)?;
        let mut rng = rng_of(self.options.seed, "augment", epoch, row as u64);
        let entry = &self.manifest.rows()[row];
        let image = self.options.transform.cut(&picture, &mut rng);
        Ok(Sample { row, epoch, key: entry.key.clone(), text: entry.text.clone(), image })
    }

    fn picture(&mut self, row: usize) -> Result<Arc<RgbImage>, DataError> {
        if let Some(picture) = self.cache.get(&row) {
            return Ok(Arc::clone(picture));
        }
        let entry = &self.manifest.rows()[row];
        let picture = decode(&entry.image).and_then(|p| self.options.transform.shrink(p)).map_err(|problem| {
            DataError::RowImage {
                manifest: self.manifest.path().to_path_buf(),
                line: entry.line,
                image: entry.image.clone(),
                problem,
            }
        })?;
        let picture = Arc::new(picture);
        let bytes = picture.as_raw().len();
        if self.cached + bytes <= self.options.cache_bytes {
            self.cached += bytes;
            self.cache.insert(row, Arc::clone(&picture));
        }
        Ok(picture)
    }
}

impl Source for ManifestSource {
    fn pull(&mut self) -> Result<Option<(Sample, Cursor)>, DataError> {
        let mut tried = 0;
        while self.options.repeat || self.at.epoch == 0 {
            self.arrange();
            let epoch = self.at.epoch;
            let row = self.order[self.at.position as usize];
            match self.sample(row, epoch) {
                Ok(sample) => {
                    self.given = true;
                    self.advance();
                    return Ok(Some((sample, self.at.clone())));
                }
                Err(error) if self.options.on_error == OnError::Fail => return Err(error),
                Err(error) => {
                    self.first_problem.get_or_insert_with(|| error.to_string());
                    self.at.skipped += 1;
                    self.advance();
                }
            }
            tried += 1;
            if tried == self.epoch_len() {
                break;
            }
        }
        let ended = !self.options.repeat && self.at.epoch > 0;
        if ended && self.given {
            return Ok(None);
        }
        Err(DataError::Empty {
            manifest: self.manifest.path().to_path_buf(),
            skipped: self.at.skipped,
            first: self.first_problem.clone(),
        })
    }

    fn seek(&mut self, to: &Cursor) -> Result<(), DataError> {
        let len = self.epoch_len() as u64;
        if to.position >= len {
            return Err(DataError::Cursor { len, position: to.position });
        }
        // A stream that was read before its end has given samples, whoever held it then.
        self.given = to.epoch > 0 || to.position > 0;
        self.at = to.clone();
        Ok(())
    }
}

fn rng_of(seed: u64, stream: &str, epoch: u64, row: u64) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new();
    hasher.update(stream.as_bytes());
    for n in [seed, epoch, row] {
        hasher.update(&n.to_le_bytes());
    }
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}
