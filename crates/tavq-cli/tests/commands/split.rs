//! `tavq split`, run as a user runs it.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::common::{fixtures, folder, refuse, succeed, tavq, text};

fn piped(args: &[&str], input: &[u8]) -> std::process::Output {
    let mut child = tavq(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn split_gives_spans_that_slice_the_text() {
    let line = "A small red boat lies at anchor. Two gulls sit on its mast.";
    let out = piped(&["split", "-"], format!("{line}\n\nSecond text.\n").as_bytes());
    let trees: Vec<Value> =
        String::from_utf8(out.stdout).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(trees.len(), 3);
    let slices = |level: &str| -> Vec<String> {
        let at = |unit: &Value, end: usize| unit["span"][end].as_u64().unwrap() as usize;
        let units = trees[0][level].as_array().unwrap();
        units.iter().map(|u| line[at(u, 0)..at(u, 1)].to_owned()).collect()
    };
    assert_eq!(slices("sentences"), ["A small red boat lies at anchor.", "Two gulls sit on its mast."]);
    assert!(slices("phrases").iter().any(|p| p == "A small red boat"), "{:?}", slices("phrases"));
    assert!(slices("words").iter().any(|w| w == "gulls"), "{:?}", slices("words"));
    assert_eq!(trees[2]["sentences"].as_array().unwrap().len(), 1);
}

#[test]
fn split_draws_a_tree_and_reads_a_field_of_json_lines() {
    let manifest = fixtures().join("photos/manifest.jsonl");
    let drawn = succeed(&["split", text(&manifest), "--format", "tree"]);
    assert!(drawn.lines().count() > 200 && !drawn.contains('\u{1b}'), "{}", drawn.lines().count());
    let out = piped(&["split", "-", "--input", "jsonl", "--field", "caption"], b"{\"caption\": \"A cat.\"}\n");
    assert!(String::from_utf8(out.stdout).unwrap().contains("sentences"));
}

#[test]
fn split_names_the_byte_that_is_not_utf8() {
    let args = ["split", "-"];
    let out = piped(&args, b"fine\nbad \xff here\n");
    assert_eq!(out.status.code(), Some(2));
    // What came before the bad line is a filter's output like any other.
    assert_eq!(out.stdout.iter().filter(|b| **b == b'\n').count(), 1);
    let message = String::from_utf8_lossy(&out.stderr);
    assert!(message.contains("standard input:2") && message.contains("invalid byte at offset 9"), "{message}");
}

#[test]
fn split_keeps_the_order_of_many_texts_on_many_threads() {
    let dir = folder("split-order");
    let path = dir.join("many.txt");
    let lines: Vec<String> =
        (0..30_000).map(|k| format!("{}Number {k} is a red boat. It floats.", "Long ago. ".repeat(k % 7))).collect();
    std::fs::write(&path, lines.join("\n")).unwrap();
    let run = |threads: &str| {
        let out = tavq(&["split", text(&path)]).env("RAYON_NUM_THREADS", threads).output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    let several = run("4");
    assert_eq!(several, run("1"));
    assert_eq!(several.lines().count(), lines.len());
    for (line, tree) in lines.iter().zip(several.lines()).step_by(997) {
        let tree: Value = serde_json::from_str(tree).unwrap();
        let last = tree["sentences"].as_array().unwrap().last().unwrap()["span"][1].as_u64().unwrap();
        assert_eq!(last as usize, line.len());
    }
}

#[test]
fn split_answers_a_pipe_before_it_closes() {
    let mut child = tavq(&["split", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut into, mut out) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    for _ in 0..3 {
        into.write_all(b"A cat sleeps.\n").unwrap();
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert!(line.contains("[0,13]"), "{line}");
    }
    drop(into);
    assert!(child.wait().unwrap().success());
}

#[test]
fn split_takes_several_files_and_each_as_one_text() {
    let dir = folder("split-files");
    let paths = ["a.txt", "b.txt", "empty.txt"].map(|name| dir.join(name));
    for (path, body) in paths.iter().zip(["One cat.\nTwo dogs.", "A cup.\n\nA plate.", ""]) {
        std::fs::write(path, body).unwrap();
    }
    let [a, b, empty] = paths.each_ref().map(|path| text(path));
    let sentences = |args: &[&str]| -> Vec<usize> {
        let count = |line: &str| serde_json::from_str::<Value>(line).unwrap()["sentences"].as_array().unwrap().len();
        succeed(args).lines().map(count).collect()
    };
    assert_eq!(sentences(&["split", a, b, empty]), [1, 1, 1, 0, 1]);
    assert_eq!(sentences(&["split", "--input", "whole", a, b, empty]), [2, 2, 0]);
}

#[test]
fn split_follows_its_settings_and_other_weights() {
    let dir = folder("split-settings");
    let (config, weights, input) = (dir.join("c.toml"), dir.join("w.weights"), dir.join("t.txt"));
    std::fs::write(&config, "words = [\"NOUN\"]\nphrases = [\"noun\"]\nstop_words = [\"boat\"]\n").unwrap();
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tavq-text/data/english.weights");
    std::fs::copy(built_in, &weights).unwrap();
    std::fs::write(&input, "A small red boat lies near two gulls.\n").unwrap();
    let plain = succeed(&["split", text(&input)]);
    assert_eq!(succeed(&["split", "--weights", text(&weights), text(&input)]), plain);
    let few: Value = serde_json::from_str(&succeed(&["split", "--config", text(&config), text(&input)])).unwrap();
    assert_eq!(few["words"].as_array().unwrap().len(), 1, "{few}");
    assert!(few["phrases"].as_array().unwrap().iter().all(|p| p["kind"] == "noun"), "{few}");

    std::fs::write(&config, "drop_meta = true\nwrds = []\n").unwrap();
    refuse(&["split", "--config", text(&config), text(&input)], &["c.toml:2: ", "wrds"]);
    std::fs::write(&config, "drop_meta = true\nmax_sentences = -1\n").unwrap();
    refuse(&["split", "--config", text(&config), text(&input)], &["c.toml:2: ", "-1"]);
    let whole = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &whole[..whole.len() / 2]).unwrap();
    refuse(&["split", "--weights", text(&weights), text(&input)], &["w.weights", "checksum"]);
    std::fs::write(&weights, "no weights").unwrap();
    refuse(&["split", "--weights", text(&weights), text(&input)], &["w.weights", "tavqPOS1"]);
    refuse(&["split", "--all-tokens", "--format", "tree", text(&input)], &["--all-tokens", "json"]);
}
