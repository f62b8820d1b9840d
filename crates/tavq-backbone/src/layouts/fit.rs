//! Which tensor of a foreign file is which variable of ours; every one that does not fit is told at once.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::names::older_name;
use super::{Codebook, Layout, LayoutError};

/// The parts of a model; whatever lies under other names is none of it.
const PARTS: [&str; 5] = ["encoder", "decoder", "quantize", "quant_conv", "post_quant_conv"];
/// The tensor by which a model is found under a prefix.
const FIRST: &str = "encoder.conv_in.weight";

/// One variable and where its values come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Our name.
    pub ours: String,
    /// The tensor's name in the file.
    pub theirs: String,
    /// Our shape; the file's may have two axes of size 1 more or less.
    pub shape: Vec<i64>,
}

/// Tensors of the file that are no part of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// What their names begin with.
    pub prefix: String,
    /// How many there are.
    pub count: usize,
}

/// How a file becomes a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// One row for each variable, in the order given.
    pub rows: Vec<Row>,
    /// What was left out, by prefix.
    pub ignored: Vec<Ignored>,
}

/// What stands before the names of the model in a file: nothing, or the one prefix under which there is a model.
fn prefix_of(names: &[&str], wanted: Option<&str>) -> Result<String, LayoutError> {
    if let Some(wanted) = wanted {
        let dot = if wanted.is_empty() || wanted.ends_with('.') { "" } else { "." };
        return Ok(format!("{wanted}{dot}"));
    }
    let ends = |name: &&str| name.strip_suffix(FIRST).filter(|p| p.is_empty() || p.ends_with('.')).map(str::to_owned);
    let mut prefixes: Vec<String> = names.iter().filter_map(ends).collect();
    prefixes.sort();
    match prefixes.as_slice() {
        [] => Ok(String::new()),
        [first, ..] if first.is_empty() => Ok(String::new()),
        [one] => Ok(one.clone()),
        _ => Err(LayoutError::Several { prefixes }),
    }
}

/// The kind of codebook that a file's names tell of.
pub fn codebook_of(names: &[&str]) -> Codebook {
    let any = |end: &str| names.iter().any(|n| n.ends_with(end));
    match () {
        () if any("quantize.proj.weight") => Codebook::Gumbel,
        () if any("quantize.embedding.embed_avg") => Codebook::Averages,
        () => Codebook::Table,
    }
}

/// Matches the variables of a model with the tensors of a file of the given layout.
///
/// `prefix` is what stands before the names; without it, it is found. The error lists all tensors that are missing,
/// superfluous or of another shape.
pub fn plan(
    layout: Layout,
    stages: usize,
    variables: &[(String, Vec<i64>)],
    tensors: &[(String, Vec<i64>)],
    prefix: Option<&str>,
) -> Result<Plan, LayoutError> {
    let names: Vec<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
    let prefix = prefix_of(&names, prefix)?;
    let by_name: HashMap<&str, &[i64]> = tensors.iter().map(|(n, s)| (n.as_str(), s.as_slice())).collect();
    let (mut rows, mut problems, mut used) = (Vec::new(), Vec::new(), HashSet::new());
    for (ours, shape) in variables {
        let theirs = layout.name_of(ours, stages);
        let names = [Some(theirs.clone()), older_name(layout, &theirs)].into_iter().flatten();
        let found = names.map(|n| format!("{prefix}{n}")).find_map(|n| by_name.get_key_value(n.as_str()));
        match found {
            None => {
                let expected = layout.shape_of(ours, shape);
                problems.push(format!("{prefix}{theirs}: missing, expected shape {expected:?}"));
            }
            Some((name, found)) => {
                used.insert(*name);
                if same(found, shape) {
                    rows.push(Row { ours: ours.clone(), theirs: (*name).to_owned(), shape: shape.clone() });
                } else {
                    let expected = layout.shape_of(ours, shape);
                    problems.push(format!("{name}: expected shape {expected:?}, found {found:?}"));
                }
            }
        }
    }
    let mut ignored: BTreeMap<String, usize> = BTreeMap::new();
    for name in names.into_iter().filter(|n| !used.contains(n)) {
        match beside(name, &prefix) {
            Some(group) => *ignored.entry(group).or_default() += 1,
            None => problems.push(format!("{name}: not expected, found shape {:?}", by_name[name])),
        }
    }
    if !variables.is_empty() && used.is_empty() {
        let mut found: Vec<&str> = tensors.iter().map(|(name, _)| name.as_str()).take(3).collect();
        if tensors.len() > found.len() {
            found.push("...");
        }
        let (first, count) = (format!("{prefix}{}", layout.name_of(&variables[0].0, stages)), variables.len());
        let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
        return Err(LayoutError::config("tensors", format!("{count} such as {first}"), found));
    }
    if !problems.is_empty() {
        problems.sort();
        return Err(LayoutError::Tensors { problems });
    }
    let ignored = ignored.into_iter().map(|(prefix, count)| Ignored { prefix, count }).collect();
    Ok(Plan { rows, ignored })
}

/// The group of a tensor that is no part of a model; `None` for one that should be.
fn beside(name: &str, prefix: &str) -> Option<String> {
    let Some(inner) = name.strip_prefix(prefix) else {
        return Some(group(name));
    };
    // Counters of steps, and LlamaGen's window of recent indices.
    for end in ["num_batches_tracked", "quantize.codebook_used"] {
        if inner == end || inner.ends_with(&format!(".{end}")) {
            return Some(end.to_owned());
        }
    }
    let first = inner.split('.').next().unwrap_or_default();
    if PARTS.contains(&first) { None } else { Some(format!("{prefix}{}", group(inner))) }
}

/// The first part of a name, and of a loss the second too: `loss.discriminator`.
fn group(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    match parts.as_slice() {
        ["loss", second, _, ..] => format!("loss.{second}"),
        [first, ..] => (*first).to_owned(),
        [] => String::new(),
    }
}

/// Equal, or different by two axes of size 1 at the end: a 1x1 convolution and a linear map hold the same numbers.
fn same(a: &[i64], b: &[i64]) -> bool {
    let longer = |x: &[i64], y: &[i64]| x.len() == y.len() + 2 && x.starts_with(y) && x.ends_with(&[1, 1]);
    a == b || longer(a, b) || longer(b, a)
}
