//! Training: averaged perceptron over annotated sentences, then pruning and quantisation to `i8`.
//!
//! Deterministic: the order of sentences comes from a seeded generator, every tie is broken by key.

use std::collections::{BTreeMap, HashMap};

use super::features::{Attributes, CHUNKS, TAGS, chunk_features, tag_features};
use super::{Chunk, Model, argmax};
use crate::tree::Upos;

/// One sentence with the answers that training learns from.
#[derive(Debug, Clone, Default)]
pub struct Annotated {
    /// Surface forms.
    pub tokens: Vec<String>,
    /// Part of speech per token.
    pub upos: Vec<Upos>,
    /// Noun phrase place per token, pronouns included as phrases of their own.
    pub chunks: Vec<Chunk>,
}

/// Settings of [`train`].
#[derive(Debug, Clone)]
pub struct TrainOptions {
    /// Passes over the sentences.
    pub epochs: usize,
    /// Seed of the order of sentences.
    pub seed: u64,
    /// Models that learn in orders of their own; the file holds their mean, which errs less than each.
    pub models: usize,
    /// Features of the tagger kept in the file, strongest first.
    pub tagger_features: usize,
    /// Features of the chunker kept in the file.
    pub chunker_features: usize,
    /// Parts of the jack-knife: the chunker learns from tags that a tagger without those sentences gave.
    pub folds: usize,
    /// A word gets a fixed tag when it occurs this often,
    pub fixed_count: u32,
    /// and its most frequent tag has at least this share (0 to 1).
    pub fixed_share: f64,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            epochs: 8,
            seed: 1,
            models: 5,
            tagger_features: 110_000,
            chunker_features: 110_000,
            folds: 8,
            fixed_count: 30,
            fixed_share: 0.997,
        }
    }
}

/// Trains tagger and chunker and returns the weights file. Sentences whose three lists differ in length are left out.
pub fn train(sentences: &[Annotated], options: &TrainOptions) -> Vec<u8> {
    let mut lower = String::new();
    let examples: Vec<Example> = sentences
        .iter()
        .filter(|s| s.tokens.len() == s.upos.len() && s.tokens.len() == s.chunks.len())
        .map(|s| Example {
            attributes: s.tokens.iter().map(|t| Attributes::of(t, &mut lower)).collect(),
            tags: s.upos.iter().map(|&u| u as u8).collect(),
            chunks: s.chunks.iter().map(|&c| c as u8).collect(),
        })
        .collect();
    let all: Vec<usize> = (0..examples.len()).collect();
    let fixed = fixed_words(&examples, options);
    let tagger = learn_tags(&examples, &all, &fixed, options);
    let chunker = learn_chunks(&examples, &all, &jackknife(&examples, &all, &fixed, options), options);
    let fixed: Vec<(u32, [i8; 1])> = fixed.into_iter().map(|(word, tag)| (word, [tag as i8])).collect();
    Model::write(&fixed, &tagger.quantised(options.tagger_features), &chunker.quantised(options.chunker_features))
}

/// Tags of every sentence from a tagger that has not seen it: what the chunker will meet in use.
fn jackknife(examples: &[Example], all: &[usize], fixed: &BTreeMap<u32, u8>, options: &TrainOptions) -> Vec<Vec<u8>> {
    let folds = options.folds.max(2);
    let mut tags: Vec<Vec<u8>> = vec![Vec::new(); examples.len()];
    for fold in 0..folds {
        let rest: Vec<usize> = all.iter().copied().filter(|i| i % folds != fold).collect();
        let tagger = learn_tags(examples, &rest, fixed, options);
        for i in (fold..examples.len()).step_by(folds) {
            let words = &examples[i].attributes;
            let known = |j: usize| fixed.get(&words[j].word).copied();
            tags[i] = tagger.run(words.len(), known, |before| tag_features(words, before));
        }
    }
    tags
}

struct Example {
    attributes: Vec<Attributes>,
    tags: Vec<u8>,
    chunks: Vec<u8>,
}

fn learn_tags(examples: &[Example], among: &[usize], fixed: &BTreeMap<u32, u8>, options: &TrainOptions) -> Mean<TAGS> {
    Mean::of(options, |learner: &mut Learner<TAGS>, seed| {
        learner.learn(
            among,
            (options.epochs, seed),
            |i| examples[i].tags.as_slice(),
            |i, j| fixed.get(&examples[i].attributes[j].word).copied(),
            |i, before| tag_features(&examples[i].attributes, before),
        );
    })
}

fn learn_chunks(examples: &[Example], among: &[usize], tags: &[Vec<u8>], options: &TrainOptions) -> Mean<CHUNKS> {
    Mean::of(options, |learner: &mut Learner<CHUNKS>, seed| {
        learner.learn(
            among,
            (options.epochs, seed),
            |i| examples[i].chunks.as_slice(),
            |_, _| None,
            |i, before| chunk_features(&examples[i].attributes, &tags[i], before),
        );
    })
}

/// Words that occur often enough and practically always with one tag.
fn fixed_words(examples: &[Example], options: &TrainOptions) -> BTreeMap<u32, u8> {
    let mut counts: BTreeMap<u32, [u32; TAGS]> = BTreeMap::new();
    for example in examples {
        for (word, &tag) in example.attributes.iter().zip(&example.tags) {
            counts.entry(word.word).or_default()[tag as usize] += 1;
        }
    }
    let settled = |row: &[u32; TAGS]| {
        let total: u32 = row.iter().sum();
        let top = argmax(row);
        let share = f64::from(row[top as usize]) / f64::from(total);
        (total >= options.fixed_count && share >= options.fixed_share).then_some(top)
    };
    counts.iter().filter_map(|(&word, row)| settled(row).map(|tag| (word, tag))).collect()
}

