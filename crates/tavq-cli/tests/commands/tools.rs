//! The commands that read: `embed`, `ot solve`, `reconstruct`, `evaluate`, `explain`, `checkpoint inspect`.

use std::process::Stdio;

use ndarray::{Array1, Array2, Array4, array};
use ndarray_npy::{WriteNpyExt, read_npy};
use serde_json::Value;

use crate::common::{files, fixtures, folder, small, succeed, tavq, text};

#[test]
fn embed_writes_unit_vectors_with_their_places() {
    let dir = folder("embed");
    let texts = dir.join("texts.txt");
    std::fs::write(&texts, "A red boat. Two gulls.\nA tall tree.\n").unwrap();
    for (units, rows, levels) in [("sentences", 3, vec![3; 3]), ("whole", 2, vec![0; 2])] {
        let out = dir.join(format!("{units}.safetensors"));
        let summary = succeed(&["embed", text(&texts), "--units", units, "--out", text(&out), "--json"]);
        let summary: Value = serde_json::from_str(&summary).unwrap();
        assert_eq!((summary["units"].as_u64(), summary["dim"].as_u64()), (Some(rows), Some(384)));
        let file = tavq_torch::TensorFile::open(&out).unwrap();
        let vectors = file.get_shaped("vectors", &[rows as i64, 384]).unwrap();
        let lengths = vectors.norm_scalaropt_dim(2, [1].as_slice(), false);
        assert!((lengths - 1.0).abs().max().double_value(&[]) < 1e-5);
        assert_eq!(Vec::<i64>::try_from(file.get("level").unwrap()).unwrap(), levels);
        assert_eq!(file.shape("span").unwrap(), [rows as i64, 2]);
    }
}

#[test]
fn embed_builds_an_index_once_and_takes_it_up_again() {
    let dir = folder("embed-index");
    let (texts, index) = (dir.join("texts.jsonl"), dir.join("index"));
    let lines: Vec<String> =
        (0..300).map(|k| serde_json::json!({ "text": format!("Boat {k} is red. Two gulls.") }).to_string()).collect();
    std::fs::write(&texts, lines.join("\n")).unwrap();
    let run = |more: &[&str]| -> Value {
        let args = [&["embed", text(&texts), "--index", text(&index), "--json"], more].concat();
        serde_json::from_str(&succeed(&args)).unwrap()
    };
    let first = run(&[]);
    assert_eq!((first["encoded"].as_u64(), first["reused"].as_u64()), (Some(300), Some(0)), "{first}");
    assert_eq!((first["sentences"].as_u64(), first["dim"].as_u64()), (Some(600), Some(384)), "{first}");
    let again = run(&[]);
    assert_eq!((again["encoded"].as_u64(), again["reused"].as_u64()), (Some(0), Some(300)), "{again}");
    assert_eq!(again["index"], first["index"]);

    // A damaged shard is named and built again, the other one is kept.
    let shard = std::path::Path::new(first["index"].as_str().unwrap()).join("shard-00001.safetensors");
    let whole = std::fs::read(&shard).unwrap();
    std::fs::write(&shard, &whole[..whole.len() - 7]).unwrap();
    let args = ["embed", text(&texts), "--index", text(&index)];
    let out = tavq(&args).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && said.contains("shard-00001.safetensors"), "{said}");
    assert!(String::from_utf8_lossy(&out.stdout).contains("(44 encoded now)"));
    assert_eq!(std::fs::read(&shard).unwrap(), whole);

    let out = tavq(&["embed", text(&texts), "--half", "--out", text(&dir.join("x.safetensors"))]).output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(!dir.join("x.safetensors").exists());
    let half = run(&["--half"]);
    assert_ne!(half["index"], first["index"]);
    assert!(half["bytes"].as_u64().unwrap() * 10 < first["bytes"].as_u64().unwrap() * 6, "{half} {first}");
}

#[test]
fn a_killed_index_goes_on_where_it_was() {
    let dir = folder("embed-killed");
    let (texts, index, straight) = (dir.join("texts.txt"), dir.join("index"), dir.join("straight"));
    let lines: Vec<String> = (0..1024).map(|k| format!("Boat {k} is red and lies at anchor.")).collect();
    std::fs::write(&texts, lines.join("\n")).unwrap();
    let mut child = tavq(&["embed", text(&texts), "--index", text(&index)]).stderr(Stdio::null()).spawn().unwrap();
    let first_shard = || {
        let partial = std::fs::read_dir(&index).ok()?.next()?.ok()?.path();
        partial.join("shard-00000.safetensors").exists().then_some(())
    };
    while first_shard().is_none() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before its first shard was seen");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();

    let run = |folder: &std::path::Path| -> Value {
        serde_json::from_str(&succeed(&["embed", text(&texts), "--index", text(folder), "--json"])).unwrap()
    };
    let resumed = run(&index);
    let reused = resumed["reused"].as_u64().unwrap();
    assert!((256..1024).contains(&reused) && resumed["encoded"].as_u64() == Some(1024 - reused), "{resumed}");
    let whole = |run: &Value| files(std::path::Path::new(run["index"].as_str().unwrap()));
    assert!(whole(&resumed) == whole(&run(&straight)), "the two indexes differ");
}

