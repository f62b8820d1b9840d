use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tavq_text::TextTree;
use tch::Device;

use super::*;
use crate::testing::{PlainSplitter, largest_difference, write_tiny};
use crate::{Mode, TextModel, UnitEncoder};

const TEXTS: [(&str, &str); 6] = [
    ("a.png", "Red dogs run by. Blue cats sleep. red Dogs run by."),
    ("b.png", ""),
    ("c.png", "  \u{200b} "),
    ("d.png", "12 34. 56. A lone word."),
    ("e.png", "12."),
    ("a.png", "One two three four five six seven eight nine ten eleven."),
];

fn bert() -> TreeEncoder {
    let dir = tempfile::tempdir().unwrap();
    write_tiny(dir.path(), 40);
    TreeEncoder::new(TextModel::load(dir.path(), Device::Cpu).unwrap(), Mode::Hierarchical)
}

// Three numbers from the bytes of a unit; counts what it encodes and fails from a given unit on.
struct Toy {
    encoded: Arc<AtomicUsize>,
    fails_at: usize,
}

impl UnitEncoder for Toy {
    fn dim(&self) -> i64 {
        3
    }
    fn encode(&self, units: &[&str]) -> Result<Tensor> {
        let before = self.encoded.fetch_add(units.len(), Ordering::Relaxed);
        if before + units.len() > self.fails_at {
            return Err(EncodeError::Tokenizer("the machine went down".to_owned()));
        }
        let row = |u: &&str| [u.len() as f32, u.bytes().map(f32::from).sum(), 1.0];
        Ok(Tensor::from_slice(&units.iter().flat_map(row).collect::<Vec<_>>()).view([-1, 3]))
    }
}

fn toy(fails_at: usize) -> (TreeEncoder, Arc<AtomicUsize>) {
    let encoded = Arc::new(AtomicUsize::new(0));
    let toy = Toy { encoded: encoded.clone(), fails_at };
    (TreeEncoder::independent(Box::new(toy), "toy 1"), encoded)
}

const SMALL: IndexOptions = IndexOptions { storage: Storage::F32, texts_per_shard: 2 };

fn build(dir: &Path, encoder: &TreeEncoder) -> TextIndex {
    TextIndex::open_or_build_with(dir, &TEXTS, &PlainSplitter, encoder, SMALL, &mut |_, _| ()).unwrap()
}

fn all_vectors(index: &TextIndex) -> Tensor {
    let rows: Vec<usize> = (0..index.len()).collect();
    let parts = Granularity::ALL.map(|g| index.batch(&rows, g, 100).unwrap().vectors);
    Tensor::cat(&parts, 1)
}

#[test]
fn a_second_run_reads_what_the_first_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let encoder = bert();
    let mut calls = Vec::new();
    let open = |calls: &mut Vec<(usize, usize)>| {
        let progress = &mut |done, all| calls.push((done, all));
        TextIndex::open_or_build_with(dir.path(), &TEXTS, &PlainSplitter, &encoder, SMALL, progress).unwrap()
    };
    let first = open(&mut calls);
    assert_eq!(first.opened(), &Opened { encoded: 6, ..Opened::default() });
    assert_eq!((calls.first(), calls.last()), (Some(&(0, 6)), Some(&(6, 6))));
    assert!(calls.is_sorted());
    calls.clear();
    let second = open(&mut calls);
    assert!(calls.is_empty());
    assert_eq!(second.opened(), &Opened { reused: 6, ..Opened::default() });
    assert_eq!(all_vectors(&first), all_vectors(&second));
    assert_eq!(all_vectors(&TextIndex::open(second.folder()).unwrap()), all_vectors(&first));
    assert_eq!((second.len(), second.dim(), second.is_empty()), (6, 8, false));
    assert_eq!(second.key(4).unwrap(), "e.png");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn vectors_are_the_encoders_and_repeats_are_merged() {
    let dir = tempfile::tempdir().unwrap();
    let encoder = bert();
    let index = build(dir.path(), &encoder);
    let text = TEXTS[0].1;
    let direct = encoder.encode(&[PlainSplitter.split(text)]).unwrap().remove(0);
    let words = index.units(0, Granularity::Word).unwrap();
    let surface: Vec<_> = words.spans.iter().map(|s| s.get(text).unwrap()).collect();
    assert_eq!(surface, ["Red", "dogs", "run", "by", "Blue", "cats", "sleep"]);
    assert_eq!(words.counts, [2, 2, 2, 2, 1, 1, 1]);
    assert_eq!(words.vectors.get(4), direct.words.get(4));
    let mean = (direct.words.get(0) + direct.words.get(7)) / 2.0;
    let merged = &mean / mean.norm();
    assert!(largest_difference(&words.vectors.get(0), &merged) < 1e-6);
    let sentences = index.units(0, Granularity::Sentence).unwrap();
    assert_eq!(sentences.counts, [2, 1]);
    assert_eq!(index.total_units()[2], 2 + 1 + 1 + 3 + 1 + 1);
}

