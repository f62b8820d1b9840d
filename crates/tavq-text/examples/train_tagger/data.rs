//! Reads the treebank (CoNLL-U) and the captions (JSON lines), both gzipped, into documents of annotated byte spans.

use std::collections::HashSet;
use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use flate2::read::GzDecoder;
use tavq_text::train::Annotated;
use tavq_text::{Chunk, Span, Upos};

/// One annotated token; the span is empty when the form is not in the text (contractions written together).
pub(crate) struct Item {
    pub(crate) form: String,
    pub(crate) span: Span,
    pub(crate) upos: Upos,
    pub(crate) chunk: Chunk,
}

/// A text with its annotated sentences.
#[derive(Default)]
pub(crate) struct Document {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) sentences: Vec<Vec<Item>>,
}

impl Document {
    /// Whether the caption is kept out of training: one image in ten, all its captions together.
    pub(crate) fn held_out(&self) -> bool {
        let image = self.name.rsplit_once('/').map_or(self.name.as_str(), |(image, _)| image);
        image.bytes().fold(7u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(b))) % 10 == 0
    }

    pub(crate) fn annotated(&self) -> impl Iterator<Item = Annotated> + '_ {
        self.sentences.iter().map(|items| Annotated {
            tokens: items.iter().map(|i| i.form.clone()).collect(),
            upos: items.iter().map(|i| i.upos).collect(),
            chunks: items.iter().map(|i| i.chunk).collect(),
        })
    }
}

fn lines(path: &Path) -> Result<impl Iterator<Item = std::io::Result<String>> + use<>, Box<dyn Error>> {
    let file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(BufReader::new(GzDecoder::new(file)).lines())
}

/// One row of CoNLL-U that is a syntactic word.
struct Row {
    form: String,
    upos: Upos,
    head: usize,
    relation: String,
    span: Span,
}

/// Documents of a treebank. Sentences are joined with one space, or none after `SpaceAfter=No`; paragraphs with a
/// blank line.
pub(crate) fn treebank(path: &Path) -> Result<Vec<Document>, Box<dyn Error>> {
    let mut documents: Vec<Document> = Vec::new();
    let mut rows: Vec<Row> = Vec::new();
    let mut joined: Option<(usize, Span)> = None;
    let mut space = false;
    for line in lines(path)? {
        let line = line?;
        if line.starts_with("# newdoc") || documents.is_empty() {
            documents.push(Document { name: line.clone(), ..Document::default() });
            space = false;
        }
        let Some(document) = documents.last_mut() else { continue };
        if line.starts_with("# newpar") && !document.text.is_empty() {
            document.text.push_str("\n\n");
            space = false;
        }
        if line.is_empty() && !rows.is_empty() {
            document.sentences.push(noun_phrases(std::mem::take(&mut rows)));
            joined = None;
        }
        let fields: Vec<&str> = line.split('\t').collect();
        let [id, form, _, upos, _, _, head, relation, _, misc] = fields[..] else { continue };
        if id.contains('.') {
            continue;
        }
        let part_of = joined.filter(|(last, _)| id.parse::<usize>().is_ok_and(|id| id <= *last));
        let span = if let Some((last, rest)) = part_of {
            // A word of a contraction takes its letters from the front of what the contraction has left.
            let fits = rest.get(&document.text).is_some_and(|t| t.starts_with(form));
            let end = if fits { rest.start + form.len() } else { rest.start };
            joined = Some((last, Span { start: end, end: rest.end }));
            Span { start: rest.start, end }
        } else {
            if space {
                document.text.push(' ');
            }
            space = !misc.contains("SpaceAfter=No");
            let start = document.text.len();
            document.text.push_str(form);
            Span { start, end: document.text.len() }
        };
        if let Some((_, last)) = id.split_once('-') {
            joined = Some((last.parse()?, span));
            continue;
        }
        let upos = Upos::from_name(upos).ok_or_else(|| format!("{}: tag {upos:?}", path.display()))?;
        rows.push(Row { form: form.to_owned(), upos, head: head.parse()?, relation: relation.to_owned(), span });
    }
    Ok(documents)
}

