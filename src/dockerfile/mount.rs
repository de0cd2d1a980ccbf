//! `RUN --mount=…`: its fields, as BuildKit's `parseMount` splits them.

/// The image or stage that a mount reads, as its last `from` field names it, or why that cannot be told.
///
/// It is read for every type of mount (BuildKit resolves it even for a tmpfs), and never expanded: a `$` anywhere but
/// at its end is an error there (`commands_runmount.go`).
pub(super) fn from(mount: &str) -> Result<Option<&str>, &'static str> {
    if mount.contains('"') {
        return Err("quotes within a mount are not read here");
    }
    match field(mount, &["from"]).filter(|value| !value.is_empty()) {
        Some(from) if from.trim_end_matches('$').contains('$') => {
            Err("BuildKit expands no variables in `from=` of a mount")
        }
        from => Ok(from),
    }
}

/// The last value that one of these names has.
pub(crate) fn field<'a>(mount: &'a str, names: &[&str]) -> Option<&'a str> {
    let fields = mount.split(',').filter_map(|field| field.split_once('='));
    let mut found = fields.filter(|(key, _)| names.iter().any(|n| key.eq_ignore_ascii_case(n)));
    found.next_back().map(|(_, value)| value)
}

/// What a mount reads of the build context.
pub(crate) enum Mounted<'a> {
    Nothing,
    Path(&'a str),
    Unclear,
}

/// A tmpfs without a source counts as the whole context, as in BuildKit.
pub(crate) fn reads(mount: &str) -> Mounted<'_> {
    if mount.contains('"') {
        return Mounted::Unclear;
    }
    if field(mount, &["from"]).is_some_and(|from| !from.is_empty()) {
        return Mounted::Nothing;
    }
    match field(mount, &["type"]).unwrap_or("bind") {
        "cache" | "secret" | "ssh" => Mounted::Nothing,
        "bind" | "tmpfs" => match field(mount, &["source", "src"]).unwrap_or("/") {
            source if source.contains('$') => Mounted::Unclear,
            source => Mounted::Path(source),
        },
        _ => Mounted::Unclear,
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
