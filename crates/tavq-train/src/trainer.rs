//! The loop: batches in, steps of the optimiser, numbers out, checkpoints that resume to the bit.
//!
//! All randomness of a step derives from (seed, step), so that nothing about a generator has to be saved. libtorch has
//! one generator a process: two runs in one process disturb each other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tavq_data::{Cursor, Loader};
use tavq_quant::Usage;
use tavq_torch::{Collective, seed_from};
use tch::{Kind, Tensor};

use crate::checkpoint::{self, Checkpoint, Contents};
use crate::config::Config;
use crate::data::{DataSet, to_tensor};
use crate::model::{Forward, Model};
use crate::optimizer::Adam;
use crate::progress::Progress;
use crate::sink::{Record, RecordKind, Sink};
use crate::state::{StateReader, StateWriter, Stateful};
use crate::text::TextSide;
use crate::{Result, TrainError};

/// What a run gets from outside.
pub struct Services {
    /// The process group.
    pub collective: Box<dyn Collective>,
    /// Where the numbers go.
    pub sinks: Vec<Box<dyn Sink>>,
    /// Set by a signal handler: finish the step, save, stop.
    pub stop: Arc<AtomicBool>,
    /// No progress on the terminal.
    pub quiet: bool,
}

/// What a finished run hands back.
#[derive(Debug)]
pub struct Outcome {
    /// Optimiser steps done in this process.
    pub steps: u64,
    /// Images a second over them, loading and saving included.
    pub images_per_second: f64,
    /// Code use over the last whole epoch, per level, fine to coarse.
    pub usage: Vec<Usage>,
    /// The last checkpoint.
    pub checkpoint: PathBuf,
}

/// One run.
pub struct Trainer<'a> {
    config: &'a Config,
    config_text: String,
    out: &'a Path,
    model: &'a mut Model,
    text: Option<&'a TextSide>,
    services: Services,
    optimizer: Adam,
    loader: Loader,
    step: u64,
    cursor: Cursor,
    usage: EpochUsage,
}

impl<'a> Trainer<'a> {
    /// A run from its beginning, or from `resume`.
    pub fn new(
        config: &'a Config,
        out: &'a Path,
        model: &'a mut Model,
        data: &DataSet,
        text: Option<&'a TextSide>,
        services: Services,
        resume: Option<&Checkpoint>,
    ) -> Result<Self> {
        checkpoint::sweep(out)?;
        let mut optimizer = Adam::new(model.store(), &config.optimizer);
        let mut usage = EpochUsage::new(model);
        let (mut step, mut cursor) = (0, Cursor::default());
        if let Some(saved) = resume {
            saved.load_model(model.store())?;
            let reader = saved.reader()?;
            optimizer.load(&reader)?;
            usage.load(&reader)?;
            (step, cursor) = (saved.state.step, saved.state.cursor.clone());
        }
        let loader = data.training(config, &cursor, services.collective.as_ref())?;
        let config_text = config.to_toml()?;
        Ok(Self { config, config_text, out, model, text, services, optimizer, loader, step, cursor, usage })
    }

    /// Trains to the last step. A picture of the current state is asked for through `sample` at each sampling step.
    pub fn run(mut self, mut sample: impl FnMut(&Model, u64) -> Result<()>) -> Result<Outcome> {
        let steps = self.config.run.steps;
        let first = self.step;
        let start = Instant::now();
        let mut progress = Progress::new("train", first, steps, self.services.quiet);
        let mut images = 0usize;
        let mut saved = None;
        while self.step < steps {
            let (values, count) = self.one_step()?;
            images += count;
            let rate = images as f64 / start.elapsed().as_secs_f64();
            self.report(&mut progress, values, rate)?;
            let stopped = self.services.stop.load(Ordering::Relaxed);
            let run = &self.config.run;
            if self.step.is_multiple_of(run.checkpoint_every) || self.step == steps || stopped {
                saved = Some(self.save()?);
            }
            if run.sample_every > 0 && self.step.is_multiple_of(run.sample_every) && self.step < steps {
                sample(self.model, self.step)?;
            }
            if stopped && self.step < steps {
                return Err(TrainError::Interrupted { step: self.step });
            }
        }
        let checkpoint = match saved {
            Some(path) => path,
            None => self.save()?,
        };
        Ok(Outcome {
            steps: self.step - first,
            images_per_second: images as f64 / start.elapsed().as_secs_f64().max(1e-9),
            usage: self.usage.last().to_vec(),
            checkpoint,
        })
    }

