//! The codebook page of a report: how often each code of each level is used, and what the most used ones look like.

use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage, imageops};
use serde::Serialize;
use tavq_encode::Granularity;
use tavq_quant::{Usage, UsageReport};
use tavq_train::{Model, name_of, to_images, write_png};
use tch::{Kind, Tensor};

use crate::failure::{Failure, Outcome, writing};
use crate::sheet::Pen;

const WIDTH: u32 = 1200;
const GAP: u32 = 12;
/// Height of a curve.
const CURVE: u32 = 150;
/// Codes shown by themselves, a row and in all.
const ROW: usize = 20;
const SHOWN: usize = 3 * ROW;
/// Cells a side of the grid that holds one code everywhere.
const GRID: i64 = 4;

/// The index of a stage that adds nothing.
const LEFT_OUT: f64 = -1.0;

const INK: [u8; 3] = [30, 30, 30];
const GREY: [u8; 3] = [120, 120, 120];
const BAR: [u8; 3] = [126, 3, 168];
const UNIFORM: [u8; 3] = [204, 71, 120];
const GROUND: Rgb<u8> = Rgb([244, 244, 246]);

/// One level's codes.
#[derive(Debug, Serialize)]
struct Level<'u> {
    granularity: Granularity,
    #[serde(flatten)]
    report: UsageReport,
    /// Occurrences of each code.
    counts: &'u [u64],
}

/// Writes `samples/codebook.png` and `codebook.json` under `out`: the use of the codes per level, fine to coarse, which
/// was counted over `what`. Gives the picture's place.
pub(crate) fn write_page(out: &Path, model: &Model, usage: &[Usage], what: &str) -> Outcome<PathBuf> {
    let levels: Vec<Level<'_>> = usage
        .iter()
        .enumerate()
        .map(|(i, u)| Level { granularity: model.granularity(i), report: u.report(), counts: u.counts() })
        .collect();
    let file = out.join("codebook.json");
    let body =
        serde_json::to_vec(&serde_json::json!({ "counted_over": what, "levels": levels })).map_err(Failure::work)?;
    tavq_torch::write_atomic(&file, |f| f.write_all(&body)).map_err(writing(&file))?;
    let picture = page(model, usage, what)?;
    let path = out.join("samples").join("codebook.png");
    write_png(&path, &picture)?;
    Ok(path)
}

fn page(model: &Model, usage: &[Usage], what: &str) -> Outcome<RgbImage> {
    let (head, body) = (Pen::new(20.0).map_err(Failure::Work)?, Pen::new(15.0).map_err(Failure::Work)?);
    let block = head.line_height() + body.line_height() + CURVE + 2 * body.line_height();
    let shown = match usage.last() {
        Some(last) => decoded_codes(model, last)?,
        None => Vec::new(),
    };
    let cell = (WIDTH - 2 * GAP) / ROW as u32;
    let palette = if shown.is_empty() { 0 } else { head.line_height() + shown.len().div_ceil(ROW) as u32 * cell };
    let height = 2 * GAP + usage.len() as u32 * block + palette;
    let mut sheet = RgbImage::from_pixel(WIDTH, height, Rgb([255; 3]));
    let mut y = GAP;
    for (i, u) in usage.iter().enumerate() {
        let r = u.report();
        let title = format!("level {}, {}: {} of {} codes used", i + 1, name_of(model.granularity(i)), r.used, r.codes);
        head.draw(&mut sheet, GAP, y, INK, &title);
        y += head.line_height();
        let figures = format!(
            "perplexity {:.1}, entropy {:.2} bits of {:.2}, {} dead; {} vectors of {what}",
            r.perplexity,
            r.entropy_bits,
            (r.codes as f64).log2(),
            r.dead,
            r.vectors
        );
        body.draw(&mut sheet, GAP, y, GREY, &figures);
        y += body.line_height();
        curve(&mut sheet, &body, y, u);
        y += CURVE + 2 * body.line_height();
    }
    if !shown.is_empty() {
        let title = format!("the {} most used codes of the decoded level, each one decoded alone", shown.len());
        head.draw(&mut sheet, GAP, y, INK, &title);
        y += head.line_height();
        for (i, code) in shown.iter().enumerate() {
            let large = imageops::resize(code, cell - 4, cell - 4, imageops::FilterType::CatmullRom);
            let (column, row) = ((i % ROW) as u32, (i / ROW) as u32);
            imageops::replace(&mut sheet, &large, i64::from(GAP + column * cell), i64::from(y + row * cell));
        }
    }
    Ok(sheet)
}

