//! Image quality, codebook use and text retrieval.
