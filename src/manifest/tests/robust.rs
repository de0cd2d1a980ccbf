//! Files that are hardly manifests: no panic, no riddle.

use std::path::Path;

use proptest::prelude::*;

use super::super::schema::{Key, Kind, MANIFEST};
use super::super::{MAX_BYTES, MAX_SHOWN, check, document, find, load};
use super::{HEAD, errors, good, load_in, repository};
use crate::diagnostic::SourceText;
use crate::diagnostic::human::{Screen, render};

#[test]
fn syntax_errors_are_shown_together_with_what_was_read() {
    insta::assert_snapshot!(errors(&[], "version = 1\nversion = 2\n[registry]\nhost = localhost\nprovidr = \"oci\"\n[cache]\nexport = \n"), @r#"
    error: duplicate key
     --> containers.toml:2:1
      |
    2 | version = 2
      | ^^^^^^^

    error: string values must be quoted, expected literal string
     --> containers.toml:4:8
      |
    4 | host = localhost
      |        ^^^^^^^^^

    error: unknown key `registry.providr`
     --> containers.toml:5:1
      |
    5 | providr = "oci"
      | ^^^^^^^ not a key of `[registry]`
      |
      = help: did you mean `provider`?

    error: string values must be quoted, expected literal string
     --> containers.toml:7:10
      |
    7 | export = 
      |          ^
    "#);
    insta::assert_snapshot!(errors(&[], "version = 1\n[defaults]\ntags = [\"a\"\nprofile = \"docker\"\n[registry]\nhost = 5\n"), @r#"
    error: missing comma between array elements, expected `,`
     --> containers.toml:4:1
      |
    3 | tags = ["a"
      |        - what began here is not closed before
    4 | profile = "docker"
      | ^
    "#);
    insta::assert_snapshot!(errors(&[], "version = 1\n[registry\nhost = \"a\n"), @r"
    error: unclosed table, expected `]`
     --> containers.toml:2:10
      |
    2 | [registry
      |          ^
    ");
    insta::assert_snapshot!(errors(&[], "[containers.a]\ncontext = \"a\"\n[containers.a]\ncontext = \"b\"\n"), @r"
    error: duplicate key
     --> containers.toml:3:13
      |
    3 | [containers.a]
      |             ^
    ");
}

#[test]
fn an_empty_file_and_a_byte_order_mark_are_no_riddles() {
    insta::assert_snapshot!(errors(&[], ""), @r#"
    error: `version` is missing
     --> containers.toml:1:1
      |
    1 |
      | ^
      |
      = help: write `version = 1` as the first line

    error: the manifest has no containers
     --> containers.toml:1:1
      |
    1 |
      | ^
      |
      = help: let them be found:
              [discover]
              roots = ["containers/*"]
      = help: or write each:
              [containers.NAME]
              context = "path/of/its/folder"
    "#);
    let (_dir, manifest) = good(
        &["containers/a/Dockerfile"],
        &format!("\u{feff}{}", find::MINIMAL),
    );
    assert_eq!(manifest.containers.len(), 1);
}

#[test]
fn files_that_are_no_manifests_are_refused_clearly() {
    let dir = repository(&["folder/"]);
    let outcome = |name: &str, bytes: Option<&[u8]>| {
        let path = dir.path().join(name);
        if let Some(bytes) = bytes {
            std::fs::write(&path, bytes).unwrap();
        }
        render(&load(&path, name).unwrap_err(), Screen::default())
    };
    insta::assert_snapshot!(outcome("folder", None), @r"
    error: cannot read the manifest `folder`: it is a folder
     |
     = help: name the file itself after `-f`
    ");
    insta::assert_snapshot!(outcome("missing.toml", None), @r"error: cannot read the manifest `missing.toml`: No such file or directory (os error 2)");
    insta::assert_snapshot!(outcome("latin1.toml", Some(b"version = 1\n# caf\xe9\n")), @r"
    error: cannot read the manifest `latin1.toml`: byte 17, in line 2, is not UTF-8
     |
     = help: save it as UTF-8
    ");
    let large = vec![b'\n'; usize::try_from(MAX_BYTES).unwrap() + 1];
    insta::assert_snapshot!(outcome("large.toml", Some(&large)), @r"
    error: cannot read the manifest `large.toml`: it is larger than 4 MiB
     |
     = help: is this the right file?
    ");
}

#[test]
fn thousands_of_errors_are_cut() {
    let text = (0..5_000).fold(HEAD.to_owned(), |text, n| format!("{text}x{n} = 1\n"));
    let diagnostics = load_in(repository(&[]).path(), &text).unwrap_err();
    assert_eq!(diagnostics.len(), MAX_SHOWN + 1);
    assert_eq!(
        diagnostics[MAX_SHOWN].title,
        "and 4901 more errors and warnings"
    );
}

/// Each fixed key with the table that it stands in.
fn fixed_keys() -> Vec<(&'static str, &'static str)> {
    let Kind::Table(top) = &MANIFEST else {
        return vec![];
    };
    let inner = |key: &'static Key| match &key.kind {
        Kind::Table(keys) => keys.iter().map(|k| (key.name, k.name)).collect(),
        Kind::Map(_, Kind::Table(keys)) => keys
            .iter()
            .map(|k| ("containers.x", k.name))
            .collect::<Vec<_>>(),
        _ => vec![],
    };
    top.iter()
        .map(|k| ("", k.name))
        .chain(top.iter().flat_map(inner))
        .collect()
}

#[derive(Debug, Clone, Copy)]
enum Slip {
    Leave,
    Double,
    Replace,
    Swap,
}

fn misspelled(word: &str, slip: Slip, at: usize) -> String {
    let mut letters: Vec<char> = word.chars().collect();
    let at = at % letters.len();
    match slip {
        Slip::Leave => drop(letters.remove(at)),
        Slip::Double => letters.insert(at, letters[at]),
        Slip::Replace => letters[at] = 'x',
        Slip::Swap => letters.swap(at, at.saturating_sub(1)),
    }
    letters.into_iter().collect()
}

proptest! {
    #[test]
    fn a_key_with_one_slip_is_always_suggested(
        key in proptest::sample::select(fixed_keys()),
        slip in proptest::sample::select(vec![Slip::Leave, Slip::Double, Slip::Replace, Slip::Swap]),
        at in 0_usize..20,
    ) {
        let (table, name) = key;
        let wrong = misspelled(name, slip, at);
        let known: Vec<&str> = fixed_keys().iter().filter(|k| k.0 == table).map(|k| k.1).collect();
        prop_assume!(!known.contains(&wrong.as_str()));
        let text = if table.is_empty() { format!("{wrong} = 1\n") } else { format!("[{table}]\n{wrong} = 1\n") };
        let source = SourceText::new("containers.toml", text);
        let document = document::parse(&source);
        let found = check::check(&source, &document.root).diagnostics;
        let unknown = found.iter().find(|d| d.title.starts_with("unknown key")).unwrap();
        let meant = unknown.helps[0].trim_start_matches("did you mean `").trim_end_matches("`?");
        // `ags` is as near to `tags` as to `args`.
        prop_assert!(known.contains(&meant), "{} -> {:?}", wrong, unknown.helps);
        prop_assert!(meant == name || strsim::damerau_levenshtein(&wrong, meant) <= 1, "{} -> {}", wrong, meant);
    }

    #[test]
    fn no_text_makes_a_panic(text in "\\PC*|[\\[\\]a-e\\.\"'=, \n{}#0-9\\\\é]{0,80}") {
        let dir = std::env::temp_dir();
        if let Err(diagnostics) = load_in(&dir, &text) {
            prop_assert!(!render(&diagnostics, Screen::default()).is_empty());
        }
    }

    #[test]
    fn a_good_manifest_with_any_edit_makes_no_panic(at in 0_usize..600, length in 0_usize..30, insert in "[\\[\\]\"'=,\n{} a1]{0,4}") {
        let whole = format!("{HEAD}[channels]\nlatest = [\"main\"]\n[cache]\nref = \"{{repository}}:c\"\n[defaults]\nargs = {{ A = 1 }}\nplatforms = [\n\"linux/amd64\",\n]\n[containers.train]\ncontext = \"x\"\nneeds = [\"train\", \"b\"]\ntimeout = \"1h\"\n[containers]\nb = {{ context = \"y\" }}\n");
        let at = at % whole.len();
        let end = (at + length).min(whole.len());
        let text = format!("{}{insert}{}", &whole[..at], &whole[end..]);
        if let Err(diagnostics) = load_in(Path::new("/nonexistent").parent().unwrap(), &text) {
            prop_assert!(!render(&diagnostics, Screen::default()).is_empty());
        }
    }
}

#[test]
fn no_error_is_silent_when_a_name_is_too_long() {
    let long = "x/".repeat(126);
    let text = errors(
        &["a/Dockerfile"],
        &format!("{HEAD}repository = \"{long}{{name}}\"\n[containers.a]\ncontext = \"a\"\n"),
    );
    assert!(
        text.starts_with("error: no registry accepts the release records' repository"),
        "{text}"
    );
    let name = "a".repeat(130);
    let text = errors(
        &["a/Dockerfile"],
        &format!("{HEAD}[containers.{name}]\ncontext = \"a\"\ntags = [\"{{name}}\"]\n"),
    );
    assert!(text.starts_with("error: wrong tag for container"), "{text}");
}
