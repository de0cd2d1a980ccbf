//! Builds of skiff's own that move the contents of a cache mount.

use std::collections::BTreeMap;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::buildkit::solve::{Attributes, Solve, SolveError, solve};
use crate::buildkit::status::StatusUpdate;
use crate::cache::mounts::{NAMESPACE, Said};
use crate::cache::s3;
use crate::engine::cache::attribute;
use crate::engine::job::Shared;
use crate::engine::solve_request::{credentials, pins};
use crate::plan::PlannedContainer;

/// One of our own Dockerfiles, and what becomes of it.
#[derive(Debug, Default)]
pub(super) struct OwnBuild {
    pub(super) dockerfile: String,
    pub(super) labels: BTreeMap<&'static str, String>,
    /// Attributes of the image exporter.
    pub(super) image: Option<Attributes>,
    /// Type and attributes of a cache that it imports.
    pub(super) imports: Option<(&'static str, Attributes)>,
    /// Type and attributes of a cache that it exports.
    pub(super) exports: Option<(&'static str, Attributes)>,
}

/// Builds it beside the container's: on its platform, with its mirrors, without network. Returns what its last step that
/// said anything said, and how it ended.
pub(super) async fn run(
    build: OwnBuild,
    planned: &PlannedContainer,
    shared: &Shared,
    cancel: &CancellationToken,
) -> (Option<Said>, Result<(), String>) {
    const LOCAL: &str = "mounts";
    let caches = build.imports.iter().chain(&build.exports);
    let secrets: Vec<String> = caches.flat_map(|(_, to)| s3::secrets(to)).collect();
    let folder = match written(&build.dockerfile) {
        Ok(folder) => folder,
        Err(error) => return (None, Err(error.to_string())),
    };
    let served = shared.files.serve(LOCAL, folder.path()).await;
    let (files, session) = match (served, credentials(shared).await) {
        (Ok(files), Ok(session)) => (files, session),
        (Err(status), _) => return (None, Err(status.message().to_owned())),
        (_, Err(error)) => return (None, Err(error.to_string())),
    };
    let container = &planned.container;
    let mut frontend = Attributes::from([
        ("platform".into(), container.platforms[0].to_string()),
        ("dockerfilekey".into(), LOCAL.into()),
        (format!("local-sessionid:{LOCAL}"), files.session.id.clone()),
        ("force-network-mode".into(), "none".into()),
    ]);
    if let Some(namespace) = container.args.get(NAMESPACE) {
        frontend.insert(format!("build-arg:{NAMESPACE}"), namespace.clone());
    }
    if let Some((kind, attributes)) = &build.imports {
        frontend.insert("cache-imports".into(), attribute(kind, attributes));
    }
    for (name, value) in build.labels {
        frontend.insert(format!("label:{name}"), value);
    }
    let request = Solve {
        session: session.id.clone(),
        frontend,
        mirrors: planned.mirrors.clone(),
        pins: pins(planned),
        image: build.image,
        cache_export: build.exports,
        ..Solve::default()
    };
    let (sender, mut updates) = mpsc::channel::<StatusUpdate>(16);
    let listen = async {
        let (mut output, mut errors): (Vec<u8>, Vec<u8>) = Default::default();
        while let Some(update) = updates.recv().await {
            for log in update.logs {
                let lines = if log.stderr { &mut errors } else { &mut output };
                lines.extend(log.bytes);
            }
        }
        let said = String::from_utf8_lossy(&output)
            .lines()
            .filter_map(Said::read)
            .next_back();
        let errors = String::from_utf8_lossy(&errors);
        (said, errors.lines().last().map(str::to_owned))
    };
    let solving = solve(&shared.builder, request, cancel, sender);
    let (result, (said, complaint)) = tokio::join!(solving, listen);
    let result = match result {
        Ok(_) => Ok(()),
        Err(SolveError::Cancelled) => Err("interrupted".to_owned()),
        // The builder's own message has the whole script in it.
        Err(SolveError::Failed(error)) => {
            let message = complaint.unwrap_or(error.message);
            Err(s3::without_secrets(message, &secrets))
        }
    };
    (said, result)
}

/// A folder with this Dockerfile.
fn written(dockerfile: &str) -> std::io::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("Dockerfile"), dockerfile)?;
    Ok(folder)
}
