//! `tavq ot` on input that is broken, lying or contradictory: each is one line, exit code 2, and nothing left behind.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use ndarray::{Array0, Array1, Array2, Array3, array};
use ndarray_npy::NpzWriter;
use zip::write::SimpleFileOptions;

use crate::common::{folder, npy, refuse_cleanly, text};
use crate::ot::raw_npy;

/// A folder with a sound cost matrix, and refusals within it.
struct Scene {
    dir: PathBuf,
    cost: String,
}

impl Scene {
    fn new(name: &str) -> Self {
        let dir = folder(name);
        let cost = npy(&dir.join("sound.npy"), &array![[0.0, 1.0, 2.0], [1.0, 0.0, 3.0]]);
        Self { dir, cost }
    }

    fn path(&self, name: &str) -> String {
        text(&self.dir.join(name)).to_owned()
    }

    fn npy(&self, name: &str, array: &impl ndarray_npy::WriteNpyExt) -> String {
        npy(&self.dir.join(name), array)
    }

    fn bytes(&self, name: &str, bytes: &[u8]) -> String {
        std::fs::write(self.dir.join(name), bytes).unwrap();
        self.path(name)
    }

    /// An archive of named members with any bytes.
    fn zip(&self, name: &str, members: &[(&str, &[u8])]) -> String {
        let mut zip = zip::ZipWriter::new(File::create(self.dir.join(name)).unwrap());
        for (member, bytes) in members {
            zip.start_file(*member, SimpleFileOptions::default()).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap();
        self.path(name)
    }

    /// `ot solve` with these arguments, a plan and duals asked for.
    fn refuse(&self, args: &[&str], parts: &[&str]) {
        let (plan, duals) = (self.path("out.npy"), self.path("out.npz"));
        let out = ["--plan", plan.as_str(), "--duals", duals.as_str()];
        refuse_cleanly(&self.dir, &[&["ot", "solve"], args, &out].concat(), parts);
    }

    /// `ot solve` with these arguments alone.
    fn refuse_plainly(&self, args: &[&str], parts: &[&str]) {
        refuse_cleanly(&self.dir, &[&["ot", "solve"], args].concat(), parts);
    }

    fn refuse_cost(&self, path: &str, parts: &[&str]) {
        let name = Path::new(path).file_name().unwrap().to_str().unwrap();
        self.refuse(&["--cost", path], &[&[name], parts].concat());
    }
}

#[test]
fn files_that_are_no_arrays() {
    let s = Scene::new("ot-no-arrays");
    s.refuse_cost("gone.npy", &["No such file"]);
    s.refuse_cost(&s.path(""), &["directory"]);
    s.refuse_cost(&s.bytes("empty.npy", b""), &["empty file"]);
    s.refuse_cost(&s.bytes("text.npy", b"1.0, 2.0\n3.0, 4.0\n"), &["expected a .npy array"]);
    s.refuse_cost(&s.bytes("version.npy", b"\x93NUMPY\x09\x00\x10\x00{}              "), &["version", "found 9"]);
    s.refuse_cost(&s.bytes("long.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}"), &["header", "found 4294967295"]);
    s.refuse_cost(&s.bytes("python.npy", &raw_npy("<f8'", "(2, 2)", &[0; 32])), &["header"]);
    s.refuse_cost(&s.bytes("shape.npy", &raw_npy("<f8", "(2, -2)", &[0; 32])), &["shape (2, -2)"]);
    let archive = s.zip("archive.npz", &[("cost.npy", &raw_npy("<f8", "(1, 1)", &[0; 8]))]);
    s.refuse_cost(&archive, &[".npz archive"]);
}

#[test]
fn truncated_at_every_length() {
    let s = Scene::new("ot-truncated");
    let whole = std::fs::read(&s.cost).unwrap();
    for cut in (1..whole.len()).step_by(13).chain([whole.len() - 1]) {
        s.refuse_cost(&s.bytes("cut.npy", &whole[..cut]), &["expected"]);
    }
    let more = [&whole[..], b"tail"].concat();
    s.refuse_cost(&s.bytes("more.npy", &more), &["expected 48 bytes", "found 52"]);
    let archive = s.zip("whole.npz", &[("cost.npy", &whole)]);
    let whole = std::fs::read(archive).unwrap();
    for cut in (0..whole.len()).step_by(41).chain([whole.len() - 1]) {
        let path = s.bytes("cut.npz", &whole[..cut]);
        s.refuse(&["--problem", &path], &["cut.npz", "expected a .npz archive"]);
    }
    // One flipped bit of a value: the archive's sum does not hold.
    let mut flipped = whole.clone();
    let place = flipped.len() / 3;
    flipped[place] ^= 1;
    let path = s.bytes("flipped.npz", &flipped);
    s.refuse(&["--problem", &path], &["flipped.npz"]);
}

#[test]
fn elements_and_shapes_that_are_none() {
    let s = Scene::new("ot-elements");
    for (descr, name) in [
        ("<i8", "int64"),
        ("<c16", "complex128"),
        ("<U4", "strings"),
        ("|S8", "strings"),
        ("|O", "Python objects"),
        ("<f2", "float16"),
        ("|b1", "bool"),
        ("nonsense", "nonsense"),
    ] {
        let path = s.bytes("kind.npy", &raw_npy(descr, "(2, 2)", &[0; 64]));
        s.refuse_cost(&path, &["float64 or float32", name]);
    }
    s.refuse_cost(&s.npy("integers.npy", &array![[0_i64, 1], [1, 0]]), &["int64"]);
    s.refuse_cost(&s.npy("scalar.npy", &Array0::<f64>::zeros(())), &["2 dimensions", "()"]);
    s.refuse_cost(&s.npy("vector.npy", &Array1::<f64>::zeros(4)), &["2 dimensions", "(4,)"]);
    s.refuse_cost(&s.npy("cube.npy", &Array3::<f64>::zeros((2, 3, 4))), &["2 dimensions", "(2, 3, 4)"]);
    s.refuse_cost(&s.npy("flat.npy", &Array2::<f64>::zeros((0, 3))), &["at least 1 x 1", "(0, 3)"]);
    s.refuse_cost(&s.bytes("endless.npy", &raw_npy("<f8", "(1000000000000000, 0)", &[])), &["at least 1 x 1"]);
    let square = s.npy("square.npy", &Array2::<f64>::zeros((2, 2)));
    s.refuse(&["--cost", &s.cost, "--source", &square], &["square.npy", "1 dimension", "(2, 2)"]);
}

#[test]
fn sizes_that_are_only_claimed() {
    let s = Scene::new("ot-sizes");
    for shape in
        ["(1000000, 1000000)", "(4000000000, 4000000000)", "(18446744073709551615, 2)", "(99999999999999999999,)"]
    {
        let bytes = raw_npy("<f8", shape, &[0; 16]);
        s.refuse_cost(&s.bytes("huge.npy", &bytes), &["expected", "found"]);
        let path = s.zip("huge.npz", &[("cost.npy", &bytes)]);
        s.refuse(&["--problem", &path], &["huge.npz: cost", "expected", "found"]);
    }
    // 288 MB of zeros that are 280 kB of archive.
    let bomb = [raw_npy("<f8", "(6000, 6000)", &[]), vec![0; 6000 * 6000 * 8]].concat();
    let path = s.zip("bomb.npz", &[("cost.npy", &bomb)]);
    assert!(std::fs::metadata(&path).unwrap().len() < 1 << 20);
    s.refuse(&["--problem", &path], &["bomb.npz: cost", "without compression"]);
    // An archive that claims 4 GiB for a member of 100 bytes.
    let path = s.zip("lie.npz", &[("cost.npy", &raw_npy("<f8", "(1, 1)", &[0; 8]))]);
    let mut bytes = std::fs::read(&path).unwrap();
    let entry = bytes.windows(4).rposition(|w| w == b"PK\x01\x02").unwrap();
    bytes[entry + 24..entry + 28].copy_from_slice(&0xffff_fff0_u32.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    s.refuse(&["--problem", &path], &["lie.npz: cost", "found"]);
    // More points than a matrix of their costs has room for.
    let many = s.npy("many.npy", &Array2::<f64>::zeros((3_000_000, 1)));
    s.refuse(&["--x", &many, "--y", &many], &["memory", "3000000 x 3000000", "--matrix-free"]);
}

#[test]
fn numbers_that_are_none() {
    let s = Scene::new("ot-numbers");
    s.refuse_cost(&s.npy("nan.npy", &array![[0.0, f64::NAN]]), &["cost[0, 1]", "NaN"]);
    s.refuse_cost(&s.npy("low.npy", &array![[0.0], [f64::NEG_INFINITY]]), &["cost[1, 0]", "-inf"]);
    s.refuse_cost(&s.npy("high.npy", &array![[1e200]]), &["cost[0, 0]", "1e200"]);
    s.refuse_cost(&s.npy("no-way.npy", &array![[f64::INFINITY, 1.0], [f64::INFINITY, 1.0]]), &["forbidden arcs"]);
    for (name, masses, part) in [
        ("negative.npy", vec![1.5, -0.5], "source mass[1]: expected at least 0, found -0.5"),
        ("nan-mass.npy", vec![f64::NAN, 1.0], "source mass[0]"),
        ("inf-mass.npy", vec![f64::INFINITY, 1.0], "found inf"),
        ("zero-mass.npy", vec![0.0, 0.0], "all 0"),
        ("three.npy", vec![0.2, 0.3, 0.5], "source masses: expected 2"),
        ("none.npy", vec![], "found 0"),
    ] {
        let path = s.npy(name, &Array1::from_vec(masses));
        s.refuse(&["--cost", &s.cost, "--source", &path], &[name, part]);
    }
    let double = s.npy("double.npy", &array![1.0, 1.0]);
    for method in ["exact", "sinkhorn"] {
        s.refuse(&["--cost", &s.cost, "--source", &double, "--method", method], &["source 2 and target 1"]);
    }
    let (x, y) = (s.npy("x.npy", &array![[0.0, 0.0]]), s.npy("y.npy", &array![[1.0, 0.0, 0.0]]));
    s.refuse(&["--x", &x, "--y", &y], &["source 2 and target 3"]);
    s.refuse(&["--x", &x, "--y", &x, "--metric", "cosine"], &["x.npy", "point[0]", "length above 0"]);
    let nan = s.npy("nan-point.npy", &array![[f64::NAN, 0.0]]);
    s.refuse(&["--x", &x, "--y", &nan], &["nan-point.npy", "target point[0, 0]"]);
}

#[test]
fn parameters_that_are_none() {
    let s = Scene::new("ot-parameters");
    let with = |args: &[&str], parts: &[&str]| s.refuse(&[&["--cost", &s.cost], args].concat(), parts);
    for value in ["0", "-1", "nan", "inf", "1e-200"] {
        with(&["--epsilon", value], &["epsilon: expected a number between"]);
    }
    with(&["--tolerance", "-1"], &["tolerance", "-1"]);
    with(&["--max-iterations", "0"], &["max_iterations", "0"]);
    with(&["--schedule", "0.001,0.5"], &["schedule", "0.001"]);
    with(&["--precision", "single", "--epsilon", "1e-9"], &["single precision"]);
    with(&["--method", "unbalanced", "--source-strength", "1"], &["unbalanced", "--target-strength"]);
    with(&["--method", "unbalanced", "--source-strength", "0", "--target-strength", "1"], &["source strength"]);
    with(&["--method", "entropic-partial"], &["entropic-partial", "--mass"]);
    with(&["--method", "partial"], &["partial", "--mass"]);
    with(
        &["--method", "exact", "--algorithm", "assignment", "--source", &s.npy("lean.npy", &array![0.2, 0.8])],
        &["assignment"],
    );
    with(&["--method", "entropic-partial", "--mass", "2"], &["mass", "2"]);
    with(&["--method", "entropic-partial", "--mass", "-1"], &["mass", "-1"]);
    for (method, option, value) in [
        ("exact", "--epsilon", "1"),
        ("exact", "--form", "log"),
        ("sinkhorn", "--mass", "1"),
        ("partial", "--algorithm", "simplex"),
        ("sinkhorn", "--source-strength", "1"),
        ("unbalanced", "--schedule", "1,0.5"),
        ("entropic-partial", "--acceleration", "auto"),
    ] {
        with(&["--method", method, option, value], &[&format!("--method {method}"), &format!("found {option}")]);
    }
    let short = s.npy("short.npy", &array![0.0]);
    with(&["--warm-start", &short], &["warm start", "3", "found 1"]);
    with(&["--warm-start", &s.bytes("broken.npz", b"PK")], &["broken.npz"]);
}

#[test]
fn inputs_that_contradict_one_another() {
    let s = Scene::new("ot-contradictions");
    let x = s.npy("x.npy", &array![[0.0], [1.0]]);
    let member = raw_npy("<f8", "(2, 1)", &[0; 16]);
    s.refuse(&[], &["--cost", "--problem"]);
    s.refuse(&["--x", &x], &["--x", "--y"]);
    s.refuse(&["--y", &x], &["--y", "--x"]);
    s.refuse(&["--cost", &s.cost, "--x", &x, "--y", &x], &["--cost", "--x"]);
    s.refuse(&["--cost", &s.cost, "--metric", "cosine"], &["--metric", "--cost"]);
    s.refuse(&["--cost", &s.cost, "--matrix-free"], &["--matrix-free", "--sparse"]);
    let p = s.zip("p.npz", &[("x.npy", &member), ("y.npy", &member), ("weights.npy", &member)]);
    s.refuse(&["--problem", &p], &["p.npz", "weights.npy"]);
    s.refuse(&["--problem", &p, "--source", &x], &["--problem", "--source"]);
    s.refuse(&["--problem", &s.zip("q.npz", &[("x.npy", &member)])], &["q.npz", "cost", "x and y"]);
    let all = [("x.npy", &member[..]), ("y.npy", &member), ("cost.npy", &member)];
    s.refuse(&["--problem", &s.zip("r.npz", &all)], &["r.npz", "both"]);
    s.refuse(&["--problem", &s.zip("empty.npz", &[])], &["empty.npz", "cost"]);
    s.refuse(&["--problem", &s.cost], &["sound.npy", ".npz archive"]);
    let mut npz = NpzWriter::new(File::create(s.dir.join("odd.npz")).unwrap());
    npz.add_array("cost", &array![[0.0, 1.0]]).unwrap();
    npz.add_array("target", &array![1.0]).unwrap();
    npz.finish().unwrap();
    s.refuse(&["--problem", &s.path("odd.npz")], &["odd.npz", "target masses", "expected 2"]);
}

#[test]
fn outputs_that_have_no_place() {
    let s = Scene::new("ot-outputs");
    let x = s.npy("x.npy", &array![[0.0], [1.0]]);
    let with = |args: &[&str], parts: &[&str]| s.refuse_plainly(&[&["--cost", &s.cost], args].concat(), parts);
    with(&["--plan", &s.path("no/plan.npy")], &["--plan", "existing folder", "no"]);
    with(&["--duals", &s.path("no/duals.npz")], &["--duals", "existing folder"]);
    with(&["--plan", &s.cost], &["--plan", "the input", "sound.npy"]);
    with(&["--plan", &format!("{}/./sound.npy", s.dir.display())], &["--plan", "the input"]);
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&s.cost, s.dir.join("link.npy")).unwrap();
        with(&["--plan", &s.path("link.npy")], &["--plan", "the input"]);
    }
    with(&["--plan", &s.path("a.npz"), "--duals", &s.path("a.npz")], &["--duals", "the file of --plan"]);
    with(&["--plan", &s.path("plan.txt")], &["--plan", ".npy or .npz"]);
    with(&["--plan", &s.path("plan.npy"), "--sparse", "0.1"], &["--plan", ".npz"]);
    with(&["--sparse", "0.1"], &["--sparse", "--plan"]);
    for threshold in ["-1", "nan", "inf"] {
        with(&["--plan", &s.path("plan.npz"), "--sparse", threshold], &["--sparse", "threshold"]);
    }
    std::fs::create_dir(s.dir.join("folder.npy")).unwrap();
    with(&["--plan", &s.path("folder.npy")], &["--plan", "found a folder"]);
    let points = ["--x", x.as_str(), "--y", x.as_str(), "--matrix-free"];
    let free = |args: &[&str], parts: &[&str]| s.refuse_plainly(&[&points[..], args].concat(), parts);
    free(&["--plan", &s.path("plan.npy")], &["--plan", "--sparse"]);
    free(&["--method", "exact"], &["--matrix-free", "exact"]);
    free(&["--form", "scaling"], &["--matrix-free", "scaling"]);
    free(&["--mass", "1"], &["sinkhorn", "--mass"]);
    with(&["--matrix-free"], &["--matrix-free", "cost matrix"]);
}

#[test]
fn demo() {
    let s = Scene::new("ot-demo-refusals");
    let out = s.path("out.png");
    let with = |args: &[&str], parts: &[&str]| refuse_cleanly(&s.dir, &[&["ot", "demo"], args].concat(), parts);
    with(&["--out", &s.path("out.jpg")], &["--out", ".png"]);
    with(&["--out", &s.path("no/out.png")], &["--out", "existing folder"]);
    with(&["--out", &out, "--points", "0"], &["--points", "found 0"]);
    with(&["--out", &out, "--epsilon", "1"], &["--epsilon", "two numbers"]);
    with(&["--out", &out, "--epsilon", "1,0"], &["epsilon", "found 0"]);
    with(&["--out", &out, "--x", &s.cost], &["--x", "--y"]);
    with(&["--out", &out, "--x", &s.cost, "--y", &s.cost], &["sound.npy", "2 coordinates", "(2, 3)"]);
}