#[test]
fn a_text_without_a_granularity_falls_back_to_the_next_coarser_one() {
    let dir = tempfile::tempdir().unwrap();
    let encoder = bert();
    let index = build(dir.path(), &encoder);
    for (row, spans) in [(1, vec![(0, 0)]), (2, vec![(0, 5)]), (4, vec![(0, 3)])] {
        let spans: Vec<Span> = spans.into_iter().map(|(start, end)| Span { start, end }).collect();
        let unit = spans[0].get(TEXTS[row].1).unwrap();
        let whole = encoder.units().encode(&[unit]).unwrap();
        for g in Granularity::ALL {
            let units = index.units(row, g).unwrap();
            assert_eq!((&units.spans, units.counts.as_slice()), (&spans, [1u32].as_slice()), "row {row} {g:?}");
            assert!(largest_difference(&units.vectors, &whole) < 1e-5);
        }
    }
    // Three words and a phrase in the last of three sentences: nothing to fall back from.
    assert_eq!(index.units(3, Granularity::Word).unwrap().spans.len(), 3);
    assert_eq!(index.units(3, Granularity::Phrase).unwrap().spans.len(), 1);
}

#[test]
fn a_batch_is_padded_and_thinned_evenly() {
    let dir = tempfile::tempdir().unwrap();
    let index = build(dir.path(), &bert());
    let units = |row| index.units(row, Granularity::Word).unwrap();
    let all = index.batch(&[0, 1, 5], Granularity::Word, 100).unwrap();
    assert_eq!((all.vectors.size(), all.mask.size(), all.counts.size()), (vec![3, 11, 8], vec![3, 11], vec![3, 11]));
    let real = all.mask.sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
    assert_eq!(Vec::<f32>::try_from(real).unwrap(), [7.0, 1.0, 11.0]);
    let counts = Vec::<f32>::try_from(all.counts.get(0)).unwrap();
    assert_eq!(counts, [2.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(all.vectors.get(0).narrow(0, 0, 7), units(0).vectors);
    assert_eq!(all.vectors.get(0).narrow(0, 7, 4).abs().sum(Kind::Float).double_value(&[]), 0.0);

    let thin = index.batch(&[5, 1], Granularity::Word, 4).unwrap();
    assert_eq!(thin.vectors.size(), [2, 4, 8]);
    let kept = units(5).vectors.index_select(0, &Tensor::from_slice(&[0i64, 2, 5, 8]));
    assert_eq!(thin.vectors.get(0), kept);
    assert_eq!(Vec::<f32>::try_from(thin.mask.get(1)).unwrap(), [1.0, 0.0, 0.0, 0.0]);

    assert_eq!(index.batch(&[], Granularity::Word, 4).unwrap().vectors.size(), [0, 0, 8]);
    let error = index.batch(&[0], Granularity::Word, 0).unwrap_err().to_string();
    assert_eq!(error, "max_units: expected at least 1, found 0");
    assert_eq!(index.units(6, Granularity::Word).unwrap_err().to_string(), "row: expected below 6, found 6");
}

struct NoWords;
impl Splitter for NoWords {
    fn split<'t>(&self, text: &'t str) -> TextTree<'t> {
        TextTree { words: Vec::new(), ..PlainSplitter.split(text) }
    }
}

