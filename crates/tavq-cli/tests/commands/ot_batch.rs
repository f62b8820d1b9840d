//! `tavq ot batch`: order, error lines, stacks, plans.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use ndarray::{Array1, Array2, Array3, Axis, ShapeBuilder, s};
use ndarray_npy::{NpzReader, NpzWriter};
use serde_json::Value;

use crate::common::{files, folder, npy, refuse_cleanly, succeed, tavq, text};
use crate::ot::raw_npy;

fn costs(count: usize, n: usize, m: usize) -> Array3<f64> {
    Array3::from_shape_fn((count, n, m), |(b, i, j)| {
        ((b * 31 + i * i * 17 + j * 29 + i * j * j * 5) % 23) as f64 / 23.0
    })
}

fn write(path: &Path, arrays: &[(&str, ndarray::ArrayD<f64>)]) {
    let mut npz = NpzWriter::new(File::create(path).unwrap());
    for (name, array) in arrays {
        npz.add_array(*name, array).unwrap();
    }
    npz.finish().unwrap();
}

fn lines(printed: &str) -> Vec<Value> {
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn plan(path: &Path) -> Array2<f64> {
    NpzReader::new(File::open(path).unwrap()).unwrap().by_name("plan").unwrap()
}

#[test]
fn files_in_order_with_the_refused_one_in_its_place() {
    let dir = folder("ot-batch-files");
    let inputs = dir.join("in");
    std::fs::create_dir(&inputs).unwrap();
    for (k, cost) in costs(4, 5, 6).axis_iter(Axis(0)).enumerate() {
        let mut cost = cost.to_owned();
        if k == 1 {
            cost[[2, 3]] = f64::NAN;
        }
        write(&inputs.join(format!("p{k}.npz")), &[("cost", cost.into_dyn())]);
    }
    write(&inputs.join("p4.npz"), &[("x", costs(1, 3, 2).index_axis(Axis(0), 0).to_owned().into_dyn())]);
    std::fs::write(inputs.join("p5.npz"), b"PK\x03\x04 no archive").unwrap();
    let plans = dir.join("plans");
    let out = tavq(&["ot", "batch", text(&inputs), "--plans", text(&plans), "--json"]).output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    let error = String::from_utf8(out.stderr).unwrap();
    assert_eq!(error, "error: expected 6 sound problems, found 3 refused\n");
    let found = lines(&String::from_utf8(out.stdout).unwrap());
    for (k, line) in found.iter().enumerate() {
        assert_eq!(line["problem"], inputs.join(format!("p{k}.npz")).to_str().unwrap());
        assert_eq!(line["error"].is_null(), [0, 2, 3].contains(&k), "{line}");
    }
    let cause = found[1]["error"].as_str().unwrap();
    assert!(cause.contains("p1.npz: cost[2, 3]") && cause.contains("NaN"), "{cause}");
    assert!(found[4]["error"].as_str().unwrap().contains("y"), "{}", found[4]);
    let written = files(&plans);
    assert_eq!(written.keys().collect::<Vec<_>>(), ["p0.npz", "p2.npz", "p3.npz"]);
    // What a batch says of a problem is what `solve` says of it.
    let alone = succeed(&["ot", "solve", "--problem", text(&inputs.join("p2.npz")), "--json"]);
    let alone: Value = serde_json::from_str(&alone).unwrap();
    assert_eq!(found[2]["value"], alone["value"]);
}

#[test]
fn a_stack_is_its_problems() {
    let dir = folder("ot-batch-stack");
    let (count, n, m) = (700, 3, 4);
    let all = costs(count, n, m);
    let source = Array2::from_shape_fn((count, n), |(b, i)| 1.0 + ((b + i) % 3) as f64);
    let target = Array2::from_shape_fn((count, m), |(b, _)| source.row(b).sum() / m as f64);
    let masses = [("source", source.clone().into_dyn()), ("target", target.clone().into_dyn())];
    let stack = dir.join("stack.npz");
    write(&stack, &[&[("cost", all.clone().into_dyn())][..], &masses].concat());
    let plans = dir.join("plans");
    let printed = succeed(&["ot", "batch", text(&stack), "--plans", text(&plans), "--method", "exact", "--json"]);
    let found = lines(&printed);
    assert_eq!(found.len(), count);
    assert!(found.iter().enumerate().all(|(b, line)| line["problem"] == b));
    assert_eq!(files(&plans).len(), count);
    for b in [0, 511, 512, 699] {
        let plan = plan(&plans.join(format!("{b}.npz")));
        let (cost, rows) = (all.slice(s![b, .., ..]), source.row(b));
        assert!((&plan.sum_axis(Axis(1)) - &rows).iter().all(|d| d.abs() < 1e-12));
        assert!(((&plan * &cost).sum() - found[b]["value"].as_f64().unwrap()).abs() < 1e-12);
    }
    let mut fortran = Array3::zeros((count, n, m).f());
    fortran.assign(&all);
    let turned = dir.join("fortran.npz");
    write(&turned, &[&[("cost", fortran.into_dyn())][..], &masses].concat());
    assert_eq!(succeed(&["ot", "batch", text(&turned), "--method", "exact", "--json"]), printed);
    // Beside other inputs a place alone would name no problem.
    let both = succeed(&["ot", "batch", text(&stack), text(&turned), "--method", "exact", "--json"]);
    assert_eq!(lines(&both)[count]["problem"], format!("{}[0]", turned.display()));
}

#[test]
fn one_bad_problem_of_a_stack_is_one_line() {
    let dir = folder("ot-batch-bad-stack");
    let stack = dir.join("stack.npz");
    let mut source = Array2::from_elem((3, 2), 0.5);
    source[[1, 1]] = -0.5;
    write(&stack, &[("cost", costs(3, 2, 2).into_dyn()), ("source", source.into_dyn())]);
    let out = tavq(&["ot", "batch", text(&stack), "--json"]).output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    let found = lines(&String::from_utf8(out.stdout).unwrap());
    assert_eq!(found.len(), 3);
    assert!(found[1]["error"].as_str().unwrap().contains("source mass[1]"), "{}", found[1]);
    assert!(found[0]["value"].is_f64() && found[2]["value"].is_f64());
    write(&stack, &[("cost", costs(3, 2, 2).into_dyn()), ("source", Array1::from_elem(2, 0.5).into_dyn())]);
    let out = tavq(&["ot", "batch", text(&stack), "--json"]).output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    let found = lines(&String::from_utf8(out.stdout).unwrap());
    assert!(found[0]["error"].as_str().unwrap().contains("source: expected 2 dimensions"), "{}", found[0]);
}

#[test]
fn a_stack_of_nothing_is_one_line() {
    let dir = folder("ot-batch-endless");
    let stack = dir.join("stack.npz");
    let mut zip = zip::ZipWriter::new(File::create(&stack).unwrap());
    zip.start_file("cost.npy", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(&raw_npy("<f8", "(1000000000000000, 0, 0)", &[])).unwrap();
    zip.finish().unwrap();
    let out = tavq(&["ot", "batch", text(&stack), "--plans", text(&dir.join("plans")), "--json"]).output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    let found = lines(&String::from_utf8(out.stdout).unwrap());
    assert!(found.len() == 1 && found[0]["error"].as_str().unwrap().contains("at least 1 problem"), "{found:?}");
    assert!(!dir.join("plans").exists());
}

#[test]
fn sparse_plans_and_convergence() {
    let dir = folder("ot-batch-options");
    let stack = dir.join("stack.npz");
    write(&stack, &[("cost", (costs(2, 8, 8) * 90.0).into_dyn())]);
    let (plans, base) = (dir.join("plans"), ["ot", "batch", text(&stack), "--json"]);
    succeed(&[&base[..], &["--plans", text(&plans), "--sparse", "1e-3"]].concat());
    let mut npz = NpzReader::new(File::open(plans.join("1.npz")).unwrap()).unwrap();
    let mut names = npz.names().unwrap();
    names.sort();
    assert_eq!(names, ["column", "f", "g", "mass", "row", "shape"]);
    let hurried = [&base[..], &["--max-iterations", "1", "--epsilon", "0.01"]].concat();
    assert!(succeed(&hurried).contains("iteration_limit"));
    let out = tavq(&[&hurried[..], &["--require-converged"]].concat()).output().unwrap();
    assert_eq!((out.status.code(), String::from_utf8_lossy(&out.stderr).lines().count()), (Some(1), 1));
}

#[test]
fn refusals_before_any_work() {
    let dir = folder("ot-batch-refusals");
    std::fs::create_dir(dir.join("empty")).unwrap();
    let (one, other) = (dir.join("p.npz"), dir.join("empty/../q.npz"));
    write(&one, &[("cost", costs(1, 2, 2).index_axis(Axis(0), 0).to_owned().into_dyn())]);
    std::fs::copy(&one, &other).unwrap();
    let array = npy(&dir.join("a.npy"), &Array1::<f64>::zeros(2));
    let with = |args: &[&str], parts: &[&str]| refuse_cleanly(&dir, &[&["ot", "batch"], args].concat(), parts);
    let plans = dir.join("plans");
    with(&[text(&dir.join("empty"))], &["empty", ".npz"]);
    with(&[text(&one), "--epsilon", "0"], &["epsilon"]);
    with(&[text(&one), "--sparse", "0.1"], &["--sparse", "--plans"]);
    with(&[text(&one), "--plans", text(&dir)], &["--plans", "p.npz"]);
    with(&[text(&one), "--plans", &array], &["--plans", "folder"]);
    with(&[text(&one), "--plans", text(&dir.join("no/plans"))], &["--plans", "no"]);
    with(&[text(&one), text(&one), "--plans", text(&plans)], &["--plans", "two p.npz"]);
    with(&[text(&one), "--method", "exact", "--mass", "1"], &["exact", "--mass"]);
    assert!(!plans.exists());
}
