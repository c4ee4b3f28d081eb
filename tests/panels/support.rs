//! A hand-written HTTP server for the panel clients: each request goes to a closure that may answer in any way.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "shared by several test files")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dci_operator::panel::coremanager::{Client, Observer};
use dci_operator::panel::settings::ConnectionSettings;
use secrecy::SecretString;

pub const PASSWORD: &str = "s3cret&pass";
pub const SESSION: &str = "c0ffee01";

/// One request as the server saw it.
#[derive(Clone, Debug)]
pub struct Request {
    pub head: String,
    pub form: BTreeMap<String, String>,
}

impl Request {
    pub fn get(&self, name: &str) -> &str {
        self.form.get(name).map_or("", String::as_str)
    }

    pub fn func(&self) -> &str {
        self.get("func")
    }
}

/// What the closure does with a request.
pub enum Reply {
    /// 200 with this JSON.
    Json(String),
    /// These bytes, then close.
    Raw(Vec<u8>),
    /// Close without a word.
    Drop,
    /// These bytes one by one with this pause.
    Drip(Vec<u8>, Duration),
    /// Nothing for so long, then close.
    Silence(Duration),
}

pub struct Server {
    pub address: SocketAddr,
    pub requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Every request, log-ins included, goes to the closure.
    pub fn raw(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, answer) = (seen.clone(), answer.clone());
                std::thread::spawn(move || serve(stream, &seen, &*answer));
            }
        });
        Self { address, requests }
    }

    /// Log-ins with the right password succeed, other requests without the session are refused, the rest goes to the closure.
    pub fn panel(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::raw(move |request| match request.func() {
            "auth" if request.get("password") == PASSWORD => logged_in("30"),
            "auth" => Reply::Json(refused("auth", "badpassword")),
            _ if request.get("auth") == SESSION => answer(request),
            _ => Reply::Json(refused("auth", "session")),
        })
    }

    pub fn url(&self) -> String {
        format!("http://{}/dcimgr", self.address)
    }

    pub fn settings(&self) -> ConnectionSettings {
        settings(self.url())
    }

    pub fn client(&self) -> Arc<Client> {
        Arc::new(Client::new(&self.settings()).unwrap())
    }

    pub fn observed(&self, observer: Arc<dyn Observer>) -> Arc<Client> {
        Arc::new(Client::observed(&self.settings(), observer).unwrap())
    }

    /// The functions called so far.
    pub fn funcs(&self) -> Vec<String> {
        self.requests.lock().unwrap().iter().map(|r| r.func().to_owned()).collect()
    }

    pub fn count(&self, func: &str) -> usize {
        self.funcs().iter().filter(|f| *f == func).count()
    }

    /// The last request to this function.
    pub fn last(&self, func: &str) -> Request {
        self.requests.lock().unwrap().iter().rfind(|r| r.func() == func).cloned().expect("no such request")
    }
}

pub fn settings(url: String) -> ConnectionSettings {
    let mut settings = ConnectionSettings::new(url, "op", SecretString::from(PASSWORD));
    settings.timeout = Duration::from_secs(2);
    settings.requests_per_second = 0;
    settings
}

pub fn logged_in(level: &str) -> Reply {
    Reply::Json(format!(r#"{{"doc":{{"auth":{{"$":"{SESSION}","$id":"{SESSION}","$level":"{level}"}}}}}}"#))
}

pub fn refused(kind: &str, object: &str) -> String {
    format!(r#"{{"doc":{{"error":{{"$type":"{kind}","$object":"{object}","msg":{{"$":"No"}}}}}}}}"#)
}

pub fn ok() -> Reply {
    Reply::Json(r#"{"doc":{"ok":{}}}"#.to_owned())
}

pub fn doc(members: &str) -> Reply {
    Reply::Json(format!(r#"{{"doc":{{{members}}}}}"#))
}

fn serve(mut stream: TcpStream, seen: &Mutex<Vec<Request>>, answer: &dyn Fn(&Request) -> Reply) {
    let Some(request) = read(&mut stream) else { return };
    seen.lock().unwrap().push(request.clone());
    match answer(&request) {
        Reply::Json(json) => {
            let _ = stream.write_all(&response("200 OK", "application/json", json.as_bytes()));
        }
        Reply::Raw(bytes) => {
            let _ = stream.write_all(&bytes);
        }
        Reply::Drop => {}
        Reply::Drip(bytes, pause) => {
            for byte in bytes {
                if stream.write_all(&[byte]).is_err() {
                    break;
                }
                std::thread::sleep(pause);
            }
        }
        Reply::Silence(time) => std::thread::sleep(time),
    }
}

pub fn response(status: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

pub fn read(stream: &mut impl Read) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut chunk = [0u8; 4096];
    let (head, mut body) = loop {
        let count = stream.read(&mut chunk).ok().filter(|n| *n > 0)?;
        bytes.extend_from_slice(&chunk[..count]);
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break (String::from_utf8_lossy(&bytes[..at]).into_owned(), bytes[at + 4..].to_vec());
        }
    };
    let length = head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length:").map(|v| v.trim().to_owned()));
    let length: usize = length.and_then(|l| l.parse().ok()).unwrap_or(0);
    while body.len() < length {
        let count = stream.read(&mut chunk).ok().filter(|n| *n > 0)?;
        body.extend_from_slice(&chunk[..count]);
    }
    let body = String::from_utf8_lossy(&body).into_owned();
    let form = body.split('&').filter_map(|pair| pair.split_once('=')).map(|(n, v)| (decode(n), decode(v))).collect();
    Some(Request { head, form })
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
