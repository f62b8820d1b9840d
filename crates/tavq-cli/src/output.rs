//! Standard output, and places of files. A reader that closes the pipe early (`| head`) ends the program quietly, as for any filter;
//! `println!` would panic.

use std::fmt::Arguments;
use std::io::{self, Write};
use std::path::Path;

use anyhow::anyhow;
use serde::Serialize;

use crate::failure::{Failure, Outcome};

/// One line: `say!("{} texts", n)`, inside a function that returns [`Outcome`].
macro_rules! say {
    ($($words:tt)*) => { crate::output::line(format_args!($($words)*))? };
}
pub(crate) use say;

pub(crate) fn line(words: Arguments<'_>) -> Outcome {
    let mut out = io::stdout().lock();
    out.write_fmt(words).and_then(|()| out.write_all(b"\n")).map_err(pipe)
}

/// A value as indented JSON.
pub(crate) fn json(value: &impl Serialize) -> Outcome {
    let text = serde_json::to_string_pretty(value).map_err(Failure::work)?;
    line(format_args!("{text}"))
}

/// What a failed write to standard output means.
pub(crate) fn pipe(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    Failure::work(error)
}

/// Refuses an output that would replace a device, one of the inputs, or something inside an input's folder.
pub(crate) fn not_an_input(out: &Path, inputs: &[&Path]) -> Outcome {
    let Ok(place) = out.canonicalize() else { return Ok(()) };
    if !place.is_file() && !place.is_dir() {
        return Err(Failure::input(anyhow!("--out {}: expected a file or a new name, found a device", out.display())));
    }
    for input in inputs {
        let Ok(read) = input.canonicalize() else { continue };
        if place == read || read.is_dir() && place.starts_with(&read) || place.is_dir() && read.starts_with(&place) {
            return Err(Failure::input(anyhow!(
                "--out {}: expected another place than the input, found {}",
                out.display(),
                input.display()
            )));
        }
    }
    Ok(())
}
