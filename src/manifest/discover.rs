//! `[discover]`: every folder that a `roots` pattern matches and that has a Dockerfile is a container named after it.
//!
//! A written container of that name is the same one, and its keys win. A folder whose name cannot be a container's
//! needs one that is written: the manifest names it by its `context`.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use indexmap::IndexMap;

use super::document::Said;
use super::grammar;
use super::walk::{Dir, Walk};
use crate::diagnostic::Diagnostic;

/// A folder that a pattern matched.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    /// As walked, below the manifest's folder: what people call it.
    pub shown: PathBuf,
    /// The same, absolute and without links.
    pub real: PathBuf,
    /// Which pattern found it.
    pub pattern: usize,
    pub has_dockerfile: bool,
}

impl Folder {
    /// The folder's own name, as bytes may have it.
    fn name(&self) -> Option<&std::ffi::OsStr> {
        self.shown.file_name().or_else(|| self.real.file_name())
    }
}

/// What discovery works on.
pub(super) struct Discovery<'a> {
    /// The manifest's folder.
    pub root: &'a Path,
    pub roots: &'a [Said<String>],
    pub exclude: &'a [Said<String>],
    /// The file that makes a folder a container: `dockerfile` of the defaults.
    pub dockerfile: &'a str,
    /// Containers that the manifest writes: their folders need no Dockerfile of that name.
    pub written: HashSet<&'a str>,
    /// Real folders that written containers have as their context: a name of their own is not asked of them.
    pub claimed: HashSet<PathBuf>,
    /// Makes the span of a pattern.
    pub span: &'a dyn Fn(&Said<String>) -> crate::diagnostic::Span,
}

