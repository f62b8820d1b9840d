//! Long image descriptions from a vision-language model. The only crate of the workspace that opens a socket.
//!
//! [`ChatCaptioner`] speaks the chat-completions protocol that hosted models and local servers share.
//! There is no law kit: what a model answers follows no law that a test could hold it to.

mod chat;
mod error;

pub use chat::{ChatCaptioner, ChatConfig};
pub use error::CaptionError;

/// An image to be described.
#[derive(Debug, Clone, Copy)]
pub struct CaptionRequest<'a> {
    /// The encoded image file.
    pub image: &'a [u8],
    /// Its media type, for example `image/png`.
    pub media_type: &'a str,
    /// What the model is asked.
    pub prompt: &'a str,
}

/// A description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caption {
    /// The text, never empty.
    pub text: String,
    /// The model that wrote it, as it calls itself.
    pub model: String,
    /// Whether the model stopped by itself; false when it was cut off at the token limit.
    pub complete: bool,
}

/// Describes images.
pub trait Captioner: Send + Sync {
    /// The description of one image.
    fn caption(&self, request: &CaptionRequest<'_>) -> Result<Caption, CaptionError>;
}
