//! `tavq ot solve` and `tavq ot demo` on sound input: numbers by hand, and that every road to one plan ends in it.

use std::fs::File;
use std::path::{Path, PathBuf};

use ndarray::{Array1, Array2, ShapeBuilder, array};
use ndarray_npy::{NpzReader, NpzWriter, read_npy};
use serde_json::Value;

use crate::common::{files, folder, npy, succeed, tavq, text};

/// Of two points at distance 0 and 1 at epsilon 1: half the sigmoid of 1.
const CORNER: f64 = 0.365_529_289_315_002_45;

fn solve(args: &[&str]) -> Value {
    let printed = succeed(&[&["ot", "solve", "--json"], args].concat());
    assert_eq!(printed.lines().count(), 1, "{printed}");
    serde_json::from_str(&printed).unwrap()
}

fn number(report: &Value, field: &str) -> f64 {
    report[field].as_f64().unwrap_or_else(|| panic!("{field}: {report}"))
}

fn dense(path: &Path) -> Array2<f64> {
    read_npy(path).unwrap()
}

fn member<D: ndarray::Dimension>(path: &Path, name: &str) -> ndarray::Array<f64, D> {
    NpzReader::new(File::open(path).unwrap()).unwrap().by_name(name).unwrap()
}

fn integers(path: &Path, name: &str) -> Array1<i64> {
    NpzReader::new(File::open(path).unwrap()).unwrap().by_name(name).unwrap()
}

/// A sparse plan with its zeros.
fn spread(path: &Path) -> Array2<f64> {
    let shape = integers(path, "shape");
    let mut out = Array2::zeros((shape[0] as usize, shape[1] as usize));
    let mass: Array1<f64> = member(path, "mass");
    for ((i, j), mass) in integers(path, "row").iter().zip(&integers(path, "column")).zip(&mass) {
        out[[*i as usize, *j as usize]] = *mass;
    }
    out
}

/// Points that no symmetry makes easy.
fn cloud(n: usize, d: usize, salt: usize) -> Array2<f64> {
    Array2::from_shape_fn((n, d), |(i, c)| ((i * 37 + c * 101 + salt * 53) % 97) as f64 / 97.0)
}

fn masses(n: usize, salt: usize) -> Array1<f64> {
    let raw = Array1::from_shape_fn(n, |i| 1.0 + ((i * 7 + salt) % 5) as f64);
    &raw / raw.sum()
}

fn largest_difference(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
    assert_eq!(a.dim(), b.dim());
    (a - b).iter().fold(0.0, |all: f64, d| all.max(d.abs()))
}

#[test]
fn two_points_by_hand_in_every_input_form() {
    let dir = folder("ot-forms");
    let path = |name: &str| dir.join(name);
    let c = array![[0.0, 1.0], [1.0, 0.0]];
    let plan = path("plan.npy");
    let check = |input: &[&str]| {
        let args = ["--epsilon", "1", "--tolerance", "1e-14", "--plan", text(&plan)];
        let report = solve(&[input, &args].concat());
        let found = dense(&plan);
        assert!((found[[0, 0]] - CORNER).abs() < 1e-15, "{input:?}: {found}");
        assert!((number(&report, "value") - 2.0 * (0.5 - CORNER)).abs() < 1e-15);
        assert_eq!(report["status"], "converged");
    };
    check(&["--cost", &npy(&path("double.npy"), &c)]);
    check(&["--cost", &npy(&path("single.npy"), &c.mapv(|v| v as f32))]);
    let mut fortran = Array2::zeros((2, 2).f());
    fortran.assign(&c);
    check(&["--cost", &npy(&path("fortran.npy"), &fortran)]);
    let ends = array![[0.0], [1.0]];
    let (x, y) = (npy(&path("x.npy"), &ends), npy(&path("y.npy"), &ends));
    check(&["--x", &x, "--y", &y]);
    check(&["--x", &x, "--y", &y, "--metric", "euclidean", "--form", "scaling", "--acceleration", "none"]);
    for (name, compressed) in [("stored.npz", false), ("deflated.npz", true)] {
        let file = File::create(path(name)).unwrap();
        let mut npz = if compressed { NpzWriter::new_compressed(file) } else { NpzWriter::new(file) };
        npz.add_array("cost", &c).unwrap();
        npz.add_array("source", &array![0.5_f32, 0.5]).unwrap();
        npz.finish().unwrap();
        check(&["--problem", text(&path(name))]);
    }
    let big_endian: Vec<u8> = [0.0_f64, 1.0, 1.0, 0.0].iter().flat_map(|v| v.to_be_bytes()).collect();
    std::fs::write(path("big.npy"), raw_npy(">f8", "(2, 2)", &big_endian)).unwrap();
    check(&["--cost", text(&path("big.npy"))]);
}

