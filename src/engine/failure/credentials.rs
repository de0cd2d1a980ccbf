//! A registry that lets nobody in: which credentials the builder was given for it, by kind and never by value.

use crate::buildkit::session::auth::{AuthService, Given};

/// What a message that speaks of permission has to do with the registries that were asked.
pub(super) struct Tried {
    /// Of those, the ones that the message names.
    given: Vec<Given>,
    denied: bool,
}

/// What registries and their token services say to those they do not know.
const DENIED: [&str; 8] = [
    "pull access denied",
    "insufficient_scope",
    "401 unauthorized",
    "403 forbidden",
    "no basic auth credentials",
    "authorization failed",
    "authentication required",
    "denied: ",
];

impl Tried {
    pub(super) async fn ask(auth: &AuthService, message: &str) -> Self {
        let lower = message.to_lowercase();
        let denied = DENIED.iter().any(|text| lower.contains(text));
        let mut given = if denied { auth.given().await } else { vec![] };
        // The builder asks for Docker Hub by the hosts of its API.
        given.retain(|given| lower.contains(given.host.as_str()));
        Self { given, denied }
    }

    /// A note and a remedy, where permission is the matter.
    pub(super) fn told(&self) -> Option<(String, String)> {
        if !self.denied {
            return None;
        }
        let given = self.given.first();
        let host = given.map_or("its registry", |given| given.host.as_str());
        // In quotes it is not broken into lines.
        let login = given.map_or("`docker login`", |_| "`docker login HOST`");
        let login = login.replace("HOST", host);
        Some(
            match given.map(|given| (given.source.as_deref(), &given.looked_in)) {
                Some((Some(source), _)) => (
                    format!("{host} was given credentials from {source}, and did not let them in"),
                    format!(
                        "see that they are still good and may do this there; {login} renews them"
                    ),
                ),
                Some((None, looked_in)) => {
                    let place = looked_in
                        .as_ref()
                        .map_or_else(|| "no docker config".to_owned(), Clone::clone);
                    (
                        format!("{host} was asked without credentials: {place} has none for it"),
                        format!("if the image's name is right, log in to its registry: {login}"),
                    )
                }
                None => (
                    format!("{host} did not ask for credentials"),
                    format!(
                        "see the image's name; if it is private, log in to its registry: {login}"
                    ),
                ),
            },
        )
    }
}
