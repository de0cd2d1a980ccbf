//! Paths as text, as Go's `path/filepath` treats them on Unix. Nothing here touches a file system.

/// The shortest equal path: no `.`, no inner `..`, no doubled or trailing slash; `.` for nothing (Go: `filepath.Clean`).
pub(crate) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => {
                    parts.pop();
                }
                _ if rooted => {}
                _ => parts.push(".."),
            },
            name => parts.push(name),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// Two paths as one clean path; the second one is never taken as absolute (Go: `filepath.Join`).
pub(super) fn join(base: &str, rest: &str) -> String {
    if base.is_empty() {
        return clean(rest);
    }
    clean(&format!("{base}/{rest}"))
}

/// A clean path's folder (`.` at the top) and its last name.
pub(super) fn split(path: &str) -> (&str, &str) {
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((folder, name)) => (folder, name),
        None => (".", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_as_go_does() {
        for (path, cleaned) in [
            ("", "."),
            (".", "."),
            ("./", "."),
            ("a//b/", "a/b"),
            ("a/../b", "b"),
            ("a/..", "."),
            ("../../a", "../../a"),
            ("a/../../b", "../b"),
            ("/..", "/"),
            ("/../a", "/a"),
            ("!/a/../b", "!/b"),
            ("!a/..", "."),
        ] {
            assert_eq!(clean(path), cleaned, "{path:?}");
        }
    }

    #[test]
    fn joins_below_the_base() {
        assert_eq!(join("/", "../x"), "/x");
        assert_eq!(join(".", "/x/y"), "x/y");
        assert_eq!(join("a", "../../x"), "../x");
    }
}