/// A .npy file of any bytes.
pub(crate) fn raw_npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    let header = format!("{header:<117}\n");
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.as_bytes());
    out.extend(data);
    out
}

#[test]
fn a_fortran_matrix_is_not_its_transpose() {
    let dir = folder("ot-fortran");
    let c = cloud(4, 6, 1);
    let mut fortran = Array2::zeros((4, 6).f());
    fortran.assign(&c);
    let value = |name: &str, c: &Array2<f64>| number(&solve(&["--cost", &npy(&dir.join(name), c)]), "value");
    assert_eq!(value("c.npy", &c), value("f.npy", &fortran));
}

#[test]
fn the_report_has_its_fields_in_order() {
    let dir = folder("ot-report");
    let cost = npy(&dir.join("c.npy"), &array![[0.0, 1.0], [1.0, 0.0]]);
    let printed = succeed(&["ot", "solve", "--cost", &cost, "--json"]);
    let fields =
        ["method", "value", "regularized_value", "marginal_error", "iterations", "status", "gap", "dual_value"];
    let places: Vec<usize> = fields.iter().map(|f| printed.find(&format!("\"{f}\":")).unwrap()).collect();
    assert!(places.is_sorted(), "{printed}");
    let report: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((&report["shape"], &report["epsilon"]), (&serde_json::json!([2, 2]), &serde_json::json!(0.05)));
    let human = succeed(&["ot", "solve", "--cost", &cost, "--method", "exact"]);
    assert!(human.starts_with("exact 2 x 2: converged after"), "{human}");
}

#[test]
fn sparse_is_dense_above_the_threshold() {
    let dir = folder("ot-sparse");
    let cost = npy(&dir.join("c.npy"), &cloud(30, 40, 2));
    let (whole, part) = (dir.join("whole.npy"), dir.join("part.npz"));
    solve(&["--cost", &cost, "--plan", text(&whole)]);
    for threshold in [0.0, 1e-4, 1e-3] {
        let given = threshold.to_string();
        let report = solve(&["--cost", &cost, "--plan", text(&part), "--sparse", &given]);
        let expected = dense(&whole).mapv(|mass| if mass > threshold { mass } else { 0.0 });
        assert_eq!(spread(&part), expected);
        let count = expected.iter().filter(|mass| **mass > 0.0).count();
        assert_eq!(report["entries"].as_u64(), Some(count as u64));
    }
    let as_npz = dir.join("whole.npz");
    solve(&["--cost", &cost, "--plan", text(&as_npz)]);
    assert_eq!(member::<ndarray::Ix2>(&as_npz, "plan"), dense(&whole));
}

