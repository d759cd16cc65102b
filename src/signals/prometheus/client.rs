//! I/O: puts one query at a time to one endpoint, over one kept connection.
//!
//! No redirects, proxies, cookies or compression: the connection goes to the endpoint's own address, and what the endpoint
//! answers is read to a limit and not a byte further. The token goes to this endpoint only, and only encrypted.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use hyper::{Method as Verb, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::answer::{self, Answer};
use super::endpoint::{Endpoint, Method};
use crate::signals::Why;
use crate::tls;

/// Largest answer.
const BODY_MAX: usize = 2 << 20;

/// Largest token or bundle of roots.
const FILE_MAX: u64 = 1 << 20;

/// Read buffer of a connection; bounds the response headers too.
const BUFFER_MAX: usize = 16 * 1024;

/// A server that wants to be left alone for longer is asked again after this.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(1);

const AGENT: &str = concat!("tiercel/", env!("CARGO_PKG_VERSION"));

/// Why a query got no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens, or the connection broke.
    #[error("cannot reach {endpoint}: {problem}; check its url, DNS and network policies")]
    Unreachable {
        /// Name of the endpoint.
        endpoint: String,
        /// What the system said.
        problem: String,
    },
    /// The server's certificate is not trusted, or it speaks no TLS.
    #[error("{endpoint} is not trusted: {problem}; check its caFile and the name in its url")]
    Untrusted {
        /// Name of the endpoint.
        endpoint: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The roots cannot be read, or are none.
    #[error("cannot read the file {}: {problem}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        problem: String,
    },
    /// No full answer in time.
    #[error("{endpoint} did not answer within {after:?}: make the query cheaper, or raise its timeout")]
    Timeout {
        /// Name of the endpoint.
        endpoint: String,
        /// Its timeout.
        after: Duration,
    },
    /// 401, 403, or a redirect, which is not followed.
    #[error("{endpoint} answered {status}: check its tokenFile, headers and url; redirects are not followed")]
    Denied {
        /// Name of the endpoint.
        endpoint: String,
        /// The status.
        status: StatusCode,
    },
    /// 429 or 503.
    #[error("{endpoint} is busy ({status}): it is asked again later")]
    Busy {
        /// Name of the endpoint.
        endpoint: String,
        /// The status.
        status: StatusCode,
        /// How long it wants to be left alone, at most a minute.
        retry_after: Option<Duration>,
    },
    /// The server does not take the query.
    #[error("{endpoint} refuses the query ({status}): {problem}")]
    Refused {
        /// Name of the endpoint.
        endpoint: String,
        /// The status.
        status: StatusCode,
        /// What it says.
        problem: String,
    },
    /// Any other status.
    #[error("{endpoint} answered {status}: check its url, to which /api/v1/query is added")]
    Status {
        /// Name of the endpoint.
        endpoint: String,
        /// The status.
        status: StatusCode,
    },
    /// More than 2 MiB.
    #[error("{endpoint} answers with more than 2 MiB: aggregate in the query")]
    TooLarge {
        /// Name of the endpoint.
        endpoint: String,
    },
    /// The body is not what it should be.
    #[error("{endpoint}: {source}")]
    Answer {
        /// Name of the endpoint.
        endpoint: String,
        /// What is wrong with it.
        source: answer::Error,
    },
}

impl Error {
    /// The same as the absence of every number that was asked for.
    pub fn why(&self) -> Why {
        match self {
            Self::Unreachable { .. } | Self::Busy { .. } | Self::Status { .. } => Why::Unreachable,
            Self::Untrusted { .. } | Self::File { .. } | Self::Denied { .. } => Why::Denied,
            Self::Timeout { .. } => Why::Timeout,
            Self::TooLarge { .. } => Why::TooLarge,
            Self::Refused { .. } => Why::Malformed,
            Self::Answer { source, .. } => match source {
                answer::Error::Malformed(_) => Why::Malformed,
                answer::Error::Partial(_) => Why::Partial,
            },
        }
    }

    /// Whether another query would fare no better now.
    pub fn concerns_endpoint(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::Untrusted { .. } | Self::File { .. } | Self::Busy { .. }
        )
    }
}

/// The client of one endpoint.
#[derive(Debug)]
pub struct Client {
    endpoint: Arc<Endpoint>,
    token: Option<HeaderValue>,
    connection: Option<Connection>,
    /// The bundle that the TLS settings were made of, and they.
    tls: Option<(Vec<u8>, Arc<ClientConfig>)>,
}

impl Client {
    /// Connects with the first query.
    pub fn new(endpoint: Arc<Endpoint>) -> Self {
        Self {
            endpoint,
            token: None,
            connection: None,
            tls: None,
        }
    }

