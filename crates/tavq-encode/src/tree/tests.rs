use tavq_text::{Sentence, Splitter};

use super::*;
use crate::ModelOptions;
use crate::testing::{PlainSplitter, golden, largest_difference, phrase, real, word, write_tiny};
use tch::Device;

fn tiny(mode: Mode) -> TreeEncoder {
    let dir = tempfile::tempdir().unwrap();
    write_tiny(dir.path(), 40);
    TreeEncoder::new(TextModel::load(dir.path(), Device::Cpu).unwrap(), mode)
}

#[test]
fn trees_agree_with_transformers() {
    let (golden, file) = golden();
    let trees: Vec<_> = golden.trees.iter().map(|t| t.tree(&golden.texts[t.text].text)).collect();
    let encoder = TreeEncoder::new(real(ModelOptions::default()), Mode::Hierarchical);
    for (n, found) in encoder.encode(&trees).unwrap().iter().enumerate() {
        for (kind, g) in ["words", "phrases", "sentences"].into_iter().zip(Granularity::ALL) {
            let expected = file.get(&format!("tree.{n}.{kind}")).unwrap();
            let gap = largest_difference(found.get(g), &expected);
            assert!(gap < 1e-5, "tree {n} {kind}: {gap:e}");
        }
    }
}

// The text of every token of `text` that pooling a unit would read, sliced from the text itself.
fn read_by(bert: &TextModel, text: &str, unit: &str) -> Vec<String> {
    let tokens = bert.tokenize(&[text]).unwrap().remove(0);
    let start = text.find(unit).unwrap();
    let finder = Finder::new(&tokens);
    let runs = finder.overlapping(Span { start, end: start + unit.len() });
    runs.into_iter().flatten().map(|t| tokens.spans[t].get(text).unwrap().to_owned()).collect()
}

#[test]
fn sub_words_map_to_the_bytes_of_their_unit() {
    let bert = real(ModelOptions::default());
    let read = |text, unit| read_by(&bert, text, unit).concat();
    for (text, unit) in [
        ("The café’s crème brûlée costs €7.50", "café"),
        ("The café’s crème brûlée costs €7.50", "crème brûlée"),
        ("The café’s crème brûlée costs €7.50", "€7.50"),
        ("“Don’t touch,” says ‘wet paint’", "touch"),
        ("“Don’t touch,” says ‘wet paint’", "‘wet paint’".trim_matches(['‘', '’'])),
        ("老街上的红灯笼 hang above 東京", "红灯笼"),
        ("老街上的红灯笼 hang above 東京", "東京"),
        ("🎉 friends 👩‍🚀 wave 🙂, yes", "🙂"),
        ("a naïve Señor Núñez in Zürich", "Núñez"),
        ("ﬁne unbelievably antidisestablishment letters", "unbelievably"),
    ] {
        assert_eq!(read(text, unit).replace(' ', ""), unit.replace(' ', ""), "{unit} in {text}");
    }
    // A decomposed accent belongs to no token of its own; Hangul decomposes into tokens of one character.
    assert_eq!(read("Cafe\u{301} noir", "Cafe\u{301}").replace('\u{301}', ""), "Cafe");
    assert_eq!(read("그 서울 역", "울").chars().last(), Some('울'));
    assert!(read_by(&bert, "a \u{200b} b", "\u{200b}").is_empty());
}

#[test]
fn tokens_out_of_order_and_overlapping_are_found() {
    let spans = [(0, 4), (0, 4), (4, 9), (5, 6), (9, 12), (7, 8)].map(|(start, end)| Span { start, end });
    let tokens = Tokens { ids: vec![0; spans.len()], spans: spans.to_vec() };
    let finder = Finder::new(&tokens);
    for start in 0..13 {
        for end in start..13 {
            let found: Vec<usize> = finder.overlapping(Span { start, end }).into_iter().flatten().collect();
            let expected: Vec<usize> = (0..5).filter(|&i| spans[i].end.min(end) > spans[i].start.max(start)).collect();
            let in_order: Vec<usize> = found.into_iter().filter(|&i| i < 5).collect();
            assert_eq!(in_order, expected, "{start}..{end}");
        }
    }
}

