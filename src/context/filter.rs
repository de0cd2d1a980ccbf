//! Which paths of a folder are wanted: include, exclude and follow lists together, as fsutil's `FilterFS` has it.

use std::path::Path;

use super::pattern::{Inherited, Patterns};
use super::{ContextError, follow};

/// What a builder asks for. Empty lists ask for everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Only paths that match, with the folders above them.
    pub include: Vec<String>,
    /// Of those, not the ones that match: the patterns of `.dockerignore`.
    pub exclude: Vec<String>,
    /// More to include: these paths, and what they lead to where they are symbolic links.
    pub follow: Vec<String>,
}

/// What becomes of one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep,
    /// Not wanted itself, but something below it may be.
    Descend,
    /// Nothing below it is wanted either.
    Prune,
}

/// What a folder hands down to its contents.
#[derive(Debug, Clone, Default)]
pub(super) struct Matched {
    include: Inherited,
    exclude: Inherited,
}

/// A filter, compiled for one folder.
pub(crate) struct Rules {
    include: Option<Patterns>,
    exclude: Option<Patterns>,
}

impl Rules {
    /// Reads the links of the follow list below `root`.
    pub(super) fn new(root: &Path, filter: &Filter) -> Result<Self, ContextError> {
        let mut include = Some(filter.include.clone());
        if !filter.follow.is_empty()
            && let Some(targets) = follow::resolve(root, &filter.follow)?
        {
            let all = filter.include.iter().cloned().chain(targets);
            include = follow::without_nested(all);
        }
        let parse = |list: &[String]| match list {
            [] => Ok(None),
            list => Patterns::parse(list).map(Some),
        };
        Ok(Self {
            include: parse(&include.unwrap_or_default())?,
            exclude: parse(&filter.exclude)?,
        })
    }

    /// The rules of an ignore file alone.
    pub(crate) fn excluding(patterns: &[String]) -> Result<Self, ContextError> {
        let exclude = match patterns {
            [] => None,
            list => Some(Patterns::parse(list)?),
        };
        Ok(Self {
            include: None,
            exclude,
        })
    }

    /// Whether a walk from the top would keep this path, or for a folder something below it.
    pub(crate) fn keep(&self, path: &str, is_dir: bool) -> Result<bool, ContextError> {
        let (mut parent, mut own) = (Matched::default(), Matched::default());
        for (end, _) in path.match_indices('/') {
            if self.judge(&path[..end], true, &parent, &mut own)? == Verdict::Prune {
                return Ok(false);
            }
            std::mem::swap(&mut parent, &mut own);
        }
        Ok(self.judge(path, is_dir, &parent, &mut own)? != Verdict::Prune)
    }

    /// Judges a path by what matched the folder it is in; `own` receives what it hands down itself.
    pub(super) fn judge(
        &self,
        path: &str,
        is_dir: bool,
        parent: &Matched,
        own: &mut Matched,
    ) -> Result<Verdict, ContextError> {
        let mut verdict = Verdict::Keep;
        if let Some(include) = &self.include
            && !include.matches(path, &parent.include, &mut own.include)?
        {
            if is_dir && !include.reaches_below(path, false) {
                return Ok(Verdict::Prune);
            }
            verdict = Verdict::Descend;
        }
        if let Some(exclude) = &self.exclude
            && exclude.matches(path, &parent.exclude, &mut own.exclude)?
        {
            if is_dir && !exclude.reaches_below(path, true) {
                return Ok(Verdict::Prune);
            }
            verdict = Verdict::Descend;
        }
        // Only now: fsutil asks both lists about a file, and a malformed pattern is an error only once it is asked.
        if verdict == Verdict::Descend && !is_dir {
            verdict = Verdict::Prune;
        }
        Ok(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_paths_are_judged_as_a_walk_judges_them() {
        let patterns = ["*", "!src", "src/**/*.pyc", "!src/keep.pyc"].map(str::to_owned);
        let rules = Rules::excluding(&patterns).unwrap();
        let keep = |path: &str, is_dir| rules.keep(path, is_dir).unwrap();
        for path in ["src/a.py", "src/x/a.py", "src/keep.pyc"] {
            assert!(keep(path, false), "{path}");
        }
        for path in ["a.py", "src/a.pyc", "src/x/a.pyc", "other/src/a.py"] {
            assert!(!keep(path, false), "{path}");
        }
        // Something below may be kept.
        assert!(keep("src", true));
        assert!(!keep("other", true));
        assert!(
            Rules::excluding(&[])
                .unwrap()
                .keep("any/thing", false)
                .unwrap()
        );
    }
}
