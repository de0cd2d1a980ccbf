//! Connections that failed, sorted: unreachable, cut, or no TLS. The causes are reqwest's, hyper's and rustls' own types
//! behind `dyn Error`; this is the one place that looks into them.

use std::error::Error;

use reqwest::Url;

use super::error::Problem;
use crate::reference::RegistryHost;

/// What a request without an answer died of. A body that was cut counts too.
pub(super) fn unreachable(cause: &reqwest::Error, url: &Url) -> Problem {
    for error in causes(cause) {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return tls_problem(tls);
        }
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::ConnectionRefused
        {
            return Problem::Unreachable {
                reason: "connection refused".into(),
                remedy: Some("is the registry running?"),
                // Nothing lies between this machine and itself that could recover.
                transient: !is_loopback(url),
            };
        }
    }
    let (reason, remedy, transient) = if cause.is_redirect() {
        (innermost(cause), None, false)
    } else if cause.is_timeout() {
        ("no answer in time".into(), None, true)
    } else if cause.is_dns() {
        let remedy = "is the registry's name right?";
        ("the host's name is not known".into(), Some(remedy), true)
    } else if cause.is_connect() {
        (innermost(cause), None, true)
    } else {
        (
            format!("the connection was cut: {}", innermost(cause)),
            None,
            !cause.is_builder(),
        )
    };
    Problem::Unreachable {
        reason,
        remedy,
        transient,
    }
}

fn is_loopback(url: &Url) -> bool {
    url.host_str()
        .and_then(|name| RegistryHost::new(name).ok())
        .is_some_and(|host| host.is_loopback())
}

fn tls_problem(error: &rustls::Error) -> Problem {
    use rustls::CertificateError;
    let remedy = match error {
        rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
            Some("the registry speaks plain HTTP: if that is meant, set `insecure = true` for it")
        }
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            Some("add its CA to the system's certificates, or name a file with it in SSL_CERT_FILE")
        }
        _ => None,
    };
    Problem::Tls {
        reason: error.to_string(),
        remedy,
    }
}

/// The causes below reqwest's own error, whose text has the URL in it, with its query.
fn causes(cause: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    chain(cause.source())
}

/// An error and all below it.
pub(super) fn chain<'a>(
    first: Option<&'a (dyn Error + 'static)>,
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(first, |error| below(*error))
}

/// An I/O error around another error gives out that one's cause instead of it, so it is opened.
fn below<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    let io = error.downcast_ref::<std::io::Error>();
    match io.and_then(std::io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

/// The last cause, which says most, and has no URL in it.
pub(crate) fn innermost(cause: &reqwest::Error) -> String {
    causes(cause)
        .last()
        .map_or_else(|| "request failed".to_owned(), ToString::to_string)
}
