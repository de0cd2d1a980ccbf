//! Texts with `{variables}`: repositories, cache references, tags.

/// Why a pattern cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatternError {
    #[error("`{{` without its `}}`")]
    Unclosed,
    #[error("`}}` without its `{{`")]
    Unopened,
    #[error("unknown variable `{{{0}}}`")]
    Unknown(String),
}

/// Puts `value(name)` in the place of each `{name}`; `None` says that there is no such variable.
pub(crate) fn expand(
    pattern: &str,
    mut value: impl FnMut(&str) -> Option<String>,
) -> Result<String, PatternError> {
    let mut text = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(at) = rest.find(['{', '}']) {
        text.push_str(&rest[..at]);
        if rest[at..].starts_with('}') {
            return Err(PatternError::Unopened);
        }
        let inner = &rest[at + 1..];
        let end = inner.find(['{', '}']).ok_or(PatternError::Unclosed)?;
        if inner[end..].starts_with('{') {
            return Err(PatternError::Unclosed);
        }
        let name = &inner[..end];
        text.push_str(&value(name).ok_or_else(|| PatternError::Unknown(name.to_owned()))?);
        rest = &inner[end + 1..];
    }
    text.push_str(rest);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(pattern: &str) -> Result<String, String> {
        expand(pattern, |name| (name == "name").then(|| "train".into())).map_err(|e| e.to_string())
    }

    #[test]
    fn variables_are_replaced() {
        assert_eq!(
            expanded("team/{name}-{name}"),
            Ok("team/train-train".into())
        );
        assert_eq!(expanded("plain"), Ok("plain".into()));
    }

    #[test]
    fn wrong_patterns_say_why() {
        for (pattern, why) in [
            ("{name", "`{` without its `}`"),
            ("{na{name}", "`{` without its `}`"),
            ("name}", "`}` without its `{`"),
            ("{nam}", "unknown variable `{nam}`"),
            ("{}", "unknown variable `{}`"),
        ] {
            assert_eq!(expanded(pattern), Err(why.to_owned()), "{pattern}");
        }
    }
}
