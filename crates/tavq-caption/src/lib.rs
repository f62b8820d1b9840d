//! Long image descriptions from a vision-language model. The only crate that opens a socket.
