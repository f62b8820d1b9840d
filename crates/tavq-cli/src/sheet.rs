//! Drawing for pictures that hold text: a font, wrapped lines, heat maps.

use ab_glyph::{Font, FontRef, Glyph, PxScale, ScaleFont, point};
use image::{Rgb, RgbImage};

/// A font at one size.
pub(crate) struct Pen {
    font: FontRef<'static>,
    scale: PxScale,
}

impl Pen {
    /// The built-in font, `size` pixels high.
    pub(crate) fn new(size: f32) -> anyhow::Result<Self> {
        let font = FontRef::try_from_slice(epaint_default_fonts::UBUNTU_LIGHT)?;
        Ok(Self { font, scale: PxScale::from(size) })
    }

    /// Pixels from one line's top to the next.
    pub(crate) fn line_height(&self) -> u32 {
        (self.font.as_scaled(self.scale).height() * 1.2).ceil() as u32
    }

    /// Width of a text in pixels.
    pub(crate) fn width(&self, text: &str) -> f32 {
        let font = self.font.as_scaled(self.scale);
        text.chars().map(|c| font.h_advance(font.glyph_id(c))).sum()
    }

    /// The text in lines of at most `width` pixels, at most `lines` of them, the last one cut with an ellipsis.
    pub(crate) fn wrap(&self, text: &str, width: u32, lines: usize) -> Vec<String> {
        let mut out: Vec<String> = vec![String::new()];
        for word in text.split_whitespace() {
            let line = out.last().map_or("", String::as_str);
            let longer = if line.is_empty() { word.to_owned() } else { format!("{line} {word}") };
            if line.is_empty() || self.width(&longer) <= width as f32 {
                if let Some(last) = out.last_mut() {
                    *last = longer;
                }
            } else if out.len() == lines {
                if let Some(last) = out.last_mut() {
                    last.push('\u{2026}');
                }
                break;
            } else {
                out.push(word.to_owned());
            }
        }
        out
    }

    /// Draws one line with its top left corner at (x, y); what falls outside the picture is cut off.
    pub(crate) fn draw(&self, picture: &mut RgbImage, x: u32, y: u32, colour: [u8; 3], text: &str) {
        let font = self.font.as_scaled(self.scale);
        let mut at = x as f32;
        let baseline = y as f32 + font.ascent();
        for c in text.chars() {
            let glyph: Glyph = font.glyph_id(c).with_scale_and_position(self.scale, point(at, baseline));
            at += font.h_advance(glyph.id);
            let Some(outline) = font.outline_glyph(glyph) else { continue };
            let bounds = outline.px_bounds();
            outline.draw(|gx, gy, cover| {
                let (px, py) = (bounds.min.x as i64 + i64::from(gx), bounds.min.y as i64 + i64::from(gy));
                if px < 0 || py < 0 || px >= i64::from(picture.width()) || py >= i64::from(picture.height()) {
                    return;
                }
                let pixel = picture.get_pixel_mut(px as u32, py as u32);
                *pixel = mix(*pixel, Rgb(colour), cover.clamp(0.0, 1.0));
            });
        }
    }
}

/// `share` of `over` on `under`.
pub(crate) fn mix(under: Rgb<u8>, over: Rgb<u8>, share: f32) -> Rgb<u8> {
    let one = |i: usize| (f32::from(under.0[i]) * (1.0 - share) + f32::from(over.0[i]) * share).round() as u8;
    Rgb([one(0), one(1), one(2)])
}

/// Dark blue over magenta to yellow for values in [0, 1]; lightness rises with the value.
pub(crate) fn heat_colour(value: f32) -> Rgb<u8> {
    const STOPS: [[f32; 3]; 5] =
        [[13.0, 8.0, 135.0], [126.0, 3.0, 168.0], [204.0, 71.0, 120.0], [248.0, 149.0, 64.0], [240.0, 249.0, 33.0]];
    let at = value.clamp(0.0, 1.0) * (STOPS.len() - 1) as f32;
    let i = (at as usize).min(STOPS.len() - 2);
    let t = at - i as f32;
    let one = |c: usize| (STOPS[i][c] * (1.0 - t) + STOPS[i + 1][c] * t).round() as u8;
    Rgb([one(0), one(1), one(2)])
}

/// Lays a grid of values in [0, 1] over a picture, bilinearly enlarged to its size.
pub(crate) fn overlay(picture: &RgbImage, grid: &[f32], rows: usize, columns: usize) -> RgbImage {
    let (w, h) = picture.dimensions();
    RgbImage::from_fn(w, h, |x, y| {
        let v = bilinear(grid, rows, columns, (y as f32 + 0.5) / h as f32, (x as f32 + 0.5) / w as f32);
        // A grey under the map keeps the picture readable without mixing its colours into the scale.
        let p = picture.get_pixel(x, y).0;
        let grey = (0.3 * f32::from(p[0]) + 0.59 * f32::from(p[1]) + 0.11 * f32::from(p[2])) as u8;
        mix(Rgb([grey; 3]), heat_colour(v), 0.25 + 0.5 * v)
    })
}

fn bilinear(grid: &[f32], rows: usize, columns: usize, y: f32, x: f32) -> f32 {
    let place = |t: f32, n: usize| {
        let at = (t * n as f32 - 0.5).clamp(0.0, (n - 1) as f32);
        let i = at as usize;
        (i, (i + 1).min(n - 1), at - i as f32)
    };
    let ((y0, y1, ty), (x0, x1, tx)) = (place(y, rows), place(x, columns));
    let at = |r: usize, c: usize| grid[r * columns + c];
    let top = at(y0, x0) * (1.0 - tx) + at(y0, x1) * tx;
    let bottom = at(y1, x0) * (1.0 - tx) + at(y1, x1) * tx;
    top * (1.0 - ty) + bottom * ty
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapping_keeps_every_word_that_fits() {
        let pen = Pen::new(16.0).unwrap();
        let text = "a round yellow face with two black oval eyes";
        let lines = pen.wrap(text, 120, 10);
        assert!(lines.len() > 2 && lines.iter().all(|l| pen.width(l) <= 120.0));
        assert_eq!(lines.join(" "), text);
        let cut = pen.wrap(text, 120, 2);
        assert_eq!(cut.len(), 2);
        assert!(cut[1].ends_with('\u{2026}'));
    }

    #[test]
    fn ink_lands_on_the_picture_and_never_outside() {
        let mut picture = RgbImage::from_pixel(40, 20, Rgb([255; 3]));
        Pen::new(16.0).unwrap().draw(&mut picture, 0, 0, [0; 3], "wide text that runs off");
        assert!(picture.pixels().any(|p| p.0[0] < 64));
    }

    #[test]
    fn a_map_is_brightest_where_its_cell_is() {
        let picture = RgbImage::from_pixel(40, 40, Rgb([128; 3]));
        let map = overlay(&picture, &[0.0, 0.0, 0.0, 1.0], 2, 2);
        assert!(map.get_pixel(39, 39).0[0] > map.get_pixel(0, 0).0[0] + 50);
    }
}
