//! Which heredocs a line announces (`RUN cat <<EOF > file`), as BuildKit's `heredocsFromLine` finds them.

use super::shell::{self, Problem, Rules, Variable};

/// A heredoc: its body ends at the line that is its name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Heredoc {
    name: String,
    /// `<<-`: tabs before the closing name do not count.
    strip_tabs: bool,
}

impl Heredoc {
    /// Whether this physical line ends it.
    pub(super) fn ends_with(&self, line: &str) -> bool {
        let line = if self.strip_tabs {
            line.trim_start_matches('\t')
        } else {
            line
        };
        line == self.name
    }
}

/// The heredocs in their order. A line that is no clean sequence of shell words announces none.
pub(super) fn announced(line: &str) -> Result<Vec<Heredoc>, Problem> {
    let words = read(line, true).unwrap_or_default();
    let mut heredocs = Vec::new();
    for word in &words {
        heredocs.extend(heredoc(word)?);
    }
    Ok(heredocs)
}

/// `[digits]<<[-]name`, blanks before the name allowed; the name may be quoted.
fn heredoc(word: &str) -> Result<Option<Heredoc>, Problem> {
    let word = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let Some(name) = word.strip_prefix("<<") else {
        return Ok(None);
    };
    let (strip_tabs, name) = match name.strip_prefix('-') {
        Some(name) => (true, name),
        None => (false, name),
    };
    let name = name.trim_start();
    if name.is_empty() || name.contains('<') {
        return Ok(None);
    }
    let mut words = read(name, false)?.into_iter();
    match (words.next(), words.next()) {
        (Some(name), None) => Ok(Some(Heredoc { name, strip_tabs })),
        _ => Ok(None),
    }
}

/// The words of a text; no variable has a value here, and the escape is always the backslash.
fn read(text: &str, keep_quotes: bool) -> Result<Vec<String>, Problem> {
    let rules = Rules {
        escape: '\\',
        keep_quotes,
        keep_unset: true,
    };
    Ok(shell::expand(text, rules, &|_| Variable::Unset)?.words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(line: &str) -> Vec<String> {
        let found = announced(line).unwrap();
        found.into_iter().map(|h| h.name).collect()
    }

    #[test]
    fn heredocs_are_found_wherever_they_stand() {
        assert_eq!(names("RUN <<EOF"), ["EOF"]);
        assert_eq!(names("RUN cat <<EOF > /etc/x"), ["EOF"]);
        assert_eq!(
            names("RUN python3 << 'E O F' && a 3<<-\"B\""),
            ["E O F", "B"]
        );
        assert_eq!(names("COPY <<a.txt <<b.txt /x/"), ["a.txt", "b.txt"]);
        assert_eq!(names("RUN x=${A:-1} y=${B/a/b} cat <<EOF"), ["EOF"]);
    }

    #[test]
    fn look_alikes_are_none() {
        for line in [
            "RUN cat <<< text",
            "RUN echo $((1<<2))",
            "RUN echo '<<EOF'",
            "RUN echo \"<<EOF\"",
            "RUN echo \\<<EOF",
            "RUN a <<",
            // No clean words: BuildKit takes the line as it is.
            "RUN echo don't <<EOF",
            "RUN echo ${a[@]} <<EOF",
        ] {
            assert_eq!(names(line), Vec::<String>::new(), "{line}");
        }
    }

    #[test]
    fn the_closing_line_may_be_indented_by_tabs_when_asked() {
        let both = announced("RUN <<A <<-B").unwrap();
        assert!(both[0].ends_with("A") && !both[0].ends_with("\tA"));
        assert!(both[1].ends_with("\t\tB") && !both[1].ends_with(" B"));
    }
}