#[test]
fn ot_solve_agrees_with_the_answer_by_hand() {
    let dir = folder("ot");
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let write =
        |name: &str, values: &Array1<f64>| values.write_npy(std::fs::File::create(path(name)).unwrap()).unwrap();
    array![[0.0, 1.0], [1.0, 0.0]].write_npy(std::fs::File::create(path("cost.npy")).unwrap()).unwrap();
    write("a.npy", &array![0.75, 0.25]);
    write("b.npy", &array![0.5, 0.5]);
    let (cost, a, b, plan) = (path("cost.npy"), path("a.npy"), path("b.npy"), path("plan.npy"));
    let base = ["ot", "solve", "--cost", &cost, "--source", &a, "--target", &b, "--plan", &plan, "--json", "--method"];
    let exact: Value = serde_json::from_str(&succeed(&[&base[..], &["exact"]].concat())).unwrap();
    assert_eq!((exact["value"].as_f64(), exact["status"].as_str()), (Some(0.25), Some("converged")));
    let found: Array2<f64> = read_npy(&plan).unwrap();
    assert_eq!(found, array![[0.5, 0.25], [0.0, 0.25]]);
    let soft = [&base[..], &["sinkhorn", "--epsilon", "0.01", "--tolerance", "1e-9"]].concat();
    let soft: Value = serde_json::from_str(&succeed(&soft)).unwrap();
    assert!((soft["value"].as_f64().unwrap() - 0.25).abs() < 1e-6, "{soft}");
}

#[test]
fn reconstruct_writes_pictures_and_tensors() {
    let (small, dir) = (small(), folder("reconstruct"));
    let picture = fixtures().join("emoji/images/1F600.webp");
    succeed(&["reconstruct", "--checkpoint", text(&small.run), "--out", text(&dir), text(&picture)]);
    let sheet = image::open(dir.join("1F600.png")).unwrap();
    assert_eq!((sheet.width(), sheet.height()), (32, 16));
    let input = dir.join("in.npy");
    let images = Array4::<f32>::from_shape_fn((3, 3, 16, 16), |(b, c, y, x)| ((b + c + y * x) % 7) as f32 / 3.5 - 1.0);
    images.write_npy(std::fs::File::create(&input).unwrap()).unwrap();
    succeed(&["reconstruct", "--checkpoint", text(&small.run), "--out", text(&dir), "--tensors", text(&input)]);
    let out = tavq_torch::TensorFile::open(&dir.join("out.safetensors")).unwrap();
    assert_eq!(out.shape("reconstruction").unwrap(), [3, 3, 16, 16]);
    assert_eq!(out.shape("indices").unwrap(), [3, 4, 4]);
    let indices = out.get("indices").unwrap();
    assert!(indices.min().int64_value(&[]) >= 0 && indices.max().int64_value(&[]) < 24);
}

#[test]
fn evaluate_repeats_the_numbers_of_the_run() {
    let (small, dir) = (small(), folder("evaluate"));
    let found = succeed(&["evaluate", "--checkpoint", text(&small.run), "--out", text(&dir), "--json"]);
    let found: Value = serde_json::from_str(&found).unwrap();
    let trained: Value = serde_json::from_slice(&files(&small.run)["evaluation.json"]).unwrap();
    assert_eq!(found["validation"], trained["validation"]);
    assert_eq!(found["training"], trained["training"]);
}

#[test]
fn explain_draws_a_sheet_whose_maps_are_shares() {
    let (small, dir) = (small(), folder("explain"));
    let photos = std::fs::read_to_string(fixtures().join("photos/manifest.jsonl")).unwrap();
    let row: Value = serde_json::from_str(photos.lines().next().unwrap()).unwrap();
    let caption = dir.join("caption.txt");
    std::fs::write(&caption, row["text"].as_str().unwrap()).unwrap();
    let picture = fixtures().join("photos").join(row["image"].as_str().unwrap());
    let args = ["--checkpoint", text(&small.run), "--text", text(&caption), "--out", text(&dir), "--json"];
    let printed = succeed(&[&["explain", text(&picture)], &args[..]].concat());
    let units: Vec<Value> = serde_json::from_str(&printed).unwrap();
    for granularity in ["word", "phrase", "sentence"] {
        let mine: Vec<&Value> = units.iter().filter(|u| u["granularity"] == granularity).collect();
        assert!(mine.len() >= 3, "{granularity}: {}", mine.len());
        for unit in mine {
            let map = unit["map"].as_array().unwrap();
            assert_eq!(map.len() as u64, unit["rows"].as_u64().unwrap() * unit["columns"].as_u64().unwrap());
            let sum: f64 = map.iter().map(|x| x.as_f64().unwrap()).sum();
            assert!((sum - 1.0).abs() < 1e-3, "{sum}");
        }
    }
    let name = picture.file_stem().unwrap().to_str().unwrap();
    let sheet = image::open(dir.join(format!("{name}.png"))).unwrap();
    assert!(sheet.width() > 1000 && sheet.height() > 600);
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let small = small();
    let mut child = tavq(&["checkpoint", "inspect", text(&small.run)]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn inspect_lists_every_tensor() {
    let small = small();
    let found: Value = serde_json::from_str(&succeed(&["checkpoint", "inspect", text(&small.run), "--json"])).unwrap();
    assert_eq!((found["step"].as_u64(), found["format"].as_u64()), (Some(8), Some(1)));
    assert_eq!(found["tensors"]["quantize.embedding.weight"], serde_json::json!([24, 16]));
    let sizes = found["tensors"].as_object().unwrap().values();
    let total: i64 = sizes.map(|s| s.as_array().unwrap().iter().map(|n| n.as_i64().unwrap()).product::<i64>()).sum();
    assert_eq!(found["values"].as_i64(), Some(total));
    assert!(succeed(&["checkpoint", "inspect", text(&small.run)]).contains("quantize.embedding.weight"));
}
