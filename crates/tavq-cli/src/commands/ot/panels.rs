//! The picture of `tavq ot demo`: one panel for each plan, side by side, over the same two clouds.

use image::RgbImage;
use ndarray::{Array2, ArrayView2};

use super::canvas::{Canvas, Colour};
use crate::sheet::Pen;

const SIZE: [usize; 2] = [1500, 560];
const MARGIN: usize = 22;
const GAP: usize = 16;
const CAPTION: usize = 74;
const LEGEND_LINE: usize = 22;
const PAGE: Colour = [245.0; 3];
const CARD: Colour = [255.0; 3];
const EDGE: Colour = [220.0, 225.0, 230.0];
const SOURCE: Colour = [30.0, 100.0, 180.0];
const TARGET: Colour = [225.0, 100.0, 40.0];
const INK: [u8; 3] = [28, 30, 36];
const FAINT: [u8; 3] = [88, 92, 104];

/// A plan and what stands below it.
pub(super) struct Panel<'a> {
    pub(super) plan: &'a Array2<f64>,
    pub(super) title: String,
    pub(super) caption: String,
}

/// Where the coordinates of the clouds lie in a panel: one scale for both directions.
struct Frame {
    low: [f64; 2],
    scale: f64,
    offset: [f64; 2],
}

impl Frame {
    fn of(clouds: [ArrayView2<'_, f64>; 2], size: [f64; 2], border: f64) -> Self {
        let (mut low, mut high) = ([f64::INFINITY; 2], [f64::NEG_INFINITY; 2]);
        for point in clouds.iter().flat_map(|cloud| cloud.outer_iter()) {
            for c in 0..2 {
                low[c] = low[c].min(point[c]);
                high[c] = high[c].max(point[c]);
            }
        }
        let fits = [0, 1].map(|c| (size[c] - 2.0 * border) / (high[c] - low[c]).max(f64::MIN_POSITIVE));
        let scale = fits[0].min(fits[1]).min(f64::MAX);
        let offset = [0, 1].map(|c| (size[c] - scale * (high[c] - low[c])) / 2.0);
        Self { low, scale, offset }
    }

    fn place(&self, point: ndarray::ArrayView1<'_, f64>, corner: [f64; 2], height: f64) -> [f32; 2] {
        let [x, y] = [0, 1].map(|c| self.offset[c] + self.scale * (point[c] - self.low[c]));
        [(corner[0] + x) as f32, (corner[1] + height - y) as f32]
    }
}

/// Draws the panels over sources `x` and targets `y`.
pub(super) fn draw(panels: &[Panel<'_>], x: &Array2<f64>, y: &Array2<f64>) -> anyhow::Result<RgbImage> {
    let mut canvas = Canvas::new(SIZE[0], SIZE[1], PAGE);
    let count = panels.len().max(1);
    let width = (SIZE[0] - 2 * MARGIN - (count - 1) * GAP) / count;
    let height = SIZE[1] - 2 * MARGIN - CAPTION;
    let frame = Frame::of([x.view(), y.view()], [width as f64, height as f64], 26.0);
    let lefts: Vec<usize> = (0..panels.len()).map(|k| MARGIN + k * (width + GAP)).collect();
    for (panel, &left) in panels.iter().zip(&lefts) {
        canvas.rectangle([left, MARGIN], [width, height], EDGE);
        canvas.rectangle([left + 1, MARGIN + 1], [width - 2, height - 2], CARD);
        let place =
            |point: ndarray::ArrayView1<'_, f64>| frame.place(point, [left as f64, MARGIN as f64], height as f64);
        let (from, to): (Vec<_>, Vec<_>) = (x.outer_iter().map(place).collect(), y.outer_iter().map(place).collect());
        arcs(&mut canvas, panel.plan, &from, &to);
        from.iter().for_each(|&at| dot(&mut canvas, at, SOURCE));
        to.iter().for_each(|&at| dot(&mut canvas, at, TARGET));
    }
    legend(&mut canvas, MARGIN);
    let mut picture = canvas.into_image();
    write(&mut picture, panels, &lefts, (width, MARGIN + height))?;
    Ok(picture)
}

/// A line for each entry, opaque as its share of what its source sends; the strongest last.
fn arcs(canvas: &mut Canvas, plan: &Array2<f64>, from: &[[f32; 2]], to: &[[f32; 2]]) {
    let mut lines = Vec::new();
    for (i, row) in plan.outer_iter().enumerate() {
        let sent = row.sum().max(f64::MIN_POSITIVE);
        lines.extend(row.iter().enumerate().map(|(j, mass)| (mass / sent, i, j)).filter(|line| line.0 > 1e-4));
    }
    lines.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (share, i, j) in lines {
        canvas.line(from[i], to[j], 1.7, [SOURCE, TARGET], share as f32);
    }
}

fn dot(canvas: &mut Canvas, at: [f32; 2], colour: Colour) {
    canvas.disc(at, 5.2, CARD);
    canvas.disc(at, 4.0, colour);
}

/// Which colour is which, in the corner of the first panel.
fn legend(canvas: &mut Canvas, left: usize) {
    for (k, colour) in [SOURCE, TARGET].into_iter().enumerate() {
        dot(canvas, [(left + 18) as f32, (MARGIN + 19 + k * LEGEND_LINE) as f32], colour);
    }
}

/// Titles and captions below the panels.
fn write(
    picture: &mut RgbImage,
    panels: &[Panel<'_>],
    lefts: &[usize],
    (width, bottom): (usize, usize),
) -> anyhow::Result<()> {
    let (title, body, small) = (Pen::new(25.0)?, Pen::new(18.0)?, Pen::new(16.0)?);
    for (k, name) in ["source", "target"].into_iter().enumerate() {
        small.draw(picture, MARGIN as u32 + 30, (MARGIN + 10 + k * LEGEND_LINE) as u32, FAINT, name);
    }
    for (panel, &left) in panels.iter().zip(lefts) {
        let centred = |pen: &Pen, text: &str| (left as f32 + (width as f32 - pen.width(text)) / 2.0).max(0.0) as u32;
        let y = bottom as u32 + 10;
        title.draw(picture, centred(&title, &panel.title), y, INK, &panel.title);
        let y = y + title.line_height() + 2;
        body.draw(picture, centred(&body, &panel.caption), y, FAINT, &panel.caption);
    }
    Ok(())
}
