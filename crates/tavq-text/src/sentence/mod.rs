//! Sentence boundaries by rules: one pass over the bytes that stops only at characters which can end a sentence.
//!
//! A boundary needs a terminator (or a line break) and a start that looks like one. Quotation marks do not shelter a
//! boundary: quoted text of several sentences gives several sentences, while a quoted sign with its own terminator
//! stays inside its host because the host goes on in lower case. Every look to the left or right is bounded or moves the
//! scan along with it, so the time is linear in the text whatever it holds.

mod abbreviation;
mod list;

use crate::tree::Span;
use abbreviation::joins;
use list::{ListState, is_bullet};

/// The sentences of `text`, in order, without the white space around them. Together they cover all other characters.
pub(crate) fn sentences(text: &str) -> Vec<Span> {
    let mut scan =
        Scan { text, bytes: text.as_bytes(), start: 0, list: ListState::default(), seen: 0, out: Vec::new() };
    scan.start = scan.skip_space(0);
    scan.run();
    scan.out
}

struct Scan<'t> {
    text: &'t str,
    bytes: &'t [u8],
    /// First byte of the sentence that is open.
    start: usize,
    list: ListState,
    /// End of the last word that was tried as a web address.
    seen: usize,
    out: Vec<Span>,
}

/// Bytes at which a boundary may lie: terminators, line breaks, the closing bracket of a list marker, and the first
/// bytes of the non-ASCII terminators, bullets and separators.
const STOPS: [bool; 256] = {
    let mut table = [false; 256];
    let stops = b".!?\n\r\x0b\x0c)\xC2\xD8\xDB\xE0\xE2\xE3\xEF";
    let mut i = 0;
    while i < stops.len() {
        table[stops[i] as usize] = true;
        i += 1;
    }
    table
};

/// What follows a stop inside a name although it is written with a capital.
const EXTENSIONS: &[&str] = &["Com", "Org", "Net", "Txt", "Pdf", "Jpg", "Png", "Html", "Doc"];

/// Terminators that end a sentence without white space behind them (scripts that set none).
fn is_wide_terminator(c: char) -> bool {
    matches!(c, '。' | '！' | '？' | '｡' | '।' | '؟' | '۔')
}

fn is_terminator(c: char) -> bool {
    matches!(c, '.' | '!' | '?' | '…' | '‼' | '⁇' | '⁈' | '⁉') || is_wide_terminator(c)
}

fn is_line_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn is_closer(c: char) -> bool {
    matches!(c, '"' | '\'' | '”' | '’' | '»' | ')' | ']' | '}' | '」' | '』' | '）' | '*')
}

fn is_opener(c: char) -> bool {
    matches!(c, '"' | '\'' | '“' | '‘' | '«' | '„' | '(' | '[' | '{' | '¿' | '¡' | '*' | '「' | '『' | '（')
}