#[test]
fn whatever_differs_is_another_index() {
    let dir = tempfile::tempdir().unwrap();
    let (encoder, _) = toy(usize::MAX);
    let mut folders = Vec::new();
    let mut open = |texts: &[(&str, &str)], splitter: &dyn Splitter, encoder: &TreeEncoder, options| {
        let index =
            TextIndex::open_or_build_with(dir.path(), texts, splitter, encoder, options, &mut |_, _| ()).unwrap();
        assert_eq!(index.opened().encoded, texts.len(), "{:?}", folders.len());
        assert!(!folders.contains(&index.folder().to_path_buf()));
        folders.push(index.folder().to_path_buf());
    };
    open(&TEXTS, &PlainSplitter, &encoder, SMALL);
    open(&TEXTS[..5], &PlainSplitter, &encoder, SMALL);
    open(&[], &PlainSplitter, &encoder, SMALL);
    let mut texts = TEXTS;
    texts[3].1 = "12 34. 56. A lone Word.";
    open(&texts, &PlainSplitter, &encoder, SMALL);
    texts = TEXTS;
    texts[3].0 = "f.png";
    open(&texts, &PlainSplitter, &encoder, SMALL);
    texts = TEXTS;
    texts.swap(0, 1);
    open(&texts, &PlainSplitter, &encoder, SMALL);
    open(&TEXTS, &NoWords, &encoder, SMALL);
    open(&TEXTS, &PlainSplitter, &bert(), SMALL);
    open(&TEXTS, &PlainSplitter, &encoder, IndexOptions { storage: Storage::F16, ..SMALL });
    let other = TreeEncoder::independent(Box::new(Toy { encoded: Arc::default(), fails_at: usize::MAX }), "toy 2");
    open(&TEXTS, &PlainSplitter, &other, SMALL);
    let models = [40, 41].map(|positions| {
        let model = tempfile::tempdir().unwrap();
        write_tiny(model.path(), positions);
        model
    });
    for mode in [Mode::Hierarchical, Mode::Independent] {
        let load = |m: &tempfile::TempDir| TreeEncoder::new(TextModel::load(m.path(), Device::Cpu).unwrap(), mode);
        assert_ne!(load(&models[0]).identity(), load(&models[1]).identity());
    }
}

#[test]
fn a_killed_build_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let run = |encoder: &TreeEncoder| {
        TextIndex::open_or_build_with(dir.path(), &TEXTS, &PlainSplitter, encoder, SMALL, &mut |_, _| ())
    };
    let (whole, count) = toy(usize::MAX);
    let other = tempfile::tempdir().unwrap();
    build(other.path(), &whole);
    let all = count.load(Ordering::Relaxed);
    assert!(run(&toy(all - 1).0).is_err());
    let (encoder, count) = toy(usize::MAX);
    let index = run(&encoder).unwrap();
    assert_eq!(index.opened(), &Opened { reused: 4, encoded: 2, problems: Vec::new() });
    assert!(count.load(Ordering::Relaxed) < all / 2);
    assert_eq!(all_vectors(&index), all_vectors(&build(other.path(), &whole)));
    assert_eq!(index.total_units(), build(other.path(), &whole).total_units());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn damaged_files_are_named_and_only_they_are_built_again() {
    type Damage = fn(&Path);
    let flip = |p: &Path| {
        let mut bytes = std::fs::read(p).unwrap();
        let last = bytes.len() - 30;
        bytes[last] ^= 1;
        std::fs::write(p, bytes).unwrap();
    };
    let cut = |p: &Path| {
        let bytes = std::fs::read(p).unwrap();
        std::fs::write(p, &bytes[..bytes.len() / 2]).unwrap();
    };
    let remove = |p: &Path| std::fs::remove_file(p).unwrap();
    let rename = |p: &Path| {
        let text = std::fs::read_to_string(p).unwrap();
        std::fs::write(p, text.replace("\"dim\"", "\"din\"")).unwrap();
    };
    let (manifest, last) = ("manifest.json", "shard-00002.safetensors");
    let cases: [(&str, Damage, &str, usize); 9] = [
        (keys::FILE, flip, keys::FILE, 6),
        (keys::FILE, remove, keys::FILE, 6),
        ("shard-00001.safetensors", flip, "shard-00001.safetensors", 4),
        ("shard-00001.safetensors", cut, "shard-00001.safetensors", 4),
        (last, remove, last, 4),
        // The end of the manifest is the last shard's hash, and the shard is sound.
        (manifest, flip, last, 6),
        (manifest, rename, manifest, 6),
        (manifest, cut, manifest, 6),
        (manifest, remove, manifest, 6),
    ];
    for (name, damage, named, reused) in cases {
        let dir = tempfile::tempdir().unwrap();
        let (encoder, _) = toy(usize::MAX);
        let sound = all_vectors(&build(dir.path(), &encoder));
        let folder = build(dir.path(), &encoder).folder().to_path_buf();
        damage(&folder.join(name));
        let index = build(dir.path(), &encoder);
        let found = index.opened();
        assert_eq!((found.reused, found.encoded), (reused, 6 - reused), "{name}: {:?}", found.problems);
        assert!(!found.problems.is_empty() && found.problems.iter().all(|p| p.contains(named)), "{:?}", found.problems);
        assert_eq!(all_vectors(&index), sound);
        assert_eq!(build(dir.path(), &encoder).opened(), &Opened { reused: 6, ..Opened::default() });
    }
}

