//! Figures: exact-span F1 of sentences, tokens and noun phrases from raw text, tag accuracy on gold tokens, recall of
//! objects and attributes, speed.

use std::collections::HashSet;
use std::time::Instant;

use tavq_text::{Chunk, EnglishSplitter, PhraseKind, Splitter, Upos};

use crate::data::{Document, Item};

/// Hits, predicted and gold counts of exact matches.
#[derive(Default)]
struct Counts {
    hits: usize,
    predicted: usize,
    gold: usize,
}

impl Counts {
    fn add<T: std::hash::Hash + Eq>(&mut self, predicted: &HashSet<T>, gold: &HashSet<T>) {
        self.hits += predicted.intersection(gold).count();
        self.predicted += predicted.len();
        self.gold += gold.len();
    }

    fn f1(&self) -> f64 {
        percent(2 * self.hits, self.predicted + self.gold)
    }
}

fn percent(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

/// Noun phrases of a sentence as item ranges; those headed by a pronoun are not scored.
fn gold_phrases(items: &[Item]) -> Vec<&[Item]> {
    let mut out = Vec::new();
    let mut start = None;
    for i in 0..=items.len() {
        let chunk = items.get(i).map_or(Chunk::Outside, |item| item.chunk);
        if chunk != Chunk::Inside {
            if let Some(start) = start.take() {
                out.push(&items[start..i]);
            }
            start = (chunk == Chunk::Begin).then_some(i);
        }
    }
    out.retain(|phrase| phrase.last().is_some_and(|head| head.upos != Upos::Pron));
    out
}

/// Prints every figure of `splitter` on `documents`.
pub(crate) fn report(name: &str, splitter: &EnglishSplitter, documents: &[Document]) {
    let (mut sentences, mut tokens, mut tagged, mut nouns) =
        (Counts::default(), Counts::default(), Counts::default(), Counts::default());
    let (mut exact, mut right, mut total) = (0, 0, 0);
    let (mut objects, mut attributes) = ((0, 0), (0, 0));
    for document in documents {
        let tree = splitter.split(&document.text);
        let span_of = |items: &[Item]| (items[0].span.start, items[items.len() - 1].span.end);
        let gold: HashSet<_> = document.sentences.iter().map(|items| span_of(items)).collect();
        let found: HashSet<_> = tree.sentences.iter().map(|s| (s.span.start, s.span.end)).collect();
        if std::env::var_os("SHOW_SENTENCES").is_some() {
            for (start, end) in found.difference(&gold) {
                println!(
                    "  [{name}] only ours: {:?} | {:?}",
                    &document.text[*start..*end],
                    document.text[*end..].chars().take(40).collect::<String>()
                );
            }
        }
        exact += usize::from(gold == found);
        sentences.add(&found, &gold);

        let items = || document.sentences.iter().flatten();
        let gold: HashSet<_> = items().map(|i| (i.span, i.upos)).collect();
        let found: HashSet<_> = tree.tokens.iter().map(|t| (t.span, t.upos)).collect();
        tagged.add(&found, &gold);
        tokens.add(&found.iter().map(|t| t.0).collect(), &gold.iter().map(|t| t.0).collect());
        for sentence in &document.sentences {
            let forms: Vec<&str> = sentence.iter().map(|i| i.form.as_str()).collect();
            let tags = splitter.label(&forms);
            right += tags.iter().zip(sentence).filter(|((upos, _), item)| *upos == item.upos).count();
            total += sentence.len();
        }

        let phrases: Vec<&[Item]> = document.sentences.iter().flat_map(|s| gold_phrases(s)).collect();
        let gold: HashSet<_> = phrases.iter().map(|p| span_of(p)).collect();
        let found: HashSet<_> =
            tree.phrases.iter().filter(|p| p.kind == PhraseKind::Noun).map(|p| (p.span.start, p.span.end)).collect();
        if std::env::var_os("SHOW_NOUNS").is_some() {
            for (start, end) in found.difference(&gold) {
                println!("  [{name}] NP only ours: {:?}", &document.text[*start..*end]);
            }
            for (start, end) in gold.difference(&found) {
                println!("  [{name}] NP only gold: {:?}", &document.text[*start..*end]);
            }
        }
        nouns.add(&found, &gold);
        let holding = |at: usize| found.iter().find(|(start, end)| (*start..*end).contains(&at));
        for phrase in phrases {
            let head = &phrase[phrase.len() - 1];
            let place = holding(head.span.start).filter(|p| p.1 == head.span.end);
            objects.0 += usize::from(place.is_some());
            objects.1 += 1;
            for attribute in phrase.iter().filter(|i| i.upos == Upos::Adj) {
                attributes.0 += usize::from(place.is_some_and(|p| p.0 <= attribute.span.start));
                attributes.1 += 1;
            }
        }
    }
    println!("{name}: {} documents, {} sentences", documents.len(), sentences.gold);
    println!("  sentences F1 {:.2}, documents exact {:.1} %", sentences.f1(), percent(exact, documents.len()));
    println!(
        "  UPOS on gold tokens {:.2}; raw text: tokens F1 {:.2}, UPOS F1 {:.2}",
        percent(right, total),
        tokens.f1(),
        tagged.f1()
    );
    println!(
        "  noun phrases F1 {:.2} (P {:.2}, R {:.2}), heads found {:.1}, adjectives with their head {:.1}",
        nouns.f1(),
        percent(nouns.hits, nouns.predicted),
        percent(nouns.hits, nouns.gold),
        percent(objects.0, objects.1),
        percent(attributes.0, attributes.1)
    );
}

/// Seconds this thread has run: where the kernel tells it, other load on the machine does not count.
fn cpu_seconds(since: Instant) -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = stat.split_whitespace().next().and_then(|n| n.parse::<f64>().ok());
    nanoseconds.map_or_else(|| since.elapsed().as_secs_f64(), |n| n / 1e9)
}

/// Prints the speed on one thread, best of five runs of at least a fifth of a second.
pub(crate) fn speed(splitter: &EnglishSplitter, documents: &[Document]) {
    let bytes: usize = documents.iter().map(|d| d.text.len()).sum();
    let origin = Instant::now();
    let best = |run: &dyn Fn() -> usize| {
        (0..5)
            .map(|_| {
                let start = cpu_seconds(origin);
                for passes in 1.. {
                    assert!(run() > 0);
                    let seconds = cpu_seconds(origin) - start;
                    if seconds > 0.2 {
                        return seconds / f64::from(passes);
                    }
                }
                f64::INFINITY
            })
            .fold(f64::INFINITY, f64::min)
    };
    let whole = best(&|| documents.iter().map(|d| splitter.split(&d.text).words.len()).sum());
    let sentences = best(&|| documents.iter().map(|d| splitter.sentences(&d.text).len()).sum());
    let rate = |seconds: f64| bytes as f64 / seconds / 1e6;
    println!(
        "speed over {bytes} bytes: whole splitter {:.2} MB/s, sentences alone {:.1} MB/s",
        rate(whole),
        rate(sentences)
    );
}