    fn one_step(&mut self) -> Result<(BTreeMap<String, f64>, usize)> {
        let batch = self.loader.next()?.ok_or_else(|| TrainError::Config {
            origin: "data".into(),
            path: "data.train_split".into(),
            message: "the stream of samples ended".into(),
        })?;
        let rank = self.services.collective.rank() as u64;
        tch::manual_seed(seed_from(self.config.run.seed, "step", self.step, rank));
        let images = to_tensor(&batch.images)?.to_device(self.model.device());
        let pass = self.model.forward(&images, true)?;
        let (loss, mut values) = self.objective(&images, &pass, &batch.rows)?;
        self.optimizer.zero_grad();
        loss.f_backward()?;
        let total = loss.double_value(&[]);
        if !total.is_finite() {
            return Err(TrainError::Diverged { step: self.step, what: "loss", found: total });
        }
        let norm = self.optimizer.gradient_norm();
        if !norm.is_finite() {
            return Err(TrainError::Diverged { step: self.step, what: "gradient norm", found: norm });
        }
        // Before the optimiser moves the codes that the statistics are of, as CVQ's authors do within the forward pass.
        let collective = &self.services.collective;
        tch::no_grad(|| self.model.update_codebooks(&pass, self.step, &|t| Ok(collective.sum(t)?)))?;
        self.optimizer.step(norm, self.step, self.config.run.steps);
        self.step += 1;
        self.usage.add(&pass, batch.epoch)?;
        self.usage.end_before(batch.cursor.epoch);
        self.cursor = batch.cursor;
        values.insert("loss".into(), total);
        values.insert("gradient_norm".into(), norm);
        values.insert("learning_rate".into(), self.config.optimizer.rate(self.step - 1, self.config.run.steps));
        Ok((values, batch.rows.len()))
    }

    /// The weighted sum of the terms (method page, section 5.6), and each term by name.
    fn objective(&self, images: &Tensor, pass: &Forward, rows: &[usize]) -> Result<(Tensor, BTreeMap<String, f64>)> {
        let weights = &self.config.loss;
        let mut values = BTreeMap::new();
        let l1 = (&pass.reconstruction - images).abs().mean(Kind::Float);
        values.insert("l1".to_owned(), l1.double_value(&[]));
        let mut loss = l1 * weights.reconstruction;
        let last = pass.quantized.len() - 1;
        for (level, q) in pass.quantized.iter().enumerate() {
            let weight = if level == last { weights.codebook } else { weights.side_codebook };
            values.insert(format!("codebook.{level}"), q.loss.double_value(&[]));
            loss += &q.loss * weight;
        }
        let Some(text) = self.text else { return Ok((loss, values)) };
        for (level, alignment) in self.model.alignments().iter().enumerate() {
            let granularity = self.model.granularity(level);
            let weight = weights.alignment[granularity as usize];
            if weight == 0.0 {
                continue;
            }
            let units = text.batch(rows, granularity, self.model.device())?;
            let codes = self.model.codes(pass, level, weights.gradient)?;
            let term = alignment.loss(&codes, &units, true)?;
            let name = name_of(granularity);
            values.insert(format!("align.{name}"), term.loss.double_value(&[]));
            values.insert(format!("transport.{name}"), term.value.mean(Kind::Float).double_value(&[]));
            loss += term.loss * weight;
        }
        Ok((loss, values))
    }

    fn report(&mut self, progress: &mut Progress, values: BTreeMap<String, f64>, rate: f64) -> Result<()> {
        let (loss, l1) = (values["loss"], values["l1"]);
        progress.set(self.step, || format!("loss {loss:.3} l1 {l1:.3} {rate:.0} images/s"));
        if let Some((epoch, values)) = self.usage.take_news() {
            self.write(RecordKind::Epoch, epoch, &values)?;
        }
        let epoch = self.cursor.epoch;
        if self.step.is_multiple_of(self.config.run.log_every) || self.step == self.config.run.steps {
            self.write(RecordKind::Train, epoch, &values)?;
        }
        Ok(())
    }

