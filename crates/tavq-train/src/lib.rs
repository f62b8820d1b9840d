//! tavq-train.
