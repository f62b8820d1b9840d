use serde::Deserialize;
use tavq_metrics::{MeanImage, MetricError, psnr, ssim};
use tch::{Device, Kind, Tensor};

#[derive(Deserialize)]
struct Golden {
    pairs: Vec<Pair>,
}

#[derive(Deserialize)]
struct Pair {
    height: i64,
    width: i64,
    phase: f64,
    scale: f64,
    data_range: f64,
    psnr: f64,
    ssim: f64,
}

/// The picture of `golden/ssim.py`, `[1, 3, height, width]`.
fn picture(height: i64, width: i64, phase: f64) -> Tensor {
    let axis = |n: i64, shape: [i64; 4]| Tensor::arange(n, (Kind::Double, Device::Cpu)).view(shape);
    let (c, y, x) = (axis(3, [1, 3, 1, 1]), axis(height, [1, 1, height, 1]), axis(width, [1, 1, 1, width]));
    let wave = (&x * 0.37 + &y * 0.21 + &c * 1.3 + phase).sin() * (&x * (&c + 1.0) * 0.11 - &y * 0.05).cos();
    let edge = (&x + &y * 2.0).gt(width).to_kind(Kind::Double) * 0.8 - 0.4;
    let texture = (&x * 2.9 + &y * 3.7 + phase).sin() * 0.1;
    (wave * 0.6 + edge + texture).clamp(-1.0, 1.0)
}

#[test]
fn psnr_and_ssim_agree_with_scikit_image() {
    let golden: Golden = serde_json::from_str(include_str!("../../golden/ssim.json")).unwrap();
    assert_eq!(golden.pairs.len(), 8);
    for p in golden.pairs {
        for (kind, allowed) in [(Kind::Float, 1e-4), (Kind::Double, 1e-7)] {
            let [x, y] = [0.0, p.phase].map(|phase| (picture(p.height, p.width, phase) * p.scale).to_kind(kind));
            // The second image of the batch is a perfect one: images do not mix.
            let (x, y) = (x.repeat([2, 1, 1, 1]), Tensor::cat(&[&y, &x], 0));
            let found = psnr(&x, &y, p.data_range).unwrap();
            assert!((found.double_value(&[0]) - p.psnr).abs() < allowed, "PSNR {found} against {}", p.psnr);
            assert_eq!(found.double_value(&[1]), f64::INFINITY);
            let found = ssim(&x, &y, p.data_range).unwrap();
            assert_eq!(found.size(), [2]);
            assert!((found.double_value(&[0]) - p.ssim).abs() < allowed, "SSIM {found} against {}", p.ssim);
            assert!((found.double_value(&[1]) - 1.0).abs() < 1e-6);
        }
    }
}

#[test]
fn psnr_by_hand() {
    let x = Tensor::zeros([2, 3, 4, 4], (Kind::Float, Device::Cpu));
    let y = Tensor::from_slice(&[1.0f32, 0.2]).view([2, 1, 1, 1]).expand_as(&x);
    let found = psnr(&x, &y, 2.0).unwrap();
    assert!((found.double_value(&[0]) - 4.0f64.log10() * 10.0).abs() < 1e-5);
    assert!((found.double_value(&[1]) - 20.0).abs() < 1e-4);
}

#[test]
fn the_mean_image_is_the_mean_of_all_batches() {
    let mut mean = MeanImage::default();
    assert!(mean.image().is_none());
    assert!(matches!(mean.psnr(&picture(8, 8, 0.0), 2.0).unwrap_err(), MetricError::Values { .. }));
    let all: Vec<_> = (0..5).map(|k| picture(8, 8, f64::from(k))).collect();
    mean.add(&Tensor::cat(&all[..2], 0)).unwrap();
    mean.add(&Tensor::cat(&all[2..], 0).to_kind(Kind::Float)).unwrap();
    let expected = Tensor::cat(&all, 0).mean_dim([0i64].as_slice(), true, Kind::Float);
    assert!((mean.image().unwrap() - &expected).abs().max().double_value(&[]) < 1e-6);
    let found = mean.psnr(&all[3], 2.0).unwrap();
    assert_eq!(found.size(), [1]);
    assert!((found - psnr(&all[3], &expected, 2.0).unwrap()).abs().max().double_value(&[]) < 1e-4);
    // A refused batch leaves the mean as it was.
    assert!(matches!(mean.add(&picture(9, 8, 0.0)).unwrap_err(), MetricError::Shape(_)));
    assert!((mean.image().unwrap() - &expected).abs().max().double_value(&[]) < 1e-6);
}

#[test]
fn bad_input_is_one_typed_error() {
    let x = picture(12, 12, 0.0);
    assert!(matches!(psnr(&x, &x.narrow(2, 0, 11), 2.0).unwrap_err(), MetricError::Shape(_)));
    assert!(matches!(psnr(&x.get(0), &x.get(0), 2.0).unwrap_err(), MetricError::Shape(_)));
    let small = picture(12, 10, 0.0);
    let found = ssim(&small, &small, 2.0).unwrap_err().to_string();
    assert_eq!(found, "images: expected at least 11 x 11 pixels for SSIM, found 12 x 10");
    for range in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(psnr(&x, &x, range).unwrap_err().to_string().starts_with("data_range"));
    }
    assert!(psnr(&x.narrow(0, 0, 0), &x.narrow(0, 0, 0), 2.0).is_err());
}
