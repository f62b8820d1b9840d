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
    if chunk.bytes().all(|b| b.is_ascii_alphabetic()) {
        match written_together(chunk) {
            None => push(0, chunk.len()),
            Some(cut) => {
                push(0, cut);
                push(cut, chunk.len());
            }
        }
        return;
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

/// Where the second of two words begins that are written as one: "can|not", "do|nt", "gon|na".
fn written_together(word: &str) -> Option<usize> {
    let mut lower = [0; 8];
    let lower = lower.get_mut(..word.len())?;
    lower.copy_from_slice(word.as_bytes());
    lower.make_ascii_lowercase();
    match &*lower {
        b"cannot" | b"gonna" | b"gotta" | b"wanna" | b"outta" => Some(3),
        b"dont" | b"cant" => Some(2),
        b"isnt" => Some(2),
        b"didnt" | b"wasnt" | b"arent" | b"hasnt" | b"hadnt" => Some(3),
        b"doesnt" | b"havent" | b"werent" => Some(4),
        b"couldnt" | b"wouldnt" => Some(5),
        b"shouldnt" => Some(6),
        b"im" | b"ive" | b"alot" => Some(1),
        b"youre" => Some(3),
        b"theyre" | b"thats" | b"whats" => Some(4),
        b"theres" => Some(5),
        _ => None,
    }
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
        } else if let Some(cut) = written_together(piece).or_else(|| clitic(piece)) {
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
        b'.' | b'-' | b'!' | b'?' | b'*' | b'=' | b'_' | b'#' | b'~' | b'$' | b'<' | b'>'
            if end == first && !end.is_ascii_alphanumeric() =>
        {
            t[0] == first
        }
        b'!' | b'?' if matches!(end, b'!' | b'?') => true,
        b'.' if piece.len() == 1 => abbreviated(token, rest, last),
        b':' | b'/' if end.is_ascii_digit() => rest.as_bytes().first().is_some_and(u8::is_ascii_digit),
        b'&' if end.is_ascii_uppercase() => rest.as_bytes().first().is_some_and(u8::is_ascii_uppercase),
        b'-' if end == b':' || end == b';' => t.len() == 1 && rest.starts_with([')', '(', 'D', 'P', '/']),
        b'-' if end.is_ascii_digit() => telephone(token, rest),
        b'-' => joined_prefix(token) && rest.starts_with(char::is_alphabetic),
        b')' | b'(' | b'D' | b'P' if matches!(token, ":" | ";" | ":-" | ";-") => {
            piece.len() == 1 && !rest.starts_with(char::is_alphanumeric)
        }
        b'0'..=b'9' if matches!(end, b':' | b'/') => t.len() > 1,
        b'0'..=b'9' if end == b'-' => t.len() > 3 && t[0].is_ascii_digit(),
        b'A'..=b'Z' if end == b'&' => t.len() > 1,
        b'A'..=b'Z' | b'a'..=b'z' if end == b'-' => t.len() > 1 && t[0].is_ascii_alphabetic(),
        _ => false,
    }
}

/// Whether the hyphen between `token` and `rest` is one of a telephone number: "555-0123", "212-555-0123".
fn telephone(token: &str, rest: &str) -> bool {
    let group = token.rsplit('-').next().unwrap_or(token);
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    group.len() == 3 && (digits == 4 || digits == 3 && rest.as_bytes().get(3) == Some(&b'-'))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// `|` stands between tokens that touch.
    fn check(marked: &str) {
        let text = marked.replace('|', "");
        let mut found = Vec::new();
        tokens(&text, Span { start: 0, end: text.len() }, &mut found);
        let found: Vec<&str> = found.iter().map(|span| &text[span.start..span.end]).collect();
        let expected: Vec<&str> = marked.split([' ', '|']).collect();
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn clitics_and_words_written_together() {
        check("The dog|'s owner is|n't here|, you|’re sure|.");
        check("I can|not go and do|nt care|, that|s it|: i|m gon|na wait a|lot|.");
        check("Its cats want your help|.");
    }

    #[test]
    fn numbers() {
        check("Call 555-0123 or 212-555-0123|, room 24|-|30|, pages 10|-|15|.");
        check("At 11:30 on 3/14/2001 it cost $|3.50|, not $$$|.");
    }

    #[test]
    fn runs_and_faces() {
        check("So nice :) and :-) or ;)|. Is it|: (|no|)|?");
        check("Wait|... >> quoted <<|!? --");
    }

    #[test]
    fn chains_stay_apart_and_prefixes_together() {
        check("A black|-|and|-|white e-mail from co-workers at Q&A|.");
    }
}
