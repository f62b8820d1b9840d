//! Phrases of a sentence from its tagged and chunked tokens: noun phrases, partitives, relations, and the meta flag.
//!
//! Noun phrases come from the chunker; the two joined kinds are rules over closed lists, because they depend on a few
//! function words only. Phrases of a sentence nest or are disjoint, so a stack gives the parent of each.

use crate::config::SplitConfig;
use crate::model::Chunk;
use crate::tree::{Flag, Phrase, PhraseKind, Span, Upos};

/// One token with what the model says of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Labelled<'t> {
    pub(crate) text: &'t str,
    pub(crate) span: Span,
    pub(crate) upos: Upos,
    pub(crate) chunk: Chunk,
}

impl Labelled<'_> {
    fn is(&self, words: &[&str]) -> bool {
        words.iter().any(|w| self.text.eq_ignore_ascii_case(w))
    }
}

/// Heads that a partitive joins with what follows "of": quantities, containers, collections, parts of a kind.
const PARTITIVE_HEADS: &[&str] = &[
    "all", "amount", "area", "areas", "array", "arrangement", "assortment", "bag", "band", "basket", "batch", "bed",
    "bit", "both", "bottle", "bouquet", "bowl", "box", "bunch", "bundle", "burst", "can", "carton", "cascade", "chunk",
    "clump", "cluster", "collection", "column", "combination", "couple", "crowd", "cup", "dash", "dozen", "dozens",
    "drop", "each", "expanse", "few", "field", "flock", "fleet", "glass", "group", "half", "handful", "heap", "herd",
    "hint", "hundreds", "jar", "kind", "layer", "layers", "line", "lines", "loaf", "lot", "lots", "majority", "many",
    "mass", "mix", "mixture", "most", "mound", "mug", "multitude", "none", "number", "one", "pack", "pair", "pairs",
    "patch", "patches", "patchwork", "piece", "pieces", "pile", "piles", "pinch", "plate", "plenty", "pool", "portion",
    "pot", "puff", "range", "rest", "ring", "row", "rows", "scoop", "series", "set", "sets", "several", "shade",
    "shades", "sheet", "sheets", "slice", "slices", "some", "sort", "spray", "stack", "stacks", "strand", "strands",
    "streak", "streaks", "string", "splash", "strip", "strips", "swarm", "team", "thousands", "touch", "tray", "trio",
    "tuft", "tufts", "type", "variety", "wisp", "wisps",
];

/// Nouns that build a preposition: "on top of", "to the left of", "at the edge of".
const PLACES: &[&str] = &[
    "back", "base", "bottom", "center", "centre", "corner", "edge", "end", "foot", "front", "head", "inside", "left",
    "middle", "outside", "rear", "right", "side", "tip", "top",
];

/// Adverbs and adjectives that go with a preposition: "next to", "close to", "away from".
const LEADS: &[&str] = &[
    "next", "close", "adjacent", "away", "out", "up", "down", "along", "together", "across", "parallel", "attached",
    "similar", "opposite", "prior", "due", "because", "instead", "according", "ahead", "right", "just", "directly",
];

const QUOTES: &[&str] = &["\"", "“", "”", "'", "‘", "’"];

/// Appends the phrases of sentence number `sentence`, by start, the longer first.
pub(crate) fn phrases(tokens: &[Labelled<'_>], sentence: usize, config: &SplitConfig, out: &mut Vec<Phrase>) {
    let nouns = noun_ranges(tokens);
    let first = out.len();
    let mut push = |(start, end): (usize, usize), kind: PhraseKind, meta: bool| {
        let wanted = config.phrases.contains(&kind) && end - start <= config.max_phrase_tokens;
        if wanted && !(meta && config.drop_meta) {
            let span = Span { start: tokens[start].span.start, end: tokens[end - 1].span.end };
            let flags = if meta { vec![Flag::Meta] } else { Vec::new() };
            out.push(Phrase { span, kind, sentence, flags });
        }
    };
    let mut i = 0;
    // Where the next relation may begin: behind the object of the one before.
    let mut floor = 0;
    while i < nouns.len() {
        let (last, partitive) = joined(tokens, &nouns, i);
        let end = nouns[last].1;
        let meta = is_meta(tokens, nouns[i], config) && last == i;
        if let Some(begin) = relation_start(tokens, nouns[i].0, floor) {
            push((begin, end), PhraseKind::Relation, meta);
        }
        if partitive < last {
            push((nouns[partitive].0, end), PhraseKind::Partitive, false);
        }
        for &noun in &nouns[i..=last] {
            push(noun, PhraseKind::Noun, is_meta(tokens, noun, config));
        }
        floor = end;
        i = last + 1;
    }
    out[first..].sort_by_key(|p| (p.span.start, usize::MAX - p.span.end));
}

/// Token ranges of the noun phrases; pronouns alone are none.
fn noun_ranges(tokens: &[Labelled<'_>]) -> Vec<(usize, usize)> {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        let chunk = match token.chunk {
            // Every name is in a phrase, whatever the chunker makes of one.
            Chunk::Outside if token.upos == Upos::Propn => {
                let before = i.checked_sub(1).map(|before| &tokens[before]);
                let runs_on = before.is_some_and(|t| t.chunk == Chunk::Outside && t.upos == Upos::Propn);
                if runs_on { Chunk::Inside } else { Chunk::Begin }
            }
            chunk => chunk,
        };
        match chunk {
            Chunk::Begin => match ranges.last_mut() {
                // "Mr." and "Ito" are one name, whatever the chunker made of an unknown one.
                Some(last) if last.1 == i && is_title(&tokens[i - 1]) && token.upos == Upos::Propn => last.1 = i + 1,
                _ => ranges.push((i, i + 1)),
            },
            Chunk::Inside => {
                if let Some(last) = ranges.last_mut() {
                    last.1 = i + 1;
                }
            }
            Chunk::Outside => {}
        }
    }
    for (start, end) in &mut ranges {
        // "two tall windows let": a verb behind the head is the predicate.
        while *end - *start > 1 && tokens[*end - 1].upos == Upos::Verb && is_noun(&tokens[*end - 2]) {
            *end -= 1;
        }
        // A coordination that the chunker cut in the middle leaves its comma or conjunction behind.
        while *start + 1 < *end && (tokens[*start].upos == Upos::Cconj || tokens[*start].is(&[",", ";", ":"])) {
            *start += 1;
        }
        // A quote that closes behind the phrase is not part of it: `"OPEN` of `"OPEN!"`, but not `"STOP" sign`.
        let quotes = tokens[*start..*end].iter().filter(|t| t.is(QUOTES)).count();
        if quotes == 1 && *start + 1 < *end && tokens[*start].is(QUOTES) {
            *start += 1;
        }
    }
    ranges.retain(|&(start, end)| {
        let head = tokens[end - 1].upos;
        let no_head = matches!(head, Upos::Pron | Upos::Punct | Upos::Adv | Upos::Adp | Upos::Cconj | Upos::Aux);
        !(no_head || (end - start == 1 && matches!(head, Upos::Det | Upos::Verb)))
    });
    ranges
}

