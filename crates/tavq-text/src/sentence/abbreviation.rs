//! Full stops that belong to a word: abbreviations, initials, acronyms.
//!
//! Words that are also plain English ("cap.", "no.", "fig.", "art.") count only where what follows asks for them.

use super::bounded_back;

/// Stands before a name and never ends a sentence that goes on.
const TITLES: &[&str] = &[
    "adm", "atty", "brig", "capt", "cdr", "cmdr", "col", "comdr", "cpl", "dr", "fr", "ft", "gen", "gov", "hon", "lt",
    "maj", "messrs", "mlle", "mme", "mr", "mrs", "ms", "msgr", "mt", "mts", "mx", "pres", "prof", "pvt", "rep", "rev",
    "sen", "sgt", "sr", "st", "ste", "supt",
];

/// Goes on whatever follows.
const ALWAYS: &[&str] =
    &["approx", "c.f", "ca", "cf", "circa", "dept", "e.g", "esp", "est", "eg", "i.e", "ie", "incl", "p.s", "viz", "vs"];

/// Goes on before a number.
const BEFORE_NUMBER: &[&str] = &[
    "art", "ch", "chap", "eq", "ex", "ext", "fig", "figs", "n°", "no", "nos", "nr", "p", "par", "pg", "pp", "pt",
    "sec", "sect", "tel", "v", "vol", "vols",
];

/// Ends a sentence only before a word that starts one.
const MAYBE: &[&str] = &[
    "al", "apr", "aug", "ave", "blvd", "bros", "bldg", "co", "corp", "cos", "dec", "esq", "feb", "hwy", "inc", "jan",
    "jr", "jul", "jun", "ltd", "mfg", "mon", "nov", "oct", "ph.d", "plc", "rd", "sept", "sr", "thu", "thurs", "tue",
    "tues", "univ", "wed",
];

/// Goes on in lower case, ends before a capital.
const BEFORE_LOWER: &[&str] = &[
    "a.k.a", "abbr", "acct", "assn", "asst", "bbl", "cu", "dist", "div", "ed", "eds", "etc", "gal", "hr", "hrs", "in",
    "lb", "lbs", "max", "mi", "min", "misc", "mm", "mph", "oz", "pkg", "qt", "sq", "temp", "yr", "yrs",
];

/// Words that start a sentence when capitalised, even behind an abbreviation.
const STARTERS: &[&str] = &[
    "a", "above", "across", "additionally", "adjacent", "after", "all", "along", "also", "although", "an", "and",
    "another", "are", "around", "as", "at", "atop", "because", "before", "behind", "below", "beneath", "beside",
    "between", "beyond", "both", "but", "by", "did", "do", "does", "during", "each", "every", "few", "finally", "for",
    "from", "further", "furthermore", "had", "has", "have", "he", "her", "here", "his", "how", "however", "i", "if",
    "in", "inside", "is", "it", "it's", "its", "just", "many", "meanwhile", "more", "moreover", "most", "my", "near",
    "next", "no", "not", "of", "on", "one", "only", "or", "other", "our", "over", "overall", "please", "several",
    "she", "since", "so", "some", "still", "that", "the", "their", "then", "there", "these", "they", "this", "those",
    "though", "three", "through", "to", "towards", "two", "under", "underneath", "until", "was", "we", "were", "what",
    "when", "where", "whether", "which", "while", "who", "why", "will", "with", "within", "without", "yet", "you",
    "your",
];

/// Words before a lone capital that is a label, not an initial: "vitamin C. Fresh", "plan B. Next".
const LABELLED: &[&str] = &[
    "class", "exhibit", "figure", "gate", "grade", "letter", "level", "option", "plan", "section", "size", "type",
    "vitamin",
];

/// Whether `word` is a title: "Mr", "Prof".
pub(super) fn is_title(word: &str) -> bool {
    word.len() <= 6 && TITLES.contains(&word.to_lowercase().as_str())
}

/// Whether the word opens something that must follow: a line break behind it ends no sentence.
pub(super) fn opens(word: &str) -> bool {
    matches!(
        word,
        "a" | "an"
            | "and"
            | "as"
            | "at"
            | "by"
            | "for"
            | "from"
            | "in"
            | "into"
            | "its"
            | "near"
            | "of"
            | "on"
            | "or"
            | "over"
            | "that"
            | "the"
            | "their"
            | "to"
            | "under"
            | "with"
    )
}

/// Whether the first word of `text` starts a sentence when it is capitalised.
pub(super) fn starts(text: &str) -> bool {
    let first = text.split(|c: char| !(c.is_alphanumeric() || c == '\'' || c == '’')).next().unwrap_or("");
    // "Dr. A. Smith": a letter with a stop is an initial, not the article.
    let initial = first.len() == 1 && text[1..].starts_with('.');
    !initial && first.len() <= 16 && STARTERS.contains(&first.to_lowercase().replace('’', "'").as_str())
}

/// Whether the full stop at `stop` belongs to the word before it and the sentence goes on with `rest`, whose first
/// character is `next`.
pub(super) fn joins(text: &str, stop: usize, rest: &str, next: char) -> bool {
    let head = bounded_back(text, stop, 24);
    let word = head.rsplit(|c: char| !(c.is_alphanumeric() || matches!(c, '.' | '°' | '&'))).next().unwrap_or("");
    let before = head[..head.len() - word.len()].trim_end();
    let word = word.trim_start_matches('.');
    let lower = word.to_lowercase();
    let has = |list: &[&str]| list.contains(&lower.as_str());
    let starts = || starts(rest);
    let mut chars = word.chars();
    if let (Some(letter), None) = (chars.next(), chars.next()) {
        return letter.is_alphabetic() && initial_joins(letter, before, next, starts);
    }
    if has(ALWAYS) || (has(TITLES) && word.starts_with(char::is_uppercase) && !starts()) {
        return true;
    }
    if has(BEFORE_NUMBER) && next.is_numeric() {
        return true;
    }
    if matches!(lower.as_str(), "a.m" | "p.m") {
        let title = rest.split('.').next().is_some_and(|w| TITLES.contains(&w.to_lowercase().as_str()));
        return !next.is_uppercase() || text[..text.len() - rest.len()].ends_with('(') || (word == lower && title);
    }
    if next.is_lowercase() && (has(BEFORE_LOWER) || has(BEFORE_NUMBER)) {
        // "a look in. then" against "5 in. wide": units follow a number.
        return lower != "in" && lower != "no" || before.ends_with(|c: char| c.is_numeric());
    }
    let acronym = word.contains('.') && word.split('.').all(|p| (1..=2).contains(&p.chars().count()));
    let maybe = has(MAYBE) && (word.starts_with(char::is_uppercase) || next.is_lowercase());
    (acronym || maybe || has(TITLES) && next.is_lowercase()) && (!next.is_uppercase() || !starts())
}

/// A single letter before the stop: an initial, unless what stands around says otherwise.
fn initial_joins(letter: char, before: &str, next: char, starts: impl Fn() -> bool) -> bool {
    if next.is_numeric() {
        return letter.is_lowercase();
    }
    let previous = before.rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or("");
    if LABELLED.contains(&previous.to_lowercase().as_str()) {
        return next.is_lowercase() && letter.is_lowercase();
    }
    // "you and I. Did you": the pronoun follows a lower-cased word, the initial a name.
    if letter == 'I' && !previous.starts_with(char::is_uppercase) {
        return false;
    }
    letter.is_uppercase() && next.is_alphabetic() && !(next.is_uppercase() && starts())
}
