//! I/O: one plain GET, under the limits of a scrape: no redirect, proxy, credential or compression, a bounded body, a
//! deadline. Unlike a scrape it may go anywhere, loopback too: it is the user's own machine.

use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, HOST, HeaderValue, LOCATION, USER_AGENT};
use hyper::http::uri::PathAndQuery;
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// From connecting to the last byte.
const DEADLINE: Duration = Duration::from_secs(2);

const ACCEPTED: &str = "text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.5";

/// Why a URL cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It is none.
    #[error("'{0}' is not a URL: write http://HOST:PORT/PATH")]
    Syntax(String),
    /// Something else than plain HTTP.
    #[error(
        "'{0}': only http:// is read, as a scrape does; for anything else pipe the body in: curl … | tiercel read --preset … -"
    )]
    Scheme(String),
    /// A user name or password.
    #[error(
        "the URL holds a credential, and a scrape never sends one: pipe the body in instead: curl … | tiercel read --preset … -"
    )]
    Credential,
}

/// Why there is no body.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody there.
    #[error(
        "cannot connect to {authority}: {source}; check host and port, and that the server does not listen elsewhere only"
    )]
    Connect {
        /// Host and port.
        authority: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Somebody is there who does not speak HTTP, or hangs up.
    #[error("{authority} does not answer in HTTP: {source}")]
    Protocol {
        /// Host and port.
        authority: String,
        /// What came instead.
        source: hyper::Error,
    },
    /// Not within the deadline.
    #[error("no full answer within {} s: a scrape gives up as well", DEADLINE.as_secs())]
    Timeout,
    /// Another status than 200.
    #[error("the server answers {status}: {hint}")]
    Status {
        /// The status.
        status: StatusCode,
        /// What to do.
        hint: String,
    },
    /// A compressed body.
    #[error("the server compresses ({0}) although it was asked not to: a scrape does not read that")]
    Compressed(String),
    /// More than a scrape reads.
    #[error("the body is larger than {0} bytes: expose fewer series on this endpoint")]
    TooLarge(usize),
}

/// What to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    host: String,
    port: u16,
    path: PathAndQuery,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}:{}{}", self.host, self.port, self.path)
    }
}

impl Target {
    /// Takes a URL apart. Port and path default to those given.
    pub(super) fn parse(url: &str, port: u16, path: &str) -> Result<Self, UrlError> {
        let syntax = || UrlError::Syntax(url.to_owned());
        // Looked for in the text: the parser would show it in its own errors.
        let authority = url
            .split("://")
            .nth(1)
            .and_then(|rest| rest.split(['/', '?', '#']).next());
        if authority.is_some_and(|authority| authority.contains('@')) {
            return Err(UrlError::Credential);
        }
        let uri: Uri = url.parse().map_err(|_| syntax())?;
        if uri.scheme_str() != Some("http") {
            return Err(UrlError::Scheme(url.to_owned()));
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(syntax)?;
        let rest = url.split("://").nth(1).unwrap_or_default();
        let path = match uri.path_and_query() {
            Some(own) if rest.contains(['/', '?']) => own.clone(),
            _ => path.parse().map_err(|_| syntax())?,
        };
        Ok(Self {
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(port),
            path,
        })
    }

    fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// The body behind a URL.
pub(super) async fn body(target: &Target, bytes_max: usize) -> Result<Vec<u8>, Error> {
    tokio::time::timeout(DEADLINE, get(target, bytes_max))
        .await
        .unwrap_or(Err(Error::Timeout))
}

async fn get(target: &Target, bytes_max: usize) -> Result<Vec<u8>, Error> {
    let authority = target.authority();
    // Brackets belong to the URL, not to the address.
    let host = target.host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, target.port)).await;
    let stream = stream.map_err(|source| Error::Connect {
        authority: authority.clone(),
        source,
    })?;
    let protocol = |source| Error::Protocol {
        authority: authority.clone(),
        source,
    };
    let (mut requests, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(protocol)?;
    let driver = tokio::spawn(connection);
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = target.path.clone().into();
    let headers = request.headers_mut();
    if let Ok(host) = HeaderValue::from_str(&authority) {
        headers.insert(HOST, host);
    }
    headers.insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("tiercel/", env!("CARGO_PKG_VERSION"))),
    );
    headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let response = requests.send_request(request).await.map_err(protocol)?;
    if response.status() != StatusCode::OK {
        let status = response.status();
        let location = response
            .headers()
            .get(LOCATION)
            .and_then(|location| location.to_str().ok());
        return Err(Error::Status {
            status,
            hint: hint(status, location, target),
        });
    }
    if let Some(encoding) = response.headers().get(CONTENT_ENCODING)
        && encoding != "identity"
    {
        return Err(Error::Compressed(
            String::from_utf8_lossy(encoding.as_bytes()).into_owned(),
        ));
    }
    let mut incoming = response.into_body();
    let mut bytes = Vec::new();
    while let Some(frame) = incoming.frame().await {
        let Ok(chunk) = frame.map_err(protocol)?.into_data() else {
            continue;
        };
        if bytes.len() + chunk.len() > bytes_max {
            return Err(Error::TooLarge(bytes_max));
        }
        bytes.extend_from_slice(&chunk);
    }
    driver.abort();
    Ok(bytes)
}

fn hint(status: StatusCode, location: Option<&str>, target: &Target) -> String {
    if status.is_redirection() {
        let to = location.map(|location| format!(" to {location}")).unwrap_or_default();
        return format!("it redirects{to}, which a scrape does not follow; name the place itself");
    }
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            format!(
                "nothing is served at {}; check path and port, and that metrics are switched on",
                target.path
            )
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "it wants a credential, which a scrape never sends; serve the metrics without".to_owned()
        }
        _ => "a scrape takes 200 only; look at the server's own log".to_owned(),
    }
}
