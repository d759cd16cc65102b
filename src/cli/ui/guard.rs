//! Who is answered, and under which rules a browser shows it.
//!
//! A page elsewhere can make a browser ask this machine. It cannot read the answers, unless its own name is made to lead here
//! (DNS rebinding): so only addresses and `localhost` are accepted as names of this server.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

/// Of every answer, also refusals. Trusted types make a browser refuse text that becomes markup.
const HEADERS: [(HeaderName, &str); 8] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=()",
    ),
];
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Lets through what is asked for here by reading.
pub(super) async fn guard(State(bound): State<SocketAddr>, request: Request, next: Next) -> Response {
    let mut response = match refusal(bound, &request) {
        Some(refusal) => refusal,
        None => next.run(request).await,
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn refusal(bound: SocketAddr, request: &Request) -> Option<Response> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let allowed = [(header::ALLOW, "GET, HEAD")];
        return Some((StatusCode::METHOD_NOT_ALLOWED, allowed, "this view only reads\n").into_response());
    }
    let told = host(request).filter(|host| knows(bound, host));
    if told.is_none() {
        let text = format!("unknown host: this is http://{bound}\n");
        return Some((StatusCode::MISDIRECTED_REQUEST, text).into_response());
    }
    if request.uri().path() != "/" && is_foreign(request.headers()) {
        return Some((StatusCode::FORBIDDEN, "asked for by a page of another site\n").into_response());
    }
    None
}

/// What the request calls this server: `None` if nothing, or two things.
fn host(request: &Request) -> Option<Authority> {
    let mut named = request.headers().get_all(header::HOST).iter();
    let host: Authority = named.next()?.to_str().ok()?.parse().ok()?;
    let same = request.uri().authority().is_none_or(|own| own == &host);
    (named.next().is_none() && same).then_some(host)
}

/// Whether a name is one of this server's. The port does not matter: it may be forwarded.
fn knows(bound: SocketAddr, host: &Authority) -> bool {
    if host.as_str().contains('@') {
        return false;
    }
    let name = host.host().trim_start_matches('[').trim_end_matches(']');
    match name.parse::<IpAddr>() {
        // What is no name cannot be made to lead elsewhere.
        Ok(address) => address == bound.ip() || bound.ip().is_unspecified() || address.is_loopback(),
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    }
}

/// Whether the browser says that another site asks. The page itself may be linked to.
fn is_foreign(headers: &HeaderMap) -> bool {
    let site = headers.get(FETCH_SITE).and_then(|site| site.to_str().ok());
    matches!(site, Some("cross-site" | "same-site"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_nobody_else_can_give_away_are_this_servers() {
        let known = |bound: &str, host: &str| knows(bound.parse().unwrap(), &host.parse().unwrap());
        for host in [
            "127.0.0.1:8480",
            "localhost:8480",
            "LOCALHOST",
            "localhost:9000",
            "[::1]:8480",
            "127.0.0.2",
        ] {
            assert!(known("127.0.0.1:8480", host), "{host}");
        }
        for host in [
            "evil.example:8480",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.7:8480",
            "ann@localhost",
        ] {
            assert!(!known("127.0.0.1:8480", host), "{host}");
        }
        assert!(known("10.0.0.7:8480", "10.0.0.7:8480") && !known("10.0.0.7:8480", "10.0.0.8"));
        assert!(known("0.0.0.0:8480", "10.0.0.8") && known("[::]:8480", "[fe80::1]:8480"));
        assert!(!known("0.0.0.0:8480", "evil.example"));
    }
}
