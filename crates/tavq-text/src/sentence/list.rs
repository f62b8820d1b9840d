//! Markers of lists that run on in one line: "1) a cup 2) a plate", "a. First b. Second", bullets.
//!
//! A number in running text is a marker only when it continues a list whose marker before it stood at the start of a
//! sentence, so "a cup and 2. The" stays what it is.

use super::{Scan, bounded_back};

/// Bullets of inline and line lists.
pub(super) fn is_bullet(c: char) -> bool {
    matches!(c, '•' | '⁃' | '◦' | '▪' | '■' | '●' | '‣' | '∙')
}

/// How far behind a marker the next one may stand, in bytes.
const REACH: usize = 2000;

/// Value of a marker: its number, or the place of its letter in the alphabet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marker {
    Number(u32),
    Letter(u32),
}

impl Marker {
    fn next(self) -> Self {
        match self {
            Self::Number(n) => Self::Number(n + 1),
            Self::Letter(n) => Self::Letter(n + 1),
        }
    }
}

/// The last marker seen and where it stood.
#[derive(Debug, Default)]
pub(super) struct ListState {
    last: Option<(Marker, u8, usize)>,
}

impl ListState {
    /// Whether the last marker stands at `from`.
    pub(super) fn stands_at(&self, from: usize) -> bool {
        self.last.is_some_and(|(_, _, at)| at == from)
    }
}

impl Scan<'_> {
    /// Value and first byte of the list marker whose sign ("." or ")") stands at `at`.
    pub(super) fn marker_value(&self, at: usize) -> Option<(Marker, usize)> {
        let head = bounded_back(self.text, at, 6);
        let digits = head.len() - head.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let (marker, len) = match head.as_bytes() {
            _ if (1..=3).contains(&digits) => (Marker::Number(head[head.len() - digits..].parse().ok()?), digits),
            [.., letter @ (b'a'..=b'z' | b'A'..=b'Z')] => {
                (Marker::Letter(u32::from(letter.to_ascii_lowercase() - b'a')), 1)
            }
            _ => return None,
        };
        let mut from = at - len;
        if self.bytes[at] == b')' && from > 0 && self.bytes[from - 1] == b'(' {
            from -= 1;
        }
        let before = self.char_before(from);
        let free = before.is_none_or(|c| c.is_whitespace() || is_bullet(c)) || from == self.start;
        (free && from >= self.start).then_some((marker, from))
    }

    /// `at` is the sign of a possible list marker that ends before `end`: opens a list at the start of a sentence, or
    /// closes the sentence before the next marker of the list. Returns where to go on.
    pub(super) fn list_marker(&mut self, at: usize, end: usize) -> usize {
        let Some((marker, from)) = self.marker_value(at) else { return end };
        if !self.char_at(end).is_none_or(char::is_whitespace) {
            return end;
        }
        let sign = self.bytes[end - 1];
        let lead = &self.text[self.start..from];
        let first = matches!(marker, Marker::Number(1) | Marker::Letter(0));
        let starts = lead.chars().all(|c| is_bullet(c) || c.is_whitespace()) || first && lead.trim_end().ends_with(':');
        let follows =
            self.list.last.is_some_and(|(last, s, place)| s == sign && last.next() == marker && from - place < REACH);
        // "either: a) the cup or b) the plate" is one sentence.
        let linked = lead.trim_end().ends_with(" and") || lead.trim_end().ends_with(" or");
        if follows && !starts && !linked {
            self.close(from);
        }
        if starts || follows {
            self.list.last = Some((marker, sign, from));
        }
        end
    }
}

/// Whether a line that begins with `text` begins with a list marker ("- ", "* ", "3. ", "(b) ").
pub(super) fn starts_marker(text: &str) -> bool {
    let b = text.as_bytes();
    let b = b.strip_prefix(b"(").unwrap_or(b);
    let digits = b.iter().take(4).take_while(|c| c.is_ascii_digit()).count();
    match b {
        [b'-' | b'*', b' ', ..] => true,
        [letter, sign, b' ', ..] if letter.is_ascii_alphabetic() => matches!(sign, b'.' | b')'),
        _ if (1..=3).contains(&digits) => {
            matches!(b.get(digits), Some(b'.' | b')')) && b.get(digits + 1).is_some_and(u8::is_ascii_whitespace)
        }
        _ => false,
    }
}
