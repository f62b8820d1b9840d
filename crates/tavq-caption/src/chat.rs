//! The chat-completions protocol: one user message with a prompt and the image as a data URL.

use std::io::Read;
use std::time::Duration;

use base64::Engine as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Caption, CaptionError, CaptionRequest, Captioner};

/// Where and how to ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChatConfig {
    /// Base URL, for example `http://localhost:8080/v1`; `/chat/completions` is added.
    pub endpoint: String,
    /// Model name, as the server knows it.
    pub model: String,
    /// Sent as a bearer token when not empty; never written out.
    #[serde(skip_serializing)]
    pub api_key: String,
    /// Tokens of the answer at most, at least 1.
    pub max_tokens: u32,
    /// Seconds for one request and its whole answer, at least 1.
    pub timeout_seconds: u64,
    /// Further requests after an answer of 429 or 5xx, or none.
    pub retries: u32,
    /// Milliseconds before the first further request; each wait doubles the last.
    pub backoff_ms: u64,
}

impl Default for ChatConfig {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            model: String::new(),
            api_key: String::new(),
            max_tokens: 512,
            timeout_seconds: 120,
            retries: 4,
            backoff_ms: 500,
        }
    }
}

/// Bytes of an answer that are read.
const MAX_ANSWER: u64 = 4 << 20;

/// A client of one model.
pub struct ChatCaptioner {
    config: ChatConfig,
    url: String,
    agent: ureq::Agent,
}

enum Failure {
    Again(CaptionError),
    Final(CaptionError),
}

impl ChatCaptioner {
    /// A client; nothing is sent yet.
    pub fn new(config: &ChatConfig) -> Result<Self, CaptionError> {
        let bad = |field, expected, found: String| Err(CaptionError::Config { field, expected, found });
        if !(config.endpoint.starts_with("http://") || config.endpoint.starts_with("https://")) {
            return bad("endpoint", "a URL with http:// or https://", format!("\"{}\"", config.endpoint));
        }
        if config.model.is_empty() {
            return bad("model", "a model's name", "none".into());
        }
        if config.max_tokens == 0 || config.timeout_seconds == 0 {
            return bad("max_tokens, timeout_seconds", "at least 1", "0".into());
        }
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(config.timeout_seconds)))
            .http_status_as_error(false)
            .build()
            .new_agent();
        let url = format!("{}/chat/completions", config.endpoint.trim_end_matches('/'));
        Ok(Self { config: config.clone(), url, agent })
    }

    fn body(&self, request: &CaptionRequest<'_>) -> Value {
        let image = base64::engine::general_purpose::STANDARD.encode(request.image);
        let url = format!("data:{};base64,{image}", request.media_type);
        json!({
            "model": self.config.model,
            "max_tokens": self.config.max_tokens,
            "messages": [{ "role": "user", "content": [
                { "type": "text", "text": request.prompt },
                { "type": "image_url", "image_url": { "url": url } },
            ]}],
        })
    }

    fn attempt(&self, body: &str, attempts: u32) -> Result<Caption, Failure> {
        let endpoint = || self.url.clone();
        let mut post = self.agent.post(&self.url).header("content-type", "application/json");
        if !self.config.api_key.is_empty() {
            post = post.header("authorization", format!("Bearer {}", self.config.api_key));
        }
        let lost =
            |message: String| Failure::Again(CaptionError::Transport { endpoint: endpoint(), attempts, message });
        let mut answer = post.send(body).map_err(|e| lost(e.to_string()))?;
        let status = answer.status().as_u16();
        let mut text = Vec::new();
        let mut reader = answer.body_mut().as_reader().take(MAX_ANSWER + 1);
        reader.read_to_end(&mut text).map_err(|e| lost(e.to_string()))?;
        let text = String::from_utf8_lossy(&text);
        if status != 200 {
            let message: String = text.chars().take(200).collect::<String>().replace('\n', " ");
            let error = CaptionError::Status { endpoint: endpoint(), status, attempts, message };
            let again = status == 429 || status >= 500;
            return Err(if again { Failure::Again(error) } else { Failure::Final(error) });
        }
        if text.len() as u64 > MAX_ANSWER {
            let found = format!("more than {MAX_ANSWER} bytes");
            return Err(Failure::Final(CaptionError::Protocol { endpoint: endpoint(), found }));
        }
        parse(&text).map_err(|found| Failure::Final(CaptionError::Protocol { endpoint: endpoint(), found }))
    }
}

fn parse(text: &str) -> Result<Caption, String> {
    let value: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let choice = &value["choices"][0];
    let Some(content) = choice["message"]["content"].as_str() else {
        return Err("no text at choices[0].message.content".into());
    };
    let content = content.trim();
    if content.is_empty() {
        return Err("an empty text at choices[0].message.content".into());
    }
    Ok(Caption {
        text: content.to_owned(),
        model: value["model"].as_str().unwrap_or_default().to_owned(),
        complete: choice["finish_reason"].as_str() != Some("length"),
    })
}

impl Captioner for ChatCaptioner {
    fn caption(&self, request: &CaptionRequest<'_>) -> Result<Caption, CaptionError> {
        let body = self.body(request).to_string();
        let mut wait = Duration::from_millis(self.config.backoff_ms);
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.attempt(&body, attempts) {
                Ok(caption) => return Ok(caption),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Again(error)) if attempts > self.config.retries => return Err(error),
                Err(Failure::Again(_)) => std::thread::sleep(wait),
            }
            wait = wait.saturating_mul(2);
        }
    }
}
