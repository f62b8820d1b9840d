//! What can go wrong between an image and its description.

/// Errors of a captioner. Each names the endpoint.
#[derive(Debug, thiserror::Error)]
pub enum CaptionError {
    /// An option out of its range.
    #[error("{field}: expected {expected}, found {found}")]
    Config {
        /// Name of the option.
        field: &'static str,
        /// The allowed values.
        expected: &'static str,
        /// The value given.
        found: String,
    },
    /// No answer: refused, timed out, broken off.
    #[error("{endpoint}: no answer after {attempts} attempts: {message}")]
    Transport {
        /// Where the request went.
        endpoint: String,
        /// Requests sent.
        attempts: u32,
        /// What the client said.
        message: String,
    },
    /// An answer that says no.
    #[error("{endpoint}: expected status 200, found {status} after {attempts} attempts: {message}")]
    Status {
        /// Where the request went.
        endpoint: String,
        /// HTTP status.
        status: u16,
        /// Requests sent.
        attempts: u32,
        /// The beginning of the answer.
        message: String,
    },
    /// An answer that is not one of the protocol.
    #[error("{endpoint}: expected a chat completion, found {found}")]
    Protocol {
        /// Where the request went.
        endpoint: String,
        /// What is wrong with it.
        found: String,
    },
}
