//! What tch leaves out.
