//! Which files of a context its ignore file excludes: where that file is, and what it says.
//!
//! The rules are those of BuildKit's Dockerfile frontend (v0.32.2 `frontend/dockerui/config.go` and `namedcontext.go`;
//! v0.25.1 has the same): `<Dockerfile>.dockerignore` beside the Dockerfile, else `.dockerignore` at the top of the
//! context; a named context has a `.dockerignore` of its own. Lines are read as by `moby/patternmatcher/ignorefile`.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{ContextError, lexical, vanished};

/// The ignore file at the top of a context.
pub(crate) const NAME: &str = ".dockerignore";

/// Bytes of a line that Go's `bufio.Scanner` no longer takes.
const LONGEST_LINE: usize = 64 << 10;

/// An ignore file that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IgnoreFile {
    pub path: PathBuf,
    /// Normalised, as the builder sends them back as exclude patterns.
    pub patterns: Vec<String>,
}

/// The one of a build context. `None`: there is none, and nothing is excluded.
pub(crate) fn of_build(
    context: &Path,
    dockerfile: &Path,
) -> Result<Option<IgnoreFile>, ContextError> {
    let folder = dockerfile.parent().unwrap_or(Path::new("/"));
    match read(folder, &beside(dockerfile))? {
        Some(found) => Ok(Some(found)),
        None => of_folder(context),
    }
}

/// The one of a named context.
pub(crate) fn of_folder(context: &Path) -> Result<Option<IgnoreFile>, ContextError> {
    read(context, &context.join(NAME))
}

/// Where a Dockerfile's own ignore file is.
pub(crate) fn beside(dockerfile: &Path) -> PathBuf {
    let mut name = OsString::from(dockerfile);
    name.push(NAME);
    PathBuf::from(name)
}

/// A link is followed below `root` only: the builder asks for the file in a session that offers nothing else.
fn read(root: &Path, path: &Path) -> Result<Option<IgnoreFile>, ContextError> {
    let failed = |error| ContextError::read(path, error);
    let real = match path.canonicalize() {
        Ok(real) => real,
        Err(error) if vanished(&error) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let root = root.canonicalize().map_err(failed)?;
    if !real.starts_with(root) {
        return Ok(None);
    }
    match fs::read(&real) {
        Ok(text) => Ok(Some(IgnoreFile {
            path: path.to_owned(),
            patterns: parse(&text)?,
        })),
        Err(error) if vanished(&error) || error.kind() == io::ErrorKind::IsADirectory => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// The patterns of an ignore file.
pub(crate) fn parse(text: &[u8]) -> Result<Vec<String>, ContextError> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut patterns = Vec::new();
    for line in text.split(|byte| *byte == b'\n') {
        if line.len() >= LONGEST_LINE {
            return Err(ContextError::Pattern {
                pattern: String::from_utf8_lossy(&line[..40]).into_owned() + "…",
                reason: "a line of 64 KiB or more",
            });
        }
        let line = String::from_utf8_lossy(line);
        let pattern = line.trim();
        if line.starts_with('#') || pattern.is_empty() {
            continue;
        }
        let (mark, path) = match pattern.strip_prefix('!') {
            Some(path) => ("!", path.trim()),
            None => ("", pattern),
        };
        let path = match path {
            "" => String::new(),
            path => lexical::clean(path),
        };
        let path = match path.strip_prefix('/') {
            Some(relative) if !relative.is_empty() => relative,
            _ => &path,
        };
        patterns.push(format!("{mark}{path}"));
    }
    Ok(patterns)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn lines_are_read_as_moby_reads_them() {
        let text = b"\xef\xbb\xbf# comment\r\n#x\n\n  a/ \r\n #b\n! /c/../d\n/\n/e\n!\n**/*.pyc\nf\\ g\n./h//i";
        let expected = ["a", "#b", "!d", "/", "e", "!", "**/*.pyc", "f\\ g", "h/i"];
        assert_eq!(parse(text).unwrap(), expected);
        assert_eq!(parse(b"").unwrap(), [""; 0]);
        let long = vec![b'a'; LONGEST_LINE];
        assert!(parse(&long).is_err());
        assert_eq!(parse(&long[1..]).unwrap().len(), 1);
    }

    #[test]
    fn the_dockerfile_s_own_comes_first_and_links_stay_inside() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("context")).unwrap();
        fs::create_dir_all(at("files")).unwrap();
        fs::write(at("outside"), "secret").unwrap();
        let (context, dockerfile) = (at("context"), at("files/Dockerfile.gpu"));
        let found = || of_build(&context, &dockerfile).unwrap();
        assert_eq!(found(), None);
        symlink("../outside", at("context/.dockerignore")).unwrap();
        assert_eq!(found(), None);
        fs::remove_file(at("context/.dockerignore")).unwrap();
        fs::write(at("context/rules"), "a").unwrap();
        symlink("rules", at("context/.dockerignore")).unwrap();
        assert_eq!(found().unwrap().patterns, ["a"]);
        fs::write(at("files/Dockerfile.gpu.dockerignore"), "").unwrap();
        let own = found().unwrap();
        assert_eq!(own.path, at("files/Dockerfile.gpu.dockerignore"));
        assert!(own.patterns.is_empty());
        assert_eq!(of_folder(&context).unwrap().unwrap().patterns, ["a"]);
    }
}
