//! tavq-align.
