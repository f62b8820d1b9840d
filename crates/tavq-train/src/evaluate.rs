//! Evaluation on rows of a data set: image quality against the mean image, codebook use, text retrieval.

use serde::Serialize;
use tavq_metrics::{MeanImage, RetrievalReport, psnr, retrieval, ssim, subtract_text_means, sum_levels};
use tavq_quant::{Usage, UsageReport};
use tch::{Kind, Tensor};

use crate::data::Images;
use crate::model::Model;
use crate::progress::Progress;
use crate::text::TextSide;
use crate::{Result, TrainError};

/// Pixel values lie in [-1, 1].
pub const DATA_RANGE: f64 = 2.0;

/// Retrieval by transport cost over one set of pairs.
#[derive(Debug, Clone, Serialize)]
pub struct Retrieval {
    /// Pairs ranked against each other.
    pub pairs: usize,
    /// Costs as they are, summed over the levels.
    pub raw: RetrievalReport,
    /// Each text's mean cost over the images subtracted, summed over the levels.
    pub centred: RetrievalReport,
    /// The same per level, fine to coarse.
    pub levels: Vec<LevelRetrieval>,
}

/// Retrieval by one level alone.
#[derive(Debug, Clone, Serialize)]
pub struct LevelRetrieval {
    /// Words, phrases or sentences.
    pub granularity: tavq_encode::Granularity,
    /// Costs as they are.
    pub raw: RetrievalReport,
    /// Each text's mean cost over the images subtracted.
    pub centred: RetrievalReport,
}

/// What an evaluation found.
#[derive(Debug, Clone, Serialize)]
pub struct Evaluation {
    /// Images.
    pub images: usize,
    /// Mean over images of the peak signal-to-noise ratio, dB, data range 2, no rounding to bytes.
    pub psnr: f64,
    /// The same of predicting the training set's mean image.
    pub psnr_of_mean_image: f64,
    /// Mean structural similarity (Wang et al. 2004), data range 2.
    pub ssim: f64,
    /// Mean absolute error.
    pub l1: f64,
    /// Use of the codes, per level, fine to coarse.
    pub usage: Vec<UsageReport>,
}

/// The mean of all images.
pub fn mean_image(images: &mut Images) -> Result<MeanImage> {
    let mut mean = MeanImage::default();
    while let Some((_, batch)) = images.next()? {
        mean.add(&batch)?;
    }
    Ok(mean)
}

fn empty(what: &str) -> TrainError {
    TrainError::Config {
        origin: "data".into(),
        path: what.into(),
        message: "expected at least one image, found none".into(),
    }
}

/// Codes of every level and the rows they belong to, for retrieval; and the first pictures, for a sheet.
#[derive(Debug)]
pub struct Seen {
    /// `[I, D, h, w]` per level.
    pub codes: Vec<Tensor>,
    /// Manifest rows of the images.
    pub rows: Vec<usize>,
    /// Use of the codes over all images, per level, fine to coarse.
    pub usage: Vec<Usage>,
    /// Up to `pictures` originals, `[n, 3, H, W]`, and their reconstructions.
    pub pictures: Option<(Tensor, Tensor)>,
}

/// Runs the model over `images`; keeps the codes of the first `pairs` and the pictures of the first `pictures`.
pub fn evaluate(
    model: &Model,
    images: &mut Images,
    mean: &MeanImage,
    pairs: usize,
    pictures: usize,
    quiet: bool,
) -> Result<(Evaluation, Seen)> {
    let _guard = tch::no_grad_guard();
    let total = images.len();
    let mut progress = Progress::new("evaluate", 0, total as u64, quiet);
    let mut usage: Vec<Usage> = (0..model.levels().len()).map(|l| Usage::new(model.quantizer(l).codes())).collect();
    let mut sums = [0.0f64; 4];
    let mut seen = 0usize;
    let mut codes: Vec<Vec<Tensor>> = (0..model.levels().len()).map(|_| Vec::new()).collect();
    let mut rows = Vec::new();
    let mut kept: Vec<(Tensor, Tensor)> = Vec::new();
    while let Some((batch_rows, batch)) = images.next()? {
        let batch = batch.to_device(model.device());
        let pass = model.forward(&batch, false)?;
        let rebuilt = pass.reconstruction.clamp(-1.0, 1.0);
        let n = batch_rows.len();
        sums[0] += total_of(&psnr(&rebuilt, &batch, DATA_RANGE)?);
        sums[1] += total_of(&mean.psnr(&batch, DATA_RANGE)?);
        sums[2] += total_of(&ssim(&rebuilt, &batch, DATA_RANGE)?);
        sums[3] += (&rebuilt - &batch).abs().mean(Kind::Double).double_value(&[]) * n as f64;
        for (level, q) in pass.quantized.iter().enumerate() {
            usage[level].add(&q.indices)?;
            if rows.len() < pairs {
                codes[level].push(q.latent.detach());
            }
        }
        if rows.len() < pairs {
            rows.extend_from_slice(&batch_rows);
        }
        if seen < pictures {
            kept.push((batch.shallow_clone(), rebuilt));
        }
        seen += n;
        progress.set(seen as u64, String::new);
    }
    if seen == 0 {
        return Err(empty("the evaluated split"));
    }
    let [psnr, psnr_of_mean_image, ssim, l1] = sums.map(|s| s / seen as f64);
    rows.truncate(pairs);
    let codes = codes
        .into_iter()
        .map(
            |level| {
                if level.is_empty() { Tensor::new() } else { Tensor::cat(&level, 0).narrow(0, 0, rows.len() as i64) }
            },
        )
        .collect();
    let pictures = (!kept.is_empty()).then(|| {
        let n = pictures.min(seen) as i64;
        let (a, b): (Vec<Tensor>, Vec<Tensor>) = kept.into_iter().unzip();
        (Tensor::cat(&a, 0).narrow(0, 0, n), Tensor::cat(&b, 0).narrow(0, 0, n))
    });
    let reports = usage.iter().map(Usage::report).collect();
    let evaluation = Evaluation { images: seen, psnr, psnr_of_mean_image, ssim, l1, usage: reports };
    Ok((evaluation, Seen { codes, rows, usage, pictures }))
}

/// Ranks the texts of the seen rows for each image by the alignment's transport cost, and the images for each text.
pub fn rank_texts(model: &Model, text: &TextSide, seen: &Seen) -> Result<Option<Retrieval>> {
    let _guard = tch::no_grad_guard();
    if model.alignments().is_empty() || seen.rows.len() < 2 {
        return Ok(None);
    }
    let mut levels = Vec::new();
    let mut all = Vec::new();
    for (level, alignment) in model.alignments().iter().enumerate() {
        let granularity = model.granularity(level);
        let batch = text.batch(&seen.rows, granularity, model.device())?;
        let costs = alignment.pair_costs(&seen.codes[level], &batch)?;
        levels.push(LevelRetrieval {
            granularity,
            raw: retrieval(&costs)?,
            centred: retrieval(&subtract_text_means(&costs)?)?,
        });
        all.push(costs);
    }
    let total = sum_levels(&all)?;
    Ok(Some(Retrieval {
        pairs: seen.rows.len(),
        raw: retrieval(&total)?,
        centred: retrieval(&subtract_text_means(&total)?)?,
        levels,
    }))
}

fn total_of(per_image: &Tensor) -> f64 {
    per_image.sum(Kind::Double).double_value(&[])
}
