//! Whole manifests, good and bad, as users meet them.

mod containers;
mod discovery;
mod good;
mod robust;
mod schema;

use std::path::Path;

use super::model::ProjectManifest;
use super::project::Location;
use super::{Loaded, load_text};
use crate::diagnostic::human::{Screen, render};
use crate::diagnostic::{Diagnostic, SourceText};

/// The least that every manifest below begins with.
const HEAD: &str = "version = 1\n[registry]\nprovider = \"oci\"\nhost = \"localhost:5000\"\n";

/// A repository with these files; a name that ends with `/` is a folder.
fn repository(files: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        let path = dir.path().join(file);
        if file.ends_with('/') {
            std::fs::create_dir_all(path).unwrap();
        } else {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "FROM scratch\n").unwrap();
        }
    }
    dir
}

fn load_in(root: &Path, text: &str) -> Loaded {
    let root = std::fs::canonicalize(root).unwrap();
    let source = SourceText::new("containers.toml", text);
    load_text(&Location {
        source: &source,
        path: &root.join("containers.toml"),
        root: &root,
    })
}

/// The rendered errors of a manifest in a repository with these files.
fn errors(files: &[&str], text: &str) -> String {
    let dir = repository(files);
    match load_in(dir.path(), text) {
        Ok(_) => "good".to_owned(),
        Err(diagnostics) => render(&diagnostics, Screen::default()),
    }
}

/// The errors of a manifest that is good but for what follows the registry and one container.
fn errors_of(rest: &str) -> String {
    errors(
        &["train/Dockerfile"],
        &format!("{HEAD}{rest}\n[containers.train]\ncontext = \"train\"\n"),
    )
}

fn titles(diagnostics: &[Diagnostic]) -> Vec<&str> {
    diagnostics.iter().map(|d| d.title.as_str()).collect()
}

fn good(files: &[&str], text: &str) -> (tempfile::TempDir, ProjectManifest) {
    let dir = repository(files);
    let (manifest, warnings) = load_in(dir.path(), text)
        .unwrap_or_else(|diagnostics| panic!("{}", render(&diagnostics, Screen::default())));
    assert_eq!(titles(&warnings), Vec::<&str>::new());
    (dir, manifest)
}
