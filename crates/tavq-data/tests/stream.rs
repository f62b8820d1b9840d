//! Sources and loaders over small folders made here.

use std::sync::Arc;

use image::{Rgb, RgbImage};
use tavq_data::laws::{LawBroken, source_laws};
use tavq_data::{
    Batch, Crop, Cursor, DataError, Loader, LoaderOptions, Manifest, ManifestOptions, ManifestSource, OnError, Order,
    Sample, Source, SourceOptions, Transform,
};

const ROWS: usize = 7;

fn folder(bad: &[usize]) -> (tempfile::TempDir, Arc<Manifest>) {
    let dir = tempfile::tempdir().unwrap();
    let mut lines = String::new();
    for i in 0..ROWS {
        let path = dir.path().join(format!("{i}.png"));
        RgbImage::from_fn(12, 10, |x, y| Rgb([i as u8 * 30, x as u8 * 20, y as u8 * 20])).save(&path).unwrap();
        if bad.contains(&i) {
            let whole = std::fs::read(&path).unwrap();
            std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        }
        lines += &format!("{{\"image\":\"{i}.png\",\"text\":\"text {i}\",\"key\":\"k{i}\"}}\n");
    }
    let path = dir.path().join("m.jsonl");
    std::fs::write(&path, lines).unwrap();
    let manifest = Manifest::open(&path, &ManifestOptions::default()).unwrap();
    (dir, Arc::new(manifest))
}

fn options() -> SourceOptions {
    SourceOptions {
        order: Order::Shuffled,
        repeat: true,
        seed: 5,
        transform: Transform { size: 6, resize: 8, crop: Crop::Random, flip: 0.5 },
        ..Default::default()
    }
}

fn source(manifest: &Arc<Manifest>, options: SourceOptions) -> Box<dyn Source> {
    Box::new(ManifestSource::new(Arc::clone(manifest), (0..ROWS).collect(), options).unwrap())
}