#[test]
fn matrix_free_is_the_stored_plan() {
    let dir = folder("ot-matrix-free");
    let path = |name: &str| dir.join(name);
    let (n, m) = (300, 45);
    let inputs = [
        npy(&path("x.npy"), &(cloud(n, 3, 1) + 0.1)),
        npy(&path("y.npy"), &(cloud(m, 3, 2) + 0.1)),
        npy(&path("a.npy"), &masses(n, 1)),
        npy(&path("b.npy"), &(masses(m, 2) * (1.0 + 5e-7))),
    ];
    let [x, y, a, b] = &inputs;
    let base = ["--x", x, "--y", y, "--source", a, "--target", b, "--tolerance", "1e-11"];
    for metric in ["squared-euclidean", "euclidean", "cosine"] {
        let (stored, free) = (path("stored.npz"), path("free.npz"));
        let (duals, free_duals) = (path("duals.npz"), path("free-duals.npz"));
        let run = |plan: &Path, duals: &Path, more: &[&str]| {
            let out = ["--metric", metric, "--plan", text(plan), "--sparse", "1e-7", "--duals", text(duals)];
            solve(&[&base[..], &out, more].concat())
        };
        let (one, other) = (run(&stored, &duals, &[]), run(&free, &free_duals, &["--matrix-free"]));
        assert!((number(&one, "value") - number(&other, "value")).abs() < 1e-10, "{metric}");
        // An entry at the threshold may be on either side of it.
        assert!(largest_difference(&spread(&stored), &spread(&free)) < 1.1e-7, "{metric}");
        let clear = |plan: &Array2<f64>| plan.mapv(|mass| if mass > 1e-6 { mass } else { 0.0 });
        let difference = largest_difference(&clear(&spread(&stored)), &clear(&spread(&free)));
        assert!(difference < 1e-10, "{metric}: {difference}");
        assert_eq!(member::<ndarray::Ix1>(&free_duals, "f").len(), n);
        // From its own duals a problem is solved at once.
        let warm = solve(&[&base[..], &["--metric", metric, "--warm-start", text(&free_duals)]].concat());
        assert!(number(&warm, "iterations") <= 2.0, "{metric}: {warm}");
    }
}

#[test]
fn every_method_is_the_one_of_its_name() {
    let dir = folder("ot-methods");
    let cost = npy(&dir.join("c.npy"), &cloud(12, 15, 3));
    let (a, b) = (npy(&dir.join("a.npy"), &masses(12, 1)), npy(&dir.join("b.npy"), &(masses(15, 3) * 1.5)));
    let with = |args: &[&str]| solve(&[&["--cost", &cost][..], args].concat());
    let exact = number(&with(&["--method", "exact"]), "value");
    let soft = with(&["--method", "sinkhorn", "--epsilon", "0.001", "--schedule", "1,0.5", "--precision", "double"]);
    assert!(exact <= number(&soft, "value") + 1e-6 && number(&soft, "value") < exact + 0.01);
    let single = with(&["--epsilon", "0.1", "--precision", "single", "--tolerance", "1e-4"]);
    assert_eq!(single["status"], "converged");
    let strengths = ["--method", "unbalanced", "--source-strength", "inf", "--target-strength"];
    let unequal = ["--source", &a, "--target", &b];
    let one = with(&[&strengths[..], &["1"], &unequal].concat());
    assert_eq!((one["method"].as_str(), one["status"].as_str()), (Some("unbalanced"), Some("converged")));
    assert!((number(&one, "mass") - 1.0).abs() < 1e-5, "{one}");
    let counting = with(&[&strengths[..], &["1", "--reference", "counting"], &unequal].concat());
    assert_ne!(counting["regularized_value"], one["regularized_value"]);
    let partial = with(&[&["--method", "entropic-partial", "--mass", "0.4"][..], &unequal].concat());
    assert!((number(&partial, "mass") - 0.4).abs() < 1e-5, "{partial}");
    let sharp = with(&[&["--method", "partial", "--mass", "0.4"][..], &unequal].concat());
    assert!((number(&sharp, "mass") - 0.4).abs() < 1e-12 && number(&sharp, "gap").abs() < 1e-12, "{sharp}");
    assert!(number(&sharp, "value") <= number(&partial, "value") + 1e-5);
    let simplex = with(&["--method", "exact", "--algorithm", "simplex"]);
    assert!((number(&simplex, "value") - exact).abs() < 1e-12);
}

