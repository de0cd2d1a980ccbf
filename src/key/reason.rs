//! Why a container is built, as data: what differs between its sources and the published image.

use std::fmt;

use serde::Serialize;

use super::inputs::Change;

/// Why a container is built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "because", rename_all = "snake_case")]
pub(crate) enum BuildReason {
    /// A flag says so.
    Asked { flag: &'static str },
    /// It has no key, so it is built each time.
    NoKey { why: String },
    /// Nothing is published to compare it with, or nothing that says from what it was made.
    FirstBuild,
    /// The published image was made from something else.
    Changed {
        inputs: Vec<Change>,
        /// Files of its contexts, relative to the checkout, since the published image's commit.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        files: Vec<FileChange>,
    },
    /// The published image has the same inputs, and its key is not in the registry.
    NoImage,
    /// The image that has its key is not one that can be trusted.
    Distrusted { why: String },
    /// Whether there is an image cannot be found out.
    LookupFailed { why: String },
}

/// A file that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct FileChange {
    pub path: String,
    /// Git blob ids; `None`: it was not there, it is gone, or it is in no commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
}

/// Files that are named in one line.
const NAMED: usize = 3;

impl fmt::Display for BuildReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked { flag } => f.write_str(flag),
            Self::NoKey { why } => write!(f, "always built: {why}"),
            Self::FirstBuild => {
                f.write_str("first build: nothing published says what it was made from")
            }
            Self::NoImage => f.write_str("no image with its key is in the registry"),
            Self::Distrusted { why } => write!(f, "the image with its key is not trusted: {why}"),
            Self::LookupFailed { why } => write!(f, "its key cannot be looked up: {why}"),
            Self::Changed { inputs, files } => {
                let mut said: Vec<String> = files
                    .iter()
                    .take(NAMED)
                    .map(|file| file.path.clone())
                    .collect();
                if files.len() > NAMED {
                    said.push(format!("{} more files", files.len() - NAMED));
                }
                let named = |change: &&Change| files.is_empty() || !is_files(&change.input);
                said.extend(inputs.iter().filter(named).map(ToString::to_string));
                write!(f, "changed: {}", said.join(", "))
            }
        }
    }
}

/// Whether an input is made of files.
pub(crate) fn is_files(input: &str) -> bool {
    matches!(input, "dockerfile" | "context" | "extra_inputs") || input.starts_with("context:")
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = self.input.split_once(':').unwrap_or((&self.input, ""));
        let change = match (&self.old, &self.new) {
            (None, _) => " is new",
            (_, None) => " is gone",
            _ => "",
        };
        match (kind, name) {
            ("dockerfile", _) => write!(f, "Dockerfile{change}"),
            ("context", "") => write!(f, "files of the context{change}"),
            ("context", name) => write!(f, "files of context {name}{change}"),
            ("extra_inputs", _) => write!(f, "files of extra_inputs{change}"),
            ("arg", name) => write!(f, "argument {name}{change}"),
            ("parent", name) => write!(f, "parent {name}{change}"),
            ("exporter", _) => f.write_str("profile"),
            ("age", _) => f.write_str("older than max_age"),
            ("image" | "attribute" | "label", name) => {
                write!(
                    f,
                    "{}{name}{change}",
                    if kind == "attribute" {
                        String::new()
                    } else {
                        format!("{kind} ")
                    }
                )?;
                if let (Some(old), Some(new), true) = (&self.old, &self.new, kind != "label") {
                    write!(f, " {} → {}", short(old), short(new))?;
                }
                Ok(())
            }
            _ => write!(f, "{}{change}", self.input),
        }
    }
}

/// Digests are told apart by their first digits.
fn short(text: &str) -> &str {
    match text.strip_prefix("sha256:") {
        Some(hex) => hex.get(..12).unwrap_or(hex),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_names_what_changed() {
        let change = |input: &str, old: Option<&str>, new: Option<&str>| Change {
            input: input.into(),
            old: old.map(Into::into),
            new: new.map(Into::into),
        };
        let file = |path: &str| FileChange {
            path: path.into(),
            old: None,
            new: None,
        };
        let digest = |c: &str| format!("sha256:{}", c.repeat(64));
        let inputs = vec![
            change("arg:PYTHON", Some("1"), Some("2")),
            change("attribute:target", None, Some("run")),
            change("context", Some("1"), Some("2")),
            change("image:python:3.11", Some(&digest("a")), Some(&digest("b"))),
            change("parent:base", Some("1"), Some("2")),
        ];
        let with = |files: Vec<FileChange>| BuildReason::Changed {
            inputs: inputs.clone(),
            files,
        };
        insta::assert_snapshot!(with(vec![]), @"changed: argument PYTHON, target is new, files of the context, image python:3.11 aaaaaaaaaaaa → bbbbbbbbbbbb, parent base");
        insta::assert_snapshot!(with(["a", "b", "c", "d", "e"].map(file).into()), @"changed: a, b, c, 2 more files, argument PYTHON, target is new, image python:3.11 aaaaaaaaaaaa → bbbbbbbbbbbb, parent base");
    }
}