#[test]
fn the_laws_hold_for_every_kind_of_stream() {
    let (_dir, manifest) = folder(&[]);
    let (_bad_dir, bad) = folder(&[2, 6]);
    for (name, manifest, options) in [
        ("shuffled", &manifest, options()),
        ("once", &manifest, SourceOptions { repeat: false, ..options() }),
        ("in order", &manifest, SourceOptions { order: Order::Sequential, cache_bytes: 0, ..options() }),
        ("skipping", &bad, SourceOptions { on_error: OnError::Skip, ..options() }),
        ("skipping, once", &bad, SourceOptions { on_error: OnError::Skip, repeat: false, ..options() }),
        ("one of two", &manifest, SourceOptions { rank: 1, world: 2, ..options() }),
    ] {
        source_laws(&mut || source(manifest, options.clone()), 25).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn ranks_share_an_epoch_without_overlap() {
    let (_dir, manifest) = folder(&[]);
    let mut rows = Vec::new();
    for rank in 0..2 {
        let mut s = source(&manifest, SourceOptions { rank, world: 2, ..options() });
        rows.extend((0..ROWS / 2).map(|_| s.pull().unwrap().unwrap().0.row));
    }
    rows.sort_unstable();
    rows.dedup();
    assert_eq!(rows.len(), ROWS / 2 * 2);
}

/// A source with a fault, for the laws to find.
struct Faulty {
    inner: Box<dyn Source>,
    fault: fn(&mut Sample, &mut Cursor, u64),
    pulled: u64,
}

impl Source for Faulty {
    fn pull(&mut self) -> Result<Option<(Sample, Cursor)>, DataError> {
        let Some((mut sample, mut cursor)) = self.inner.pull()? else { return Ok(None) };
        (self.fault)(&mut sample, &mut cursor, self.pulled);
        self.pulled += 1;
        Ok(Some((sample, cursor)))
    }
    fn seek(&mut self, to: &Cursor) -> Result<(), DataError> {
        self.inner.seek(to)
    }
}

#[test]
fn each_law_catches_its_fault() {
    let (_dir, manifest) = folder(&[]);
    let check = |fault: fn(&mut Sample, &mut Cursor, u64)| {
        source_laws(&mut || Box::new(Faulty { inner: source(&manifest, options()), fault, pulled: 0 }), 20)
    };
    assert!(matches!(check(|s, _, _| s.image[[0, 0, 0]] = 1.5), Err(LawBroken::Range { .. })));
    assert!(matches!(check(|s, _, _| s.row = 0), Err(LawBroken::Epoch { .. })));
    assert!(matches!(check(|s, _, n| s.key = n.to_string()), Err(LawBroken::Resume { .. })));
    assert!(matches!(check(|_, c, _| c.epoch += u64::from(c.position == 3)), Err(LawBroken::Resume { .. })));
    let mut made = 0u64;
    let unlike = source_laws(
        &mut || {
            made += 1;
            source(&manifest, SourceOptions { seed: made, ..options() })
        },
        20,
    );
    assert!(matches!(unlike, Err(LawBroken::Determinism { .. })));
}

fn batches(manifest: &Arc<Manifest>, start: &Cursor, depth: usize, drop_last: bool, n: usize) -> Vec<Batch> {
    let options = LoaderOptions { batch_size: 3, drop_last, depth };
    let mut loader = Loader::new(source(manifest, self::options()), start, options).unwrap();
    (0..n).map(|_| loader.next().unwrap().unwrap()).collect()
}

#[test]
fn batches_are_the_same_at_any_depth_and_after_a_resume() {
    let (_dir, manifest) = folder(&[]);
    for drop_last in [true, false] {
        let whole = batches(&manifest, &Cursor::default(), 1, drop_last, 9);
        assert_eq!(whole, batches(&manifest, &Cursor::default(), 5, drop_last, 9));
        for k in 0..8 {
            let rest = batches(&manifest, &whole[k].cursor, 2, drop_last, 9 - k - 1);
            assert_eq!(whole[k + 1..], rest[..], "after batch {k}");
        }
        let sizes: Vec<usize> = whole.iter().map(|b| b.rows.len()).collect();
        let epochs: Vec<u64> = whole.iter().map(|b| b.epoch).collect();
        if drop_last {
            assert_eq!((sizes, epochs), (vec![3; 9], vec![0, 0, 1, 1, 2, 2, 3, 3, 4]));
        } else {
            assert_eq!((sizes, epochs), (vec![3, 3, 1, 3, 3, 1, 3, 3, 1], vec![0, 0, 0, 1, 1, 1, 2, 2, 2]));
        }
    }
}

#[test]
fn a_stream_that_ends_gives_every_sample_once() {
    let (_dir, manifest) = folder(&[]);
    let once = SourceOptions { repeat: false, order: Order::Sequential, ..options() };
    let options = LoaderOptions { batch_size: 3, drop_last: false, depth: 2 };
    let mut loader = Loader::new(source(&manifest, once), &Cursor::default(), options).unwrap();
    let mut rows = Vec::new();
    while let Some(batch) = loader.next().unwrap() {
        rows.extend(batch.rows);
    }
    assert_eq!(rows, Vec::from_iter(0..ROWS));
    assert!(loader.next().unwrap().is_none());
}

#[test]
fn a_bad_image_names_manifest_line_and_file() {
    let (_dir, manifest) = folder(&[2]);
    let options = LoaderOptions { batch_size: 3, drop_last: true, depth: 1 };
    let in_order = SourceOptions { order: Order::Sequential, ..self::options() };
    let mut loader = Loader::new(source(&manifest, in_order), &Cursor::default(), options).unwrap();
    let error = loader.next().unwrap_err().to_string();
    assert!(error.contains("m.jsonl:3: ") && error.contains("2.png"), "{error}");
}

#[test]
fn all_images_bad_is_an_error_not_an_endless_loop() {
    let (_dir, manifest) = folder(&Vec::from_iter(0..ROWS));
    for repeat in [true, false] {
        let mut s = source(&manifest, SourceOptions { on_error: OnError::Skip, repeat, ..options() });
        let error = s.pull().unwrap_err().to_string();
        assert!(error.contains("7 skipped") && error.contains(".png"), "{error}");
    }
}

#[test]
fn an_epoch_smaller_than_a_batch_is_an_error() {
    let (_dir, manifest) = folder(&[]);
    let options = LoaderOptions { batch_size: ROWS + 1, drop_last: true, depth: 1 };
    let mut loader = Loader::new(source(&manifest, self::options()), &Cursor::default(), options).unwrap();
    assert!(matches!(loader.next(), Err(DataError::SmallEpoch { samples: ROWS, .. })));
}

#[test]
fn a_panic_in_the_thread_reaches_the_caller() {
    struct Panics;
    impl Source for Panics {
        fn pull(&mut self) -> Result<Option<(Sample, Cursor)>, DataError> {
            panic!("on purpose")
        }
        fn seek(&mut self, _: &Cursor) -> Result<(), DataError> {
            Ok(())
        }
    }
    let options = LoaderOptions { batch_size: 1, drop_last: true, depth: 1 };
    let mut loader = Loader::new(Box::new(Panics), &Cursor::default(), options).unwrap();
    assert!(matches!(loader.next(), Err(DataError::Thread)));
}

#[test]
fn a_cursor_of_another_data_set_is_refused() {
    let (_dir, manifest) = folder(&[]);
    let mut s = source(&manifest, options());
    let far = Cursor { epoch: 0, position: 99, skipped: 0 };
    assert!(matches!(s.seek(&far), Err(DataError::Cursor { .. })));
}
