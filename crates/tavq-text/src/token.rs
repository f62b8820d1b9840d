//! Tokens of a sentence: UAX #29 word bounds, then what Universal Dependencies treebanks do differently.
//!
//! Split: clitics ("'s", "n't"), hyphens. Joined: abbreviations with their stop, addresses, numbers with ":" or "/",
//! runs of one punctuation mark. The tagger learnt from such tokens; words for the reader join hyphen chains again.

use unicode_segmentation::UnicodeSegmentation;

use crate::tree::Span;

/// Appends the tokens of `text[sentence]`.
pub(crate) fn tokens(text: &str, sentence: Span, out: &mut Vec<Span>) {
    let body = &text[sentence.start..sentence.end];
    let mut at = 0;
    while at < body.len() {
        let rest = &body[at..];
        let skipped = rest.len() - rest.trim_start().len();
        let rest = &rest[skipped..];
        let len = rest.find(char::is_whitespace).unwrap_or(rest.len());
        at += skipped;
        if len > 0 {
            chunk(&rest[..len], sentence.start + at, at + len == body.len(), out);
        }
        at += len;
    }
}

/// Tokens of one stretch without white space that starts at byte `base`; `last` when it ends the sentence.
fn chunk(chunk: &str, base: usize, last: bool, out: &mut Vec<Span>) {
    let mut push = |start: usize, end: usize| out.push(Span { start: base + start, end: base + end });
    if chunk.bytes().all(|b| b.is_ascii_alphabetic()) && !is_cannot(chunk) {
        return push(0, chunk.len());
    }
    if let Some((start, end)) = address(chunk) {
        let first = out.len();
        plain(&chunk[..start], base, false, out);
        out.push(Span { start: base + start, end: base + end });
        plain(&chunk[end..], base + end, last, out);
        debug_assert!(out.len() > first);
        return;
    }
    plain(chunk, base, last, out);
}

fn is_cannot(word: &str) -> bool {
    word.len() == 6 && word.eq_ignore_ascii_case("cannot")
}

/// Bounds of a web or mail address in `chunk`, without brackets and sentence punctuation around it.
fn address(chunk: &str) -> Option<(usize, usize)> {
    let looks = chunk.contains("://")
        || chunk.find("www.").is_some_and(|i| i < 4)
        || (chunk.contains('@') && chunk.contains('.') && !chunk.starts_with('@'));
    if !looks {
        return None;
    }
    let start = chunk.len() - chunk.trim_start_matches(|c: char| !c.is_alphanumeric()).len();
    let body = &chunk[start..];
    let end = start + body.find(['"', '”', '“', '<', '>', ')', ']', '}']).unwrap_or(body.len());
    let end = start + chunk[start..end].trim_end_matches(|c: char| !(c.is_alphanumeric() || c == '/')).len();
    (end > start).then_some((start, end))
}

fn plain(chunk: &str, base: usize, last: bool, out: &mut Vec<Span>) {
    let first = out.len();
    for (at, piece) in chunk.split_word_bound_indices() {
        let start = base + at;
        let end = start + piece.len();
        let before = out[first..].last().copied().filter(|t| t.end == start);
        if let Some(t) = before
            && joins(&chunk[t.start - base..at], piece, &chunk[at + piece.len()..], last)
        {
            let index = out.len() - 1;
            out[index].end = end;
        } else if is_cannot(piece) {
            out.extend([Span { start, end: start + 3 }, Span { start: start + 3, end }]);
        } else if let Some(cut) = clitic(piece) {
            out.extend([Span { start, end: start + cut }, Span { start: start + cut, end }]);
        } else {
            out.push(Span { start, end });
        }
    }
}

/// Whether `piece` continues the token `token`; `rest` is what follows in the stretch.
fn joins(token: &str, piece: &str, rest: &str, last: bool) -> bool {
    let t = token.as_bytes();
    let (Some(&first), Some(&end)) = (piece.as_bytes().first(), t.last()) else { return false };
    match first {
        // One mark repeated: "...", "--", "!!!". Bounded by the piece itself, so linear.
        b'.' | b'-' | b'!' | b'?' | b'*' | b'=' | b'_' | b'#' | b'~'
            if end == first && !end.is_ascii_alphanumeric() =>
        {
            t[0] == first
        }
        b'!' | b'?' if matches!(end, b'!' | b'?') => true,
        b'.' if piece.len() == 1 => abbreviated(token, rest, last),
        b':' | b'/' if end.is_ascii_digit() => rest.as_bytes().first().is_some_and(u8::is_ascii_digit),
        b'&' if end.is_ascii_uppercase() => rest.as_bytes().first().is_some_and(u8::is_ascii_uppercase),
        b'-' => joined_prefix(token) && rest.starts_with(char::is_alphabetic),
        b'0'..=b'9' if matches!(end, b':' | b'/') => t.len() > 1,
        b'A'..=b'Z' if end == b'&' => t.len() > 1,
        b'A'..=b'Z' | b'a'..=b'z' if end == b'-' => t.len() > 1 && t[0].is_ascii_alphabetic(),
        _ => false,
    }
}

/// Prefixes that the treebank leaves joined: "e-mail", "co-workers".
fn joined_prefix(token: &str) -> bool {
    matches!(token, "e" | "E" | "co" | "Co" | "non" | "Non" | "pre" | "Pre" | "ex" | "re" | "Re")
}

/// Whether the stop behind `token` belongs to it.
fn abbreviated(token: &str, rest: &str, last: bool) -> bool {
    const WITH_STOP: &[&str] = &[
        "adm", "approx", "apr", "assn", "aug", "ave", "blvd", "bros", "capt", "co", "col", "corp", "dec", "dept", "dr",
        "est", "etc", "feb", "ft", "gen", "gov", "hon", "inc", "jan", "jr", "lt", "ltd", "maj", "mr", "mrs", "ms",
        "mt", "nov", "oct", "prof", "rd", "rep", "rev", "sen", "sept", "sgt", "sr", "st", "vol", "vs",
    ];
    if token.len() > 8 || !rest.chars().all(|c| matches!(c, '"' | '\'' | '”' | '’' | ')' | ',' | ';' | ':')) {
        return false;
    }
    let ends = last && rest.chars().all(|c| c != ',');
    let letters = token.bytes().all(|b| b.is_ascii_alphabetic() || b == b'.');
    let single = token.len() == 1 && token.as_bytes()[0].is_ascii_uppercase();
    let dotted = letters && token.contains('.') && token.split('.').all(|p| p.len() <= 2 && !p.is_empty());
    dotted
        || (single && !ends)
        || (letters && WITH_STOP.contains(&token.to_ascii_lowercase().as_str()) && (!ends || token != "co"))
}

/// Where the clitic of `word` begins.
fn clitic(word: &str) -> Option<usize> {
    let at = word.rfind(['\'', '’', '`'])?;
    let mark = word[at..].chars().next().map_or(1, char::len_utf8);
    let tail = &word[at + mark..];
    let is = |s: &str| tail.eq_ignore_ascii_case(s);
    if at == 0 {
        return None;
    }
    if is("t") {
        let n = word[..at].strip_suffix(['n', 'N'])?;
        return (!n.is_empty()).then_some(n.len());
    }
    (is("s") || is("re") || is("ve") || is("ll") || is("d") || is("m")).then_some(at)
}