#[test]
fn rows_are_found_by_their_key() {
    let dir = tempfile::tempdir().unwrap();
    let index = build(dir.path(), &toy(usize::MAX).0);
    for (key, rows) in [("a.png", vec![0, 5]), ("d.png", vec![3]), ("", vec![]), ("f.png", vec![])] {
        assert_eq!(index.rows(key).unwrap(), rows, "{key}");
    }
    let keys: Vec<String> = (0..500).map(|i| format!("{}.png", i * 7 % 300)).collect();
    let texts: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "One.")).collect();
    let (encoder, folder) = (toy(usize::MAX).0, dir.path());
    let index = TextIndex::open_or_build(folder, &texts, &PlainSplitter, &encoder, &mut |_, _| ()).unwrap();
    for key in &keys {
        let expected: Vec<usize> = (0..keys.len()).filter(|&row| keys[row] == *key).collect();
        assert_eq!(index.rows(key).unwrap(), expected);
    }
    let none = TextIndex::open_or_build(folder, &[], &PlainSplitter, &encoder, &mut |_, _| ()).unwrap();
    assert!(none.rows("a.png").unwrap().is_empty());
}

#[test]
fn a_damaged_table_of_keys_gives_an_error_or_the_truth() {
    let dir = tempfile::tempdir().unwrap();
    let (encoder, _) = toy(usize::MAX);
    let folder = build(dir.path(), &encoder).folder().to_path_buf();
    for_each_flipped_byte(&folder, keys::FILE, |i, index| {
        assert!(index.verify().unwrap_err().to_string().contains(keys::FILE), "byte {i}");
        match index.rows("a.png") {
            Ok(rows) => assert!(rows.iter().all(|&row| TEXTS[row].0 == "a.png"), "byte {i}"),
            Err(error) => assert!(error.to_string().contains(keys::FILE), "byte {i}"),
        }
    });
}

/// Opens the index once for each byte of one of its files, that byte changed.
fn for_each_flipped_byte(folder: &Path, file: &str, check: impl Fn(usize, TextIndex)) {
    let path = folder.join(file);
    let bytes = std::fs::read(&path).unwrap();
    for i in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[i] ^= 1 << (i % 8);
        // A mapped file is never rewritten in place: the old map must stay whole.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, damaged).unwrap();
        check(i, TextIndex::open(folder).unwrap());
    }
}

#[test]
fn no_flipped_byte_goes_unnoticed_or_panics() {
    let dir = tempfile::tempdir().unwrap();
    let (encoder, _) = toy(usize::MAX);
    let folder = build(dir.path(), &encoder).folder().to_path_buf();
    let sound = all_vectors(&TextIndex::open(&folder).unwrap());
    for_each_flipped_byte(&folder, &shard_name(0), |i, index| {
        if index.verify().is_ok() {
            assert_eq!(all_vectors(&index), sound, "byte {i}");
        } else {
            let error = index.batch(&[0, 1], Granularity::Word, 9).and(index.batch(&[0, 1], Granularity::Phrase, 9));
            assert!(error.unwrap_err().to_string().contains("shard-00000"), "byte {i}");
        }
    });
}

#[test]
fn f16_is_half_the_size_and_close() {
    let dir = tempfile::tempdir().unwrap();
    let encoder = bert();
    let exact = build(dir.path(), &encoder);
    let options = IndexOptions { storage: Storage::F16, ..SMALL };
    let half =
        TextIndex::open_or_build_with(dir.path(), &TEXTS, &PlainSplitter, &encoder, options, &mut |_, _| ()).unwrap();
    let (a, b) = (all_vectors(&exact), all_vectors(&half));
    assert_eq!(b.kind(), Kind::Float);
    let gap = largest_difference(&a, &b);
    assert!(gap < 5e-4 && gap > 0.0, "{gap:e}");
    assert!(half.bytes() < exact.bytes());
}

#[test]
fn an_index_is_shared_between_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    let dir = tempfile::tempdir().unwrap();
    let index = build(dir.path(), &toy(usize::MAX).0);
    shared(&index);
    let read = || all_vectors(&index).sum(Kind::Float).double_value(&[]);
    let one = read();
    std::thread::scope(|s| {
        for handle in [s.spawn(read), s.spawn(read)] {
            assert_eq!(handle.join().unwrap(), one);
        }
    });
}
