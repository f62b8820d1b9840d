//! What happens to an image between the file and the model.

use fast_image_resize::images::Image;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;
use ndarray::Array3;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use crate::{DataError, ImageProblem};

/// Where the square is cut out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Crop {
    /// From the middle.
    #[default]
    Centre,
    /// Anywhere, by the sample's own random numbers.
    Random,
}

/// Resize the shorter side, cut out a square, perhaps flip it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Transform {
    /// Side of the square, pixels, 1 to 8192.
    pub size: u32,
    /// Length of the shorter side before the cut, pixels; 0 for `size`, otherwise not below it.
    pub resize: u32,
    /// Where the square is cut out.
    pub crop: Crop,
    /// Chance of a horizontal flip, in [0, 1].
    pub flip: f64,
}

impl Default for Transform {
    fn default() -> Self {
        Self { size: 256, resize: 0, crop: Crop::Centre, flip: 0.0 }
    }
}

impl Transform {
    /// The same without random choices: the middle, not flipped, resized straight to `size`.
    pub fn evaluation(&self) -> Self {
        Self { size: self.size, resize: 0, crop: Crop::Centre, flip: 0.0 }
    }

    /// Refuses values out of their range.
    pub fn check(&self) -> Result<(), DataError> {
        let bad = |field, expected, found: String| Err(DataError::Config { field, expected, found });
        if !(1..=8192).contains(&self.size) {
            return bad("transform.size", "1 to 8192", self.size.to_string());
        }
        if self.resize != 0 && !(self.size..=16384).contains(&self.resize) {
            return bad("transform.resize", "0, or size to 16384", self.resize.to_string());
        }
        if !(0.0..=1.0).contains(&self.flip) {
            return bad("transform.flip", "a number in [0, 1]", self.flip.to_string());
        }
        Ok(())
    }

    /// The part without random choices: the shorter side at its length (Lanczos).
    pub(crate) fn shrink(&self, picture: RgbImage) -> Result<RgbImage, ImageProblem> {
        let side = if self.resize == 0 { self.size } else { self.resize };
        let (w, h) = picture.dimensions();
        let shorter = u64::from(w.min(h)).max(1);
        // Rounded to the nearest; the shorter side comes out exact.
        let scaled = |x: u32| ((u64::from(x) * u64::from(side) * 2 + shorter) / (2 * shorter)).clamp(1, 1 << 20) as u32;
        let (nw, nh) = (scaled(w), scaled(h));
        if (nw, nh) == (w, h) {
            return Ok(picture);
        }
        let broken = |e: String| ImageProblem::Undecodable(e);
        let source =
            Image::from_vec_u8(w, h, picture.into_raw(), PixelType::U8x3).map_err(|e| broken(e.to_string()))?;
        let mut target = Image::new(nw, nh, PixelType::U8x3);
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3));
        Resizer::new().resize(&source, &mut target, &options).map_err(|e| broken(e.to_string()))?;
        RgbImage::from_raw(nw, nh, target.into_vec()).ok_or_else(|| broken("a resized image of another size".into()))
    }

    /// The rest: the square, as `[3, size, size]` in [-1, 1].
    pub(crate) fn cut(&self, picture: &RgbImage, rng: &mut impl Rng) -> Array3<f32> {
        let size = self.size;
        let (spare_x, spare_y) = (picture.width().saturating_sub(size), picture.height().saturating_sub(size));
        // Drawn in this order whatever the options, so that one option does not shift the others' numbers.
        let (random_x, random_y) = (rng.random_range(0..=spare_x), rng.random_range(0..=spare_y));
        let flip = rng.random::<f64>() < self.flip;
        let (left, top) = match self.crop {
            Crop::Centre => (spare_x / 2, spare_y / 2),
            Crop::Random => (random_x, random_y),
        };
        let side = size as usize;
        Array3::from_shape_fn((3, side, side), |(c, y, x)| {
            let x = if flip { side - 1 - x } else { x };
            f32::from(picture.get_pixel(left + x as u32, top + y as u32).0[c]) / 127.5 - 1.0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn ramp(w: u32, h: u32) -> RgbImage {
        RgbImage::from_fn(w, h, |x, y| Rgb([x as u8, y as u8, 255]))
    }

    #[test]
    fn the_shorter_side_comes_out_exact() {
        for (w, h) in [(100, 37), (37, 100), (64, 64), (1, 500), (33, 32)] {
            let t = Transform { size: 32, ..Default::default() };
            let small = t.shrink(ramp(w, h)).unwrap();
            assert_eq!(small.width().min(small.height()), 32, "{w} x {h}");
        }
    }

    #[test]
    fn values_and_places() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let t = Transform { size: 2, ..Default::default() };
        let plain = t.cut(&ramp(4, 2), &mut rng);
        assert_eq!(plain[[0, 0, 0]], 1.0 / 127.5 - 1.0);
        assert_eq!((plain[[1, 1, 0]], plain[[2, 0, 1]]), (1.0 / 127.5 - 1.0, 1.0));
        let flipped = Transform { flip: 1.0, ..t }.cut(&ramp(4, 2), &mut rng);
        assert_eq!(flipped[[0, 0, 0]], plain[[0, 0, 1]]);
    }

    #[test]
    fn random_crops_reach_both_ends_and_stay_inside() {
        let t = Transform { size: 2, resize: 4, crop: Crop::Random, ..Default::default() };
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let lefts: std::collections::BTreeSet<i32> =
            (0..64).map(|_| ((t.cut(&ramp(4, 4), &mut rng)[[0, 0, 0]] + 1.0) * 127.5).round() as i32).collect();
        assert_eq!(Vec::from_iter(lefts), [0, 1, 2]);
    }

    #[test]
    fn bad_options_are_refused() {
        for t in [
            Transform { size: 0, ..Default::default() },
            Transform { size: 64, resize: 32, ..Default::default() },
            Transform { flip: f64::NAN, ..Default::default() },
        ] {
            assert!(t.check().is_err(), "{t:?}");
        }
    }
}
