//! Each instruction set against plain loops in f64, and so against the others.

use super::*;

fn single<T: Real>(kernel: Kernel, costs: &[T], potentials: &[T], scale: f64, shift: f64) -> (Vec<T>, f64) {
    let mut out = vec![T::default(); costs.len()];
    let [sum] = kernel.exp_rows([costs], potentials, T::of(scale), [T::of(shift)], [&mut out]);
    (out, sum.f64())
}

fn exp_agrees<T: Real>(lowest: f64, error: f64) {
    let costs: Vec<T> = (0..70_001).map(|k| T::of(f64::from(k) * -lowest / 70_000.0)).collect();
    let zeros = vec![T::default(); costs.len()];
    for kernel in Kernel::available() {
        let (out, _) = single(kernel, &costs, &zeros, 1.0, 0.0);
        for (c, o) in costs.iter().zip(&out) {
            let (expected, found) = ((-c.f64()).exp2(), o.f64());
            let near = (found - expected).abs() <= error * expected;
            assert!(near, "{kernel:?}: 2^{} = {found:e}, not {expected:e}", -c.f64());
        }
    }
}

#[test]
fn exp_agrees_with_the_standard_library() {
    exp_agrees::<f64>(-1020.5, 5e-16);
    exp_agrees::<f32>(-124.5, 1.5e-7);
}

#[test]
fn exp_of_the_ends() {
    let inf = f64::INFINITY;
    let costs = [inf, 1022.0, 1e300, 0.0, -0.0, -9.0, inf, 0.0, 1.0, f64::NAN];
    let potentials = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -inf, -inf, 1.0, 0.0];
    let expected = [0.0, 0.0, 0.0, 1.0, 1.0, 512.0, 0.0, 0.0, 1.0, 0.0];
    for kernel in Kernel::available() {
        assert_eq!(single(kernel, &costs, &potentials, 1.0, 0.0), (expected.to_vec(), 515.0));
        let (costs, potentials) = (costs.map(|c| c as f32), potentials.map(|p| p as f32));
        assert_eq!(single(kernel, &costs, &potentials, 1.0, 0.0).0, expected.map(|e| e as f32));
    }
}

#[test]
fn exp_beyond_the_range_is_infinite() {
    let costs = [-1100.0, -2048.0, -2050.0, -3000.0, -12_288.0, -1e6, -1e300, f64::NEG_INFINITY];
    let zeros = [0.0; 8];
    for kernel in Kernel::available() {
        let (out, sum) = single(kernel, &costs, &zeros, 1.0, 0.0);
        assert_eq!((out, sum), (vec![f64::INFINITY; 8], f64::INFINITY), "{kernel:?}");
        let costs = [-130.0f32, -256.0, -258.0, -400.0, -1e4, -1e9, -1e38, f32::NEG_INFINITY];
        let (out, _) = single(kernel, &costs, &zeros.map(|_| 0.0f32), 1.0, 0.0);
        assert_eq!(out, vec![f32::INFINITY; 8], "{kernel:?}");
        // Up to there the numbers are right.
        let (out, _) = single(kernel, &[-1022.5, -1000.25], &[0.0; 2], 1.0, 0.0);
        assert!((out[0] / 1022.5f64.exp2() - 1.0).abs() < 1e-15 && (out[1] / 1000.25f64.exp2() - 1.0).abs() < 1e-15);
    }
}

/// Rows of any length, in groups and alone, against loops in f64.
fn rows_agree<T: Real>(error: f64) {
    for m in 0..70 {
        let value = |k: usize, r: usize| T::of(((k * 7 + r * 3) % 11) as f64);
        let matrix: [Vec<T>; GROUP] = std::array::from_fn(|r| (0..m).map(|k| value(k, r)).collect());
        let potentials: Vec<T> = (0..m).map(|k| T::of((k % 5) as f64)).collect();
        let slices = || std::array::from_fn::<&[T], GROUP, _>(|r| &matrix[r][..]);
        for kernel in Kernel::available() {
            let mut out: [Vec<T>; GROUP] = std::array::from_fn(|_| vec![T::default(); m]);
            let [a, b, c, d] = &mut out;
            let sums = kernel.exp_rows(slices(), &potentials, T::of(0.25), [T::of(-4.0); GROUP], [a, b, c, d]);
            let dots = kernel.dot_rows(slices(), &potentials);
            let mut added = vec![T::of(1.0); m];
            kernel.add_rows(std::array::from_fn::<&[T], GROUP, _>(|r| &out[r][..]), [T::of(2.0); GROUP], &mut added);
            let mut scaled = matrix[0].clone();
            let sum = kernel.scale_row(&mut scaled, T::of(0.5), &potentials);
            let products = matrix[0].iter().zip(&potentials).map(|(a, b)| T::of(0.5 * a.f64() * b.f64()));
            assert_eq!((scaled, sum.f64()), (products.collect(), 0.5 * dots[0].f64()), "{kernel:?} {m}");
            for r in 0..GROUP {
                let exponent = |j: usize| potentials[j].f64() - 0.25 * matrix[r][j].f64();
                let sum: f64 = (0..m).map(|j| (exponent(j) - 4.0).exp2()).sum();
                assert!((sums[r].f64() - sum).abs() <= error * sum, "{kernel:?} {m}");
                assert_eq!(single(kernel, &matrix[r], &potentials, 0.25, -4.0), (out[r].clone(), sums[r].f64()));
                let dot: f64 = (0..m).map(|j| matrix[r][j].f64() * potentials[j].f64()).sum();
                assert_eq!(dots[r].f64(), dot);
                assert_eq!(kernel.dot_rows([&matrix[r]], &potentials)[0], dots[r]);
                let max = (0..m).map(exponent).fold(f64::NEG_INFINITY, f64::max);
                assert_eq!(kernel.max_row(&matrix[r], &potentials, T::of(0.25)).f64(), max);
            }
            for j in 0..m {
                let expected = 1.0 + 2.0 * out.iter().map(|row| row[j].f64()).sum::<f64>();
                assert!((added[j].f64() - expected).abs() <= error * expected, "{kernel:?} {m}");
            }
        }
    }
}

