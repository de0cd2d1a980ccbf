//! How an ignore file is read into patterns: `moby/patternmatcher/ignorefile`.

use super::lexical;

/// The patterns of a `.dockerignore`, in order, as a builder would pass them on.
///
/// A `#` starts a comment only as the first character of a line. A leading `/` means nothing.
pub(crate) fn parse(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| pattern(line.trim()))
        .collect()
}

fn pattern(line: &str) -> Option<String> {
    let (mark, path) = match line.strip_prefix('!') {
        Some(path) => ("!", path.trim()),
        None => ("", line),
    };
    if line.is_empty() {
        return None;
    }
    if path.is_empty() {
        return Some(mark.to_owned());
    }
    let cleaned = lexical::clean(path);
    let relative = match cleaned.strip_prefix('/') {
        Some(rest) if !rest.is_empty() => rest,
        _ => &cleaned,
    };
    Some(format!("{mark}{relative}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lines_as_docker_does() {
        let text = "\u{feff}# comment\n\n  a/ \r\n #not a comment\n! /b//c\n/\n!\n./d/../e\n//f\n";
        assert_eq!(
            parse(text),
            ["a", "#not a comment", "!b/c", "/", "!", "e", "f"]
        );
    }
}
