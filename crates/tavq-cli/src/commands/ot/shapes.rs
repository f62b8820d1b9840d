//! Built-in pairs of clouds in the plane for `tavq ot demo`, each a picture of something that transport does.

use std::f64::consts::{PI, TAU};

use clap::ValueEnum;
use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Shape {
    /// A disc that becomes a ring.
    Rings,
    /// Two interleaved half circles.
    Moons,
    /// One heap that is shared out among five.
    Clusters,
    /// A disc that winds into two arms.
    Spiral,
}

struct Draw(ChaCha8Rng);

impl Draw {
    /// Uniform in [0, 1).
    fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Standard normal (Box and Muller 1958).
    fn normal(&mut self) -> f64 {
        let (u, v) = (self.uniform(), self.uniform());
        (-2.0 * (1.0 - u).ln()).sqrt() * (TAU * v).cos()
    }
}

impl Shape {
    /// Sources and targets, `count` each. The same seed gives the same points.
    pub(super) fn clouds(self, count: usize, seed: u64) -> (Array2<f64>, Array2<f64>) {
        let mut draw = Draw(ChaCha8Rng::seed_from_u64(seed));
        let mut cloud = |point: &dyn Fn(&mut Draw, usize) -> [f64; 2]| {
            let points: Vec<[f64; 2]> = (0..count).map(|i| point(&mut draw, i)).collect();
            Array2::from(points)
        };
        // Evenly spread along a curve or over a disc, with a little noise: pure chance leaves holes.
        let along = |i: usize| (i as f64 + 0.5) / count as f64;
        let disc = |radius: f64| {
            move |draw: &mut Draw, i: usize| {
                let (r, angle) = (radius * along(i).sqrt(), i as f64 * PI * (3.0 - 5.0_f64.sqrt()));
                [r * angle.cos() + 0.012 * draw.normal(), r * angle.sin() + 0.012 * draw.normal()]
            }
        };
        match self {
            Self::Rings => {
                let ring = |draw: &mut Draw, i: usize| {
                    let (angle, r) = (TAU * along(i), 1.0 + 0.05 * draw.normal());
                    [r * angle.cos(), r * angle.sin()]
                };
                (cloud(&disc(0.45)), cloud(&ring))
            }
            Self::Moons => {
                let moon = |sign: f64| {
                    move |draw: &mut Draw, i: usize| {
                        let angle = PI * along(i);
                        let (x, y) = (sign * (angle.cos() - 0.5), sign * (angle.sin() - 0.25));
                        [x + 0.045 * draw.normal(), y + 0.045 * draw.normal()]
                    }
                };
                (cloud(&moon(1.0)), cloud(&moon(-1.0)))
            }
            Self::Clusters => {
                let heaps = |draw: &mut Draw, i: usize| {
                    let angle = TAU * (i % 5) as f64 / 5.0 + PI / 2.0;
                    [angle.cos() + 0.09 * draw.normal(), angle.sin() + 0.09 * draw.normal()]
                };
                (cloud(&disc(0.4)), cloud(&heaps))
            }
            Self::Spiral => {
                let arms = |draw: &mut Draw, i: usize| {
                    let t = along(i).sqrt();
                    let angle = 0.75 * TAU * t + PI * (i % 2) as f64;
                    let r = 0.3 + 0.75 * t;
                    [r * angle.cos() + 0.02 * draw.normal(), r * angle.sin() + 0.02 * draw.normal()]
                };
                (cloud(&disc(0.42)), cloud(&arms))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_its_points_again() {
        for shape in Shape::value_variants() {
            let (x, y) = shape.clouds(40, 3);
            assert_eq!((x.dim(), y.dim()), ((40, 2), (40, 2)));
            assert!(x.iter().chain(&y).all(|v| v.abs() < 2.0));
            assert_eq!(shape.clouds(40, 3), (x.clone(), y));
            assert_ne!(shape.clouds(40, 4).0, x);
        }
    }
}
