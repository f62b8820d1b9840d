//! tavq-backbone.
