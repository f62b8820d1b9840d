//! The data of a run: one manifest, a training stream, and passes in order for evaluation.

use std::sync::Arc;

use ndarray::Array4;
use tavq_data::{Cursor, Loader, LoaderOptions, Manifest, ManifestOptions, ManifestSource, Order, SourceOptions};
use tavq_torch::Collective;
use tch::{Kind, Tensor};

use crate::config::Config;
use crate::{Result, TrainError};

/// A manifest with the rows of its two splits.
pub struct DataSet {
    manifest: Arc<Manifest>,
    train: Vec<usize>,
    validation: Vec<usize>,
}

impl DataSet {
    /// Opens what `data.manifest` names.
    pub fn open(config: &Config) -> Result<Self> {
        let data = &config.data;
        if data.manifest.as_os_str().is_empty() {
            return Err(TrainError::Config {
                origin: "configuration".into(),
                path: "data.manifest".into(),
                message: "expected a file, found none".into(),
            });
        }
        let options = ManifestOptions { on_error: data.on_error, ..Default::default() };
        let manifest = Manifest::open(&data.manifest, &options)?;
        let train = manifest.select(&data.train_split)?;
        let held_back = if data.validation_split.is_empty() { &data.train_split } else { &data.validation_split };
        let validation = manifest.select(held_back)?;
        Ok(Self { manifest: Arc::new(manifest), train, validation })
    }

    /// Key and text of every row, in order.
    pub fn texts(&self) -> Vec<(&str, &str)> {
        self.manifest.rows().iter().map(|r| (r.key.as_str(), r.text.as_str())).collect()
    }

    /// The endless, shuffled training stream from `cursor` on.
    pub fn training(&self, config: &Config, cursor: &Cursor, collective: &dyn Collective) -> Result<Loader> {
        let options = SourceOptions {
            order: Order::Shuffled,
            repeat: true,
            seed: config.run.seed,
            transform: config.data.transform.clone(),
            on_error: config.data.on_error,
            rank: collective.rank(),
            world: collective.world(),
            ..Default::default()
        };
        let source = ManifestSource::new(Arc::clone(&self.manifest), self.train.clone(), options)?;
        let batching =
            LoaderOptions { batch_size: config.data.batch_size, drop_last: true, depth: config.data.prefetch };
        Ok(Loader::new(Box::new(source), cursor, batching)?)
    }

    /// The held-back rows once, in order, as evaluation sees them.
    pub fn validation(&self, config: &Config) -> Result<Images> {
        self.pass(config, self.validation.clone())
    }

    /// The first `limit` training rows once, in order, as evaluation sees them.
    pub fn training_once(&self, config: &Config, limit: Option<usize>) -> Result<Images> {
        let mut rows = self.train.clone();
        rows.truncate(limit.unwrap_or(usize::MAX));
        self.pass(config, rows)
    }

    fn pass(&self, config: &Config, rows: Vec<usize>) -> Result<Images> {
        let len = rows.len();
        let options = SourceOptions {
            transform: config.data.transform.evaluation(),
            on_error: config.data.on_error,
            cache_bytes: 0,
            ..Default::default()
        };
        let source = ManifestSource::new(Arc::clone(&self.manifest), rows, options)?;
        let batching = LoaderOptions { batch_size: config.data.batch_size, drop_last: false, depth: 2 };
        Ok(Images { loader: Loader::new(Box::new(source), &Cursor::default(), batching)?, len })
    }
}

/// One pass over some rows.
pub struct Images {
    loader: Loader,
    len: usize,
}

impl Images {
    /// Rows of the pass, bad ones included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Rows of the manifest and their images `[B, 3, H, W]`, f32 on the CPU; `None` at the end.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<(Vec<usize>, Tensor)>> {
        let Some(batch) = self.loader.next()? else { return Ok(None) };
        let images = to_tensor(&batch.images)?;
        Ok(Some((batch.rows, images)))
    }
}

/// An array of images as a tensor, f32 on the CPU.
pub fn to_tensor(images: &Array4<f32>) -> Result<Tensor> {
    let (b, c, h, w) = images.dim();
    let shape = [b as i64, c as i64, h as i64, w as i64];
    let flat = images.as_standard_layout();
    // In standard layout the elements lie in one slice.
    let tensor = Tensor::f_from_slice(flat.as_slice().unwrap_or_default())?;
    Ok(tensor.f_view(shape)?.to_kind(Kind::Float))
}
