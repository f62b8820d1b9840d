//! Tests of the metrics against scikit-image, by hand, and by their laws.

mod quality;
mod retrieval;
