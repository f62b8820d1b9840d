//! One error line and the exit code that goes with it: 1 the work failed, 2 bad usage or input.

use std::process::ExitCode;

use tavq_train::TrainError;

/// Why a command ended early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The caller's input is at fault.
    Input(anyhow::Error),
    /// The work failed.
    Work(anyhow::Error),
}

/// Result of a command.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub(crate) fn input(error: impl Into<anyhow::Error>) -> Self {
        Self::Input(error.into())
    }

    pub(crate) fn work(error: impl Into<anyhow::Error>) -> Self {
        Self::Work(error.into())
    }

    /// The one line.
    pub(crate) fn line(&self) -> String {
        let (Self::Input(error) | Self::Work(error)) = self;
        one_line(error)
    }

    /// Prints the one line and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        let (error, code) = match self {
            Self::Input(error) => (error, 2),
            Self::Work(error) => (error, 1),
        };
        eprintln!("error: {}", one_line(&error));
        ExitCode::from(code)
    }
}

/// The error and its causes on one line; a cause that the text before it already quotes is left out.
fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        let cause = cause.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" ");
        if !text.contains(&cause) {
            text += if text.is_empty() { "" } else { ": " };
            text += &cause;
        }
    }
    text
}

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Self {
        if error.is_input() { Self::Input(error.into()) } else { Self::Work(error.into()) }
    }
}

macro_rules! through_train {
    ($($error:ty),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                TrainError::from(error).into()
            }
        }
    )*};
}
through_train!(
    tavq_data::DataError,
    tavq_quant::QuantError,
    tavq_encode::EncodeError,
    tavq_align::AlignError,
    tavq_torch::FileError,
    tavq_torch::ShapeError,
    tch::TchError
);

impl From<tavq_ot::OtError> for Failure {
    fn from(error: tavq_ot::OtError) -> Self {
        Self::Input(error.into())
    }
}

impl From<tavq_pickle::PickleError> for Failure {
    fn from(error: tavq_pickle::PickleError) -> Self {
        Self::Input(error.into())
    }
}

/// Adds the file to an I/O error; what cannot be read is the caller's input.
pub(crate) fn reading(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Failure + '_ {
    move |e| Failure::input(anyhow::Error::from(e).context(path.display().to_string()))
}

/// The same for writing: a place that is none is the caller's, a full disk is not.
pub(crate) fn writing(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Failure + '_ {
    move |source| TrainError::Io { path: path.to_path_buf(), source }.into()
}
