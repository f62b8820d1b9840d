//! Heat maps of a text over its image: for the strongest units of each level, where their transport plan takes its mass from.

use std::path::Path;

use image::{Rgb, RgbImage, imageops};
use tavq_align::TextBatch;
use tavq_encode::{Granularity, TreeVectors};
use tavq_text::{EnglishSplitter, Splitter};
use tavq_train::{Config, Model, name_of, to_images, write_png};
use tch::{Kind, Tensor};

use crate::failure::{Failure, Outcome};
use crate::session;
use crate::sheet::{Pen, overlay};

/// Maps a level gets on the sheet.
const MAPS: usize = 6;
/// Pixels of one map.
const CELL: u32 = 160;
const GAP: u32 = 12;

/// An image `[1, 3, H, W]` in [-1, 1] and its text.
pub(crate) struct Subject<'t> {
    pub(crate) image: Tensor,
    pub(crate) text: &'t str,
}

/// One unit with its map.
#[derive(Debug, serde::Serialize)]
pub(crate) struct UnitMap {
    pub(crate) granularity: Granularity,
    pub(crate) text: String,
    /// Byte span in the text.
    pub(crate) span: [usize; 2],
    /// Mean transport cost of the unit's mass; lower is stronger.
    pub(crate) cost: f64,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Row-major share of the unit's mass that each cell sends; sums to 1.
    pub(crate) map: Vec<f32>,
}

/// The units of the text by level, strongest first, each with its map.
pub(crate) fn unit_maps(config: &Config, model: &Model, subject: &Subject<'_>) -> Outcome<Vec<UnitMap>> {
    let tree = EnglishSplitter::default().split(subject.text);
    let encoder = session::tree_encoder(config)?;
    let vectors = encoder.encode(std::slice::from_ref(&tree)).map_err(Failure::from)?;
    let _guard = tch::no_grad_guard();
    let (_, quantized) = model.encode(&subject.image.to_device(model.device()), false)?;
    let mut all = Vec::new();
    for (level, alignment) in model.alignments().iter().enumerate() {
        let granularity = model.granularity(level);
        let Some((spans, rows)) = units_of(&tree, &vectors[0], granularity) else { continue };
        let m = rows.size()[0];
        let ones = Tensor::ones([1, m], (Kind::Float, model.device()));
        let batch = TextBatch {
            vectors: rows.unsqueeze(0).to_device(model.device()),
            mask: ones.shallow_clone(),
            counts: ones,
        };
        let codes = &quantized[level].latent;
        let plan = alignment.plan(codes, &batch)?;
        let (h, w) = (codes.size()[2] as usize, codes.size()[3] as usize);
        let mut found = Vec::new();
        for (j, span) in spans.iter().enumerate() {
            let column = plan.plan.select(0, 0).select(1, j as i64).to_kind(Kind::Double);
            let cost = plan.cost.select(0, 0).select(1, j as i64).to_kind(Kind::Double);
            let mass = column.sum(Kind::Double).double_value(&[]);
            if mass <= 0.0 {
                continue;
            }
            let map: Vec<f64> = Vec::try_from(&(&column / mass)).map_err(tavq_train::TrainError::from)?;
            found.push(UnitMap {
                granularity,
                text: subject.text[span.start..span.end].to_owned(),
                span: [span.start, span.end],
                cost: (column * cost).sum(Kind::Double).double_value(&[]) / mass,
                rows: h,
                columns: w,
                map: map.into_iter().map(|x| x as f32).collect(),
            });
        }
        found.sort_by(|a, b| a.cost.total_cmp(&b.cost));
        all.extend(found);
    }
    Ok(all)
}

/// Spans and vectors of the distinct units of one granularity; a unit that repeats is shown once.
fn units_of(
    tree: &tavq_text::TextTree<'_>,
    vectors: &TreeVectors,
    granularity: Granularity,
) -> Option<(Vec<tavq_text::Span>, Tensor)> {
    let (spans, rows): (Vec<tavq_text::Span>, &Tensor) = match granularity {
        Granularity::Word => (tree.words.iter().map(|u| u.span).collect(), &vectors.words),
        Granularity::Phrase => (tree.phrases.iter().map(|u| u.span).collect(), &vectors.phrases),
        Granularity::Sentence => (tree.sentences.iter().map(|u| u.span).collect(), &vectors.sentences),
    };
    let mut seen = std::collections::HashSet::new();
    let kept: Vec<usize> =
        (0..spans.len()).filter(|i| spans[*i].get(tree.text).is_some_and(|t| seen.insert(t.to_lowercase()))).collect();
    if kept.is_empty() {
        return None;
    }
    let index: Vec<i64> = kept.iter().map(|i| *i as i64).collect();
    Some((kept.iter().map(|i| spans[*i]).collect(), rows.index_select(0, &Tensor::from_slice(&index))))
}

/// Draws the sheet: the image at the left, one row of maps a level, each map with its text below.
pub(crate) fn write_sheet(config: &Config, model: &Model, subject: &Subject<'_>, path: &Path) -> Outcome<Vec<UnitMap>> {
    let maps = unit_maps(config, model, subject)?;
    let pictures = to_images(&subject.image)?;
    let Some(picture) = pictures.first() else { return Ok(maps) };
    let large = imageops::resize(picture, CELL, CELL, imageops::FilterType::CatmullRom);
    let (head, body) = (Pen::new(20.0).map_err(Failure::Work)?, Pen::new(15.0).map_err(Failure::Work)?);
    let lines = 4;
    let row_height = head.line_height() + CELL + GAP + lines * body.line_height() + GAP;
    let levels: Vec<Granularity> = (0..model.levels().len()).map(|l| model.granularity(l)).collect();
    let width = GAP + (MAPS as u32 + 1) * (CELL + GAP);
    let height = GAP + levels.len() as u32 * row_height;
    let mut sheet = RgbImage::from_pixel(width, height, Rgb([255; 3]));
    for (row, granularity) in levels.iter().enumerate() {
        let top = GAP + row as u32 * row_height;
        head.draw(&mut sheet, GAP, top, [30, 30, 30], name_of(*granularity));
        let y = top + head.line_height();
        imageops::replace(&mut sheet, &large, i64::from(GAP), i64::from(y));
        let mine = maps.iter().filter(|m| m.granularity == *granularity).take(MAPS);
        for (i, unit) in mine.enumerate() {
            let x = GAP + (i as u32 + 1) * (CELL + GAP);
            let most = unit.map.iter().fold(f32::MIN_POSITIVE, |a, b| a.max(*b));
            let scaled: Vec<f32> = unit.map.iter().map(|v| v / most).collect();
            let map = overlay(&large, &scaled, unit.rows, unit.columns);
            imageops::replace(&mut sheet, &map, i64::from(x), i64::from(y));
            let mut at = y + CELL + GAP / 2;
            for line in body.wrap(&unit.text, CELL, lines as usize - 1) {
                body.draw(&mut sheet, x, at, [30, 30, 30], &line);
                at += body.line_height();
            }
            body.draw(&mut sheet, x, at, [120, 120, 120], &format!("cost {:.3}", unit.cost));
        }
    }
    write_png(path, &sheet)?;
    Ok(maps)
}
