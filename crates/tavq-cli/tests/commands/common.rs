//! A small data set of real pictures and texts, one trained run that the read-only tests share, and the command.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// Training and validation rows of the small data set.
const ROWS: (usize, usize) = (10, 4);

/// The command, with one thread: tests run side by side.
pub(crate) fn tavq(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tavq"));
    command.args(args).env("OMP_NUM_THREADS", "1");
    command
}

/// Runs to the end and demands success; gives standard output.
pub(crate) fn succeed(args: &[&str]) -> String {
    let out = tavq(args).output().unwrap();
    assert!(out.status.success(), "tavq {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// Demands exit code 2, nothing on standard output, and one line on standard error that holds all `parts`.
pub(crate) fn refuse(args: &[&str], parts: &[&str]) {
    let out = tavq(args).output().unwrap();
    refused(&out, args, parts);
}

fn refused(out: &Output, args: &[&str], parts: &[&str]) {
    let text = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "tavq {args:?}: {text}");
    assert!(out.stdout.is_empty(), "tavq {args:?} printed {}", String::from_utf8_lossy(&out.stdout));
    let last = text.trim_end().lines().last().unwrap_or_default();
    assert!(last.starts_with("error: "), "tavq {args:?}: {text}");
    for part in parts {
        assert!(last.contains(part), "tavq {args:?}: expected \"{part}\" in: {last}");
    }
}

/// [`refuse`] with nothing else on standard error, and with the folder as it was before.
pub(crate) fn refuse_cleanly(dir: &Path, args: &[&str], parts: &[&str]) {
    let before = files(dir);
    let out = tavq(args).output().unwrap();
    refused(&out, args, parts);
    let text = String::from_utf8_lossy(&out.stderr);
    assert_eq!(text.lines().count(), 1, "tavq {args:?}: {text}");
    assert!(files(dir) == before, "tavq {args:?} changed its folder");
}

/// An empty folder for one test.
pub(crate) fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("commands").join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").canonicalize().unwrap()
}

/// The first rows of the emoji as a manifest of their own.
fn manifest(dir: &Path) -> PathBuf {
    let emoji = fixtures().join("emoji");
    let lines = std::fs::read_to_string(emoji.join("manifest.jsonl")).unwrap();
    let rows: Vec<serde_json::Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let of =
        |split: &str, n: usize| rows.iter().filter(move |r| r["split"] == split).take(n).cloned().collect::<Vec<_>>();
    let mut out = String::new();
    for mut row in of("train", ROWS.0).into_iter().chain(of("validation", ROWS.1)) {
        let picture = emoji.join(row["image"].as_str().unwrap());
        let name = picture.file_name().unwrap();
        std::fs::copy(&picture, dir.join(name)).unwrap();
        row["image"] = name.to_str().unwrap().into();
        out += &format!("{row}\n");
    }
    let path = dir.join("manifest.jsonl");
    std::fs::write(&path, out).unwrap();
    path
}

/// A configuration of eight steps that takes about a second.
fn config(dir: &Path, manifest: &Path) -> PathBuf {
    let path = dir.join("small.toml");
    let text = format!(
        r#"
[run]
steps = 8
threads = 1
checkpoint_every = 2
keep = 9
log_every = 1
sample_every = 4
[data]
manifest = "{}"
batch_size = 4
transform = {{ size = 16, flip = 0.5 }}
[text]
index = "{}"
[model]
shared_codebook = false
backbone = {{ kind = "vqgan", ch = 32, ch_mult = [1, 1, 2], num_res_blocks = 1, attn_resolutions = [], resolution = 16, z_channels = 16, embed_dim = 16 }}
quantizer = {{ kind = "cvq", codes = 24 }}
[loss]
alignment = [0.1, 0.1, 0.1]
[align]
sampler = {{ kind = "subset", count = 12 }}
"#,
        manifest.display(),
        dir.join("text-index").display()
    );
    std::fs::write(&path, text).unwrap();
    path
}

/// The shared run.
pub(crate) struct Small {
    pub(crate) config: PathBuf,
    pub(crate) run: PathBuf,
    /// What training printed.
    pub(crate) printed: String,
}

impl Small {
    pub(crate) fn checkpoint(&self, step: u64) -> PathBuf {
        self.run.join(format!("checkpoints/step-{step:06}"))
    }
}

/// Trains once for all tests of this process.
pub(crate) fn small() -> &'static Small {
    static SMALL: OnceLock<Small> = OnceLock::new();
    SMALL.get_or_init(|| {
        assert!(
            std::env::var_os("TAVQ_TEXT_ENCODER").is_some(),
            "these tests need the weights of all-MiniLM-L6-v2: run them through `cargo xtask test`, or set TAVQ_TEXT_ENCODER to their folder"
        );
        let dir = folder("small");
        let config = config(&dir, &manifest(&dir));
        let run = dir.join("run");
        let printed = succeed(&["train", "--config", text(&config), "--out", text(&run)]);
        Small { config, run, printed }
    })
}

/// Writes a .npy file.
pub(crate) fn npy(path: &Path, array: &impl ndarray_npy::WriteNpyExt) -> String {
    array.write_npy(std::fs::File::create(path).unwrap()).unwrap();
    text(path).to_owned()
}

/// Every file of a folder, by name.
pub(crate) fn files(folder: &Path) -> std::collections::BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.is_file())
        .map(|p| (p.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&p).unwrap()))
        .collect()
}
