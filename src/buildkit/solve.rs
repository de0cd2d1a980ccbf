//! Solve and Status: one build from request to exporter response.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::time::Duration;

use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::buildkit::v1::sourcepolicy::{
    MatchType, Policy, PolicyAction, Rule, Selector, Update,
};
use bollard_buildkit_proto::moby::buildkit::v1::{
    CacheOptions, CacheOptionsEntry, Exporter, InfoRequest, SolveRequest, StatusRequest,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Channel;

use super::error::BuildError;
use super::status::StatusUpdate;
use super::{Builder, MAX_MESSAGE, new_id};
use crate::manifest::model::Mirror;

/// Attributes of a frontend, exporter or cache, in BuildKit's own words.
pub(crate) type Attributes = BTreeMap<String, String>;

/// A build by the Dockerfile frontend.
#[derive(Debug, Clone, Default)]
pub(crate) struct Solve {
    /// The session that gives credentials, and files where no attribute names another one.
    pub(crate) session: String,
    pub(crate) frontend: Attributes,
    /// What the builder is asked to allow, by BuildKit's names (`util/entitlements`).
    pub(crate) entitlements: Vec<String>,
    /// From where images come, the first that fits.
    pub(crate) mirrors: Vec<Mirror>,
    /// Attributes of the `image` exporter; `None` builds and keeps the result in the builder's cache only.
    pub(crate) image: Option<Attributes>,
    /// Images by tag, and what to take instead, by digest; with host and path in full.
    pub(crate) pins: BTreeMap<String, String>,
    /// Attributes of the `docker` exporter, which sends the image to the session's [`super::session::load::Loader`].
    pub(crate) docker: Option<Attributes>,
    /// Type and attributes of a cache export.
    pub(crate) cache_export: Option<(&'static str, Attributes)>,
}

#[derive(Debug)]
pub(crate) enum SolveError {
    /// Our own token fired; the builder has been told to stop.
    Cancelled,
    Failed(BuildError),
}

/// How long the status stream may be silent after Solve has returned: the failing step's last lines come late, and a chatty
/// build's lines may still be many.
const STATUS_GRACE: Duration = Duration::from_secs(5);

/// Runs a build to its end and returns the exporter's response. Status updates go to `updates` meanwhile; a full
/// channel slows them, and nothing is dropped. When this returns, the builder has ended the build, or has not said so within [`STATUS_GRACE`].
pub(crate) async fn solve(
    builder: &Builder,
    request: Solve,
    cancel: &CancellationToken,
    updates: mpsc::Sender<StatusUpdate>,
) -> Result<HashMap<String, String>, SolveError> {
    let reference = new_id();
    // Status starts with Solve, not after it: the builder keeps a short history only.
    let ended = CancellationToken::new();
    let status = forward(client(builder), reference.clone(), updates, ended.clone());
    let status = AbortOnDropHandle::new(tokio::spawn(status));
    let connects = builder.connects.load(Ordering::Relaxed);
    let mut client = client(builder);
    let result = tokio::select! {
        result = client.solve(message(reference, request)) => {
            result.map(|response| response.into_inner().exporter_response)
                .map_err(|status| SolveError::Failed(BuildError::from(&status)))
        }
        // Dropping the call is what cancels a build.
        () = cancel.cancelled() => Err(SolveError::Cancelled),
    };
    ended.cancel();
    let _ = status.await;
    match result {
        Err(SolveError::Failed(error)) if error.answer_lost => {
            // The channel connects again by itself: to a builder that was started again, say, which knows of no build.
            let answers = answers(builder).await;
            let connection_lost = !answers || builder.connects.load(Ordering::Relaxed) != connects;
            Err(SolveError::Failed(BuildError {
                connection_lost,
                ..error
            }))
        }
        other => other,
    }
}

/// Whether the builder still answers.
pub(crate) async fn answers(builder: &Builder) -> bool {
    let mut client = client(builder);
    let info = client.info(InfoRequest {});
    tokio::time::timeout(STATUS_GRACE, info)
        .await
        .is_ok_and(|answer| answer.is_ok())
}

fn client(builder: &Builder) -> ControlClient<Channel> {
    ControlClient::new(builder.channel.clone())
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE)
}

fn message(reference: String, solve: Solve) -> SolveRequest {
    let internal = holds_credentials(&solve);
    let map = |attributes: Attributes| attributes.into_iter().collect::<HashMap<_, _>>();
    let exports = solve.cache_export.map(|(kind, attrs)| CacheOptionsEntry {
        r#type: kind.into(),
        attrs: map(attrs),
    });
    SolveRequest {
        r#ref: reference,
        session: solve.session,
        frontend: "dockerfile.v0".into(),
        frontend_attrs: map(solve.frontend),
        entitlements: solve.entitlements,
        exporters: [("image", solve.image), ("docker", solve.docker)]
            .into_iter()
            .filter_map(|(name, attrs)| {
                Some(Exporter {
                    r#type: name.into(),
                    attrs: map(attrs?),
                })
            })
            .collect(),
        cache: Some(CacheOptions {
            exports: exports.into_iter().collect(),
            ..CacheOptions::default()
        }),
        source_policy: policy(solve.pins, &solve.mirrors),
        internal,
        ..SolveRequest::default()
    }
}

/// Whether attributes hold what must not lie on the builder's disk: credentials for S3, a proxy's password. The record
/// that a builder keeps of a build has all attributes of the frontend, and of an internal one it keeps none (BuildKit
/// `solver/llbsolver/history.go`).
fn holds_credentials(solve: &Solve) -> bool {
    let key = "secret_access_key";
    let export = solve.cache_export.as_ref();
    let exported = export.is_some_and(|(_, to)| to.contains_key(key));
    let imports = solve.frontend.get("cache-imports");
    let imported = imports.is_some_and(|imports| imports.contains(key));
    let mut arguments = solve.frontend.iter();
    let proxied = arguments.any(|(name, value)| {
        let name = name.to_ascii_lowercase();
        name.starts_with("build-arg:") && name.ends_with("_proxy") && value.contains('@')
    });
    exported || imported || proxied
}

/// Converts the names of images before anything is asked about them (BuildKit `sourcepolicy`; the rules are tried again
/// from the first one after each conversion). A named context would replace images too, but also a stage that has an
/// image's name.
fn policy(pins: BTreeMap<String, String>, mirrors: &[Mirror]) -> Option<Policy> {
    let pins = pins.into_iter().map(|(image, instead)| {
        let image = format!("docker-image://{image}");
        // A wildcard without wildcards: `Exact` was seen to match nothing that a Dockerfile names (BuildKit of engine 28.5).
        rule(
            image,
            MatchType::Wildcard,
            format!("docker-image://{instead}"),
        )
    });
    let rules: Vec<_> = pins.chain(mirrors.iter().map(mirrored)).collect();
    (!rules.is_empty()).then_some(Policy { version: 1, rules })
}

fn mirrored(mirror: &Mirror) -> Rule {
    // The characters that names of registries and repositories have, of which Go's `regexp` takes only the dot for more.
    let of = mirror.of.replace('.', r"\.");
    let instead = format!("docker-image://{}/${{1}}", mirror.by);
    rule(
        format!("^docker-image://{of}/(.+)$"),
        MatchType::Regex,
        instead,
    )
}

fn rule(identifier: String, matches: MatchType, instead: String) -> Rule {
    Rule {
        action: PolicyAction::Convert.into(),
        selector: Some(Selector {
            identifier,
            match_type: matches.into(),
            ..Selector::default()
        }),
        updates: Some(Update {
            identifier: instead,
            ..Update::default()
        }),
    }
}

/// Reads the status stream to its end. An error ends it early: Solve tells what became of the build.
async fn forward(
    mut client: ControlClient<Channel>,
    reference: String,
    updates: mpsc::Sender<StatusUpdate>,
    ended: CancellationToken,
) {
    let silent = || async {
        ended.cancelled().await;
        tokio::time::sleep(STATUS_GRACE).await;
    };
    let request = client.status(StatusRequest { r#ref: reference });
    let response = tokio::select! {
        response = request => response,
        () = silent() => return,
    };
    let Ok(response) = response else { return };
    let mut stream = response.into_inner();
    loop {
        let message = tokio::select! {
            message = stream.message() => message,
            () = silent() => return,
        };
        let Ok(Some(message)) = message else { return };
        if updates.send(message.into()).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_build_with_credentials_the_builder_keeps_no_record() {
        let attributes = |name: &str, value: &str| Attributes::from([(name.into(), value.into())]);
        let with = |name: &str, value: &str| Solve {
            frontend: attributes(name, value),
            ..Solve::default()
        };
        let export = |name: &str| Solve {
            cache_export: Some(("s3", attributes(name, "x"))),
            ..Solve::default()
        };
        let internal = |solve| message("ref".into(), solve).internal;
        let import = r#"[{"Type":"s3","Attrs":{"secret_access_key":"x"}}]"#;
        assert!(internal(with("cache-imports", import)));
        assert!(internal(with("build-arg:HTTPS_PROXY", "http://me:x@proxy")));
        assert!(internal(export("secret_access_key")));
        assert!(!internal(with("build-arg:HTTPS_PROXY", "http://proxy")));
        assert!(!internal(with("build-arg:MAIL", "me@here")));
        assert!(!internal(export("bucket")));
    }
}
