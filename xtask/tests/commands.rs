//! The commands as a user meets them: started as a process, on machines that lack something. A machine is a folder of
//! small scripts that stand in for python3, cargo and the compiler, so that nothing here touches the network.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const THREE_WAYS: [&str; 3] = ["set LIBTORCH", "activate a Python", "`cargo xtask setup`"];
const TORCH_WHEEL: &str = "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a";

/// A machine with nothing on it but what a test puts there.
struct Machine {
    folder: TempDir,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("bin")).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn program(&self, name: &str, script: &str) -> PathBuf {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// A python3 that answers `-c` with the folder of its torch and otherwise does what `pip` says.
    fn python(&self, torch: &str, pip: &str) {
        let version = "case \"$*\" in '-m pip --version') echo 'pip 23.2 from x'; exit 0;; esac";
        let ask = format!("if [ \"$1\" = -c ]; then echo '{torch}'; exit 0; fi");
        self.program("python3", &format!("{ask}\n{version}\n{pip}"));
    }

    /// A folder that passes for libtorch of a version.
    fn libtorch(&self, name: &str, version: &str) -> PathBuf {
        let dir = self.path(name);
        let extension = if cfg!(target_os = "macos") { "dylib" } else { "so" };
        write(&dir.join("build-version"), version);
        write(&dir.join("include/torch/csrc/api/include/torch/torch.h"), "");
        for library in ["torch_cpu", "torch", "c10"] {
            write(&dir.join(format!("lib/lib{library}.{extension}")), "");
        }
        dir
    }

    fn encoder(&self, name: &str) -> PathBuf {
        let dir = self.path(name);
        for file in ["model.safetensors", "tokenizer.json", "config.json"] {
            write(&dir.join(file), "");
        }
        dir
    }

    fn xtask(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(words).env("PATH", self.path("bin")).env("TAVQ_CACHE", self.path("cache"));
        for name in ["LIBTORCH", "LIBTORCH_USE_PYTORCH", "TAVQ_TEXT_ENCODER", "CXX"] {
            command.env_remove(name);
        }
        command
    }
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The one error line of a failed command, after checking its exit code.
fn error(mut command: Command, code: i32) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}");
    let errors: Vec<_> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{text}");
    assert_eq!(text.lines().last(), Some(errors[0]));
    errors[0].to_owned()
}

fn names_three_ways(error: &str) {
    assert!(THREE_WAYS.iter().all(|way| error.contains(way)), "{error}");
}

#[test]
fn help_lists_every_command_and_bad_usage_exits_2() {
    let machine = Machine::new();
    let help = stdout(&machine.xtask(&["--help"]).output().unwrap());
    for name in ["setup", "train", "test", "bench", "data", "docs", "doctor", "env"] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(&format!("{name} "))), "{name}: {help}");
    }
    assert_eq!(machine.xtask(&["no-such-command"]).output().unwrap().status.code(), Some(2));
    assert_eq!(machine.xtask(&["train", "--no-such-flag"]).output().unwrap().status.code(), Some(2));
}

#[test]
fn without_python_the_error_says_so_and_names_three_ways() {
    let machine = Machine::new();
    for task in ["setup", "train", "bench", "docs"] {
        let error = error(machine.xtask(&[task]), 1);
        assert!(error.contains("python3 was not found on PATH"), "{error}");
        names_three_ways(&error);
    }
    names_three_ways(&error(machine.xtask(&["env"]), 1));
}

#[test]
fn without_pip_the_error_says_so_and_names_three_ways() {
    let machine = Machine::new();
    let script = "[ \"$1\" = -c ] && exit 0\necho '/usr/bin/python3: No module named pip' >&2; exit 1";
    machine.program("python3", script);
    let error = error(machine.xtask(&["setup"]), 1);
    assert!(error.contains("python3 has no pip"), "{error}");
    names_three_ways(&error);
}

