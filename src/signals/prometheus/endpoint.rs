//! Pure: where a Prometheus-compatible server is, and what is sent to it. Administrators own every part of it.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};

/// A server's base address: `http` or `https`, host, port and the path before `/api/v1/query`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    pub(super) secure: bool,
    /// Without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
    /// Without a slash at the end.
    pub(super) path: String,
    /// As the `Host` header says it.
    pub(super) authority: HeaderValue,
}

/// Why an address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not an address, or of another scheme.
    #[error("write http://host:port/path or https://host:port/path")]
    Shape,
    /// A user or password before the host.
    #[error("no user or password in the address: name a tokenFile")]
    UserInfo,
    /// A query or fragment.
    #[error("no ? or # in the address: /api/v1/query is added to its path")]
    Query,
}

impl FromStr for BaseUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        // Also because what parses an address drops a fragment without a word.
        if text.contains(['?', '#']) {
            return Err(UrlError::Query);
        }
        if text.contains('@') {
            return Err(UrlError::UserInfo);
        }
        let uri: Uri = text.parse().map_err(|_| UrlError::Shape)?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(UrlError::Shape),
        };
        let authority = uri.authority().ok_or(UrlError::Shape)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") if secure => 443,
            Some("") => 80,
            rest => {
                let digits = rest.and_then(|rest| rest.strip_prefix(':')).ok_or(UrlError::Shape)?;
                digits
                    .parse()
                    .ok()
                    .filter(|port: &u16| *port > 0 && !digits.starts_with('+'))
                    .ok_or(UrlError::Shape)?
            }
        };
        if host.is_empty() {
            return Err(UrlError::Shape);
        }
        Ok(Self {
            secure,
            host: host.to_owned(),
            port,
            path: uri.path().trim_end_matches('/').to_owned(),
            authority: HeaderValue::from_str(authority.as_str()).map_err(|_| UrlError::Shape)?,
        })
    }
}

impl BaseUrl {
    /// Whether what is sent is encrypted.
    pub fn is_secure(&self) -> bool {
        self.secure
    }
}

/// How a query travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
pub enum Method {
    /// In the body: any length.
    #[default]
    #[serde(rename = "POST")]
    Post,
    /// In the address: for gateways that let nothing else pass.
    #[serde(rename = "GET")]
    Get,
}

/// A checked endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name, for messages.
    pub name: String,
    /// Where it is.
    pub url: BaseUrl,
    /// Roots to trust instead of the system's, PEM. Read anew with every connection.
    pub ca_file: Option<PathBuf>,
    /// Holds the bearer token. Read anew in every round, because projected tokens rotate.
    pub token_file: Option<PathBuf>,
    /// Sent with every query.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How queries travel.
    pub method: Method,
    /// From one round of queries to the next.
    pub interval: Duration,
    /// Of one query, from connecting to the last byte.
    pub timeout: Duration,
    /// Queries at most.
    pub queries_per_second: u32,
}

/// A header that an administrator may set: none that carries a credential, which belongs into a file, or that says how
/// the message is framed or where it goes.
///
/// # Errors
/// What to do instead.
pub fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), &'static str> {
    const OURS: [&str; 14] = [
        "accept",
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    ];
    const CREDENTIALS: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "proxy-authenticate"];
    let name = HeaderName::from_str(name).map_err(|_| "not the name of a header")?;
    if OURS.contains(&name.as_str()) {
        return Err("tiercel sets this header itself");
    }
    if CREDENTIALS.contains(&name.as_str()) {
        return Err("no credential in a header: name a tokenFile");
    }
    let value = HeaderValue::from_str(value).map_err(|_| "a value has no control characters")?;
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        for (text, secure, host, port, path, authority) in [
            (
                "http://prometheus:9090",
                false,
                "prometheus",
                9090,
                "",
                "prometheus:9090",
            ),
            (
                "https://thanos.monitoring.svc/",
                true,
                "thanos.monitoring.svc",
                443,
                "",
                "thanos.monitoring.svc",
            ),
            ("http://mimir/prometheus/", false, "mimir", 80, "/prometheus", "mimir"),
            (
                "https://[2001:db8::1]:8443/a/b",
                true,
                "2001:db8::1",
                8443,
                "/a/b",
                "[2001:db8::1]:8443",
            ),
        ] {
            let url: BaseUrl = text.parse().unwrap();
            assert_eq!(
                (url.secure, url.host.as_str(), url.port, url.path.as_str()),
                (secure, host, port, path),
                "{text}"
            );
            assert_eq!(url.authority, authority);
        }
    }

    #[test]
    fn an_address_that_hides_something_is_refused() {
        for (text, expected) in [
            ("", UrlError::Shape),
            ("prometheus:9090", UrlError::Shape),
            ("/api", UrlError::Shape),
            ("ftp://prometheus", UrlError::Shape),
            ("unix:///run/prometheus", UrlError::Shape),
            ("file:///etc/passwd", UrlError::Shape),
            ("http://", UrlError::Shape),
            ("http://:9090", UrlError::Shape),
            ("http://host:", UrlError::Shape),
            ("http://host:0", UrlError::Shape),
            ("http://host:99999", UrlError::Shape),
            ("http://ho st", UrlError::Shape),
            ("http://host/\r\nX: y", UrlError::Shape),
            ("http://user:password@host", UrlError::UserInfo),
            ("http://allowed@169.254.169.254/", UrlError::UserInfo),
            ("http://host/?query=up", UrlError::Query),
            ("http://host/#x", UrlError::Query),
        ] {
            assert_eq!(text.parse::<BaseUrl>(), Err(expected), "{text}");
        }
    }

    #[test]
    fn a_header_carries_a_tenant_and_no_credential() {
        let (name, value) = header("X-Scope-OrgID", "agents").unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("x-scope-orgid", "agents"));
        for (name, value) in [
            ("Authorization", "Bearer x"),
            ("cookie", "a=b"),
            ("Host", "elsewhere"),
            ("Content-Length", "0"),
            ("Transfer-Encoding", "chunked"),
            ("a b", "c"),
            ("", "c"),
            ("x-tenant", "a\r\nb: c"),
        ] {
            assert!(header(name, value).is_err(), "{name}: {value}");
        }
    }
}
