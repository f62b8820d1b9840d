//! What the tagger and the chunker look at: every feature is a 32-bit hash of a template number and its values.
//!
//! The strings of a token are hashed once ([`Attributes`]); a feature of a window then only mixes integers. Training and
//! use share this file, so the two cannot drift apart; changing it means training again.

use crate::tree::Upos;

/// Number of parts of speech (`Upos`).
pub(crate) const TAGS: usize = 17;
/// Labels of the chunker: outside, first token of a noun phrase, inside.
pub(crate) const CHUNKS: usize = 3;
/// Stands for the tag or label before the first token.
pub(crate) const START: u8 = 31;

/// The hashed strings of one token.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Attributes {
    /// Lower-cased word, digits folded.
    pub(crate) word: u32,
    /// Last one to four characters of the lower-cased word.
    pub(crate) suffix: [u32; 4],
    /// First three characters.
    pub(crate) prefix: u32,
    /// Classes of characters with runs collapsed: "Xx", "d", "X.X.".
    pub(crate) shape: u32,
}

/// What stands beyond either end of a sentence.
pub(crate) const OUTSIDE: Attributes =
    Attributes { word: 0x51ed_270b, suffix: [0x51ed_270b; 4], prefix: 0x51ed_270b, shape: 0x51ed_270b };

const BASIS: u32 = 0x811c_9dc5;

