//! Lines and discs with smooth edges on a picture of floats: thousands of faint lines add up, where bytes would round each
//! of them away.

use image::{Rgb, RgbImage};

pub(super) type Colour = [f32; 3];

pub(super) struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<Colour>,
}

impl Canvas {
    pub(super) fn new(width: usize, height: usize, colour: Colour) -> Self {
        Self { width, height, pixels: vec![colour; width * height] }
    }

    fn mix(&mut self, x: usize, y: usize, colour: Colour, share: f32) {
        let pixel = &mut self.pixels[y * self.width + x];
        pixel.iter_mut().zip(colour).for_each(|(under, over)| *under += (over - *under) * share);
    }

    /// Pixels of a range of coordinates that lie in the picture.
    fn inside(low: f32, high: f32, length: usize) -> std::ops::Range<usize> {
        let end = (high.ceil() + 1.0).clamp(0.0, length as f32) as usize;
        (low.floor().clamp(0.0, length as f32) as usize).min(end)..end
    }

    /// A line with round ends whose colour goes from one to the other.
    pub(super) fn line(&mut self, from: [f32; 2], to: [f32; 2], width: f32, colours: [Colour; 2], opacity: f32) {
        let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
        let length = dx.hypot(dy);
        let reach = width / 2.0 + 1.0;
        // One walk along the longer direction; across it only the pixels that the line can touch.
        let steep = dy.abs() > dx.abs();
        let (major, minor) = if steep { (1, 0) } else { (0, 1) };
        let (size_major, size_minor) = if steep { (self.height, self.width) } else { (self.width, self.height) };
        let (low, high) = (from[major].min(to[major]) - reach, from[major].max(to[major]) + reach);
        let run = to[major] - from[major];
        let slope = if run == 0.0 { 0.0 } else { (to[minor] - from[minor]) / run };
        let across = reach * slope.hypot(1.0) + 1.0;
        for at in Self::inside(low, high, size_major) {
            let centre = from[minor] + slope * (at as f32 + 0.5 - from[major]);
            for other in Self::inside(centre - across, centre + across, size_minor) {
                let (x, y) = if steep { (other, at) } else { (at, other) };
                let (px, py) = (x as f32 + 0.5 - from[0], y as f32 + 0.5 - from[1]);
                let t = if length == 0.0 { 0.0 } else { ((px * dx + py * dy) / (length * length)).clamp(0.0, 1.0) };
                let distance = (px - t * dx).hypot(py - t * dy);
                let cover = (width / 2.0 + 0.5 - distance).clamp(0.0, width.min(1.0));
                if cover > 0.0 {
                    let [a, b] = colours;
                    let colour = [0, 1, 2].map(|c| a[c] + (b[c] - a[c]) * t);
                    self.mix(x, y, colour, cover * opacity);
                }
            }
        }
    }

    pub(super) fn disc(&mut self, centre: [f32; 2], radius: f32, colour: Colour) {
        self.line(centre, centre, 2.0 * radius, [colour; 2], 1.0);
    }

    /// A filled rectangle.
    pub(super) fn rectangle(&mut self, [left, top]: [usize; 2], [width, height]: [usize; 2], colour: Colour) {
        for y in top..(top + height).min(self.height) {
            for x in left..(left + width).min(self.width) {
                self.mix(x, y, colour, 1.0);
            }
        }
    }

    /// In 52 levels a channel: the eye sees no step between them, and the file is a third smaller than with all.
    pub(super) fn into_image(self) -> RgbImage {
        let Self { width, pixels, height } = self;
        RgbImage::from_fn(width as u32, height as u32, |x, y| {
            Rgb(pixels[y as usize * width + x as usize].map(|v| ((v / 5.0).round() * 5.0).clamp(0.0, 255.0) as u8))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ink_is_the_area_of_what_is_drawn() {
        let ink = |canvas: Canvas| canvas.pixels.iter().map(|p| p[0]).sum::<f32>();
        let draw = |from: [f32; 2], to: [f32; 2]| {
            let mut canvas = Canvas::new(100, 100, [0.0; 3]);
            canvas.line(from, to, 2.0, [[1.0; 3]; 2], 0.5);
            ink(canvas)
        };
        // 60 x 2, and the round ends, at half opacity, in any direction.
        for to in [[80.0, 20.0], [20.0, 80.0], [20.0 + 42.426, 20.0 + 42.426]] {
            let found = draw([20.0, 20.0], to);
            assert!((found - 61.5).abs() < 1.5, "{found}");
        }
        let mut canvas = Canvas::new(100, 100, [0.0; 3]);
        canvas.disc([50.3, 49.8], 10.0, [1.0; 3]);
        let found = ink(canvas);
        assert!((found - 314.2).abs() < 3.0, "{found}");
        // Outside the picture nothing is drawn, and nothing fails.
        assert_eq!(draw([-50.0, -9.0], [-20.0, 300.0]), 0.0);
    }
}