impl Discovery<'_> {
    /// The containers by name, sorted, and what is wrong.
    pub(super) fn run(&self) -> (IndexMap<String, Folder>, Vec<Diagnostic>) {
        let mut diagnostics = Vec::new();
        let exclude = self.excluded();
        let mut seen = HashSet::new();
        let mut folders = Vec::new();
        for (index, pattern) in self.roots.iter().enumerate() {
            let mut walk = Walk::new(self.root, &exclude);
            walk.pattern(pattern.get_ref());
            for (shown, error) in &walk.unreadable {
                let title = format!("cannot read the folder `{}`: {error}", shown.display());
                diagnostics.push(
                    Diagnostic::error(title)
                        .at((self.span)(pattern), "this pattern looks into it")
                        .help("make it readable, or name it in `discover.exclude`"),
                );
            }
            let matched = self.candidates(index, &walk.found);
            if matched.is_empty() {
                diagnostics.push(self.nothing_found(pattern, &walk));
            }
            folders.extend(matched.into_iter().filter(|f| seen.insert(f.real.clone())));
        }
        let named = self.named(folders, &mut diagnostics);
        (named, diagnostics)
    }

    fn excluded(&self) -> GlobSet {
        let mut set = GlobSetBuilder::new();
        for pattern in self.exclude {
            let text = pattern
                .get_ref()
                .trim_start_matches("./")
                .trim_end_matches('/');
            if let Ok(glob) = GlobBuilder::new(text).literal_separator(true).build() {
                set.add(glob);
            }
        }
        set.build().unwrap_or_else(|_| GlobSet::empty())
    }

    /// Matched folders that are, or can be, a container's.
    fn candidates(&self, pattern: usize, found: &[Dir]) -> Vec<Folder> {
        let folders = found.iter().map(|dir| Folder {
            shown: dir.shown.clone(),
            has_dockerfile: dir.real.join(self.dockerfile).is_file(),
            real: dir.real.clone(),
            pattern,
        });
        let is_written = |f: &Folder| {
            let name = f.name().and_then(|n| n.to_str());
            name.is_some_and(|n| self.written.contains(n))
        };
        folders
            .filter(|f| f.has_dockerfile || is_written(f) || self.claimed.contains(&f.real))
            .collect()
    }

    fn nothing_found(&self, pattern: &Said<String>, walk: &Walk<'_>) -> Diagnostic {
        let title = format!("`{}` finds no container", pattern.get_ref());
        let label = match walk.found.len() {
            0 => "no folder matches".to_owned(),
            1 => format!("one folder matches, without a `{}`", self.dockerfile),
            n => format!("{n} folders match, none with a `{}`", self.dockerfile),
        };
        let diagnostic = Diagnostic::warning(title).at((self.span)(pattern), label);
        match walk.missing.as_ref().filter(|_| walk.found.is_empty()) {
            Some((missing, Some(meant))) => diagnostic.help(format!(
                "there is no folder `{}`; did you mean `{meant}`?",
                missing.display()
            )),
            Some((missing, None)) => {
                diagnostic.note(format!("there is no folder `{}`", missing.display()))
            }
            None => diagnostic,
        }
    }

    fn named(
        &self,
        mut folders: Vec<Folder>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> IndexMap<String, Folder> {
        folders.sort_by(|a, b| (!a.has_dockerfile, &a.shown).cmp(&(!b.has_dockerfile, &b.shown)));
        let mut named: HashMap<String, Folder> = HashMap::new();
        let mut nameless = Vec::new();
        for folder in folders {
            let name = folder.name().unwrap_or_default();
            match name.to_str().filter(|n| grammar::is_name(n)) {
                None if self.claimed.contains(&folder.real) => {}
                None => nameless.push(folder),
                Some(name) => match named.get(name) {
                    None => {
                        named.insert(name.to_owned(), folder);
                    }
                    // One without a Dockerfile was only a candidate.
                    Some(first) if folder.has_dockerfile => {
                        diagnostics.push(self.two_of_a_name(name, first, &folder));
                    }
                    Some(_) => {}
                },
            }
        }
        diagnostics.extend(nameless.iter().map(|folder| self.bad_name(folder, &named)));
        let mut named: IndexMap<String, Folder> = named
            .into_iter()
            .filter(|(name, f)| f.has_dockerfile || self.written.contains(name.as_str()))
            .collect();
        named.sort_keys();
        named
    }

    fn at(&self, folder: &Folder, diagnostic: Diagnostic, label: &str) -> Diagnostic {
        match self.roots.get(folder.pattern) {
            Some(pattern) => diagnostic.at((self.span)(pattern), label),
            None => diagnostic,
        }
    }

    fn bad_name(&self, folder: &Folder, taken: &HashMap<String, Folder>) -> Diagnostic {
        let shown = folder.shown.display();
        let Some(path) = folder.shown.to_str() else {
            let title = format!("the name of the folder `{shown}` is not UTF-8");
            return self
                .at(folder, Diagnostic::error(title), "found by this pattern")
                .help("rename the folder, or exclude it in `discover.exclude` with a `*` or `?`");
        };
        let name = folder.name().and_then(|n| n.to_str()).unwrap_or_default();
        let title = format!("the folder `{path}` gives a name that no container can have");
        let example = grammar::valid_name(name)
            .filter(|name| !taken.contains_key(name))
            .unwrap_or_else(|| "NAME".to_owned());
        let help = format!(
            "rename the folder, name it in `discover.exclude`, or give it a name of its own:\n\
             [containers.{example}]\ncontext = {path:?}"
        );
        let label = match name {
            "all" => "found by this pattern; `all` means every container on the command line",
            _ => {
                "found by this pattern; a name is lower-case letters and digits, joined by `.`, `_` or `-`"
            }
        };
        self.at(folder, Diagnostic::error(title), label).help(help)
    }

    fn two_of_a_name(&self, name: &str, first: &Folder, second: &Folder) -> Diagnostic {
        let (one, two) = (first.shown.display(), second.shown.display());
        let title = format!("two folders for container `{name}`: `{one}` and `{two}`");
        let diagnostic = self.at(second, Diagnostic::error(title), "finds the second one");
        let diagnostic = match self.roots.get(first.pattern) {
            Some(pattern) if first.pattern != second.pattern => {
                diagnostic.see((self.span)(pattern), "finds the first one")
            }
            _ => diagnostic,
        };
        diagnostic.help(format!(
            "exclude one, `exclude = [\"{two}\"]`, and give it a name of its own if it is a container: \
             [containers.NAME] with `context = \"{two}\"`"
        ))
    }
}
