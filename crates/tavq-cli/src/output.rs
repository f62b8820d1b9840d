//! Standard output. A reader that closes the pipe early (`| head`) ends the program quietly, as for any filter;
//! `println!` would panic.

use std::fmt::Arguments;
use std::io::{self, Write};

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
