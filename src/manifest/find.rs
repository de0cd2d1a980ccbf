//! Where `containers.toml` is.

use std::path::{Path, PathBuf};

use super::locate;
use crate::diagnostic::Diagnostic;

/// The manifest's name.
pub(crate) const FILE_NAME: &str = "containers.toml";

/// The least that a manifest says.
pub(super) const MINIMAL: &str = "\
version = 1

[registry]
repository = \"team/{name}\"   # in Amazon ECR; for another: provider = \"oci\", host = \"…\"

[discover]
roots = [\"containers/*\"]";

/// The manifest: the given file, else `containers.toml` in `cwd` or the nearest folder above it.
pub(crate) fn find(explicit: Option<&Path>, cwd: &Path) -> Result<PathBuf, Diagnostic> {
    match explicit {
        Some(path) => given(path, cwd),
        None => cwd
            .ancestors()
            .map(|folder| folder.join(FILE_NAME))
            .find(|path| path.symlink_metadata().is_ok_and(|m| !m.is_dir()))
            .ok_or_else(|| nowhere(cwd)),
    }
}

fn given(path: &Path, cwd: &Path) -> Result<PathBuf, Diagnostic> {
    let shown = path.display();
    let absolute = cwd.join(path);
    match absolute.metadata() {
        Ok(found) if found.is_dir() => Err(is_a_folder(path, cwd)),
        Ok(_) => Ok(absolute),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let meant = path
                .to_str()
                .and_then(|p| locate::file(cwd, p).err()?.meant);
            Err(
                Diagnostic::error(format!("there is no manifest `{shown}`")).help(match meant {
                    Some(meant) => format!("did you mean `-f {meant}`?"),
                    None => "name the manifest after `-f`, relative to where you stand".to_owned(),
                }),
            )
        }
        Err(error) => Err(Diagnostic::error(format!("cannot read `{shown}`: {error}"))),
    }
}

fn is_a_folder(path: &Path, cwd: &Path) -> Diagnostic {
    let inside = path.join(FILE_NAME);
    let title = format!("`{}` is a folder, not a manifest", path.display());
    Diagnostic::error(title).help(if cwd.join(&inside).is_file() {
        format!("write `-f {}`", inside.display())
    } else {
        "name the manifest itself after `-f`".to_owned()
    })
}

fn nowhere(cwd: &Path) -> Diagnostic {
    Diagnostic::error(format!(
        "there is no `{FILE_NAME}` in `{}` or any folder above it",
        cwd.display()
    ))
    .help("name it with `-f PATH`")
    .help(format!(
        "or write one at the top of the repository:\n{MINIMAL}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::human::{Screen, render};

    fn failure(explicit: Option<&str>, cwd: &Path) -> String {
        let diagnostic = find(explicit.map(Path::new), cwd).unwrap_err();
        render(&[diagnostic], Screen::default()).replace(&cwd.display().to_string(), "[cwd]")
    }

    #[test]
    fn the_nearest_one_above_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(dir.path().join(FILE_NAME), "").unwrap();
        assert_eq!(find(None, &deep), Ok(dir.path().join(FILE_NAME)));
        // A folder of that name is not a manifest.
        std::fs::create_dir(dir.path().join("a").join(FILE_NAME)).unwrap();
        assert_eq!(find(None, &deep), Ok(dir.path().join(FILE_NAME)));
        std::fs::write(deep.join(FILE_NAME), "").unwrap();
        assert_eq!(find(None, &deep), Ok(deep.join(FILE_NAME)));
    }

    #[test]
    fn a_given_path_is_taken_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub").join(FILE_NAME), "").unwrap();
        std::fs::write(dir.path().join("other.toml"), "").unwrap();
        let other = find(Some(Path::new("other.toml")), dir.path());
        assert_eq!(other, Ok(dir.path().join("other.toml")));
        insta::assert_snapshot!(failure(Some("sub"), dir.path()), @r"
        error: `sub` is a folder, not a manifest
         |
         = help: write `-f sub/containers.toml`
        ");
        insta::assert_snapshot!(failure(Some("othr.toml"), dir.path()), @r"
        error: there is no manifest `othr.toml`
         |
         = help: did you mean `-f other.toml`?
        ");
        insta::assert_snapshot!(failure(Some("nothing/like.this"), dir.path()), @r"
        error: there is no manifest `nothing/like.this`
         |
         = help: name the manifest after `-f`, relative to where you stand
        ");
    }

    #[test]
    fn without_one_the_error_shows_what_to_write() {
        let dir = tempfile::tempdir().unwrap();
        insta::assert_snapshot!(failure(None, dir.path()), @r#"
        error: there is no `containers.toml` in `[cwd]` or any folder above it
         |
         = help: name it with `-f PATH`
         = help: or write one at the top of the repository:
                 version = 1
                 
                 [registry]
                 repository = "team/{name}"   # in Amazon ECR; for another: provider = "oci", host = "…"
                 
                 [discover]
                 roots = ["containers/*"]
        "#);
    }
}
