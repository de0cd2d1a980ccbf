//! Before anything is built: are the contexts fit to be sent? Ignore files that can be read, and no stand-ins for files
//! that git has elsewhere.

use std::collections::BTreeMap;
use std::path::Path;

use crate::changes::gaps::{self, Gap, Kind};
use crate::context::filter::Rules;
use crate::context::inputs::{self, BuildContext};
use crate::diagnostic::Diagnostic;
use crate::manifest::model::Container;
use crate::project::shown;

/// Gaps of one kind that are named.
const NAMED: usize = 3;

/// A context with its compiled rules.
struct Compiled {
    context: BuildContext,
    rules: Rules,
}

/// Looks at the contexts of all these containers; `base` is the manifest's folder.
pub(super) fn check<'a>(
    containers: impl IntoIterator<Item = &'a Container>,
    base: &Path,
) -> Result<(), Vec<Diagnostic>> {
    let mut errors = Vec::new();
    let mut compiled = Vec::new();
    for container in containers {
        match compile(container, base) {
            Ok(contexts) => compiled.push((container, contexts)),
            Err(error) => errors.push(error),
        }
    }
    let contexts = compiled.iter().flat_map(|(_, contexts)| contexts);
    let mut roots: Vec<_> = contexts.map(|one| one.context.root.as_path()).collect();
    roots.sort_unstable();
    roots.dedup();
    let gaps = gaps::find(&roots).map_err(|error| vec![error.into()])?;
    if !gaps.is_empty() {
        for (container, contexts) in &compiled {
            errors.extend(lacking(container, contexts, &gaps, base));
        }
    }
    // Two containers may share a context, and so its faults.
    let mut seen = Vec::new();
    errors.retain(|error| {
        !seen.contains(error) && {
            seen.push(error.clone());
            true
        }
    });
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors)
    }
}

fn compile(container: &Container, base: &Path) -> Result<Vec<Compiled>, Diagnostic> {
    let contexts =
        inputs::contexts(container).map_err(|error| inputs::diagnostic(&error, &[], base))?;
    let rules: Result<Vec<_>, _> = contexts
        .iter()
        .map(|context| Rules::excluding(&context.filter().exclude))
        .collect();
    let rules = rules.map_err(|error| inputs::diagnostic(&error, &contexts, base))?;
    let compiled = contexts.into_iter().zip(rules);
    Ok(compiled
        .map(|(context, rules)| Compiled { context, rules })
        .collect())
}

/// What of the gaps a build of this container would ship, an error for each kind and checkout.
fn lacking(
    container: &Container,
    contexts: &[Compiled],
    gaps: &[Gap],
    base: &Path,
) -> Vec<Diagnostic> {
    let mut by_remedy: BTreeMap<(bool, &Path), Vec<&Path>> = BTreeMap::new();
    for gap in gaps
        .iter()
        .filter(|gap| contexts.iter().any(|context| context.ships(gap)))
    {
        let key = (gap.kind == Kind::Pointer, gap.checkout.as_path());
        by_remedy.entry(key).or_default().push(&gap.path);
    }
    let errors = by_remedy.into_iter().map(|((pointer, checkout), paths)| {
        // Where the reader stands, git takes a submodule for another repository.
        let (git, folder) = if base.starts_with(checkout) {
            ("git".to_owned(), base)
        } else {
            (format!("git -C {}", shown(checkout, base)), checkout)
        };
        let shown_from = |folder| {
            paths
                .iter()
                .map(|path| shown(path, folder))
                .collect::<Vec<_>>()
        };
        let (what, command) = if pointer {
            (
                "Git LFS pointers in the place of files",
                "lfs pull".to_owned(),
            )
        } else {
            let paths = shown_from(folder).join(" ");
            let command = format!("submodule update --init --recursive {paths}");
            ("empty folders in the place of submodules", command)
        };
        let title = format!(
            "`{}` would ship {what}: {}",
            container.name,
            list(&shown_from(base))
        );
        Diagnostic::error(title)
            .help(format!("in {}, run: {git} {command}", base.display()))
            .help("or exclude them in .dockerignore")
    });
    errors.collect()
}

fn list(paths: &[String]) -> String {
    let named = paths[..paths.len().min(NAMED)].join(", ");
    match paths.len() - paths.len().min(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

impl Compiled {
    /// What cannot be judged is shipped: the build will say what is wrong.
    fn ships(&self, gap: &Gap) -> bool {
        let Ok(path) = gap.path.strip_prefix(&self.context.root) else {
            return false;
        };
        let path = path.to_string_lossy();
        path.is_empty()
            || self
                .rules
                .keep(&path, gap.kind == Kind::Submodule)
                .unwrap_or(true)
    }
}