#[test]
fn sums_maxima_and_tails_agree_between_kernels() {
    rows_agree::<f64>(2e-15);
    rows_agree::<f32>(1e-6);
}

/// Rows in groups and left over, with and without relaxation, against loops in f64.
fn half_steps_agree<T: Real>(error: f64) {
    for (n, m, relaxation) in [(1, 1, 1.0), (4, 8, 1.0), (7, 37, 1.0), (12, 16, 1.5), (13, 70, 0.5)] {
        let matrix: Vec<T> = (0..n * m).map(|k| T::of((k % 7 + 1) as f64)).collect();
        let v: Vec<T> = (0..m).map(|j| T::of((j % 3 + 1) as f64)).collect();
        let masses: Vec<f64> = (0..n).map(|i| (i % 5 + 1) as f64).collect();
        for kernel in Kernel::available() {
            let (mut u, mut row_sums, mut sums) = (vec![2.0; n], vec![0.0; n], vec![T::of(9.0); m]);
            let update = RowUpdate { masses: &masses, u: &mut u, row_sums: &mut row_sums, relaxation };
            assert!(kernel.half_steps(&matrix, &v, update, &mut sums));
            let mut expected = vec![0.0; m];
            for i in 0..n {
                let row = &matrix[i * m..(i + 1) * m];
                let product: f64 = row.iter().zip(&v).map(|(k, v)| k.f64() * v.f64()).sum();
                let factor = 2.0 * (2.0 * product).powf(-relaxation);
                assert_eq!(row_sums[i], 2.0 * product, "{kernel:?} {n} x {m}");
                assert!((u[i] - factor).abs() <= 1e-14 * factor, "{kernel:?} {n} x {m}");
                expected.iter_mut().zip(row).for_each(|(sum, k)| *sum += masses[i] * factor * k.f64());
            }
            for (found, expected) in sums.iter().zip(&expected) {
                assert!((found.f64() - expected).abs() <= error * expected, "{kernel:?} {n} x {m}");
            }
        }
    }
}

#[test]
fn half_steps_agree_between_kernels() {
    half_steps_agree::<f64>(1e-14);
    half_steps_agree::<f32>(1e-6);
}

#[test]
fn a_product_out_of_range_is_told_and_leaves_its_factor() {
    for (value, sound) in [(1e-300, false), (1e-200, true), (1e300, false)] {
        for kernel in Kernel::available() {
            let (mut u, mut row_sums, mut sums) = ([3.0; 5], [0.0; 5], [0.0; 1]);
            let update = RowUpdate { masses: &[1.0; 5], u: &mut u, row_sums: &mut row_sums, relaxation: 1.0 };
            assert_eq!(kernel.half_steps(&[1.0, 1.0, 1.0, 1.0, value], &[1.0], update, &mut sums), sound);
            assert_eq!(u, [1.0, 1.0, 1.0, 1.0, if sound { 1.0 / value } else { 3.0 }]);
        }
    }
}

#[test]
fn columns_agree_between_kernels() {
    for m in 1..40 {
        let sums: Vec<f64> = (0..m).map(|j| f64::from(j % 7 + 1)).collect();
        let masses: Vec<f64> = (0..m).map(|j| f64::from(j % 5)).collect();
        let v: Vec<f32> = (0..m).map(|j| (j % 3) as f32).collect();
        let missing = |j: usize| (masses[j] - sums[j] * f64::from(v[j])).abs();
        let range = |values: &[f64]| {
            (values.iter().copied().fold(f64::INFINITY, f64::min), values.iter().copied().fold(0.0, f64::max))
        };
        let factors: Vec<f64> = masses.iter().zip(&sums).map(|(mass, sum)| mass / sum).collect();
        let expected =
            ColumnUpdate { error: (0..m as usize).map(missing).sum(), sums: range(&sums), factors: range(&factors) };
        for kernel in Kernel::available() {
            let mut next = vec![0.0; m as usize];
            assert_eq!(kernel.update_columns(&sums, &masses, &v, &mut next), expected, "{kernel:?} {m}");
            assert_eq!(next, factors);
        }
    }
}

fn distances_agree<T: Real>() {
    for (d, m) in [(1, 1), (2, 40), (3, 37), (7, 16), (0, 5)] {
        let x: [Vec<T>; GROUP] = std::array::from_fn(|r| (0..d).map(|k| T::of(((r + 5 * k) % 7) as f64)).collect());
        let y: Vec<T> = (0..d * m).map(|k| T::of((k % 6) as f64)).collect();
        for (kernel, first) in Kernel::available().into_iter().flat_map(|k| [(k, 0), (k, m / 3)]) {
            let mut out: [Vec<T>; GROUP] = std::array::from_fn(|_| vec![T::default(); m - first]);
            let [a, b, c, e] = &mut out;
            kernel.squared_distances(std::array::from_fn::<&[T], GROUP, _>(|r| &x[r][..]), &y, m, first, [a, b, c, e]);
            for r in 0..GROUP {
                for j in first..m {
                    let expected: f64 = (0..d).map(|k| (x[r][k].f64() - y[k * m + j].f64()).powi(2)).sum();
                    assert_eq!(out[r][j - first].f64(), expected, "{kernel:?} d {d} m {m}");
                }
            }
        }
    }
}

#[test]
fn distances_agree_between_kernels() {
    distances_agree::<f64>();
    distances_agree::<f32>();
}
