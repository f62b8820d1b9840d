//! The client against a server written here: answers good and bad, in the order given.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use tavq_caption::{CaptionError, CaptionRequest, Captioner, ChatCaptioner, ChatConfig};

const GOOD: &str = r#"{"model":"seer-1","choices":[{"message":{"content":" A red cube. "},"finish_reason":"stop"}]}"#;

/// Serves the answers one by one and hands over each request's body.
fn server(answers: Vec<(u16, String)>) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}/v1", listener.local_addr().unwrap());
    let (send, bodies) = channel();
    std::thread::spawn(move || {
        for (status, answer) in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut length, mut line) = (0, String::new());
            loop {
                line.clear();
                reader.read_line(&mut line).unwrap();
                if let Some(n) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = n.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let _ = send.send(String::from_utf8(body).unwrap());
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(answer.as_bytes()));
        }
    });
    (endpoint, bodies)
}

fn ask(endpoint: &str, retries: u32) -> Result<tavq_caption::Caption, CaptionError> {
    let config = ChatConfig {
        endpoint: endpoint.to_owned(),
        model: "m".into(),
        retries,
        backoff_ms: 1,
        timeout_seconds: 5,
        ..Default::default()
    };
    let request = CaptionRequest { image: &[1, 2, 3], media_type: "image/png", prompt: "Describe." };
    ChatCaptioner::new(&config)?.caption(&request)
}

#[test]
fn a_good_answer_becomes_a_caption() {
    let (endpoint, bodies) = server(vec![(200, GOOD.into())]);
    let caption = ask(&endpoint, 0).unwrap();
    assert_eq!((caption.text.as_str(), caption.model.as_str(), caption.complete), ("A red cube.", "seer-1", true));
    let body: serde_json::Value = serde_json::from_str(&bodies.recv().unwrap()).unwrap();
    assert_eq!(body["messages"][0]["content"][1]["image_url"]["url"], "data:image/png;base64,AQID");
    assert_eq!(body["messages"][0]["content"][0]["text"], "Describe.");
}

#[test]
fn busy_and_failing_servers_are_asked_again() {
    let (endpoint, _) = server(vec![(429, "busy".into()), (503, "later".into()), (200, GOOD.into())]);
    assert_eq!(ask(&endpoint, 2).unwrap().text, "A red cube.");
    let (endpoint, _) = server(vec![(500, "no projector".into()), (500, "no projector".into())]);
    let error = ask(&endpoint, 1).unwrap_err();
    assert!(matches!(error, CaptionError::Status { status: 500, attempts: 2, .. }), "{error}");
    assert!(error.to_string().contains("no projector") && error.to_string().contains(&endpoint));
}

#[test]
fn a_refusal_is_final() {
    let (endpoint, _) = server(vec![(401, "who are you".into())]);
    assert!(matches!(ask(&endpoint, 5), Err(CaptionError::Status { status: 401, attempts: 1, .. })));
}

#[test]
fn what_is_no_completion_is_refused() {
    let empty = GOOD.replace(" A red cube. ", "  ");
    let huge = "x".repeat((4 << 20) + 10);
    for answer in ["not json", "{}", r#"{"choices":[{"message":{"content":[1]}}]}"#, &empty, &huge] {
        let (endpoint, _) = server(vec![(200, answer.into())]);
        let error = ask(&endpoint, 3).unwrap_err();
        assert!(matches!(error, CaptionError::Protocol { .. }), "{error}");
    }
}

#[test]
fn an_answer_cut_off_says_so() {
    let (endpoint, _) = server(vec![(200, GOOD.replace("stop", "length"))]);
    assert!(!ask(&endpoint, 0).unwrap().complete);
}

#[test]
fn nobody_there_and_nobody_answering() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = ask(&format!("http://127.0.0.1:{port}/v1"), 1).unwrap_err();
    assert!(matches!(error, CaptionError::Transport { attempts: 2, .. }), "{error}");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = ChatConfig {
        endpoint: format!("http://{}", silent.local_addr().unwrap()),
        model: "m".into(),
        retries: 0,
        timeout_seconds: 1,
        ..Default::default()
    };
    let request = CaptionRequest { image: &[], media_type: "image/png", prompt: "p" };
    let error = ChatCaptioner::new(&config).unwrap().caption(&request).unwrap_err();
    assert!(matches!(error, CaptionError::Transport { .. }), "{error}");
}

#[test]
fn bad_options_are_refused_before_anything_is_sent() {
    for config in [
        ChatConfig { endpoint: "ftp://x".into(), model: "m".into(), ..Default::default() },
        ChatConfig { endpoint: "http://x".into(), ..Default::default() },
        ChatConfig { endpoint: "http://x".into(), model: "m".into(), max_tokens: 0, ..Default::default() },
    ] {
        assert!(matches!(ChatCaptioner::new(&config), Err(CaptionError::Config { .. })));
    }
    let config = ChatConfig { api_key: "secret".into(), ..Default::default() };
    assert!(!serde_json::to_string(&config).unwrap().contains("secret"));
}