#[test]
fn an_end_above_the_tolerance_is_said() {
    let dir = folder("ot-unconverged");
    let cost = npy(&dir.join("c.npy"), &(cloud(20, 20, 4) * 50.0));
    let plan = dir.join("plan.npy");
    let base = ["ot", "solve", "--cost", &cost, "--epsilon", "0.01", "--max-iterations", "2", "--plan", text(&plan)];
    let out = tavq(&base).output().unwrap();
    let warning = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.success() && warning.starts_with("warning: iteration_limit after 2 iterations"), "{warning}");
    assert_eq!(warning.lines().count(), 1);
    assert!(plan.exists());
    let out = tavq(&[&base[..], &["--json"]].concat()).output().unwrap();
    assert!(out.status.success() && out.stderr.is_empty());
    assert_eq!(serde_json::from_slice::<Value>(&out.stdout).unwrap()["status"], "iteration_limit");
    std::fs::remove_file(&plan).unwrap();
    let out = tavq(&[&base[..], &["--require-converged"]].concat()).output().unwrap();
    let error = String::from_utf8(out.stderr).unwrap();
    assert_eq!((out.status.code(), out.stdout.len(), error.lines().count()), (Some(1), 0, 1), "{error}");
    assert!(error.starts_with("error: ") && error.contains("iteration_limit") && !plan.exists(), "{error}");
}

#[test]
fn the_same_run_writes_the_same_bytes() {
    let dir = folder("ot-bytes");
    let cost = npy(&dir.join("c.npy"), &cloud(9, 8, 5));
    let run = |name: &str| -> PathBuf {
        let (plan, duals) = (dir.join(format!("{name}.npz")), dir.join(format!("{name}-duals.npz")));
        solve(&["--cost", &cost, "--plan", text(&plan), "--sparse", "0", "--duals", text(&duals)]);
        plan
    };
    let (one, two) = (run("one"), run("two"));
    assert_eq!(std::fs::read(one).unwrap(), std::fs::read(two).unwrap());
    assert_eq!(files(&dir).len(), 5);
}

#[test]
fn demo_draws_the_same_picture_for_a_seed() {
    let dir = folder("ot-demo");
    let draw = |name: &str, args: &[&str]| -> (Vec<u8>, Value) {
        let out = dir.join(name);
        let printed = succeed(&[&["ot", "demo", "--out", text(&out), "--json"], args].concat());
        let picture = image::open(&out).unwrap();
        assert_eq!((picture.width(), picture.height()), (1500, 560));
        (std::fs::read(out).unwrap(), serde_json::from_str(&printed).unwrap())
    };
    let (one, report) = draw("one.png", &["--points", "12", "--seed", "4"]);
    assert_eq!(one, draw("two.png", &["--points", "12", "--seed", "4"]).0);
    assert_ne!(one, draw("three.png", &["--points", "12", "--seed", "5"]).0);
    let plans = report["plans"].as_array().unwrap();
    let values: Vec<f64> = plans.iter().map(|plan| number(plan, "value")).collect();
    let reach: Vec<f64> = plans.iter().map(|plan| number(plan, "reach")).collect();
    assert!(values.len() == 3 && values.is_sorted() && reach.is_sorted(), "{report}");
    assert!((reach[0] - 1.0).abs() < 1e-9);
    for shape in ["rings", "moons", "spiral"] {
        draw(&format!("{shape}.png"), &["--points", "5", "--shape", shape]);
    }
    let (x, y) =
        (npy(&dir.join("x.npy"), &array![[1.0, 2.0]]), npy(&dir.join("y.npy"), &array![[1.0, 2.0], [1.0, 2.0]]));
    let (_, own) = draw("own.png", &["--x", &x, "--y", &y, "--epsilon", "0.1,2"]);
    assert_eq!(own["plans"][2]["epsilon"].as_f64(), Some(2.0));
}