impl Scan<'_> {
    fn run(&mut self) {
        let mut at = self.start;
        while let Some(step) = self.bytes[at..].iter().position(|b| STOPS[*b as usize]) {
            at += step;
            let Some(c) = self.char_at(at) else { break };
            at = if is_terminator(c) {
                self.at_terminator(at)
            } else if is_line_break(c) {
                self.at_line_break(at)
            } else if c == ')' {
                self.list_marker(at, at + 1)
            } else if is_bullet(c) && at > self.start && self.in_bullet_list(at) {
                self.close(at);
                at + c.len_utf8()
            } else {
                at + c.len_utf8()
            };
            // A boundary moves the open sentence behind the white space.
            at = at.max(self.start);
        }
        self.close(self.bytes.len());
    }

    /// Whether the bullet at `at` goes on with a list: the open sentence began with one too.
    fn in_bullet_list(&self, at: usize) -> bool {
        self.char_before(at).is_some_and(char::is_whitespace) && self.char_at(self.start).is_some_and(is_bullet)
    }

    fn char_at(&self, at: usize) -> Option<char> {
        self.text.get(at..).and_then(|rest| rest.chars().next())
    }

    fn char_before(&self, at: usize) -> Option<char> {
        self.text.get(..at).and_then(|head| head.chars().next_back())
    }

    fn skip_space(&self, at: usize) -> usize {
        let rest = &self.text[at..];
        self.bytes.len() - rest.trim_start().len()
    }

    /// Ends the open sentence before `end` and opens the next one behind the white space.
    fn close(&mut self, end: usize) {
        let sentence = self.text[self.start..end].trim_end();
        if !sentence.is_empty() {
            self.out.push(Span { start: self.start, end: self.start + sentence.len() });
        }
        self.start = self.skip_space(end);
    }

    /// `at` is a terminator. Returns where to go on.
    fn at_terminator(&mut self, at: usize) -> usize {
        let run = self.terminators(at);
        if run.dots == 1 && run.marks == 0 {
            let end = if self.bytes.get(run.end) == Some(&b')') { run.end + 1 } else { run.end };
            if let Some((_, from)) = self.marker_value(at) {
                let next = self.list_marker(at, end);
                if self.list.stands_at(from) {
                    return next;
                }
            }
        }
        let bracketed =
            at > 0 && matches!((self.bytes[at - 1], self.bytes.get(run.end)), (b'[', Some(b']')) | (b'(', Some(b')')));
        if bracketed {
            return run.end; // "[...]" stands for words left out
        }
        let end = self.closers(run.end);
        let next = self.skip_space(end);
        if next >= self.bytes.len() {
            self.close(end);
            return self.bytes.len();
        }
        if next == end
            && let Some(end) = self.address_ends(at)
        {
            self.close(end);
            return end;
        }
        let ends =
            if next == end { self.ends_without_gap(at, &run, end) } else { self.ends_with_gap(at, &run, end, next) };
        if ends {
            self.close(end);
        }
        end
    }

    /// The run of terminators from `at`, spaced full stops (". . .") included.
    fn terminators(&self, at: usize) -> Run {
        let mut run = Run { end: at, dots: 0, marks: 0, wide: false, spaced: false };
        while let Some(c) = self.char_at(run.end).filter(|c| is_terminator(*c)) {
            match c {
                '.' => run.dots += 1,
                '…' => run.dots += 3,
                c => {
                    run.marks += 1;
                    run.wide |= is_wide_terminator(c);
                }
            }
            run.end += c.len_utf8();
        }
        while run.marks == 0 && self.bytes.get(run.end) == Some(&b' ') && self.bytes.get(run.end + 1) == Some(&b'.') {
            if self.bytes.get(run.end + 2).is_some_and(u8::is_ascii_alphanumeric) {
                break; // " .5", " .com"
            }
            run.dots += 1;
            run.spaced = true;
            run.end += 2;
        }
        run
    }

    /// Moves behind closing quotes and brackets; also behind one that stands alone between spaces.
    fn closers(&self, mut at: usize) -> usize {
        loop {
            while let Some(c) = self.char_at(at).filter(|c| is_closer(*c)) {
                at += c.len_utf8();
            }
            let space = self.char_at(at).filter(|c| *c == ' ' || *c == '\u{a0}').map_or(0, char::len_utf8);
            let quote = self.char_at(at + space).filter(|c| matches!(c, '"' | '”' | '’' | ')'));
            let Some(quote) = quote.filter(|_| space > 0) else { return at };
            let behind = at + space + quote.len_utf8();
            if self.char_at(behind).is_some_and(|c| !c.is_whitespace() && quote == '"') {
                return at; // an opening quote
            }
            at = behind;
        }
    }

    fn ends_without_gap(&self, at: usize, run: &Run, end: usize) -> bool {
        if run.wide {
            return true;
        }
        let upper = self.char_at(end).is_some_and(char::is_uppercase);
        upper && run.dots + run.marks == 1 && self.is_missing_space(at, end)
    }

    /// The end of the web address around `at` where a word that starts a sentence follows it: "http://a.org/b The".
    fn address_ends(&mut self, at: usize) -> Option<usize> {
        const LONGEST: usize = 256;
        if at < self.seen {
            return None;
        }
        let head =
            bounded_back(self.text, at, LONGEST).rsplit(char::is_whitespace).next()?.trim_start_matches(is_opener);
        let ahead = bounded_ahead(self.text, at, LONGEST);
        let tail = ahead.split(char::is_whitespace).next()?;
        self.seen = at + tail.len();
        let rest = ahead[tail.len()..].strip_prefix(' ')?;
        let address = head.contains("://") || head == "www";
        let open = tail.ends_with(|c: char| c.is_alphanumeric() || c == '/');
        (address && open && rest.starts_with(char::is_uppercase) && abbreviation::starts(rest)).then(|| at + tail.len())
    }

    /// "rim.The": a lower-cased word or a number before, a capitalised word behind, and nothing of a web address.
    fn is_missing_space(&self, at: usize, end: usize) -> bool {
        let before: &str = bounded_back(self.text, at, 24);
        let chunk = before.rsplit(char::is_whitespace).next().unwrap_or("");
        let word = chunk.rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or("");
        let lower_tail = word.chars().skip(1).all(char::is_lowercase) && !abbreviation::is_title(word);
        let shortest = if word.starts_with(char::is_lowercase) { 2 } else { 4 };
        let word_ok = (lower_tail && word.chars().count() >= shortest)
            || (word.len() > 1 && word.bytes().all(|b| b.is_ascii_digit()))
            || (word.is_empty() && end > at + 1)
            || chunk.ends_with(is_closer);
        let rest = bounded_ahead(self.text, end, 32);
        let token = rest.split(char::is_whitespace).next().unwrap_or("");
        let mut letters = token.chars().skip(1);
        let head_ok = match letters.next() {
            None => rest.len() > token.len() && matches!(token, "A" | "I"),
            Some(second) => second.is_lowercase() || second == '’' || second == '\'',
        };
        let address = |s: &str| s.contains(['@', '/', '\\', '_']) || s.starts_with("www");
        let name = token.trim_end_matches(|c: char| !c.is_alphanumeric());
        word_ok && head_ok && !address(chunk) && !address(token) && !EXTENSIONS.contains(&name)
    }

    fn ends_with_gap(&self, at: usize, run: &Run, end: usize, next: usize) -> bool {
        let gap = &self.text[end..next];
        if gap.chars().filter(|c| is_line_break(*c)).count() > 1 {
            return true;
        }
        let mut first = next;
        while let Some(c) = self.char_at(first).filter(|c| is_opener(*c) && first < next + 8) {
            first += c.len_utf8();
        }
        let Some(c) = self.char_at(first) else { return true };
        let (quoted, opened) = (end > run.end, first > next);
        if matches!(c, ',' | ';' | ':' | ')' | ']' | '}') || (c == '.' && !opened) {
            return false;
        }
        if run.dots == 1 && run.marks == 0 && !quoted && !run.spaced && joins(self.text, at, &self.text[first..], c) {
            return false;
        }
        if c.is_lowercase() {
            // Behind a plain stop, or a mark after a word in lower case; not "well... then", "'STOP.' in", "Yahoo! in",
            // "the 2. floor".
            let plain = run.dots == 1 && run.marks == 0;
            return !quoted
                && !run.spaced
                && (plain && !self.after_ordinal(at) || run.marks > 0 && self.after_lower(at));
        }
        // Three spaced stops before "I" leave words out of a sentence; a fourth ends it.
        !(run.spaced && run.marks == 0 && run.dots <= 3 && bounded_ahead(self.text, first, 2) == "I ")
    }

    /// Whether a number of one or two digits ends at `at`.
    fn after_ordinal(&self, at: usize) -> bool {
        let head = bounded_back(self.text, at, 4);
        let word = head.rsplit(char::is_whitespace).next().unwrap_or("");
        matches!(word.len(), 1 | 2) && word.bytes().all(|b| b.is_ascii_digit())
    }

    /// Whether the word that ends at `at` is in lower case.
    fn after_lower(&self, at: usize) -> bool {
        let head = bounded_back(self.text, at, 24);
        let word = head.rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or("");
        word.starts_with(char::is_lowercase)
    }

    /// `at` is a line break. Returns where to go on.
    fn at_line_break(&mut self, at: usize) -> usize {
        let next = self.skip_space(at);
        let before = self.text[self.start..at].chars().next_back();
        if next >= self.bytes.len() || before.is_none() {
            return next.max(at + 1);
        }
        // "\r\n" is one line break.
        let gap = &self.text[at..next];
        let breaks = gap.chars().filter(|c| is_line_break(*c)).count() - gap.matches("\r\n").count();
        let c = self.char_at(next).unwrap_or(' ');
        let ends = if breaks > 1 { self.paragraph_ends(at, c) } else { self.line_ends(at, next, c) };
        if ends {
            self.close(at);
        }
        next
    }

    /// Whether the blank line at `at` ends a sentence that has no terminator. It does, unless the text goes on in lower
    /// case behind a line of a few words, as a plaque copied line by line does, or asks for more: "reads as follows:",
    /// "to the".
    fn paragraph_ends(&self, at: usize, c: char) -> bool {
        let line = self.line_before(at).trim_end();
        let last = line.split_whitespace().next_back().unwrap_or("");
        let asks = last.ends_with([',', ':', ';', '”', '"', '’']) || last.ends_with("'s") || last.ends_with("’s");
        let wrapped = line.len() < WRAP && line.split_whitespace().nth(2).is_some() && !last.ends_with(')');
        let goes_on = asks || wrapped;
        !(c.is_lowercase() && goes_on || abbreviation::opens(last))
    }

    /// The end of the open sentence's line before `at`: more than a line is wrapped at.
    fn line_before(&self, at: usize) -> &str {
        let head = bounded_back(&self.text[self.start..], at - self.start, WRAP + 4);
        head.rsplit(is_line_break).next().unwrap_or(head)
    }

    /// Whether a single line break at `at` ends a sentence that has no terminator: list items and headings are short or
    /// followed by a capital; running text is wrapped at a width.
    fn line_ends(&self, at: usize, next: usize, c: char) -> bool {
        let line = self.line_before(at);
        if is_bullet(c) || list::starts_marker(&self.text[next..]) {
            return true;
        }
        if c.is_lowercase() {
            return line.split_whitespace().nth(2).is_none() && !line.ends_with(char::is_whitespace);
        }
        let last = line.split_whitespace().next_back().unwrap_or("");
        line.chars().count() < WRAP && !last.ends_with(',') && !abbreviation::opens(last)
    }
}

/// Running text is wrapped at this many characters or more.
const WRAP: usize = 60;

/// A run of terminators.
struct Run {
    end: usize,
    /// Full stops; an ellipsis character counts three.
    dots: usize,
    /// Question and exclamation marks and terminators of other scripts.
    marks: usize,
    wide: bool,
    /// Some stops stand apart.
    spaced: bool,
}

/// At most `limit` bytes of `text` before `at`, cut at a character boundary.
fn bounded_back(text: &str, at: usize, limit: usize) -> &str {
    let mut from = at.saturating_sub(limit);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..at]
}

/// At most `limit` bytes of `text` from `at`, cut at a character boundary.
fn bounded_ahead(text: &str, at: usize, limit: usize) -> &str {
    let mut to = (at + limit).min(text.len());
    while !text.is_char_boundary(to) {
        to -= 1;
    }
    &text[at..to]
}