/// Weight of a feature towards one label, its sum over all steps so far, and the step of that sum.
#[derive(Debug, Clone, Copy, Default)]
struct Weight {
    now: i32,
    sum: i64,
    since: u32,
}

struct Learner<const L: usize> {
    rows: HashMap<u32, [Weight; L]>,
    step: u32,
}

impl<const L: usize> Default for Learner<L> {
    fn default() -> Self {
        Self { rows: HashMap::new(), step: 0 }
    }
}

impl<const L: usize> Learner<L> {
    fn learn<'a, const F: usize>(
        &mut self,
        among: &[usize],
        (epochs, seed): (usize, u64),
        gold: impl Fn(usize) -> &'a [u8],
        fixed: impl Fn(usize, usize) -> Option<u8>,
        features: impl Fn(usize, &[u8]) -> [u32; F],
    ) {
        let mut order = among.to_vec();
        let mut random = SplitMix(seed);
        let mut before = Vec::new();
        for _ in 0..epochs {
            shuffle(&mut order, &mut random);
            for &i in &order {
                before.clear();
                for (j, &right) in gold(i).iter().enumerate() {
                    if let Some(tag) = fixed(i, j) {
                        before.push(tag);
                        continue;
                    }
                    let active = features(i, &before);
                    self.step += 1;
                    let guess = argmax(&self.scores(&active));
                    if guess != right {
                        self.update(&active, right, guess);
                    }
                    // The guess, not the answer, becomes history: use sees its own mistakes too.
                    before.push(guess);
                }
            }
        }
        self.finish();
    }

    fn scores(&self, features: &[u32]) -> [i64; L] {
        let mut scores = [0i64; L];
        for row in features.iter().filter_map(|f| self.rows.get(f)) {
            for (score, weight) in scores.iter_mut().zip(row) {
                *score += i64::from(weight.now);
            }
        }
        scores
    }

    fn update(&mut self, features: &[u32], right: u8, guess: u8) {
        for &f in features {
            let row = self.rows.entry(f).or_insert([Weight::default(); L]);
            for (label, delta) in [(right, 1), (guess, -1)] {
                let weight = &mut row[label as usize];
                weight.sum += i64::from(weight.now) * i64::from(self.step - weight.since);
                weight.since = self.step;
                weight.now += delta;
            }
        }
    }

    /// Brings every sum up to the last step, then lets the averages (times 1024) stand as the weights.
    fn finish(&mut self) {
        let steps = i64::from(self.step.max(1));
        for weight in self.rows.values_mut().flatten() {
            weight.sum += i64::from(weight.now) * i64::from(self.step - weight.since);
            weight.now = (weight.sum * 1024 / steps) as i32;
        }
    }
}

/// Sum of several learners' weights: their mean, up to a factor that changes no choice.
struct Mean<const L: usize> {
    rows: HashMap<u32, [i32; L]>,
}

impl<const L: usize> Mean<L> {
    /// Learners with seeds of their own, one after the other: each takes some hundred megabytes.
    fn of(options: &TrainOptions, learn: impl Fn(&mut Learner<L>, u64)) -> Self {
        let mut rows: HashMap<u32, [i32; L]> = HashMap::new();
        for model in 0..options.models.max(1) as u64 {
            let mut learner = Learner::default();
            learn(&mut learner, options.seed.wrapping_add(model));
            for (&key, row) in &learner.rows {
                let sums = rows.entry(key).or_insert([0; L]);
                sums.iter_mut().zip(row).for_each(|(sum, weight)| *sum += weight.now);
            }
        }
        Self { rows }
    }

    fn scores(&self, features: &[u32]) -> [i64; L] {
        let mut scores = [0i64; L];
        for row in features.iter().filter_map(|f| self.rows.get(f)) {
            scores.iter_mut().zip(row).for_each(|(score, weight)| *score += i64::from(*weight));
        }
        scores
    }

    fn run<const F: usize>(
        &self,
        len: usize,
        fixed: impl Fn(usize) -> Option<u8>,
        features: impl Fn(&[u8]) -> [u32; F],
    ) -> Vec<u8> {
        let mut out = Vec::with_capacity(len);
        for j in 0..len {
            let guess = fixed(j).unwrap_or_else(|| argmax(&self.scores(&features(&out))));
            out.push(guess);
        }
        out
    }

    /// The `keep` features with the largest weight, scaled so that one weight in a thousand is clipped at 127.
    fn quantised(&self, keep: usize) -> Vec<(u32, [i8; L])> {
        let strength = |row: &[i32; L]| row.iter().map(|w| w.abs()).max().unwrap_or(0);
        let mut ranked: Vec<(i32, u32)> = self.rows.iter().map(|(&k, row)| (strength(row), k)).collect();
        ranked.sort_unstable_by(|a, b| b.cmp(a));
        ranked.truncate(keep);
        let limit = ranked.get(ranked.len() / 1000).map_or(1, |r| r.0.max(1));
        ranked
            .into_iter()
            .map(|(_, key)| {
                (key, self.rows[&key].map(|w| (i64::from(w) * 127 / i64::from(limit)).clamp(-127, 127) as i8))
            })
            .filter(|(key, row)| *key != 0 && row.iter().any(|w| *w != 0))
            .collect()
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): enough to shuffle with, the same on every machine.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn shuffle(order: &mut [usize], random: &mut SplitMix) {
    for i in (1..order.len()).rev() {
        order.swap(i, (random.next() % (i as u64 + 1)) as usize);
    }
}
