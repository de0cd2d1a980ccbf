//! `[mirrors]`: from where images come instead of the registry that a Dockerfile names.

use std::sync::Arc;

use super::document::View;
use super::grammar::{Refusal, Verdict};
use super::model::Mirror;
use crate::diagnostic::{Diagnostic, SourceText, Span};
use crate::reference::{RegistryHost, Repository};

/// A registry's host, or the beginning of its repositories: `docker.io`, `quay.io/team`.
pub(super) fn prefix(text: &str) -> Verdict {
    let (host, path) = text.split_once('/').unwrap_or((text, ""));
    let names_host = host == "localhost" || host.contains(['.', ':']);
    let host = RegistryHost::new(host).ok().filter(|_| names_host);
    let good = host.is_some_and(|host| path.is_empty() || Repository::new(host, path).is_ok());
    if good && !text.ends_with('/') {
        return Ok(());
    }
    Err(Refusal {
        why: "is neither a registry's host nor the beginning of its repositories".to_owned(),
        help: Some("write it like \"docker.io\" or \"registry.example:5000/hub\"".to_owned()),
    })
}

/// The mirrors, those of longer prefixes first; no mirror is itself mirrored.
pub(super) fn read(view: View<'_>, source: &Arc<SourceText>) -> (Vec<Mirror>, Vec<Diagnostic>) {
    let table = view.table("mirrors");
    let mut mirrors = Vec::new();
    let mut places = Vec::new();
    for (key, _) in table.entries() {
        let Some(by) = table.text(key.get_ref()) else {
            continue;
        };
        let of = key.get_ref().to_string();
        let of = match of.strip_prefix("index.docker.io") {
            Some(rest) => format!("docker.io{rest}"),
            None => of,
        };
        places.push((Span::new(source, by.span()), by.get_ref().clone()));
        mirrors.push(Mirror {
            of,
            by: by.into_inner(),
        });
    }
    let again = |by: &str| mirrors.iter().find(|mirror| mirror.path_of(by).is_some());
    let chained = places.into_iter().filter_map(|(place, by)| {
        let again = again(&by)?;
        let title = format!("the mirror `{by}` is itself mirrored");
        let why = format!("below `{}`, for which `{}` stands in", again.of, again.by);
        Some(
            Diagnostic::error(title)
                .at(place, why)
                .help("name the registry that has the images"),
        )
    });
    let chained = chained.collect();
    mirrors.sort_by(|a, b| b.of.len().cmp(&a.of.len()).then_with(|| a.of.cmp(&b.of)));
    (mirrors, chained)
}