    /// Reads the token again; to be called before each round of queries. A token that cannot be read leaves the last one.
    ///
    /// # Errors
    /// The file cannot be read or holds no token.
    pub async fn refresh_token(&mut self) -> Result<(), Error> {
        if let Some(file) = self.endpoint.token_file.clone() {
            let token = token(&file, &read_file(&file).await?)?;
            self.token = Some(token);
        }
        Ok(())
    }

    /// Puts one query.
    ///
    /// # Errors
    /// There is no whole answer.
    pub async fn query(&mut self, query: &str) -> Result<Answer, Error> {
        let after = self.endpoint.timeout;
        let answered = tokio::time::timeout(after, self.fetch(query)).await;
        let body = answered.unwrap_or_else(|_| {
            Err(Error::Timeout {
                endpoint: self.endpoint.name.clone(),
                after,
            })
        })?;
        Answer::parse(&body).map_err(|source| Error::Answer {
            endpoint: self.endpoint.name.clone(),
            source,
        })
    }

    /// Leaves the connection behind if it can be used again.
    async fn fetch(&mut self, query: &str) -> Result<Vec<u8>, Error> {
        let answered = match self.connection.take() {
            Some(mut connection) => connection
                .ask(self.request(query)?)
                .await
                .ok()
                .map(|response| (connection, response)),
            None => None,
        };
        let (connection, response) = if let Some(answered) = answered {
            answered
        } else {
            // Either there was none, or the server closed it meanwhile, which it may at any time.
            let mut connection = self.connect().await?;
            let request = self.request(query)?;
            let response = connection
                .ask(request)
                .await
                .map_err(|error| self.unreachable(&error))?;
            (connection, response)
        };
        let status = response.status();
        let retry_after = retry_after(&response);
        let identity = response
            .headers()
            .get(CONTENT_ENCODING)
            .is_none_or(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity"));
        let body = self.body(response.into_body()).await?;
        let endpoint = self.endpoint.name.clone();
        match status {
            StatusCode::OK if identity => {
                self.connection = Some(connection);
                Ok(body)
            }
            StatusCode::OK => Err(Error::Answer {
                endpoint,
                source: answer::Error::Malformed("compressed, which was not asked for".to_owned()),
            }),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Error::Denied { endpoint, status }),
            status if status.is_redirection() => Err(Error::Denied { endpoint, status }),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Err(Error::Busy {
                endpoint,
                status,
                retry_after,
            }),
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
                self.connection = Some(connection);
                Err(Error::Refused {
                    endpoint,
                    status,
                    problem: answer::refusal(&body),
                })
            }
            status => Err(Error::Status { endpoint, status }),
        }
    }

    fn request(&self, query: &str) -> Result<Request<Full<Bytes>>, Error> {
        let Endpoint {
            url, headers, method, ..
        } = &*self.endpoint;
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("query", query)
            .finish();
        let path = &url.path;
        let (verb, path, body) = match method {
            Method::Post => (Verb::POST, format!("{path}/api/v1/query"), form),
            Method::Get => (Verb::GET, format!("{path}/api/v1/query?{form}"), String::new()),
        };
        let mut request = Request::builder()
            .method(verb)
            .uri(path)
            .header(HOST, &url.authority)
            .header(USER_AGENT, AGENT)
            .header(ACCEPT, "application/json")
            .header(ACCEPT_ENCODING, "identity");
        if *method == Method::Post {
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token);
        }
        request
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| self.unreachable(&error))
    }

    async fn connect(&mut self) -> Result<Connection, Error> {
        let url = &self.endpoint.url;
        let stream = TcpStream::connect((url.host.as_str(), url.port))
            .await
            .map_err(|error| self.unreachable(&error))?;
        stream.set_nodelay(true).map_err(|error| self.unreachable(&error))?;
        if !url.secure {
            return self.handshake(stream).await;
        }
        let name = ServerName::try_from(url.host.clone()).map_err(|error| self.untrusted(&error))?;
        let connector = TlsConnector::from(self.tls().await?);
        let stream = connector
            .connect(name, stream)
            .await
            .map_err(|error| self.untrusted(&error))?;
        self.handshake(stream).await
    }

    async fn handshake(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<Connection, Error> {
        let handshake = http1::Builder::new()
            .max_buf_size(BUFFER_MAX)
            .handshake(TokioIo::new(stream))
            .await;
        let (requests, driver) = handshake.map_err(|error| self.unreachable(&error))?;
        let driver = tokio::spawn(async move {
            // What goes wrong here also fails the request that is under way, which is where it is reported.
            let _ = driver.await;
        });
        Ok(Connection { requests, driver })
    }

    /// TLS settings; made anew when the bundle of roots changed.
    async fn tls(&mut self) -> Result<Arc<ClientConfig>, Error> {
        let bundle = match &self.endpoint.ca_file {
            Some(file) => read_file(file).await?,
            None => Vec::new(),
        };
        if let Some((made_of, config)) = &self.tls
            && *made_of == bundle
        {
            return Ok(Arc::clone(config));
        }
        let roots = match &self.endpoint.ca_file {
            Some(file) => of_bundle(file, &bundle)?,
            None => system_roots().await.map_err(|problem| self.untrusted(&problem))?,
        };
        let config = Arc::new(tls::client(roots).map_err(|error| self.untrusted(&error))?);
        self.tls = Some((bundle, Arc::clone(&config)));
        Ok(config)
    }

    /// Reads a body up to the limit and not a chunk further.
    async fn body(&self, mut incoming: Incoming) -> Result<Vec<u8>, Error> {
        let too_large = || Error::TooLarge {
            endpoint: self.endpoint.name.clone(),
        };
        let announced = incoming.size_hint().lower();
        if usize::try_from(announced).map_or(true, |announced| announced > BODY_MAX) {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        while let Some(frame) = incoming.frame().await {
            // The connection ended before the body did: cut off, and a cut answer may look whole.
            let frame = frame.map_err(|error| self.unreachable(&error))?;
            let Ok(chunk) = frame.into_data() else { continue };
            if bytes.len() + chunk.len() > BODY_MAX {
                return Err(too_large());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    fn unreachable(&self, problem: &dyn std::fmt::Display) -> Error {
        Error::Unreachable {
            endpoint: self.endpoint.name.clone(),
            problem: answer::excerpt(&problem.to_string()),
        }
    }

    fn untrusted(&self, problem: &dyn std::fmt::Display) -> Error {
        Error::Untrusted {
            endpoint: self.endpoint.name.clone(),
            problem: answer::excerpt(&problem.to_string()),
        }
    }
}

/// A connection that can take a request, and the task that drives it.
#[derive(Debug)]
struct Connection {
    requests: http1::SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Connection {
    async fn ask(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, hyper::Error> {
        self.requests.ready().await?;
        self.requests.send_request(request).await
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Whole seconds; a date would need a clock that both agree on, and counts as no wish.
fn retry_after(response: &Response<Incoming>) -> Option<Duration> {
    let seconds: u64 = response
        .headers()
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// Checks that the files of an endpoint can be used, for a start that says at once what is missing.
///
/// # Errors
/// A file cannot be read or does not hold what it should.
pub fn check_files(endpoint: &Endpoint) -> Result<(), Error> {
    if let Some(file) = &endpoint.ca_file {
        of_bundle(file, &read_file_now(file)?)?;
    }
    if let Some(file) = &endpoint.token_file {
        token(file, &read_file_now(file)?)?;
    }
    Ok(())
}

fn of_bundle(file: &Path, bundle: &[u8]) -> Result<RootCertStore, Error> {
    tls::of_bundle(bundle).map_err(|problem| Error::File {
        file: file.to_owned(),
        problem,
    })
}

async fn system_roots() -> Result<RootCertStore, String> {
    let found = tokio::task::spawn_blocking(tls::of_system).await;
    found.map_err(|error| error.to_string())?
}

fn token(file: &Path, bytes: &[u8]) -> Result<HeaderValue, Error> {
    let failed = |problem: &str| Error::File {
        file: file.to_owned(),
        problem: problem.to_owned(),
    };
    let text = std::str::from_utf8(bytes).map_err(|_| failed("not a token"))?.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(failed("not a token: one line of visible characters is expected"));
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {text}")).map_err(|_| failed("not a token"))?;
    value.set_sensitive(true);
    Ok(value)
}

async fn read_file(file: &Path) -> Result<Vec<u8>, Error> {
    let path = file.to_owned();
    let read = tokio::task::spawn_blocking(move || read_file_now(&path)).await;
    read.unwrap_or_else(|error| {
        Err(Error::File {
            file: file.to_owned(),
            problem: error.to_string(),
        })
    })
}

fn read_file_now(file: &Path) -> Result<Vec<u8>, Error> {
    use std::io::Read as _;
    let failed = |error: std::io::Error| Error::File {
        file: file.to_owned(),
        problem: error.to_string(),
    };
    let mut bytes = Vec::new();
    std::fs::File::open(file)
        .map_err(failed)?
        .take(FILE_MAX)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(bytes)
}
