//! Speed of the English splitter over the written descriptions of the embedded pictures, in bytes of text.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tavq_text::{EnglishSplitter, SplitConfig, Splitter};

/// The hand-written texts of both fixtures.
fn descriptions() -> Vec<String> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures");
    let mut texts = Vec::new();
    for manifest in ["emoji/written.jsonl", "photos/manifest.jsonl"] {
        let lines = fs::read_to_string(fixtures.join(manifest)).expect("the fixtures are in the repository");
        for line in lines.lines() {
            let record: serde_json::Value = serde_json::from_str(line).expect("a line is one object");
            texts.push(record["text"].as_str().expect("every record has a text").to_owned());
        }
    }
    assert_eq!(texts.len(), 40);
    texts
}

fn split(criterion: &mut Criterion) {
    let texts = descriptions();
    let splitter = EnglishSplitter::default();
    let mut group = criterion.benchmark_group("english");
    group.sample_size(30).measurement_time(Duration::from_secs(5));
    group.throughput(Throughput::Bytes(texts.iter().map(|text| text.len() as u64).sum()));
    group.bench_function("split", |bencher| {
        bencher.iter(|| texts.iter().map(|text| splitter.split(black_box(text)).words.len()).sum::<usize>());
    });
    group.bench_function("sentences", |bencher| {
        bencher.iter(|| texts.iter().map(|text| splitter.sentences(black_box(text)).len()).sum::<usize>());
    });
    group.finish();
}

fn load(criterion: &mut Criterion) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/tavq-text/data/english.weights");
    let bytes = fs::read(path).expect("the weights are in the repository");
    let mut group = criterion.benchmark_group("english");
    group.sample_size(30);
    group.bench_function("load_weights", |bencher| {
        bencher.iter(|| EnglishSplitter::from_weights(black_box(&bytes), SplitConfig::default()));
    });
    group.finish();
}

criterion_group!(benches, split, load);
criterion_main!(benches);