#[inline]
fn step(hash: u32, byte: u8) -> u32 {
    (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
}

/// Final mixing of a feature (the 32-bit finaliser of MurmurHash3: every input bit reaches every output bit).
#[inline]
fn mix(mut h: u32) -> u32 {
    h ^= h >> 16;
    h = h.wrapping_mul(0x85eb_ca6b);
    h ^= h >> 13;
    h = h.wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}

#[inline]
fn one(template: u32, a: u32) -> u32 {
    mix(a ^ template.wrapping_mul(0x9e37_79b9))
}

#[inline]
fn two(template: u32, a: u32, b: u32) -> u32 {
    mix(a.wrapping_mul(0xcc9e_2d51).rotate_left(15) ^ b ^ template.wrapping_mul(0x9e37_79b9))
}

/// Tags and labels packed into one value of a feature.
#[inline]
fn pack(values: &[u8]) -> u32 {
    values.iter().fold(1, |acc, &v| acc << 5 | u32::from(v))
}

impl Attributes {
    /// Hashes the strings of `token`. `lower` is a buffer to reuse.
    pub(crate) fn of(token: &str, lower: &mut String) -> Self {
        lower.clear();
        if token.is_ascii() {
            lower.push_str(token);
            lower.make_ascii_lowercase();
        } else {
            lower.extend(token.chars().map(straight).flat_map(char::to_lowercase));
        }
        let word = lower.bytes().fold(BASIS, |h, b| step(h, if b.is_ascii_digit() { b'0' } else { b }));
        Self { word, suffix: suffixes(lower), prefix: prefix(lower), shape: shape(token) }
    }
}

/// Curly quotes and long dashes as their ASCII forms: the training text uses those.
#[inline]
fn straight(c: char) -> char {
    match c {
        '\u{2018}' | '\u{2019}' | '\u{02bc}' => '\'',
        '\u{201c}' | '\u{201d}' => '"',
        '\u{2010}' | '\u{2011}' => '-',
        other => other,
    }
}

fn suffixes(lower: &str) -> [u32; 4] {
    let mut out = [0; 4];
    let mut hash = BASIS;
    let mut chars = lower.chars().rev();
    for (n, slot) in out.iter_mut().enumerate() {
        match chars.next() {
            Some(c) => hash = (hash ^ c as u32).wrapping_mul(0x0100_0193),
            // A word shorter than the suffix gets a value of its own, so "in" does not share with "...in".
            None => hash = step(hash, b'^'),
        }
        *slot = hash ^ n as u32;
    }
    out
}

fn prefix(lower: &str) -> u32 {
    lower.chars().take(3).fold(BASIS, |h, c| (h ^ c as u32).wrapping_mul(0x0100_0193))
}

fn shape(token: &str) -> u32 {
    let (mut hash, mut last) = (BASIS, 0u8);
    for c in token.chars() {
        let class = match c {
            'a'..='z' => b'x',
            'A'..='Z' => b'X',
            '0'..='9' => b'd',
            c if c.is_ascii() => c as u8,
            c if c.is_uppercase() => b'X',
            c if c.is_alphabetic() => b'x',
            c => straight(c) as u32 as u8,
        };
        if class != last {
            hash = step(hash, class);
            last = class;
        }
    }
    // One capital alone ("A", "I") is a shape of its own.
    if token.len() == 1 { step(hash, b'1') } else { hash }
}

/// Features of the tagger at one token.
pub(crate) const TAG_FEATURES: usize = 27;

/// What the tags to the left say of the clause so far: whether it has a verb and a noun yet, and its last determiner.
/// Tells "a ring surrounds" from "the ring surrounds".
#[inline]
fn clause(tokens: &[Attributes], tags: &[u8]) -> (u32, u32) {
    const REACH: usize = 12;
    let is = |tag: u8, upos: Upos| tag == upos as u8;
    let (mut end, mut noun, mut determiner) = (0, 0, 0);
    for (&tag, token) in tags.iter().zip(tokens).rev().take(REACH) {
        if is(tag, Upos::Verb) || is(tag, Upos::Aux) {
            end = 1;
        } else if is(tag, Upos::Punct) {
            end = 2;
        } else if is(tag, Upos::Cconj) || is(tag, Upos::Sconj) {
            end = 3;
        } else if is(tag, Upos::Noun) || is(tag, Upos::Propn) || is(tag, Upos::Pron) {
            noun = 1;
        } else if is(tag, Upos::Det) && determiner == 0 {
            determiner = token.word;
        }
        if end > 0 {
            break;
        }
    }
    (end * 2 + noun, determiner)
}

/// The tagger's features of the token behind the tagged ones: `before` holds the tags so far.
#[inline]
pub(crate) fn tag_features(tokens: &[Attributes], before: &[u8]) -> [u32; TAG_FEATURES] {
    let i = before.len();
    let at = |d: isize| i.checked_add_signed(d).and_then(|j| tokens.get(j)).unwrap_or(&OUTSIDE);
    let (w, l1, l2, r1, r2) = (at(0), at(-1), at(-2), at(1), at(2));
    let (b1, b2) = last_two(before);
    let t1 = u32::from(b1);
    let t12 = pack(&[b1, b2]);
    let (clause, determiner) = clause(tokens, before);
    [
        one(1, w.word),
        one(2, w.suffix[0]),
        one(3, w.suffix[1]),
        one(4, w.suffix[2]),
        one(5, w.suffix[3]),
        one(6, w.prefix),
        two(7, w.shape, u32::from(i == 0)),
        one(8, t1),
        one(9, t12),
        two(10, w.word, t1),
        one(11, l1.word),
        one(12, l2.word),
        one(13, r1.word),
        one(14, r2.word),
        one(15, l1.suffix[2]),
        one(16, r1.suffix[2]),
        one(17, r1.shape),
        two(18, l1.word, w.word),
        two(19, w.word, r1.word),
        two(20, w.suffix[2], t1),
        two(21, r1.word, t1),
        two(22, w.suffix[0], clause << 5 | t1),
        two(23, w.suffix[1], r1.suffix[1]),
        two(24, w.suffix[0], determiner.wrapping_mul(31).wrapping_add(t1)),
        two(25, w.shape, t1),
        two(26, w.suffix[2], r1.word),
        two(27, w.word, clause),
    ]
}

/// The last value and the one before it.
#[inline]
fn last_two(before: &[u8]) -> (u8, u8) {
    match before {
        [.., b, a] => (*a, *b),
        [a] => (*a, START),
        [] => (START, START),
    }
}

/// Features of the chunker at one token.
pub(crate) const CHUNK_FEATURES: usize = 26;

/// The chunker's features of the token behind the labelled ones: `labels` holds the labels so far.
#[inline]
pub(crate) fn chunk_features(tokens: &[Attributes], tags: &[u8], labels: &[u8]) -> [u32; CHUNK_FEATURES] {
    let i = labels.len();
    let (before, before2) = last_two(labels);
    let at = |d: isize| i.checked_add_signed(d).and_then(|j| tokens.get(j)).unwrap_or(&OUTSIDE);
    let tag = |d: isize| i.checked_add_signed(d).and_then(|j| tags.get(j)).copied().unwrap_or(START);
    let (w, l1, l2, r1, r2) = (at(0), at(-1), at(-2), at(1), at(2));
    let (t, p1, p2, n1, n2, n3) = (tag(0), tag(-1), tag(-2), tag(1), tag(2), tag(3));
    let c1 = u32::from(before);
    [
        two(101, w.word, c1),
        one(102, w.word),
        one(103, l1.word),
        one(104, r1.word),
        one(105, l2.word),
        one(106, r2.word),
        one(107, pack(&[t, before])),
        one(108, pack(&[t, before, before2])),
        one(109, pack(&[p1, t, before])),
        one(110, pack(&[t, n1, before])),
        one(111, pack(&[p1, t, n1, before])),
        one(112, pack(&[p2, p1, t, before])),
        one(113, pack(&[t, n1, n2, before])),
        one(114, pack(&[n1, n2, n3])),
        two(115, w.word, u32::from(p1)),
        two(116, w.word, u32::from(n1)),
        two(117, l1.word, pack(&[t, before])),
        two(118, r1.word, pack(&[t, before])),
        two(119, w.suffix[2], c1),
        two(120, r1.suffix[2], u32::from(t)),
        two(121, l1.word, w.word),
        two(122, w.word, r1.word),
        two(123, w.shape, c1),
        two(124, w.word, pack(&[n1, n2])),
        one(125, pack(&[p2, p1, t, n1, n2])),
        two(126, r2.word, pack(&[t, n1, before])),
    ]
}
