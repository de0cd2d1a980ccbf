//! What [`Dockerfile::images`](super::Dockerfile::images) finds, as plain data, and what it says of it.

use std::collections::BTreeMap;

use crate::diagnostic::{Diagnostic, Span};

/// How an image is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum UseKind {
    From,
    CopyFrom,
    Mount,
}

/// An image from outside the Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageUse {
    /// As written, variables expanded.
    pub name: String,
    pub kind: UseKind,
    /// The image of a `FROM`, the flag of the others.
    pub span: Span,
    /// The stage of this Dockerfile that has the image's name, further down: a named context would replace that stage.
    pub hidden_by: Option<Span>,
}

impl ImageUse {
    /// The name under which BuildKit looks for a named context instead of this image, where that is one plain word:
    /// `base`, and as well `base:latest`, `library/base`, `docker.io/library/base`.
    ///
    /// Source: `NamedContext` in `frontend/dockerui/config.go` (familiar form, `:latest` cut off) and
    /// `splitDockerDomain` in distribution/reference v0.6.
    pub(crate) fn context_name(&self) -> Option<&str> {
        let name = self.name.strip_suffix(":latest").unwrap_or(&self.name);
        let path = ["docker.io/", "index.docker.io/"]
            .iter()
            .find_map(|host| name.strip_prefix(host))
            .unwrap_or(name);
        let path = path.strip_prefix("library/").unwrap_or(path);
        (!path.is_empty() && !path.contains(['/', ':', '@'])).then_some(path)
    }
}

/// What may name an image and cannot be told before the build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unclear {
    /// As written.
    pub text: String,
    pub kind: UseKind,
    pub span: Span,
    pub reason: UnclearReason,
}

/// Why it cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnclearReason {
    /// The expanded text is empty or no image name, and these variables have no value.
    #[error("no value for {}", .0.iter().map(|v| format!("`{v}`")).collect::<Vec<_>>().join(", "))]
    Unset(Vec<String>),
    /// An expression that cannot be evaluated here, or that BuildKit refuses.
    #[error("{0}")]
    Expression(String),
    #[error("BuildKit refuses it: this stage does not come before the one that reads it")]
    NotEarlier,
    #[error("BuildKit refuses it: there is no stage of this number")]
    NoSuchStage,
    /// An `ONBUILD` of the target: whoever builds from this image reads it, this build does not.
    #[error("containers built from this one read it")]
    OnBuild,
}

impl Unclear {
    /// The warning for it.
    pub(crate) fn diagnostic(&self) -> Diagnostic {
        let title = match self.reason {
            UnclearReason::OnBuild => format!("`{}` is read by children only", self.text),
            _ => format!("cannot tell which image `{}` is", self.text),
        };
        Diagnostic::warning(title)
            .at(self.span.clone(), self.reason.to_string())
            .help("if it is a container of this project, name it in `needs`")
    }
}

/// All that a target is made of, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ImageUses {
    pub uses: Vec<ImageUse>,
    pub unclear: Vec<Unclear>,
    /// The stages it is made of, each with the earlier stage that it continues, if it does.
    pub stages: BTreeMap<usize, Option<usize>>,
}

/// No stage has the target's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnknownTarget {
    pub target: String,
    pub dockerfile: String,
    /// The stage that was probably meant.
    pub nearest: Option<String>,
    /// All named stages.
    pub stages: Vec<String>,
}

impl UnknownTarget {
    /// The error; the caller adds where the target was written.
    pub(crate) fn diagnostic(&self) -> Diagnostic {
        let title = format!("{} has no stage `{}`", self.dockerfile, self.target);
        let error = match self.stages.as_slice() {
            [] => Diagnostic::error(title)
                .note("none of its stages has a name")
                .help("name the stage: `FROM … AS name`"),
            stages => Diagnostic::error(title).note(format!("its stages: {}", stages.join(", "))),
        };
        match &self.nearest {
            Some(nearest) => error.help(format!("did you mean `{nearest}`?")),
            None => error,
        }
    }
}
