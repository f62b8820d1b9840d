//! Transport problems by name, from a seeded generator: the same numbers on every machine.
//!
//! `clouds-N`, `points-N`, `uniform-N`, `grid-N` are one matrix each, `cube-N` two sets of points, `batch` many matrices.

use std::path::{Path, PathBuf};

use ndarray::{Array1, Array2, Array3, ArrayView2, Axis};
use ndarray_npy::{ReadNpyError, WriteNpyError, read_npy, write_npy};

/// Problems in `batch`, and the shape of each.
pub const BATCH: (usize, usize, usize) = (64, 64, 256);

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// In (0, 1).
    fn uniform(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Box and Muller's.
    fn normal(&mut self) -> f64 {
        let (radius, angle) = ((-2.0 * self.uniform().ln()).sqrt(), std::f64::consts::TAU * self.uniform());
        radius * angle.cos()
    }

    fn array(&mut self, dim: (usize, usize), draw: fn(&mut Self) -> f64) -> Array2<f64> {
        Array2::from_shape_simple_fn(dim, || draw(self))
    }

    /// Masses of total 1, none below a tenth of the mean.
    fn masses(&mut self, n: usize) -> Array1<f64> {
        let weights = Array1::from_shape_simple_fn(n, || 0.1 + self.uniform());
        &weights / weights.sum()
    }
}

/// A problem in memory.
#[derive(Debug, Clone)]
pub enum Input {
    /// One cost matrix with the masses of its rows and columns.
    Matrix {
        /// n x m.
        cost: Array2<f64>,
        /// n.
        source: Array1<f64>,
        /// m.
        target: Array1<f64>,
    },
    /// Matrices of one shape, stacked.
    Batch {
        /// B x n x m.
        cost: Array3<f64>,
        /// B x n.
        source: Array2<f64>,
        /// B x m.
        target: Array2<f64>,
    },
    /// Two sets of points of equal masses.
    Points {
        /// n x d.
        x: Array2<f64>,
        /// m x d.
        y: Array2<f64>,
    },
}

impl Input {
    /// The input of this name, if there is one.
    #[must_use]
    pub fn make(name: &str) -> Option<Self> {
        if name == "batch" {
            return Some(batch());
        }
        let (kind, n) = name.split_once('-')?;
        let n = n.parse().ok().filter(|&n: &usize| n > 0)?;
        match kind {
            "clouds" => Some(clouds(n)),
            "points" => Some(points(n)),
            "uniform" => Some(uniform(n)),
            "grid" => grid(n),
            "cube" => Some(cube(n)),
            _ => None,
        }
    }

    /// Writes the arrays as `folder/name-part.npy`.
    pub fn write(&self, folder: &Path, name: &str) -> Result<(), WriteNpyError> {
        let file = |part: &str| path(folder, name, part);
        match self {
            Self::Matrix { cost, source, target } => {
                write_npy(file("cost"), cost)?;
                write_npy(file("source"), source)?;
                write_npy(file("target"), target)
            }
            Self::Batch { cost, source, target } => {
                write_npy(file("cost"), cost)?;
                write_npy(file("source"), source)?;
                write_npy(file("target"), target)
            }
            Self::Points { x, y } => {
                write_npy(file("x"), x)?;
                write_npy(file("y"), y)
            }
        }
    }

    /// Reads what [`Input::write`] wrote.
    pub fn read(folder: &Path, name: &str) -> Result<Self, ReadNpyError> {
        let file = |part: &str| path(folder, name, part);
        Ok(if name == "batch" {
            let (source, target) = (read_npy(file("source"))?, read_npy(file("target"))?);
            Self::Batch { cost: read_npy(file("cost"))?, source, target }
        } else if name.starts_with("cube-") {
            Self::Points { x: read_npy(file("x"))?, y: read_npy(file("y"))? }
        } else {
            let (source, target) = (read_npy(file("source"))?, read_npy(file("target"))?);
            Self::Matrix { cost: read_npy(file("cost"))?, source, target }
        })
    }
}

fn path(folder: &Path, name: &str, part: &str) -> PathBuf {
    folder.join(format!("{name}-{part}.npy"))
}

