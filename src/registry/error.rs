//! What goes wrong with a registry, as data: callers decide by [`Problem`], users read its text, and neither ever sees a
//! credential or the query of a URL (signed storage URLs carry their key there).

use std::fmt;
use std::time::Duration;

use reqwest::{StatusCode, Url};
use serde::Deserialize;

use super::credentials::CredentialError;
use crate::reference::Digest;

/// A failed operation: what was wanted, of which URL, and what happened.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation}: {problem} ({url})")]
pub(crate) struct RegistryError {
    /// A verb and its object, such as `read localhost:5000/team/train:latest`.
    pub operation: String,
    /// Without user, query and fragment.
    pub url: String,
    pub problem: Box<Problem>,
}

impl RegistryError {
    pub(super) fn new(operation: &str, url: &Url, problem: Problem) -> Self {
        Self {
            operation: operation.to_owned(),
            url: shown(url),
            problem: Box::new(problem),
        }
    }

    /// Whether the same request may succeed a little later.
    pub(crate) fn is_retriable(&self) -> bool {
        match &*self.problem {
            Problem::Unreachable { transient, .. } => *transient,
            Problem::Unexpected { refusal, .. } => {
                matches!(refusal.status, 408 | 429 | 500 | 502 | 503 | 504)
            }
            _ => false,
        }
    }

    /// Whether the registry refused for good and did not say why, as it must not in answer to HEAD.
    pub(super) fn has_hidden_reason(&self) -> bool {
        let silent = |refusal: &Refusal| refusal.code.is_none() && refusal.message.is_none();
        match &*self.problem {
            Problem::Denied { refusal, .. } => silent(refusal),
            Problem::Unexpected { refusal, .. } => silent(refusal) && !self.is_retriable(),
            _ => false,
        }
    }
}

/// Why it failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    /// No answer, or half of one.
    #[error("{reason}{}", remedy.map(|r| format!(": {r}")).unwrap_or_default())]
    Unreachable {
        reason: String,
        remedy: Option<&'static str>,
        transient: bool,
    },
    #[error("no TLS connection: {reason}{}", remedy.map(|r| format!(": {r}")).unwrap_or_default())]
    Tls {
        reason: String,
        remedy: Option<&'static str>,
    },
    /// The registry does not know who asks (401).
    #[error("{}: {refusal}: {remedy}", match tried {
        Some(source) => format!("the registry refused the credentials ({source})"),
        None => "the registry wants credentials, and none are configured for it".to_owned(),
    })]
    Unauthorized {
        /// Where the credentials came from; never what they are.
        tried: Option<String>,
        refusal: Refusal,
        remedy: String,
    },
    /// The registry knows who asks, and says no (403).
    #[error("not allowed {}: {refusal}{}", match tried {
        Some(source) => format!("with these credentials ({source})"),
        None => "without credentials, and none are configured".to_owned(),
    }, remedy.map(|r| format!(": {r}")).unwrap_or_default())]
    Denied {
        tried: Option<String>,
        refusal: Refusal,
        remedy: Option<&'static str>,
    },
    /// The tag stands on something else, and may not be moved.
    #[error(
        "{refusal}: the tag is immutable and stands on {standing}: let the repository's tag immutability exclude the tags \
         that move (the channels and `buildcache*`), and give other content another name"
    )]
    Immutable { refusal: Refusal, standing: Digest },
    /// Nothing there (404): the repository, the tag or the blob.
    #[error("not found: {0}")]
    NotFound(Refusal),
    #[error("the answer is larger than {limit} bytes")]
    TooLarge { limit: usize },
    #[error(
        "the content has the digest {actual}, not {expected}: it was changed on its way or in the registry"
    )]
    DigestMismatch { expected: Digest, actual: Digest },
    /// Any other status.
    #[error("{refusal}")]
    Unexpected {
        refusal: Refusal,
        /// What the registry asked to wait.
        retry_after: Option<Duration>,
    },
    /// An answer that breaks the protocol.
    #[error("the answer makes no sense: {0}")]
    Malformed(String),
    #[error(transparent)]
    Credentials(#[from] CredentialError),
}