    fn write(&mut self, kind: RecordKind, epoch: u64, values: &BTreeMap<String, f64>) -> Result<()> {
        let record = Record { kind, step: self.step, epoch, values };
        self.services.sinks.iter_mut().try_for_each(|sink| sink.write(&record))
    }

    fn save(&self) -> Result<PathBuf> {
        let mut parts = StateWriter::default();
        self.optimizer.save(&mut parts)?;
        self.usage.save(&mut parts)?;
        parts.value("text.dim", self.text.map(TextSide::dim).into());
        let contents = Contents {
            step: self.step,
            cursor: self.cursor.clone(),
            config: &self.config_text,
            store: self.model.store(),
            parts,
        };
        checkpoint::write(self.out, contents, self.config.run.keep)
    }
}

/// The plural that metrics and pictures use for a granularity.
pub fn name_of(granularity: tavq_encode::Granularity) -> &'static str {
    match granularity {
        tavq_encode::Granularity::Word => "words",
        tavq_encode::Granularity::Phrase => "phrases",
        tavq_encode::Granularity::Sentence => "sentences",
    }
}

/// Code use per level: of the epoch under way, and of the last whole one.
struct EpochUsage {
    epoch: u64,
    now: Vec<Usage>,
    last: Option<Vec<Usage>>,
    /// The epoch that ended and was not reported yet.
    news: Option<u64>,
}

impl EpochUsage {
    fn new(model: &Model) -> Self {
        let now = (0..model.levels().len()).map(|l| Usage::new(model.quantizer(l).codes())).collect();
        Self { epoch: 0, now, last: None, news: None }
    }

    fn add(&mut self, pass: &Forward, epoch: u64) -> Result<()> {
        self.end_before(epoch);
        for (usage, q) in self.now.iter_mut().zip(&pass.quantized) {
            usage.add(&q.indices)?;
        }
        Ok(())
    }

    /// Ends the epoch under way when the next batch belongs to another one.
    fn end_before(&mut self, epoch: u64) {
        if epoch != self.epoch {
            let empty = self.now.iter().map(|u| Usage::new(u.codes())).collect();
            self.last = Some(std::mem::replace(&mut self.now, empty));
            self.news = Some(std::mem::replace(&mut self.epoch, epoch));
        }
    }

    /// Of the last whole epoch; of the one under way when there has been none.
    fn last(&self) -> &[Usage] {
        self.last.as_ref().unwrap_or(&self.now)
    }

    fn take_news(&mut self) -> Option<(u64, BTreeMap<String, f64>)> {
        let epoch = self.news.take()?;
        let mut values = BTreeMap::new();
        for (level, report) in self.last().iter().map(Usage::report).enumerate() {
            values.insert(format!("usage.{level}"), report.used_share);
            values.insert(format!("perplexity.{level}"), report.perplexity);
        }
        Some((epoch, values))
    }
}

impl Stateful for EpochUsage {
    fn save(&self, out: &mut StateWriter) -> Result<()> {
        out.value("usage.epoch", self.epoch.into());
        out.value("usage.whole", self.last.is_some().into());
        for (level, usage) in self.now.iter().enumerate() {
            out.tensor(format!("usage.now.{level}"), &Tensor::from_slice(&signed(usage)));
        }
        for (level, usage) in self.last.iter().flatten().enumerate() {
            out.tensor(format!("usage.last.{level}"), &Tensor::from_slice(&signed(usage)));
        }
        Ok(())
    }

    fn load(&mut self, from: &StateReader) -> Result<()> {
        let read = |part: &str, like: &[Usage]| -> Result<Vec<Usage>> {
            like.iter()
                .enumerate()
                .map(|(level, usage)| {
                    let counts = from.tensor(&format!("usage.{part}.{level}"), &[usage.codes()])?;
                    let counts: Vec<i64> = Vec::try_from(&counts)?;
                    Ok(Usage::from_counts(counts.into_iter().map(|c| c.max(0) as u64).collect()))
                })
                .collect()
        };
        self.epoch = from.number("usage.epoch")?;
        let whole: bool = from.value("usage.whole")?;
        self.last = if whole { Some(read("last", &self.now)?) } else { None };
        self.now = read("now", &self.now)?;
        Ok(())
    }
}

fn signed(usage: &Usage) -> Vec<i64> {
    usage.counts().iter().map(|c| i64::try_from(*c).unwrap_or(i64::MAX)).collect()
}
