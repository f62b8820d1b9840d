//! tavq-encode.
