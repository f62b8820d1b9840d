//! Eigenvalues of symmetric matrices and singular values, by rotations (Jacobi 1846; one-sided: Hestenes 1958). Slow beside
//! a tridiagonal method, but small values keep their digits, and a few hundred rows are all that comes here.

use ndarray::{Array1, Array2, Axis};

/// Passes over all pairs; convergence is quadratic and takes about ten.
const SWEEPS: usize = 60;

/// Eigenvalues in ascending order and the eigenvectors as columns of a d x d matrix, of a symmetric matrix of finite
/// numbers.
pub(crate) fn symmetric(matrix: &Array2<f64>) -> (Array1<f64>, Array2<f64>) {
    let d = matrix.nrows();
    let scale = matrix.iter().fold(0.0, |largest: f64, v| largest.max(v.abs()));
    let (mut a, mut vectors) = (if scale > 0.0 { matrix / scale } else { matrix.clone() }, Array2::eye(d));
    for _ in 0..SWEEPS {
        let mut quiet = true;
        for p in 0..d {
            for q in p + 1..d {
                // Below this share of the diagonal it moves nothing; where the diagonal is 0, so is the entry.
                if a[[p, q]].abs() > 1e-17 * (a[[p, p]] * a[[q, q]]).abs().sqrt() && a[[p, q]].abs() > 1e-300 {
                    quiet = false;
                    let (cosine, sine) = rotation(a[[p, p]], a[[q, q]], a[[p, q]]);
                    rotate(&mut a, p, q, cosine, sine, Axis(0));
                    rotate(&mut a, p, q, cosine, sine, Axis(1));
                    (a[[p, q]], a[[q, p]]) = (0.0, 0.0);
                    rotate(&mut vectors, p, q, cosine, sine, Axis(1));
                }
            }
        }
        if quiet {
            break;
        }
    }
    let mut order: Vec<usize> = (0..d).collect();
    order.sort_by(|&i, &j| a[[i, i]].total_cmp(&a[[j, j]]));
    let values = order.iter().map(|&i| a[[i, i]] * scale).collect();
    (values, vectors.select(Axis(1), &order))
}

/// Sum of the singular values.
pub(crate) fn nuclear_norm(matrix: &Array2<f64>) -> f64 {
    let mut a = if matrix.ncols() <= matrix.nrows() { matrix.clone() } else { matrix.t().to_owned() };
    let scale = a.iter().fold(0.0, |largest: f64, v| largest.max(v.abs()));
    if scale == 0.0 {
        return 0.0;
    }
    a /= scale;
    let columns = a.ncols();
    for _ in 0..SWEEPS {
        let mut quiet = true;
        for p in 0..columns {
            for q in p + 1..columns {
                let (x, y) = (a.column(p), a.column(q));
                let (xx, yy, xy) = (x.dot(&x), y.dot(&y), x.dot(&y));
                if xy.abs() > 1e-16 * (xx * yy).sqrt() && xy.abs() > 1e-300 {
                    quiet = false;
                    let (cosine, sine) = rotation(xx, yy, xy);
                    rotate(&mut a, p, q, cosine, sine, Axis(1));
                }
            }
        }
        if quiet {
            break;
        }
    }
    scale * a.columns().into_iter().map(|column| column.dot(&column).sqrt()).sum::<f64>()
}

/// Cosine and sine of the smaller angle that makes `[[pp, pq], [pq, qq]]` diagonal.
fn rotation(pp: f64, qq: f64, pq: f64) -> (f64, f64) {
    let half = (qq - pp) / (2.0 * pq);
    let tangent = half.signum() / (half.abs() + half.hypot(1.0));
    let cosine = 1.0 / tangent.hypot(1.0);
    (cosine, tangent * cosine)
}

/// Rotates lines p and q: columns of axis 1, rows of axis 0.
fn rotate(matrix: &mut Array2<f64>, p: usize, q: usize, cosine: f64, sine: f64, axis: Axis) {
    let (mut front, mut back) = matrix.view_mut().split_at(axis, q);
    let (mut x, mut y) = (front.index_axis_mut(axis, p), back.index_axis_mut(axis, 0));
    for (x, y) in x.iter_mut().zip(y.iter_mut()) {
        (*x, *y) = (cosine * *x - sine * *y, sine * *x + cosine * *y);
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    fn sample(d: usize) -> Array2<f64> {
        let a = Array2::from_shape_fn((d, d), |(i, j)| ((3 * i + 7 * j + i * j * j) % 11) as f64 - 5.0);
        &a + &a.t()
    }

    #[test]
    fn eigenvectors_rebuild_the_matrix() {
        for matrix in [sample(1), sample(2), sample(7), Array2::zeros((3, 3)), sample(20) * 1e-180, sample(9) * 1e120] {
            let (values, vectors) = symmetric(&matrix);
            let largest = matrix.iter().fold(0.0, |largest: f64, v| largest.max(v.abs()));
            let rebuilt = (&vectors * &values).dot(&vectors.t());
            assert!((rebuilt - &matrix).iter().all(|off| off.abs() <= 1e-13 * largest));
            let square = vectors.t().dot(&vectors) - Array2::<f64>::eye(matrix.nrows());
            assert!(square.iter().all(|off| off.abs() < 1e-13));
            assert!(values.windows(2).into_iter().all(|pair| pair[0] <= pair[1]));
        }
    }

    #[test]
    fn singular_values_are_the_roots_of_eigenvalues() {
        let a = Array2::from_shape_fn((8, 5), |(i, j)| ((5 * i + 3 * j * j * j + 2 * i * i * j) % 11) as f64 - 2.5);
        let expected: f64 = symmetric(&a.t().dot(&a)).0.iter().map(|v| v.sqrt()).sum();
        assert!((nuclear_norm(&a) - expected).abs() < 1e-12 * expected);
        assert!((nuclear_norm(&a.t().to_owned()) - expected).abs() < 1e-12 * expected);
        assert_eq!(nuclear_norm(&Array2::zeros((4, 2))), 0.0);
        // A singular value of 7e-13, which the root of an eigenvalue would lose.
        let small = array![[1.0, 0.0], [1.0, 1e-12]];
        assert!((nuclear_norm(&small) - (2.0 + 2e-12_f64).sqrt()).abs() < 1e-15);
    }
}