/// `n` equal masses of total 1.
#[must_use]
pub fn equal(n: usize) -> Array1<f64> {
    Array1::from_elem(n, 1.0 / n as f64)
}

/// Squared distances, divided by the largest.
fn scaled_costs(x: ArrayView2<'_, f64>, y: ArrayView2<'_, f64>) -> Array2<f64> {
    let cost = squared_distances(x, y);
    let largest = cost.iter().copied().fold(0.0, f64::max);
    cost / largest
}

fn squared_distances(x: ArrayView2<'_, f64>, y: ArrayView2<'_, f64>) -> Array2<f64> {
    let squares = |points: ArrayView2<'_, f64>| points.map_axis(Axis(1), |point| point.dot(&point));
    let mut cost = x.dot(&y.t()) * -2.0;
    cost += &squares(x).insert_axis(Axis(1));
    cost += &squares(y).insert_axis(Axis(0));
    cost.mapv_into(|c| c.max(0.0))
}

/// Two standard normal clouds of 64 dimensions.
fn clouds(n: usize) -> Input {
    let mut random = Random(1);
    let x = random.array((n, 64), Random::normal);
    let y = random.array((n, 64), Random::normal);
    Input::Matrix { cost: scaled_costs(x.view(), y.view()), source: equal(n), target: equal(n) }
}

/// Points of the cube of 64 dimensions, with random masses.
fn points(n: usize) -> Input {
    let mut random = Random(2);
    let (x, y) = (random.array((n, 64), Random::uniform), random.array((n, 64), Random::uniform));
    let (source, target) = (random.masses(n), random.masses(n));
    Input::Matrix { cost: scaled_costs(x.view(), y.view()), source, target }
}

/// The costs of [`points`], with equal masses.
fn uniform(n: usize) -> Input {
    match points(n) {
        Input::Matrix { cost, .. } => Input::Matrix { cost, source: equal(n), target: equal(n) },
        other => other,
    }
}

/// Two images on one square grid of `n` pixels: squared distances between whole numbers, random masses.
fn grid(n: usize) -> Option<Input> {
    let side = n.isqrt();
    if side * side != n {
        return None;
    }
    let places = Array2::from_shape_fn((n, 2), |(i, k)| if k == 0 { (i / side) as f64 } else { (i % side) as f64 });
    let mut random = Random(3);
    let (source, target) = (random.masses(n), random.masses(n));
    Some(Input::Matrix { cost: squared_distances(places.view(), places.view()), source, target })
}

/// Points of the unit cube.
fn cube(n: usize) -> Input {
    let mut random = Random(4);
    let x = random.array((n, 3), Random::uniform);
    // A denser corner, so that mass has somewhere to go.
    let y = random.array((n, 3), Random::uniform).mapv_into(|v| v * v);
    Input::Points { x, y }
}

/// Points of the cube of 64 dimensions, with random masses.
fn batch() -> Input {
    let (count, n, m) = BATCH;
    let mut random = Random(5);
    let mut cost = Array3::zeros((count, n, m));
    let (mut source, mut target) = (Array2::zeros((count, n)), Array2::zeros((count, m)));
    for k in 0..count {
        let (x, y) = (random.array((n, 64), Random::uniform), random.array((m, 64), Random::uniform));
        cost.index_axis_mut(Axis(0), k).assign(&scaled_costs(x.view(), y.view()));
        source.row_mut(k).assign(&random.masses(n));
        target.row_mut(k).assign(&random.masses(m));
    }
    Input::Batch { cost, source, target }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_problems_and_survive_a_file() {
        let folder = std::env::temp_dir().join(format!("tavq-benches-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["clouds-16", "points-16", "uniform-16", "grid-16"] {
            let input = Input::make(name).unwrap();
            input.write(&folder, name).unwrap();
            let (Input::Matrix { cost, source, target }, Input::Matrix { cost: read, .. }) =
                (&input, Input::read(&folder, name).unwrap())
            else {
                panic!("{name} is one matrix")
            };
            assert_eq!(*cost, read);
            tavq_ot::Problem::new(cost.view(), source.view(), target.view()).unwrap();
        }
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(Input::make("grid-15").is_none() && Input::make("clouds-0").is_none() && Input::make("x").is_none());
    }
}