/// The codes' shares in falling order over a logarithmic scale, and the share that all would have in an even use.
fn curve(sheet: &mut RgbImage, pen: &Pen, top: u32, usage: &Usage) {
    let (left, width) = (GAP, WIDTH - 2 * GAP);
    fill(sheet, [left, top], [width, CURVE], GROUND);
    let ranked = usage.ranked();
    let total: u64 = usage.counts().iter().sum();
    let most = ranked.first().map_or(0, |r| r.1);
    if most == 0 {
        return;
    }
    // From a quarter of one occurrence, so that a code seen once has a height, to the most used code.
    let (low, high) = (0.25f64.ln(), (most as f64).ln());
    let level = |count: f64| ((count.ln() - low) / (high - low)).clamp(0.0, 1.0);
    let rows = |count: f64| (level(count) * f64::from(CURVE)).round() as u32;
    for x in 0..width {
        let rank = (u64::from(x) * ranked.len() as u64 / u64::from(width)) as usize;
        let count = ranked.get(rank).map_or(0, |r| r.1);
        if count > 0 {
            let bar = rows(count as f64).max(1);
            fill(sheet, [left + x, top + CURVE - bar], [1, bar], Rgb(BAR));
        }
    }
    let even = total as f64 / ranked.len() as f64;
    let y = top + CURVE - rows(even).clamp(1, CURVE);
    for x in (0..width).step_by(8) {
        fill(sheet, [left + x, y], [4.min(width - x), 1], Rgb(UNIFORM));
    }
    let legend = format!(
        "occurrences of each code, most used first, logarithmic: {most} to {}; dashed: all alike, {even:.1}",
        ranked.iter().rev().map(|r| r.1).find(|c| *c > 0).unwrap_or(0)
    );
    pen.draw(sheet, left, top + CURVE + 2, GREY, &legend);
}

fn fill(sheet: &mut RgbImage, [left, top]: [u32; 2], [width, height]: [u32; 2], colour: Rgb<u8>) {
    for y in top..(top + height).min(sheet.height()) {
        for x in left..(left + width).min(sheet.width()) {
            sheet.put_pixel(x, y, colour);
        }
    }
}

/// What the decoder makes of a small grid of one code, for the most used codes of the decoded level; the middle half of
/// the picture, which the padding at its edges does not reach. Of several indices a cell, the code is the first.
fn decoded_codes(model: &Model, usage: &Usage) -> Outcome<Vec<RgbImage>> {
    let _guard = tch::no_grad_guard();
    let codes: Vec<i64> = usage.ranked().into_iter().filter(|r| r.1 > 0).map(|r| r.0).take(SHOWN).collect();
    if codes.is_empty() {
        return Ok(Vec::new());
    }
    let indices = Tensor::from_slice(&codes).to_device(model.device()).view([-1, 1, 1]).expand([-1, GRID, GRID], false);
    let depth = model.quantizer(model.levels().len() - 1).depth();
    let indices =
        if depth == 1 { indices } else { indices.unsqueeze(-1).pad([0, depth - 1], "constant", Some(LEFT_OUT)) };
    let decoded = model.decode_codes(&indices)?;
    let (h, w) = (decoded.size()[2], decoded.size()[3]);
    let middle = decoded.narrow(2, h / 4, (h / 2).max(1)).narrow(3, w / 4, (w / 2).max(1));
    Ok(to_images(&middle.to_kind(Kind::Float))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_falls_and_ends_at_the_dead_codes() {
        let mut sheet = RgbImage::from_pixel(WIDTH, CURVE + 40, Rgb([255; 3]));
        let usage = Usage::from_counts(vec![0, 100, 10, 0, 1, 10, 0, 0]);
        curve(&mut sheet, &Pen::new(15.0).unwrap(), 0, &usage);
        let height = |x: u32| (0..CURVE).filter(|y| sheet.get_pixel(x, *y).0 == BAR).count();
        let each = (WIDTH - 2 * GAP) / 8;
        // Two pixels beside the middle of a code: the dashed line covers a row of some columns.
        let heights: Vec<usize> = (0..8).map(|k| height(GAP + k * each + each / 2)).collect();
        assert!(heights[0] > heights[1] && heights[1].abs_diff(heights[2]) <= 1 && heights[2] > heights[3]);
        assert!(heights[3] > 0 && heights[4..].iter().all(|h| *h == 0), "{heights:?}");
        assert!(heights[0] >= CURVE as usize - 1);
    }

    #[test]
    fn nothing_counted_draws_no_bar() {
        let mut sheet = RgbImage::from_pixel(WIDTH, CURVE + 40, Rgb([255; 3]));
        for counts in [vec![], vec![0, 0]] {
            curve(&mut sheet, &Pen::new(15.0).unwrap(), 0, &Usage::from_counts(counts));
        }
        assert!(sheet.pixels().all(|p| p.0 != BAR));
    }
}
