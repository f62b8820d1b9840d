//! The program itself: it trains its own parts and rebuilds a picture with them, and names a misspelt key.

use std::path::Path;
use std::process::{Command, Output};

/// Runs the program in the workspace's root, which the paths of `own.toml` start from.
fn own(arguments: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut command = Command::new(env!("CARGO_BIN_EXE_own-backbone"));
    command.args(arguments).current_dir(root).env("OMP_NUM_THREADS", "1").output().unwrap()
}

const CONFIG: &str = "examples/own_backbone/own.toml";
// Without alignment no text is encoded.
const PLAIN: &str = "loss.alignment=[0.0, 0.0, 0.0]";

#[test]
fn it_trains_and_rebuilds_a_picture() {
    let dir = tempfile::tempdir().unwrap();
    let [run, out] = ["run", "out"].map(|name| dir.path().join(name).to_str().unwrap().to_owned());
    let trained = own(&["train", "--config", CONFIG, "--set", PLAIN, "--set", "run.steps=2", "--out", &run]);
    let printed = String::from_utf8_lossy(&trained.stdout);
    assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
    assert!(printed.contains("PSNR") && printed.contains("of 1024"), "{printed}");
    let picture = "fixtures/emoji/images/1F600.webp";
    let rebuilt = own(&["reconstruct", "--checkpoint", &run, "--out", &out, picture]);
    assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    assert!(Path::new(&out).join("1F600.png").is_file());
}

#[test]
fn a_misspelt_key_is_named() {
    let wrong = "model.backbone={kind = \"pyramid\", widht = 8, bits = 10}";
    let refused = own(&["train", "--config", CONFIG, "--set", PLAIN, "--set", wrong, "--out", "never"]);
    let error = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{error}");
    assert!(error.contains("model.backbone") && error.contains("widht"), "{error}");
}