#[test]
fn a_unit_without_tokens_has_its_parents_vector() {
    let text = "ab \u{200b}\u{200b} cd";
    let all = Span { start: 0, end: text.len() };
    let drop1 = Span { start: 3, end: 6 };
    let drop2 = Span { start: 3, end: 9 };
    let cd = Span { start: 10, end: 12 };
    let tree = TextTree {
        text,
        sentences: vec![Sentence { span: all }],
        phrases: vec![phrase(drop2, 0), phrase(Span { start: 3, end: 12 }, 0)],
        words: vec![word(drop1, 0, None), word(drop1, 0, Some(0)), word(drop1, 0, Some(1)), word(cd, 0, Some(1))],
        tokens: Vec::new(),
    };
    let vectors = tiny(Mode::Hierarchical).encode(&[tree]).unwrap().remove(0);
    let sentence = vectors.sentences.get(0);
    assert_eq!(vectors.words.get(0), sentence);
    assert_eq!(vectors.words.get(1), sentence);
    assert_eq!(vectors.phrases.get(0), sentence);
    assert_eq!(vectors.words.get(2), vectors.phrases.get(1));
    assert_eq!(vectors.words.get(3), vectors.phrases.get(1));
    assert!(largest_difference(&vectors.words.get(3), &sentence) > 1e-3);
}

#[test]
fn trees_do_not_depend_on_the_trees_beside_them() {
    let texts = ["Red dogs run. Blue cats sleep.", "", "  ", "\u{200b}", "Red dogs run. Red dogs run. A lone word."];
    for mode in [Mode::Hierarchical, Mode::Independent] {
        let encoder = tiny(mode);
        let trees: Vec<_> = texts.iter().map(|t| PlainSplitter.split(t)).collect();
        let together = encoder.encode(&trees).unwrap();
        for (tree, found) in trees.iter().zip(&together) {
            let alone = encoder.encode(std::slice::from_ref(tree)).unwrap().remove(0);
            for g in Granularity::ALL {
                assert!(largest_difference(found.get(g), alone.get(g)) < 1e-5);
                assert!(found.get(g).isfinite().all().int64_value(&[]) == 1);
            }
            assert_eq!(found.words.size()[0] as usize, tree.words.len());
            assert_eq!(found.phrases.size()[0] as usize, tree.phrases.len());
            assert_eq!(found.sentences.size()[0] as usize, tree.sentences.len());
        }
        assert!(encoder.encode(&[]).unwrap().is_empty());
    }
}

#[test]
fn a_sentence_is_the_same_in_both_modes_and_a_word_is_not() {
    let tree = PlainSplitter.split("Red dogs run. Blue cats sleep.");
    let a = tiny(Mode::Hierarchical).encode(std::slice::from_ref(&tree)).unwrap().remove(0);
    let b = tiny(Mode::Independent).encode(std::slice::from_ref(&tree)).unwrap().remove(0);
    assert!(largest_difference(&a.sentences, &b.sentences) < 1e-5);
    assert!(largest_difference(&a.words, &b.words) > 1e-3);
    let alone = tiny(Mode::Independent).units().encode(&["cats"]).unwrap();
    assert!(largest_difference(&b.words.narrow(0, 4, 1), &alone) < 1e-5);
}

#[test]
fn a_broken_tree_is_an_error() {
    let span = |start, end| Span { start, end };
    let whole = TextTree {
        text: "né a b",
        sentences: vec![Sentence { span: span(0, 4) }, Sentence { span: span(4, 7) }],
        phrases: vec![phrase(span(0, 3), 0)],
        words: vec![word(span(0, 3), 0, Some(0))],
        tokens: Vec::new(),
    };
    let mut cases = Vec::new();
    let mut t = whole.clone();
    t.words[0].span = span(0, 2);
    cases.push((t, "word 0: expected a span on character boundaries"));
    let mut t = whole.clone();
    t.words[0].span = span(6, 99);
    cases.push((t, "word 0: expected a span on character boundaries"));
    let mut t = whole.clone();
    t.sentences[1].span = span(7, 4);
    cases.push((t, "sentence 1: expected a span"));
    for (t, says) in cases {
        for mode in [Mode::Hierarchical, Mode::Independent] {
            let text = tiny(mode).encode(std::slice::from_ref(&t)).unwrap_err().to_string();
            assert!(text.contains(says), "{says}: {text}");
        }
    }
    let mut t = whole.clone();
    t.words[0].phrase = Some(4);
    let mut u = whole.clone();
    u.phrases[0].sentence = 2;
    let mut v = whole.clone();
    v.phrases[0].sentence = 1;
    for (t, says) in [
        (t, "phrase of word 0: expected an index below 1, found 4"),
        (u, "sentence of phrase 0"),
        (v, "phrase 0: expected within its sentence 4..7, found 0..3"),
    ] {
        let text = tiny(Mode::Hierarchical).encode(&[t]).unwrap_err().to_string();
        assert!(text.contains(says), "{says}: {text}");
    }
}