/// What a registry says when it says no: status, and code and message of the first error in the body (OCI distribution
/// spec 1.1, "Error Codes").
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub status: u16,
    pub code: Option<String>,
    pub message: Option<String>,
}

impl Refusal {
    /// The longest message that is shown, in characters: IAM's name principal, action and resource.
    const MESSAGE: usize = 600;

    pub(super) fn new(status: StatusCode, body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Errors {
            errors: Vec<Entry>,
        }
        #[derive(Deserialize)]
        struct Entry {
            code: Option<String>,
            message: Option<String>,
        }
        let first = serde_json::from_slice::<Errors>(body)
            .ok()
            .and_then(|body| body.errors.into_iter().next());
        let (code, message) = match first {
            Some(entry) => (entry.code, entry.message),
            // Not a registry, or one in trouble: a line of plain text is the best there is ("Client sent an HTTP
            // request to an HTTPS server."); a page of HTML is not worth showing.
            None => (None, plain_line(body)),
        };
        Self {
            status: status.as_u16(),
            code: code
                .map(|text| cleaned(&text, 64))
                .filter(|t| !t.is_empty()),
            message: message
                .map(|text| cleaned(&text, Self::MESSAGE))
                .filter(|t| !t.is_empty()),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP {}", self.status)?;
        if let Some(code) = &self.code {
            write!(f, " {code}")?;
        }
        if let Some(message) = &self.message {
            write!(f, " \"{message}\"")?;
        }
        Ok(())
    }
}

fn plain_line(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?.trim();
    (!text.starts_with(['<', '{', '['])).then(|| text.lines().next().unwrap_or("").to_owned())
}

/// Foreign text made fit for a terminal: no control or formatting characters, bounded.
pub(super) fn cleaned(text: &str, limit: usize) -> String {
    let bidirectional = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars()
        .filter(|c| !c.is_control() && !bidirectional(*c))
        .take(limit)
        .collect::<String>()
        .trim()
        .to_owned()
}

/// A URL without what may be secret in it.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(body: &str) -> String {
        Refusal::new(StatusCode::BAD_REQUEST, body.as_bytes()).to_string()
    }

    #[test]
    fn the_first_error_of_the_body_is_shown() {
        insta::assert_snapshot!(
            refusal(r#"{"errors":[{"code":"TAG_INVALID","message":"tag is immutable","detail":{}}]}"#),
            @r#"HTTP 400 TAG_INVALID "tag is immutable""#
        );
        insta::assert_snapshot!(
            refusal("Client sent an HTTP request to an HTTPS server.\n"),
            @r#"HTTP 400 "Client sent an HTTP request to an HTTPS server.""#
        );
        insta::assert_snapshot!(refusal("<html><body>nginx</body></html>"), @"HTTP 400");
        insta::assert_snapshot!(refusal(r#"{"errors":[]}"#), @"HTTP 400");
        insta::assert_snapshot!(refusal(""), @"HTTP 400");
    }

    #[test]
    fn foreign_text_cannot_reach_the_terminal_raw() {
        let body = serde_json::json!({"errors": [{
            "code": "X\u{1b}[31m",
            "message": format!("a\u{202e}\r\nb{}", "z".repeat(5000)),
        }]});
        let text = refusal(&body.to_string());
        assert!(text.starts_with("HTTP 400 X[31m \"abzz"), "{text}");
        assert!(text.len() < 700, "{}", text.len());
    }

    #[test]
    fn urls_lose_user_and_query() {
        let url = Url::parse("https://me:pw@s3.example/blob?X-Amz-Signature=abc#f").unwrap();
        assert_eq!(shown(&url), "https://s3.example/blob");
    }
}