#[test]
fn without_network_or_disk_the_error_says_so_and_names_three_ways() {
    for (said, expected) in [
        ("NewConnectionError: x", "the package index cannot be reached (network?)"),
        ("ERROR: [Errno 28] No space left on device", "the disk is full"),
        ("ERROR: No matching distribution found for torch==2.11.0", "pip: No matching distribution found"),
    ] {
        let machine = Machine::new();
        machine.python("", &format!("echo '{said}' >&2; exit 1"));
        let error = error(machine.xtask(&["setup"]), 1);
        assert!(error.contains("torch 2.11.0") && error.contains(expected), "{error}");
        names_three_ways(&error);
    }
}

#[test]
fn another_file_than_the_pinned_one_is_refused_and_leaves_nothing() {
    let machine = Machine::new();
    machine
        .python("", "while [ $# -gt 1 ]; do [ \"$1\" = --dest ] && to=$2; shift; done\necho other > \"$to/torch.whl\"");
    let error = error(machine.xtask(&["setup"]), 1);
    // echo other | sha256sum
    let found = "7e4fa2eb8c7ac089739d5defc4489fad68a100d92082ca35c6b40a4524821f87";
    assert!(error.contains("torch 2.11.0: the package index served another file"), "{error}");
    assert!(error.contains(TORCH_WHEEL) || !cfg!(all(target_os = "linux", target_arch = "x86_64")), "{error}");
    assert!(error.contains(found), "{error}");
    names_three_ways(&error);
    let left: Vec<_> = fs::read_dir(machine.path("cache")).unwrap().map(|item| item.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"]);
}

#[test]
fn a_libtorch_of_another_version_is_bad_input() {
    let machine = Machine::new();
    let dir = machine.libtorch("torch-2.4", "2.4.0+cu121\n");
    let mut command = machine.xtask(&["setup"]);
    command.env("LIBTORCH", &dir);
    let said = error(command, 2);
    assert!(said.contains("it is libtorch 2.4.0, but 2.11.0 is needed") && said.contains("torch-2.4"), "{said}");
    names_three_ways(&said);
    let mut command = machine.xtask(&["env"]);
    command.env("LIBTORCH", machine.path("nowhere"));
    names_three_ways(&error(command, 2));
}

#[test]
fn libtorch_is_looked_for_in_order() {
    let machine = Machine::new();
    let (variable, python) = (machine.libtorch("variable", "2.11.0"), machine.libtorch("python", "2.11.0"));
    let cached = machine.libtorch("cache/libtorch-2.11.0-cpu", "2.11.0");
    machine.encoder("cache/all-minilm-l6-v2");
    let found = |machine: &Machine, libtorch: Option<&Path>| {
        let mut command = machine.xtask(&["env"]);
        libtorch.map(|dir| command.env("LIBTORCH", dir));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = stdout(&output);
        text.lines().find_map(|line| line.strip_prefix("export LIBTORCH=")).unwrap().trim_matches('\'').to_owned()
    };
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    machine.python(python.to_str().unwrap(), "exit 1");
    assert_eq!(found(&machine, Some(&variable)), text(&variable));
    assert_eq!(found(&machine, None), text(&python));
    // A Python with another torch is passed over, and so is one without.
    write(&python.join("build-version"), "2.10.0\n");
    assert_eq!(found(&machine, None), text(&cached));
    machine.python("", "exit 1");
    assert_eq!(found(&machine, None), text(&cached));
    // Half an entry in the cache counts for nothing.
    fs::remove_dir_all(cached.join("include")).unwrap();
    names_three_ways(&error(machine.xtask(&["env"]), 1));
}

#[test]
fn the_text_encoder_has_its_own_error() {
    let machine = Machine::new();
    let libtorch = machine.libtorch("torch", "2.11.0");
    let mut command = machine.xtask(&["env"]);
    let said = error_with(&mut command, &libtorch, 1);
    assert!(said.contains("TAVQ_TEXT_ENCODER") && said.contains("`cargo xtask setup`"), "{said}");
    let mut command = machine.xtask(&["env"]);
    command.env("TAVQ_TEXT_ENCODER", machine.path("empty"));
    assert!(error_with(&mut command, &libtorch, 2).contains("not a text encoder"));
}

fn error_with(command: &mut Command, libtorch: &Path, code: i32) -> String {
    let output = command.env("LIBTORCH", libtorch).output().unwrap();
    assert_eq!(output.status.code(), Some(code));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn train_becomes_tavq_with_its_environment_arguments_and_exit_code() {
    let machine = Machine::new();
    let (libtorch, encoder) = (machine.libtorch("torch", "2.11.0"), machine.encoder("encoder"));
    let root = machine.folder.path().display();
    let metadata = format!(
        r#"{{"packages":[],"workspace_default_members":[],"workspace_root":"{root}","target_directory":"{root}/target"}}"#
    );
    let cargo = machine.program(
        "cargo",
        &format!("echo \"cargo $*\" >> {root}/calls\n[ $1 = metadata ] && echo '{metadata}'\nexit 0"),
    );
    let tavq = machine.program("tavq", "echo \"$*\"; echo \"$LIBTORCH\"; echo \"$TAVQ_TEXT_ENCODER\"; exit 3");
    fs::create_dir_all(machine.path("target/release")).unwrap();
    fs::rename(tavq, machine.path("target/release/tavq")).unwrap();
    let mut command = machine.xtask(&["train", "--study", "--", "--set", "a.b=1"]);
    command.env("CARGO", &cargo).env("LIBTORCH", &libtorch).env("TAVQ_TEXT_ENCODER", &encoder);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    let said = stdout(&output);
    let lines: Vec<_> = said.lines().collect();
    assert!(lines[0].starts_with("train ") && lines[0].ends_with("--study --set a.b=1"), "{said}");
    assert_eq!(lines[1..], [libtorch.to_str().unwrap(), encoder.to_str().unwrap()]);
    assert!(fs::read_to_string(machine.path("calls")).unwrap().starts_with("cargo build --release --package tavq-cli"));
}

#[test]
fn test_ends_with_the_step_that_failed() {
    let machine = Machine::new();
    let cargo = machine.program("cargo", "exit 1");
    let output = machine.xtask(&["test"]).env("CARGO", cargo).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = stdout(&output);
    assert_eq!(said.lines().last(), Some("tavq: FAIL at format"), "{said}");
    assert!(said.contains("0 passed, 0 failed"), "{said}");
}

#[test]
fn doctor_tells_whether_training_can_run() {
    let machine = Machine::new();
    machine.program("c++", "echo 'c++ 12.2.0'");
    machine.program("rustc", "echo 'rustc 1.99.0 (x)'");
    let state = |command: &mut Command| {
        let output = command.output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let parts = json["parts"].as_array().unwrap().clone();
        let state = move |part: &str| {
            let row = parts.iter().find(|row| row["part"] == part).unwrap();
            row["state"].as_str().unwrap().to_owned()
        };
        assert_eq!(json["can_train"], output.status.success());
        (output.status.code(), state("libtorch"), state("text encoder"), state("C++ compiler"))
    };
    let words = |code, parts: [&str; 3]| (Some(code), parts[0].to_owned(), parts[1].to_owned(), parts[2].to_owned());
    let doctor = || {
        let mut command = machine.xtask(&["doctor", "--json"]);
        command.env_remove("RUSTC");
        command
    };
    assert_eq!(state(&mut doctor()), words(1, ["missing", "missing", "ok"]));
    machine.python("", "exit 1");
    if cfg!(target_os = "linux") {
        assert_eq!(state(&mut doctor()), words(0, ["setup", "setup", "ok"]));
    }
    let (libtorch, encoder) = (machine.libtorch("torch", "2.11.0"), machine.encoder("encoder"));
    let mut command = doctor();
    assert_eq!(
        state(command.env("LIBTORCH", libtorch).env("TAVQ_TEXT_ENCODER", encoder)),
        words(0, ["ok", "ok", "ok"])
    );
    fs::remove_file(machine.path("bin/c++")).unwrap();
    assert_eq!(state(&mut doctor()).3, "missing");
    let table = stdout(&machine.xtask(&["doctor"]).output().unwrap());
    assert!(table.contains("apt install g++") && table.ends_with("cannot run: mend what is MISSING\n"), "{table}");
}
