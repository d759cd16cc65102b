//! A server on loopback for tests: it answers every request as told and remembers it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// No server lives longer, whatever a test does.
pub(crate) const LIFE: Duration = Duration::from_secs(20);

/// What a client sent.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Request line and headers.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Asked {
    /// The query, wherever it travelled.
    pub(crate) fn query(&self) -> String {
        let form = if self.body.is_empty() {
            let line = self.head.lines().next().unwrap();
            line.split([' ', '?']).nth(2).unwrap()
        } else {
            &self.body
        };
        let mut pairs = form_urlencoded::parse(form.as_bytes());
        let (name, query) = pairs.next().unwrap();
        assert_eq!(name, "query");
        query.into_owned()
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Ends with the test.
pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) connections: Arc<AtomicUsize>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Answers every request with the bytes that `answer` makes; none ends the connection without a word.
    pub(crate) fn new(answer: impl Fn(&Asked) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self::with(None, answer)
    }

    /// The same over TLS.
    pub(crate) fn with(
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(&Asked) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            connections: Arc::default(),
            asked: Arc::default(),
        };
        let (connections, all) = (Arc::clone(&server.connections), Arc::clone(&server.asked));
        let answer = Arc::new(answer);
        thread::spawn(move || {
            while let Ok((socket, _)) = listener.accept() {
                connections.fetch_add(1, Ordering::SeqCst);
                socket.set_read_timeout(Some(LIFE)).unwrap();
                socket.set_write_timeout(Some(LIFE)).unwrap();
                let (all, answer, tls) = (Arc::clone(&all), Arc::clone(&answer), tls.clone());
                thread::spawn(move || match tls {
                    None => serve(socket, &all, &*answer),
                    Some(tls) => {
                        let session = ServerConnection::new(tls).unwrap();
                        serve(StreamOwned::new(session, socket), &all, &*answer);
                    }
                });
            }
        });
        server
    }

    /// Answers every request with this status, these headers and this body.
    pub(crate) fn answering(status: &'static str, headers: &'static str, body: impl Into<String>) -> Self {
        let body = body.into();
        Self::new(move |_| Some(response(status, headers, &body)))
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Everything that was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

/// A whole response.
pub(crate) fn response(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The JSON of a vector evaluated at so many seconds: label sets without braces, and values.
pub(crate) fn vector(at: f64, samples: &[(String, String)]) -> String {
    let samples: Vec<String> = samples
        .iter()
        .map(|(labels, value)| format!(r#"{{"metric":{{{labels}}},"value":[{at},"{value}"]}}"#))
        .collect();
    format!(
        r#"{{"status":"success","data":{{"resultType":"vector","result":[{}]}}}}"#,
        samples.join(",")
    )
}

fn serve(mut stream: impl Read + Write, all: &Mutex<Vec<Asked>>, answer: &dyn Fn(&Asked) -> Option<Vec<u8>>) {
    while let Some(asked) = request(&mut stream) {
        all.lock().unwrap().push(asked.clone());
        match answer(&asked) {
            Some(bytes) if stream.write_all(&bytes).and_then(|()| stream.flush()).is_ok() => {}
            _ => return,
        }
    }
}

/// Reads one request; `None` when the client is gone.
fn request(socket: &mut impl Read) -> Option<Asked> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if socket.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let mut asked = Asked {
        head: String::from_utf8(head).unwrap(),
        body: String::new(),
    };
    let length = asked
        .header("content-length")
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    socket.read_exact(&mut body).ok()?;
    asked.body = String::from_utf8(body).unwrap();
    Some(asked)
}
