//! `RUN --mount=…`: its fields, as BuildKit's `parseMount` splits them.

/// The image or stage that a mount reads, as its last `from` field names it, or why that cannot be told.
///
/// It is read for every type of mount (BuildKit resolves it even for a tmpfs), and never expanded: a `$` anywhere but
/// at its end is an error there (`commands_runmount.go`).
pub(super) fn from(mount: &str) -> Result<Option<&str>, &'static str> {
    if mount.contains('"') {
        return Err("quotes within a mount are not read here");
    }
    let from = mount
        .split(',')
        .filter_map(|field| field.split_once('='))
        .rfind(|(key, _)| key.eq_ignore_ascii_case("from"))
        .map(|(_, value)| value)
        .filter(|value| !value.is_empty());
    match from {
        Some(from) if from.trim_end_matches('$').contains('$') => {
            Err("BuildKit expands no variables in `from=` of a mount")
        }
        from => Ok(from),
    }
}

#[cfg(test)]
mod tests {
    use super::from;

    #[test]
    fn the_source_is_found_among_the_fields() {
        assert_eq!(
            from("type=bind,From=base:1,target=/x,ro"),
            Ok(Some("base:1"))
        );
        assert_eq!(from("from=a,from=b"), Ok(Some("b")));
        assert_eq!(from("type=cache,target=/from=x"), Ok(None));
        assert_eq!(from("type=cache,from=,target=/x"), Ok(None));
    }

    #[test]
    fn what_buildkit_refuses_is_not_guessed() {
        assert!(from("from=$BASE").is_err());
        assert!(from("\"from=a,b\"").is_err());
    }
}