fn is_noun(token: &Labelled<'_>) -> bool {
    matches!(token.upos, Upos::Noun | Upos::Propn)
}

/// Whether a name follows: "Mr.", "Dr.", "St.".
fn is_title(token: &Labelled<'_>) -> bool {
    token.is(&["mr.", "mrs.", "ms.", "dr.", "prof.", "st.", "mt.", "sgt.", "capt.", "gen.", "rev."])
}

/// The last noun phrase that a chain of partitive heads and places reaches over "of" from noun phrase `i`, and the one
/// from which on every head is a partitive one: in "the left of a row of cups" the chain has three, the partitive two.
fn joined(tokens: &[Labelled<'_>], nouns: &[(usize, usize)], i: usize) -> (usize, usize) {
    let (mut last, mut partitive) = (i, i);
    while let Some(&(next, _)) = nouns.get(last + 1) {
        let end = nouns[last].1;
        let head = &tokens[end - 1];
        let place = head.is(PLACES);
        if next != end + 1 || !tokens[end].is(&["of"]) || !(place || head.is(PARTITIVE_HEADS)) {
            break;
        }
        last += 1;
        if place {
            partitive = last;
        }
    }
    (last, partitive)
}

/// First token of the relation whose object begins at `object`; `None` when neither verb nor preposition leads to it.
/// "of" alone is none: what it relates, the partitive and the place phrases join.
fn relation_start(tokens: &[Labelled<'_>], object: usize, floor: usize) -> Option<usize> {
    let mut start = object;
    if start > floor && tokens[start - 1].is(&["of"]) {
        start = place_start(tokens, start - 1, floor)?;
    }
    while start > floor && is_preposition(&tokens[start - 1]) {
        start -= 1;
    }
    if start > floor && start < object && tokens[start - 1].is(LEADS) {
        start -= 1;
    }
    let verb = (floor..start).rev().take(3).find(|&i| !matches!(tokens[i].upos, Upos::Adv | Upos::Part));
    if let Some(verb) = verb.filter(|&i| tokens[i].upos == Upos::Verb) {
        start = verb;
    }
    (start < object).then_some(start)
}

/// "of" stands at `of`, and what is before it in no noun phrase: where the preposition that ends in it begins
/// ("out of", "in front of"); behind a verb that is "of" itself ("made of").
fn place_start(tokens: &[Labelled<'_>], of: usize, floor: usize) -> Option<usize> {
    let before = of.checked_sub(1).filter(|&i| i >= floor)?;
    if tokens[before].upos == Upos::Verb && tokens[before].chunk == Chunk::Outside {
        return Some(of);
    }
    let adverbial = matches!(tokens[before].upos, Upos::Adp | Upos::Adv);
    (adverbial || tokens[before].is(PLACES)).then_some(before)
}

fn is_preposition(token: &Labelled<'_>) -> bool {
    token.upos == Upos::Adp && !token.is(&["of"]) && token.chunk == Chunk::Outside
}

/// Whether the noun phrase speaks of the picture: a head of the list under modifiers of the list.
fn is_meta(tokens: &[Labelled<'_>], (start, end): (usize, usize), config: &SplitConfig) -> bool {
    let listed = |list: &[String], token: &Labelled<'_>| list.iter().any(|w| token.text.eq_ignore_ascii_case(w));
    let words = &tokens[start..end];
    let Some((head, rest)) = words.split_last() else { return false };
    // "a close-up" is three tokens.
    let close_up = head.is(&["up"]) && rest.len() >= 2 && rest[rest.len() - 2].is(&["close"]);
    (listed(&config.meta_heads, head) || close_up)
        && rest.iter().all(|t| {
            t.upos == Upos::Det
                || t.upos == Upos::Punct
                || listed(&config.meta_modifiers, t)
                || listed(&config.meta_heads, t)
        })
}
