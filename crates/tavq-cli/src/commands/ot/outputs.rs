//! Plans and duals into files. Where they go is checked before any work is done; what is written appears whole or not at
//! all.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, array, s};
use ndarray_npy::WriteNpyExt;
use rayon::prelude::*;
use tavq_ot::{Coupling, Points, Potentials};

use super::npz::ArchiveWriter;
use crate::failure::{Failure, Outcome, writing};

/// Entries of a sparse plan at most: 3 GiB of it, and any plan worth listing has fewer.
const MOST_ENTRIES: usize = 1 << 27;
/// Costs that one task makes anew at once.
const BLOCK: usize = 1 << 20;

/// Refuses outputs that cannot be written, that are also inputs, or that are the same file twice.
pub(super) fn check_outputs<'p>(
    outputs: &[(&str, Option<&'p Path>, &[&str])],
    inputs: impl Iterator<Item = &'p Path>,
) -> Outcome {
    let mut taken: Vec<(PathBuf, String)> =
        inputs.filter_map(|path| Some((path.canonicalize().ok()?, format!("the input {}", path.display())))).collect();
    for (option, path, extensions) in outputs {
        let Some(path) = path else { continue };
        let refuse = |words: String| Failure::input(anyhow!("{option} {}: {words}", path.display()));
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        if !extensions.contains(&extension) {
            return Err(refuse(format!("expected a name that ends in .{}", extensions.join(" or ."))));
        }
        let place = place_of(path).map_err(&refuse)?;
        if let Some((_, found)) = taken.iter().find(|(taken, _)| *taken == place) {
            return Err(refuse(format!("expected a file of its own, found {found}")));
        }
        taken.push((place, format!("the file of {option}")));
    }
    Ok(())
}

/// The file that a path names, links resolved; its folder has to exist.
fn place_of(path: &Path) -> Result<PathBuf, String> {
    if path.is_dir() {
        return Err("expected a file, found a folder".to_owned());
    }
    if let Ok(place) = path.canonicalize() {
        return Ok(place);
    }
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let found = parent.canonicalize().ok().filter(|p| p.is_dir());
    let found = found.ok_or_else(|| format!("expected an existing folder, found none at {}", parent.display()))?;
    Ok(found.join(path.file_name().unwrap_or_default()))
}

/// The entries of a plan above a threshold, row by row.
#[derive(Default)]
pub(super) struct Entries {
    row: Vec<i64>,
    column: Vec<i64>,
    mass: Vec<f64>,
}

impl Entries {
    fn take(&mut self, first_row: usize, block: ArrayView2<'_, f64>, threshold: f64) -> Result<(), Failure> {
        for ((i, j), &mass) in block.indexed_iter() {
            if mass > threshold {
                self.row.push((first_row + i) as i64);
                self.column.push(j as i64);
                self.mass.push(mass);
            }
        }
        self.check()
    }

    fn append(&mut self, mut other: Self) -> Outcome {
        self.row.append(&mut other.row);
        self.column.append(&mut other.column);
        self.mass.append(&mut other.mass);
        self.check()
    }

    fn check(&self) -> Outcome {
        if self.mass.len() <= MOST_ENTRIES {
            return Ok(());
        }
        Err(Failure::input(anyhow!(
            "--sparse: expected a threshold that at most {MOST_ENTRIES} entries are above, found more of them"
        )))
    }

    pub(super) fn len(&self) -> usize {
        self.mass.len()
    }

    pub(super) fn of_plan(plan: &Array2<f64>, threshold: f64) -> Outcome<Self> {
        let mut out = Self::default();
        for (i, row) in plan.outer_iter().enumerate() {
            out.take(i, row.insert_axis(ndarray::Axis(0)), threshold)?;
        }
        Ok(out)
    }

    /// Of a plan that was never stored: `P_ij = a_i b_j / M exp((f_i + g_j - C_ij) / epsilon)`, some rows at a time.
    pub(super) fn of_potentials(
        points: &Points<'_>,
        (a, b): (&Array1<f64>, &Array1<f64>),
        potentials: &Potentials,
        epsilon: f64,
        threshold: f64,
        mut done: impl FnMut(usize),
    ) -> Outcome<Self> {
        let (n, m) = points.dim();
        let (sum_a, sum_b) = (a.sum(), b.sum());
        // Both sides are scaled to the mean of the totals, as the solver did.
        let factor = 0.5 * (sum_a + sum_b) / (sum_a * sum_b);
        let rows = (BLOCK / m).clamp(8, 256);
        let starts: Vec<usize> = (0..n).step_by(rows).collect();
        let mut out = Self::default();
        for wave in starts.chunks(2 * rayon::current_num_threads()) {
            let parts: Vec<Outcome<Self>> = wave
                .par_iter()
                .map(|&start| {
                    let end = (start + rows).min(n);
                    let mut block = Array2::zeros((end - start, m));
                    points.write_block(start..end, 0..m, block.view_mut())?;
                    let (a, f) = (a.slice(s![start..end]), potentials.f.slice(s![start..end]));
                    masses_of_costs(&mut block, (a, f), (b.view(), potentials.g.view()), epsilon, factor);
                    let mut part = Self::default();
                    part.take(start, block.view(), threshold)?;
                    Ok(part)
                })
                .collect();
            for part in parts {
                out.append(part?)?;
            }
            done(wave.last().map_or(n, |start| (start + rows).min(n)));
        }
        Ok(out)
    }

    pub(super) fn write(self, path: &Path, dim: (usize, usize)) -> Outcome {
        archive(path, |out| self.add_to(out, dim))
    }

    /// `row`, `column`, `mass` and `shape`.
    fn add_to(self, out: &mut ArchiveWriter<'_>, (n, m): (usize, usize)) -> io::Result<()> {
        out.add("row", &Array1::from_vec(self.row))?;
        out.add("column", &Array1::from_vec(self.column))?;
        out.add("mass", &Array1::from_vec(self.mass))?;
        out.add("shape", &array![n as i64, m as i64])
    }
}

/// Turns a block of costs into the plan's entries.
fn masses_of_costs(
    block: &mut Array2<f64>,
    (a, f): (ArrayView1<'_, f64>, ArrayView1<'_, f64>),
    (b, g): (ArrayView1<'_, f64>, ArrayView1<'_, f64>),
    epsilon: f64,
    factor: f64,
) {
    for ((mut row, &a), &f) in block.outer_iter_mut().zip(a).zip(f) {
        for ((entry, &b), &g) in row.iter_mut().zip(b).zip(g) {
            let product = a * b * factor;
            *entry = if product == 0.0 { 0.0 } else { product * ((f + g - *entry) / epsilon).exp() };
        }
    }
}

/// A dense plan: .npy, or the member `plan` of a .npz.
pub(super) fn write_dense(path: &Path, plan: &Array2<f64>) -> Outcome {
    if path.extension().is_some_and(|e| e == "npz") {
        return archive(path, |out| out.add("plan", plan));
    }
    tavq_torch::write_atomic(path, |out| plan.write_npy(out).map_err(io::Error::other)).map_err(writing(path))
}

/// A coupling of a batch: its plan, dense or above a threshold, and both potentials in one archive.
pub(super) fn write_coupling(path: &Path, coupling: &Coupling, threshold: Option<f64>) -> Outcome {
    let sparse = threshold.map(|threshold| Entries::of_plan(&coupling.plan, threshold)).transpose()?;
    archive(path, |out| {
        match sparse {
            Some(entries) => entries.add_to(out, coupling.plan.dim())?,
            None => out.add("plan", &coupling.plan)?,
        }
        out.add("f", &coupling.f)?;
        out.add("g", &coupling.g)
    })
}

/// Both potentials: `f` and `g`.
pub(super) fn write_duals(path: &Path, f: &Array1<f64>, g: &Array1<f64>) -> Outcome {
    archive(path, |out| {
        out.add("f", f)?;
        out.add("g", g)
    })
}

fn archive(path: &Path, body: impl FnOnce(&mut ArchiveWriter<'_>) -> io::Result<()>) -> Outcome {
    tavq_torch::write_atomic(path, |out| {
        let mut archive = ArchiveWriter::new(out);
        body(&mut archive)?;
        archive.finish()
    })
    .map_err(writing(path))
}

/// Refuses a threshold that is no number of at least 0.
pub(super) fn check_threshold(threshold: Option<f64>) -> Outcome {
    match threshold {
        Some(value) if !(value >= 0.0 && value.is_finite()) => {
            Err(Failure::input(anyhow!("--sparse: expected a finite threshold of at least 0, found {value}")))
        }
        _ => Ok(()),
    }
}
