//! Sheets of pictures.

use std::path::Path;

use image::{Rgb, RgbImage, imageops};
use tavq_torch::check_shape;
use tch::{Device, Kind, Tensor};

use crate::{Result, TrainError};

/// `[B, 3, H, W]` in [-1, 1] (values outside are clamped) to one picture each.
pub fn to_images(images: &Tensor) -> Result<Vec<RgbImage>> {
    check_shape("images", images, &[-1, 3, -1, -1])?;
    let (b, h, w) = (images.size()[0], images.size()[2], images.size()[3]);
    let bytes = ((images.detach() + 1.0) * 127.5).round().clamp(0.0, 255.0).to_kind(Kind::Uint8);
    let bytes = bytes.permute([0, 2, 3, 1]).to_device(Device::Cpu).contiguous();
    let mut all = vec![0u8; bytes.numel()];
    bytes.f_copy_data_u8(&mut all, bytes.numel())?;
    let each = (3 * h * w) as usize;
    Ok((0..b as usize)
        .filter_map(|i| RgbImage::from_raw(w as u32, h as u32, all[i * each..(i + 1) * each].to_vec()))
        .collect())
}

/// Pairs of rows, an original above its reconstruction, each picture enlarged to at least `cell` pixels.
///
/// Enlarged by whole factors and without smoothing, so that a pixel of the model stays a square.
pub fn write_pairs(path: &Path, originals: &Tensor, rebuilt: &Tensor, columns: u32, cell: u32) -> Result<()> {
    let (above, below) = (to_images(originals)?, to_images(rebuilt)?);
    let Some(first) = above.first() else { return Ok(()) };
    let factor = cell.div_ceil(first.width()).max(1);
    let (w, h) = (first.width() * factor, first.height() * factor);
    let columns = columns.max(1).min(above.len() as u32);
    let rows = (above.len() as u32).div_ceil(columns);
    let gap = 4;
    let pair = 2 * h + gap + 3 * gap;
    let mut sheet = RgbImage::from_pixel(columns * (w + gap) + gap, rows * pair + gap, Rgb([236, 236, 236]));
    for (i, (a, b)) in above.iter().zip(&below).enumerate() {
        let (column, row) = (i as u32 % columns, i as u32 / columns);
        let (x, y) = (gap + column * (w + gap), gap + row * pair);
        for (picture, top) in [(a, y), (b, y + h + gap)] {
            let large = imageops::resize(picture, w, h, imageops::FilterType::Nearest);
            imageops::replace(&mut sheet, &large, i64::from(x), i64::from(top));
        }
    }
    write_png(path, &sheet)
}

/// Writes a picture as PNG, whole or not at all.
pub fn write_png(path: &Path, picture: &RgbImage) -> Result<()> {
    let mut bytes = Vec::new();
    picture
        .write_to(&mut std::io::Cursor::new(&mut bytes), image::ImageFormat::Png)
        .map_err(|source| TrainError::Picture { path: path.to_path_buf(), source })?;
    tavq_torch::write_atomic(path, |out| out.write_all(&bytes))
        .map_err(|source| TrainError::Io { path: path.to_path_buf(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_map_to_bytes_and_pixels_to_places() {
        let x = Tensor::from_slice(&[-1.0f32, 1.0, 0.0, -2.0, 2.0, 0.5]).view([1, 3, 1, 2]);
        let p = &to_images(&x).unwrap()[0];
        assert_eq!((p.get_pixel(0, 0).0, p.get_pixel(1, 0).0), ([0, 128, 255], [255, 0, 191]));
        assert!(to_images(&Tensor::zeros([1, 4, 2, 2], (Kind::Float, Device::Cpu))).is_err());
    }

    #[test]
    fn a_sheet_holds_every_pair() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er/sheet.png");
        let white = Tensor::ones([5, 3, 8, 8], (Kind::Float, Device::Cpu));
        write_pairs(&path, &white, &-&white, 4, 16).unwrap();
        let sheet = image::open(&path).unwrap().to_rgb8();
        assert_eq!(sheet.dimensions(), (4 * 20 + 4, 2 * 48 + 4));
        assert_eq!((sheet.get_pixel(5, 5).0, sheet.get_pixel(5, 25).0), ([255; 3], [0; 3]));
    }
}