/// Marks the noun phrases of a dependency tree: a nominal head, the contiguous determiners, modifiers, numbers,
/// compounds and possessors to its left with all that hangs on them, flat and compound parts to its right. Of nested
/// phrases the outermost stays.
fn noun_phrases(rows: Vec<Row>) -> Vec<Item> {
    let n = rows.len();
    let mut bounds: Vec<(usize, usize)> = (0..n).map(|i| (i, i)).collect();
    for i in 0..n {
        let mut up = i;
        // A tree has no path longer than its nodes; the bound guards against a damaged file.
        for _ in 0..n {
            let Some(head) = rows[up].head.checked_sub(1).filter(|h| *h < n) else { break };
            bounds[head] = (bounds[head].0.min(i), bounds[head].1.max(i));
            up = head;
        }
    }
    let base = |i: usize| rows[i].relation.split(':').next().unwrap_or("").to_owned();
    let left = |i: usize| {
        matches!(base(i).as_str(), "det" | "amod" | "nummod" | "compound" | "flat") || rows[i].relation == "nmod:poss"
    };
    let right = |i: usize| matches!(base(i).as_str(), "flat" | "goeswith" | "compound");
    let argument = |i: usize| {
        matches!(
            base(i).as_str(),
            "nsubj" | "obj" | "iobj" | "obl" | "nmod" | "conj" | "root" | "appos" | "dep" | "list" | "parataxis"
        )
    };
    let mut spans: Vec<(usize, usize)> = Vec::new();
    for i in 0..n {
        let inner =
            matches!(base(i).as_str(), "compound" | "flat" | "det" | "goeswith") || rows[i].relation == "nmod:poss";
        let nominal = match rows[i].upos {
            Upos::Noun | Upos::Propn | Upos::Pron => true,
            Upos::Num | Upos::Sym | Upos::X => argument(i),
            _ => false,
        };
        if inner || !nominal {
            continue;
        }
        let (mut start, mut end) = (i, i);
        for child in (0..i).rev().filter(|&c| rows[c].head == i + 1) {
            if !left(child) || bounds[child].1 + 1 != start {
                break;
            }
            start = bounds[child].0;
        }
        for child in (i + 1..n).filter(|&c| rows[c].head == i + 1) {
            if !right(child) || bounds[child].0 != end + 1 {
                break;
            }
            end = bounds[child].1;
        }
        spans.push((start, end));
    }
    spans.sort_unstable_by_key(|&(start, end)| (start, n - end));
    let mut chunks = vec![Chunk::Outside; n];
    let mut free = 0;
    for (start, end) in spans {
        if start >= free {
            chunks[start] = Chunk::Begin;
            chunks[start + 1..=end].fill(Chunk::Inside);
            free = end + 1;
        }
    }
    rows.into_iter().zip(chunks).map(|(r, chunk)| Item { form: r.form, span: r.span, upos: r.upos, chunk }).collect()
}

/// The captions with their silver sentences, matched by walking both files.
pub(crate) fn captions(folder: &Path) -> Result<Vec<Document>, Box<dyn Error>> {
    let mut silver = lines(&folder.join("captions-silver.jsonl.gz"))?;
    let mut documents = Vec::new();
    for line in lines(&folder.join("captions.jsonl.gz"))? {
        let record: serde_json::Value = serde_json::from_str(&line?)?;
        let field =
            |name: &str| record[name].as_str().map(str::to_owned).ok_or_else(|| format!("caption without {name}"));
        let mut document = Document { name: field("id")?, text: field("text")?, sentences: Vec::new() };
        let mut at = 0;
        while !document.text[at..].trim().is_empty() {
            let sentence: Vec<[String; 4]> = serde_json::from_str(&silver.next().ok_or("silver ends early")??)?;
            let mut items = Vec::new();
            for [form, upos, chunk, _] in sentence {
                let start = document.text[at..]
                    .find(&form)
                    .map(|i| at + i)
                    .ok_or_else(|| format!("{}: no {form:?}", document.name))?;
                at = start + form.len();
                let upos = Upos::from_name(&upos).ok_or_else(|| format!("{}: tag {upos:?}", document.name))?;
                let chunk = match chunk.as_str() {
                    "B" => Chunk::Begin,
                    "I" => Chunk::Inside,
                    _ => Chunk::Outside,
                };
                items.push(Item { form, span: Span { start, end: at }, upos, chunk });
            }
            document.sentences.push(items);
        }
        documents.push(document);
    }
    let names: HashSet<&str> = documents.iter().map(|d| d.name.as_str()).collect();
    if names.len() != documents.len() {
        return Err("two captions share an id".into());
    }
    Ok(documents)
}
