use ndarray::*;
use std::time::Instant;
use tavq_ot::*;
fn noise(s: &mut u64) -> f64 {
    *s = s.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*s >> 11) as f64 / (1u64 << 53) as f64
}
fn gauss(s: &mut u64) -> f64 {
    let (u, v) = (noise(s).max(1e-300), noise(s));
    (-2.0 * u.ln()).sqrt() * (6.283185307179586 * v).cos()
}
fn case(name: &str, n: usize) -> (Array2<f64>, Array1<f64>, Array1<f64>) {
    let mut s = 5u64;
    let uni = Array1::from_elem(n, 1.0 / n as f64);
    let sq = |x: &Array2<f64>, y: &Array2<f64>| {
        let c = Points::new(x.view(), y.view(), Metric::SquaredEuclidean).unwrap().costs();
        let m = c.iter().cloned().fold(0.0, f64::max);
        c / m
    };
    match name {
        "g64" => {
            let x = Array2::from_shape_simple_fn((n, 64), || gauss(&mut s));
            let y = Array2::from_shape_simple_fn((n, 64), || gauss(&mut s) + 0.2);
            (sq(&x, &y), uni.clone(), uni)
        }
        "g2" => {
            let x = Array2::from_shape_simple_fn((n, 2), || gauss(&mut s));
            let y = Array2::from_shape_simple_fn((n, 2), || gauss(&mut s) * 0.5 + 1.0);
            (sq(&x, &y), uni.clone(), uni)
        }
        "clu" => {
            let mut f = |k: usize| {
                Array2::from_shape_fn((n, 2), |(i, d)| ((i * 7 + k * 3 + d) % 5) as f64 + 0.05 * gauss(&mut s))
            };
            let (x, y) = (f(0), f(1));
            let w = Array1::from_shape_fn(n, |i| 1.0 + (i % 5) as f64);
            let v = Array1::from_shape_fn(n, |i| 1.0 + (i % 3) as f64);
            (sq(&x, &y), &w / w.sum(), &v / v.sum())
        }
        "rnd" => {
            let c = Array2::from_shape_simple_fn((n, n), || noise(&mut s));
            (c, uni.clone(), uni)
        }
        _ => {
            let w = (n as f64).sqrt() as usize;
            let x = Array2::from_shape_fn((n, 2), |(i, d)| if d == 0 { (i % w) as f64 } else { (i / w) as f64 });
            let a = Array1::from_shape_simple_fn(n, || noise(&mut s));
            let b = Array1::from_shape_fn(n, |i| (-((i % w) as f64 - 3.0).powi(2) / 20.0).exp() + 0.01);
            (sq(&x, &x), &a / a.sum(), &b / b.sum())
        }
    }
}
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let n: usize = args[1].parse().unwrap();
    let only = std::env::var("ONLY").unwrap_or_default();
    for name in ["g64", "g2", "clu", "rnd", "grid"].into_iter().filter(|k| only.is_empty() || only == *k) {
        for eps in [0.05, 0.005, 0.001] {
            let (c, a, b) = case(name, n);
            let t = Instant::now();
            let p = Problem::new(c.view(), a.view(), b.view()).unwrap();
            let tp = t.elapsed().as_secs_f64();
            print!("{name} {n} {eps:6} check {:.2}ms ", tp * 1e3);
            for acc in [Acceleration::None, Acceleration::OverRelaxation, Acceleration::Anderson, Acceleration::Auto] {
                if std::env::var("QUICK").is_ok() && acc != Acceleration::Anderson {
                    continue;
                }
                if acc == Acceleration::OverRelaxation && std::env::var("NOSOR").is_ok() {
                    continue;
                }
                for (form, prec) in [
                    (Form::Log, Precision::Double),
                    (Form::Scaling, Precision::Double),
                    (Form::Log, Precision::Single),
                    (Form::Scaling, Precision::Single),
                ] {
                    if std::env::var("ALL").is_err() && (form, prec) != (Form::Log, Precision::Double) {
                        continue;
                    }
                    let s = Sinkhorn::new(eps)
                        .unwrap()
                        .tolerance(1e-6)
                        .unwrap()
                        .max_iterations(20000)
                        .unwrap()
                        .acceleration(acc)
                        .form(form)
                        .precision(prec);
                    let t = Instant::now();
                    let r = s.solve(&p).unwrap();
                    print!(
                        "| {} {:.2}ms {}{:.0e} {:.8} ",
                        r.iterations,
                        t.elapsed().as_secs_f64() * 1e3,
                        if r.status == Status::Converged { "" } else { "!" },
                        r.marginal_error,
                        r.value
                    );
                }
            }
            println!();
        }
    }
}
