//! The build contexts of a container, each with the ignore rules that hold for it.

use std::path::{Path, PathBuf};

use super::ContextError;
use super::filter::Filter;
use super::ignore::IgnoreFile;
use crate::diagnostic::{Diagnostic, SourceText, Span};
use crate::manifest::model::Container;
use crate::project::shown;

/// What the Dockerfile frontend calls the context that is not named.
pub(crate) const MAIN: &str = "context";

/// A folder of which a builder gets what its ignore rules leave.
#[derive(Debug, Clone)]
pub(crate) struct BuildContext {
    /// [`MAIN`], or the name that the manifest gives it.
    pub name: String,
    /// Absolute.
    pub root: PathBuf,
    pub ignore: Option<IgnoreFile>,
}

impl BuildContext {
    /// What a builder can ask for at most: all that `COPY . /` copies.
    pub(crate) fn filter(&self) -> Filter {
        self.ignore
            .as_ref()
            .map(IgnoreFile::filter)
            .unwrap_or_default()
    }
}

/// The main context first, then the named ones by name.
pub(crate) fn contexts(container: &Container) -> Result<Vec<BuildContext>, ContextError> {
    let main = (MAIN, &container.context, Some(&*container.dockerfile));
    let named = container.contexts.iter();
    let named = named.map(|(name, root)| (name.as_str(), root, None));
    std::iter::once(main)
        .chain(named)
        .map(|(name, root, dockerfile)| {
            Ok(BuildContext {
                name: name.to_owned(),
                root: root.clone(),
                ignore: IgnoreFile::of(root, dockerfile)?,
            })
        })
        .collect()
}

/// An error of one of these contexts. One of a pattern shows the line of the ignore file.
pub(crate) fn diagnostic(
    error: &ContextError,
    contexts: &[BuildContext],
    base: &Path,
) -> Diagnostic {
    let place = match error {
        ContextError::Pattern { pattern, reason } => contexts
            .iter()
            .filter_map(|context| context.ignore.as_ref())
            .find_map(|file| Some((file, file.line_of(pattern)?, *reason))),
        _ => None,
    };
    let Some((file, line, reason)) = place else {
        return Diagnostic::error(error.to_string());
    };
    let source = SourceText::new(shown(&file.path, base), file.text.as_str());
    let range = source.line_range(line);
    Diagnostic::error("malformed pattern in an ignore file")
        .at(Span::new(&source, range), reason)
        .help("correct or remove the line: no builder accepts it")
}
