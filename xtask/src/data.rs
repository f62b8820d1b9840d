//! The embedded data: what is there, and whether it is whole.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::workspace;

/// All that is committed under `fixtures` stays below this.
const LIMIT: u64 = 4_000_000;

/// One manifest: a `.jsonl` file beside the folder of its images.
struct Set {
    manifest: PathBuf,
    samples: usize,
    train: usize,
    validation: usize,
    problems: Vec<String>,
}

/// `cargo xtask data`: prints the manifests, then fails if any is not whole.
pub(crate) fn list(with_scripts: bool) -> Result<()> {
    let root = workspace::root();
    let fixtures = root.join("fixtures");
    for set in sets(&fixtures)? {
        let name = set.manifest.strip_prefix(&root).unwrap_or(&set.manifest);
        println!("{}: {} samples ({} train, {} validation)", name.display(), set.samples, set.train, set.validation);
    }
    println!("{:.2} MB in all, {:.0} MB allowed", size(&fixtures)? as f64 / 1e6, LIMIT as f64 / 1e6);
    check()?;
    if with_scripts { run_scripts(&fixtures) } else { Ok(()) }
}

/// Lets each script that made a part verify it: texts, colours and sizes, which take an image library to check.
fn run_scripts(fixtures: &Path) -> Result<()> {
    for script in files(fixtures, "py")? {
        if script.file_name().is_some_and(|name| name.to_string_lossy().starts_with("make_")) {
            workspace::run(Command::new("python3").arg(&script).arg("--check").current_dir(workspace::root()))?;
        }
    }
    Ok(())
}

/// Checks every manifest, the pictures it names, and the size of everything together.
pub(crate) fn check() -> Result<()> {
    let fixtures = workspace::root().join("fixtures");
    let sets = sets(&fixtures)?;
    let mut problems: Vec<_> = sets.into_iter().flat_map(|set| set.problems).collect();
    let size = size(&fixtures)?;
    if size > LIMIT {
        problems.push(format!("fixtures hold {size} bytes, {LIMIT} are allowed"));
    }
    problems.iter().for_each(|problem| println!("{problem}"));
    if problems.is_empty() { Ok(()) } else { bail!("{} problems in the embedded data", problems.len()) }
}

fn sets(fixtures: &Path) -> Result<Vec<Set>> {
    let mut sets = Vec::new();
    for folder in files(fixtures, "")?.into_iter().filter(|path| path.is_dir()) {
        for manifest in files(&folder, "jsonl")? {
            let text = fs::read_to_string(&manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
            sets.push(examine(manifest, &text));
        }
    }
    if sets.is_empty() { bail!("no manifest in any folder of {}", fixtures.display()) } else { Ok(sets) }
}

/// What lies in a folder under an extension (folders have none), sorted by name.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for item in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = item?.path();
        if path.extension().unwrap_or_default() == extension {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn examine(manifest: PathBuf, text: &str) -> Set {
    let folder = manifest.parent().unwrap_or(Path::new(".")).to_path_buf();
    let mut set = Set { manifest, samples: 0, train: 0, validation: 0, problems: Vec::new() };
    let mut keys = HashSet::new();
    for (at, line) in text.lines().enumerate() {
        set.samples += 1;
        let problem = match serde_json::from_str::<Value>(line) {
            Err(error) => Some(format!("not JSON: {error}")),
            Ok(sample) => {
                match sample["split"].as_str() {
                    Some("train") => set.train += 1,
                    Some("validation") => set.validation += 1,
                    _ => {}
                }
                let key = sample["key"].as_str().unwrap_or_default();
                let twice = (!keys.insert(key.to_owned())).then(|| format!("the key {key:?} stands twice"));
                sample_problem(&sample, &folder).or(twice)
            }
        };
        if let Some(problem) = problem {
            set.problems.push(format!("{}:{}: {problem}", set.manifest.display(), at + 1));
        }
    }
    set
}

fn sample_problem(sample: &Value, folder: &Path) -> Option<String> {
    let text = |name: &str| sample[name].as_str().filter(|text| !text.trim().is_empty());
    if let Some(missing) = ["image", "text", "key"].into_iter().find(|name| text(name).is_none()) {
        return Some(format!("no {missing}"));
    }
    if !sample["split"].is_null() && !["train", "validation"].map(Some).contains(&sample["split"].as_str()) {
        return Some(format!("split is {}, expected train or validation", sample["split"]));
    }
    let image = text("image")?;
    let bytes = fs::metadata(folder.join(image)).map_or(0, |data| if data.is_file() { data.len() } else { 0 });
    (bytes == 0).then(|| format!("the image {image} is missing or empty"))
}

fn size(folder: &Path) -> Result<u64> {
    let mut total = 0;
    for item in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let item = item?;
        // What Python leaves beside a script that ran is not part of the data.
        if item.file_name() == "__pycache__" {
            continue;
        }
        total += if item.file_type()?.is_dir() { size(&item.path())? } else { item.metadata()?.len() };
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_set_is_counted_and_a_broken_one_is_located() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("a.png"), "x").unwrap();
        fs::write(temp.path().join("empty.png"), "").unwrap();
        let line = |image: &str, key: &str| {
            format!("{{\"image\":\"{image}\",\"text\":\"A cup.\",\"key\":\"{key}\",\"split\":\"train\"}}\n")
        };
        let good = format!("{}{}", line("a.png", "1"), line("a.png", "2").replace("train", "validation"));
        let set = examine(temp.path().join("manifest.jsonl"), &good);
        assert_eq!((set.samples, set.train, set.validation, set.problems.len()), (2, 1, 1, 0));
        let mut bad =
            vec![line("a.png", "2"), line("none.png", "3"), line("empty.png", "3"), line("", "3"), "{\n".into()];
        bad.extend([line("a.png", "3").replace("train", "test"), line("a.png", "3").replace("A cup.", " ")]);
        for bad in bad {
            let set = examine(temp.path().join("manifest.jsonl"), &format!("{good}{bad}"));
            assert_eq!(set.problems.len(), 1, "{bad}");
            assert!(set.problems[0].contains("manifest.jsonl:3: "), "{:?}", set.problems);
        }
    }

    #[test]
    fn manifests_are_found_one_folder_down_and_none_is_an_error() {
        let temp = tempfile::tempdir().unwrap();
        assert!(sets(temp.path()).is_err());
        fs::create_dir_all(temp.path().join("b/images")).unwrap();
        fs::write(temp.path().join("b/written.jsonl"), "").unwrap();
        fs::write(temp.path().join("b/manifest.jsonl"), "").unwrap();
        let found: Vec<_> = sets(temp.path()).unwrap().into_iter().map(|set| set.manifest).collect();
        assert_eq!(found, [temp.path().join("b/manifest.jsonl"), temp.path().join("b/written.jsonl")]);
        fs::write(temp.path().join("b/images/1.webp"), "12345").unwrap();
        assert_eq!(size(temp.path()).unwrap(), 5);
    }
}
