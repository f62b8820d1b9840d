//! Just enough of Rust's lexical grammar for the fences: source text with its comments, and if asked its literals, blanked out.

/// What to leave of a source text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Code and the content of string literals.
    Strings,
    /// Code alone.
    Code,
}

/// Replaces comments (and literals, with [`Keep::Code`]) by spaces. Line numbers stay as they are.
pub(crate) fn strip(source: &str, keep: Keep) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let (end, kept) = piece(&chars, at, keep);
        let end = end.clamp(at + 1, chars.len());
        out.extend(chars[at..end].iter().map(|&c| if kept || c == '\n' { c } else { ' ' }));
        at = end;
    }
    out
}

/// The end of the piece that starts at `at`, and whether it stays.
fn piece(chars: &[char], at: usize, keep: Keep) -> (usize, bool) {
    let here = |offset: usize| chars.get(at + offset).copied();
    match (here(0), here(1)) {
        (Some('/'), Some('/')) => (find(chars, at, |c| c == '\n'), false),
        (Some('/'), Some('*')) => (block_comment(chars, at), false),
        (Some('"'), _) => (quoted(chars, at + 1, '"'), keep == Keep::Strings),
        // A lifetime has no closing quote; a character has one right behind its content.
        (Some('\''), Some('\\')) => (quoted(chars, at + 1, '\''), keep == Keep::Strings),
        (Some('\''), Some(_)) if here(2) == Some('\'') => (at + 3, keep == Keep::Strings),
        (Some(c), _) if c.is_alphanumeric() || c == '_' => {
            let end = find(chars, at, |c| !(c.is_alphanumeric() || c == '_'));
            let word: String = chars[at..end].iter().collect();
            match raw_string(chars, end).filter(|_| ["r", "br", "cr"].contains(&word.as_str())) {
                Some(end) => (end, keep == Keep::Strings),
                None => (end, true),
            }
        }
        _ => (at + 1, true),
    }
}

fn find(chars: &[char], from: usize, stop: impl Fn(char) -> bool) -> usize {
    (from..chars.len()).find(|&at| stop(chars[at])).unwrap_or(chars.len())
}

fn block_comment(chars: &[char], from: usize) -> usize {
    let (mut depth, mut at) = (0_usize, from);
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => {
                depth += 1;
                at += 2;
            }
            ('*', '/') => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    chars.len()
}

fn quoted(chars: &[char], from: usize, close: char) -> usize {
    let mut at = from;
    while at < chars.len() && chars[at] != close {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// The end of a raw string whose `#`s or quote start at `from`; `None` if there is none (`r#name` is an identifier).
fn raw_string(chars: &[char], from: usize) -> Option<usize> {
    let open = find(chars, from, |c| c != '#');
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let hashes = open - from;
    let closes =
        |at: usize| chars[at] == '"' && chars[at + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes;
    Some((open + 1..chars.len()).find(|&at| closes(at)).map_or(chars.len(), |at| at + 1 + hashes))
}

/// The identifiers and other words of a text, each with its line number from 1.
pub(crate) fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().flat_map(|(line, text)| {
        let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty());
        words.map(move |word| (line + 1, word))
    })
}

/// Whether an identifier names something: `name` as one or more whole parts of it, in any case (`VqGan`, `vq_gan`, `VQGANConfig`).
pub(crate) fn names(identifier: &str, name: &str) -> bool {
    let parts = parts(identifier);
    (0..parts.len()).any(|from| (from + 1..=parts.len()).any(|to| parts[from..to].concat() == name))
}

/// Cuts an identifier at underscores, digits and changes of case, and lowers it.
fn parts(identifier: &str) -> Vec<String> {
    let chars: Vec<char> = identifier.chars().collect();
    let mut parts = vec![String::new()];
    for (at, &c) in chars.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| chars[at]);
        let next_is_lower = chars.get(at + 1).is_some_and(|c| c.is_lowercase());
        let starts =
            c.is_uppercase() && before.is_some_and(|b| b.is_lowercase() || (b.is_uppercase() && next_is_lower));
        if starts || !c.is_alphabetic() {
            parts.push(String::new());
        }
        if let Some(part) = parts.last_mut().filter(|_| c.is_alphabetic()) {
            part.extend(c.to_lowercase());
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(source: &str) -> String {
        strip(source, Keep::Code)
    }

    #[test]
    fn comments_go_and_lines_stay() {
        assert_eq!(code("a // b\nc").trim_end(), "a     \nc");
        assert_eq!(code("a /* b /* c */ d\n */ e"), "a               \n    e");
        assert_eq!(code("a /* open"), "a        ");
        assert_eq!(code("x / y * z"), "x / y * z");
    }

    #[test]
    fn literals_of_every_kind_go() {
        for literal in
            [r#""unsafe""#, r#""a\"unsafe""#, r##"r#"a" unsafe"#"##, r#"br"unsafe""#, "'u'", r"'\''", r"'\u{75}'"]
        {
            let left = code(&format!("f({literal}) + unsafe"));
            assert_eq!(words(&left).collect::<Vec<_>>(), [(1, "f"), (1, "unsafe")], "{literal}");
        }
    }

    #[test]
    fn lifetimes_and_raw_identifiers_are_code() {
        assert_eq!(code("fn f<'a>(x: &'a str, r#unsafe: u8) {}"), "fn f<'a>(x: &'a str, r#unsafe: u8) {}");
        assert_eq!(code("'a: loop { break 'a }"), "'a: loop { break 'a }");
    }

    #[test]
    fn strings_stay_when_asked_for() {
        assert_eq!(strip(r#"kind = "vqgan" // vqgan"#, Keep::Strings).trim_end(), r#"kind = "vqgan""#);
    }

    #[test]
    fn unfinished_sources_do_not_panic() {
        for source in ["\"", "'", "r#\"", "/*", "'\\", "\"\\", "", "r", "r##"] {
            assert_eq!(code(source).chars().count(), source.chars().count(), "{source}");
        }
    }

    #[test]
    fn names_are_whole_parts_of_identifiers() {
        for identifier in ["vqgan", "VqGan", "Vqgan", "VQGAN", "vq_gan", "VQGANConfig", "my_vqgan_2", "VQGan"] {
            assert!(names(identifier, "vqgan"), "{identifier}");
        }
        assert!(names("ViT", "vit") && names("vit_base", "vit") && names("VitB16", "vit"));
        for identifier in ["activity", "vitamin", "gravity", "invite"] {
            assert!(!names(identifier, "vit"), "{identifier}");
        }
    }
}
