//! An image file to pixels: PNG, JPEG or WebP, alpha over white, within a pixel budget.

use std::io::Cursor;
use std::path::Path;

use image::{ImageFormat, ImageReader, Limits, RgbImage};
use ndarray::Array3;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::{DataError, ImageProblem, Transform};

/// Pixels that an image may claim; its decoded form then stays under 1 GB.
pub(crate) const MAX_PIXELS: u64 = 64 << 20;

/// One image as a transform gives it, `[3, size, size]` in [-1, 1]; random choices come out the same on every call.
pub fn load_image(path: &Path, transform: &Transform) -> Result<Array3<f32>, DataError> {
    transform.check()?;
    let problem = |problem| DataError::Image { image: path.to_path_buf(), problem };
    let picture = decode(path).and_then(|p| transform.shrink(p)).map_err(problem)?;
    Ok(transform.cut(&picture, &mut ChaCha8Rng::seed_from_u64(0)))
}

/// Decodes a file; EXIF orientation is not applied.
pub(crate) fn decode(path: &Path) -> Result<RgbImage, ImageProblem> {
    let bytes = std::fs::read(path)?;
    if bytes.is_empty() {
        return Err(ImageProblem::Empty);
    }
    let undecodable = |e: image::ImageError| ImageProblem::Undecodable(one_line(&e.to_string()));
    let format =
        image::guess_format(&bytes).map_err(|_| ImageProblem::Undecodable("bytes of another kind".to_owned()))?;
    let (width, height) =
        ImageReader::with_format(Cursor::new(&bytes), format).into_dimensions().map_err(undecodable)?;
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(ImageProblem::TooLarge { limit: MAX_PIXELS, width, height });
    }
    // Decoders fill the missing rows of a cut JPEG with grey and call it success.
    if format == ImageFormat::Jpeg && !ends_whole(&bytes) {
        return Err(ImageProblem::Truncated);
    }
    let mut reader = ImageReader::with_format(Cursor::new(&bytes), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(16 * MAX_PIXELS);
    reader.limits(limits);
    let picture = reader.decode().map_err(undecodable)?;
    if !picture.color().has_alpha() {
        return Ok(picture.into_rgb8());
    }
    let rgba = picture.into_rgba8();
    Ok(RgbImage::from_fn(rgba.width(), rgba.height(), |x, y| {
        let [r, g, b, a] = rgba.get_pixel(x, y).0;
        let over = |c: u8| ((u32::from(c) * u32::from(a) + 255 * (255 - u32::from(a)) + 127) / 255) as u8;
        image::Rgb([over(r), over(g), over(b)])
    }))
}

/// Whether a JPEG's scan data are followed by an end marker. Earlier ones belong to embedded thumbnails.
fn ends_whole(bytes: &[u8]) -> bool {
    let find = |marker: u8| bytes.windows(2).rposition(|w| w == [0xff, marker]);
    match (find(0xda), find(0xd9)) {
        (Some(scan), Some(end)) => end > scan,
        _ => false,
    }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{DynamicImage, Rgba, RgbaImage};

    fn encoded(format: ImageFormat) -> Vec<u8> {
        let noise = RgbImage::from_fn(48, 40, |x, y| image::Rgb([(x * 5) as u8, (y * 6) as u8, (x * y) as u8]));
        let mut out = Cursor::new(Vec::new());
        DynamicImage::ImageRgb8(noise).write_to(&mut out, format).unwrap();
        out.into_inner()
    }

    #[test]
    fn cut_files_are_refused_and_whole_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
            let whole = encoded(format);
            std::fs::write(&path, &whole).unwrap();
            assert_eq!(decode(&path).unwrap().dimensions(), (48, 40), "{format:?}");
            for part in [0, 1, 3, 16, whole.len() / 4, whole.len() / 2, whole.len() * 9 / 10] {
                std::fs::write(&path, &whole[..part]).unwrap();
                assert!(decode(&path).is_err(), "{format:?} cut to {part} of {} bytes", whole.len());
            }
        }
    }

    #[test]
    fn a_header_that_claims_gigapixels_is_refused_at_once() {
        let mut png = encoded(ImageFormat::Png);
        png[16..24].copy_from_slice(&[0, 1, 0x86, 0xa0, 0, 1, 0x86, 0xa0]);
        let crc = crc32(&png[12..29]);
        png[29..33].copy_from_slice(&crc.to_be_bytes());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bomb.png");
        std::fs::write(&path, png).unwrap();
        let error = decode(&path).unwrap_err().to_string();
        assert!(error.contains("100000 x 100000"), "{error}");
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, b| {
            (0..8).fold(crc ^ u32::from(*b), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xedb8_8320 } else { c >> 1 })
        })
    }

    #[test]
    fn alpha_lies_over_white() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.png");
        RgbaImage::from_fn(2, 1, |x, _| Rgba([10, 20, 30, if x == 0 { 0 } else { 255 }])).save(&path).unwrap();
        let picture = decode(&path).unwrap();
        assert_eq!((picture.get_pixel(0, 0).0, picture.get_pixel(1, 0).0), ([255; 3], [10, 20, 30]));
    }

    #[test]
    fn what_is_no_image_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.png");
        std::fs::write(&path, "words").unwrap();
        let error = load_image(&path, &Transform::default()).unwrap_err().to_string();
        assert!(error.contains("x.png: expected a PNG, JPEG or WebP image"), "{error}");
        assert!(load_image(&dir.path().join("none.png"), &Transform::default()).is_err());
    }
}
