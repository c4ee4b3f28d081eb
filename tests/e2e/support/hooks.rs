//! A department's webhook: a small HTTP server that answers as it is told, and checks every signature by itself.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What the receiver does with a request.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// This status.
    Status(u16),
    /// Nothing at all.
    Hang,
    /// To somewhere else, where nobody must go.
    Redirect,
}

/// A request whose signature was right.
#[derive(Clone, Debug)]
pub struct Told {
    /// `X-DCI-Delivery`.
    pub id: String,
    /// What it says.
    pub body: Value,
    /// Whether it was taken.
    pub taken: bool,
}

#[derive(Default)]
struct Inner {
    told: Vec<Told>,
    wrong: Vec<String>,
    answers: VecDeque<Answer>,
}

/// A running receiver.
pub struct Receiver {
    /// Where it listens.
    pub url: String,
    inner: Arc<Mutex<Inner>>,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    /// Answers like this, and then with 204 for ever.
    pub async fn start(secret: &str, answers: &[Answer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/dci", listener.local_addr().unwrap());
        let inner = Arc::new(Mutex::new(Inner { answers: answers.iter().copied().collect(), ..Inner::default() }));
        let (shared, secret) = (inner.clone(), secret.to_owned());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, shared.clone(), secret.clone()));
            }
        });
        Self { url, inner, task }
    }

    /// All requests so far; fails when one was not signed as it should be.
    pub fn told(&self) -> Vec<Told> {
        let inner = self.inner.lock().unwrap();
        assert!(inner.wrong.is_empty(), "requests that are not right:\n{}", inner.wrong.join("\n"));
        inner.told.clone()
    }

    /// Events that were taken, in order.
    pub fn taken(&self) -> Vec<String> {
        self.told().iter().filter(|t| t.taken).map(|t| t.body["event"].as_str().unwrap().to_owned()).collect()
    }
}

async fn serve(mut stream: TcpStream, inner: Arc<Mutex<Inner>>, secret: String) {
    let mut bytes = Vec::new();
    let (head, body) = loop {
        let mut buffer = [0u8; 4096];
        let Ok(count @ 1..) = stream.read(&mut buffer).await else { return };
        bytes.extend_from_slice(&buffer[..count]);
        let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let length = header(&head, "content-length").parse::<usize>().unwrap_or(0);
        if bytes.len() >= end + 4 + length {
            break (head, bytes[end + 4..end + 4 + length].to_vec());
        }
    };
    let answer = {
        let mut inner = inner.lock().unwrap();
        let answer = inner.answers.pop_front().unwrap_or(Answer::Status(204));
        match checked(&head, &body, &secret) {
            Ok((id, body)) => inner.told.push(Told { id, body, taken: matches!(answer, Answer::Status(200..300)) }),
            Err(why) => inner.wrong.push(why),
        }
        answer
    };
    let text = match answer {
        Answer::Status(status) => format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
        Answer::Redirect => "HTTP/1.1 307 x\r\nlocation: http://127.0.0.1:1/elsewhere\r\ncontent-length: 0\r\n\r\n".to_owned(),
        Answer::Hang => {
            tokio::time::sleep(Duration::from_mins(10)).await;
            return;
        }
    };
    let _ = stream.write_all(text.as_bytes()).await;
}

fn header<'h>(head: &'h str, name: &str) -> &'h str {
    head.lines().filter_map(|l| l.split_once(':')).find(|(n, _)| n.eq_ignore_ascii_case(name)).map_or("", |(_, v)| v.trim())
}

/// As the README tells receivers to do it.
fn checked(head: &str, body: &[u8], secret: &str) -> Result<(String, Value), String> {
    let timestamp = header(head, "x-dci-timestamp");
    let mut signed = format!("{timestamp}.").into_bytes();
    signed.extend_from_slice(body);
    let wanted = format!("sha256={}", hmac(secret.as_bytes(), &signed));
    if header(head, "x-dci-signature") != wanted {
        return Err(format!("signature {} is not {wanted}\n{head}", header(head, "x-dci-signature")));
    }
    let age = jiff::Timestamp::now().as_second() - timestamp.parse::<i64>().map_err(|e| e.to_string())?;
    if !(-5..60).contains(&age) || !head.starts_with("POST /dci HTTP/1.1") {
        return Err(format!("{age} s old\n{head}"));
    }
    let value: Value = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    let id = header(head, "x-dci-delivery");
    if value["delivery"] != id || value["event"] != header(head, "x-dci-event") || header(head, "content-type") != "application/json" {
        return Err(format!("headers and body differ: {value}\n{head}"));
    }
    Ok((id.to_owned(), value))
}

/// HMAC-SHA256 by RFC 2104, written out: what checks the operator shares no code with it.
pub fn hmac(key: &[u8], data: &[u8]) -> String {
    let mut block = [0u8; 64];
    if key.len() > 64 {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let padded = |pad: u8| block.map(|byte| byte ^ pad);
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(data).finalize();
    let outer = Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize();
    outer.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
