//! Walks over real folders.

use std::cmp::Ordering;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};

use proptest::prelude::*;

use super::super::pattern::Patterns;
use super::*;

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|s| (*s).to_owned()).collect()
}

fn filter(include: &[&str], exclude: &[&str], follow: &[&str]) -> Filter {
    Filter {
        include: strings(include),
        exclude: strings(exclude),
        follow: strings(follow),
    }
}

fn entries(root: &Path, filter: &Filter) -> Result<Vec<Entry>, ContextError> {
    let mut entries = Vec::new();
    walk(
        root,
        filter,
        &nothing_known,
        &CancellationToken::new(),
        |entry| {
            entries.push(entry);
            Ok(())
        },
    )?;
    Ok(entries)
}

fn paths(root: &Path, filter: &Filter) -> Vec<String> {
    entries(root, filter)
        .unwrap()
        .into_iter()
        .map(|entry| entry.path)
        .collect()
}

/// Makes files; a path that ends with `/` becomes a folder.
fn tree(paths: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for path in paths {
        let full = root.path().join(path);
        if path.ends_with('/') {
            fs::create_dir_all(full).unwrap();
        } else {
            fs::create_dir_all(full.parent().unwrap()).unwrap();
            fs::write(full, path).unwrap();
        }
    }
    root
}

#[test]
fn everything_in_the_order_of_the_parts_of_a_path() {
    let root = tree(&["a/b", "a-b", "a.b/c", "a/", "b/c/d", "B", "empty/"]);
    assert_eq!(
        paths(root.path(), &Filter::default()),
        [
            "B", "a", "a/b", "a-b", "a.b", "a.b/c", "b", "b/c", "b/c/d", "empty"
        ]
    );
}

#[test]
fn filters_as_fsutil_does() {
    let root = tree(&[
        "Dockerfile",
        ".dockerignore",
        "a/x.py",
        "a/y.md",
        "a/deep/z.py",
        "b/x.py",
        "b/only.md",
        "c.md",
        "node/m/i.js",
    ]);
    symlink("a", root.path().join("link")).unwrap();
    for (include, exclude, follow, expected) in [
        (
            &[][..],
            &["a", "b", "node", "link"][..],
            &[][..],
            &[".dockerignore", "Dockerfile", "c.md"][..],
        ),
        (&[], &["*", "!a/deep"], &[], &["a", "a/deep", "a/deep/z.py"]),
        (
            &[],
            &["*", "!**/*.md"],
            &[],
            &["a", "a/y.md", "b", "b/only.md", "c.md"],
        ),
        (
            &[],
            &["**/*.py", "!a/deep/z.py", "node", "b", ".*", "D*"],
            &[],
            &["a", "a/deep", "a/deep/z.py", "a/y.md", "c.md", "link"],
        ),
        (&["**/*.md"], &["a"], &[], &["b", "b/only.md", "c.md"]),
        (
            &["a/*"],
            &["**/*.md"],
            &[],
            &["a", "a/deep", "a/deep/z.py", "a/x.py"],
        ),
        (&["a/**"], &["a/deep"], &[], &["a", "a/x.py", "a/y.md"]),
        (&["a", "!a/deep"], &[], &[], &["a", "a/x.py", "a/y.md"]),
        (&["nothing"], &[], &[], &[]),
        (&[" "], &[], &[], &[]),
        (
            &[],
            &[],
            &["Dockerfile", ".dockerignore", "missing"],
            &[".dockerignore", "Dockerfile"],
        ),
        (
            &[],
            &[],
            &["link/deep"],
            &["a", "a/deep", "a/deep/z.py", "link"],
        ),
        (
            &["c.md"],
            &[],
            &["link"],
            &[
                "a",
                "a/deep",
                "a/deep/z.py",
                "a/x.py",
                "a/y.md",
                "c.md",
                "link",
            ],
        ),
        (
            &[],
            &["a/deep"],
            &["link"],
            &["a", "a/x.py", "a/y.md", "link"],
        ),
        (&["c.md"], &[], &["."], &["c.md"]),
    ] {
        let found = paths(root.path(), &filter(include, exclude, follow));
        assert_eq!(
            found, expected,
            "include {include:?} exclude {exclude:?} follow {follow:?}"
        );
    }
}

#[test]
fn a_malformed_pattern_is_an_error_once_a_file_is_asked() {
    let root = tree(&["a", "folder/b"]);
    let malformed = filter(&["a"], &["x\\q"], &[]);
    assert!(entries(root.path(), &malformed).is_err());
    let unasked = filter(&["c"], &["x\\q"], &[]);
    fs::remove_file(root.path().join("a")).unwrap();
    assert!(entries(root.path(), &unasked).unwrap().is_empty());
}

#[test]
fn says_what_each_path_is() {
    let root = tree(&["dir/file", "z"]);
    let at = |path: &str| root.path().join(path);
    symlink("../z", at("dir/link")).unwrap();
    fs::hard_link(at("z"), at("dir/first")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), rustix::fs::Mode::RUSR).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    fs::set_permissions(at("dir/file"), fs::Permissions::from_mode(0o4750)).unwrap();
    let entries = entries(root.path(), &Filter::default()).unwrap();
    let entry = |path: &str| entries.iter().find(|e| e.path == path).unwrap();

    let file = entry("dir/file");
    assert_eq!(
        (file.kind.clone(), file.size, file.mode),
        (Kind::File, 8, (1 << 23) | 0o750)
    );
    // `printf dir/file | git hash-object --stdin`
    let id = file.id.unwrap();
    assert_eq!(id.to_string(), "dea97c3520a755e4db5694d743aa8599511bbe9c");
    assert_eq!(file.nanos, id.nanos());
    assert_eq!((entry("dir").size, entry("dir").id), (0, None));
    let link = entry("dir/link");
    assert_eq!(
        link.kind,
        Kind::Symlink {
            target: "../z".to_owned()
        }
    );
    assert_eq!((link.size, link.mode), (4, (1 << 27) | 0o777));
    assert_eq!(entry("fifo").kind, Kind::Fifo);
    assert_eq!(
        (entry("socket").kind.clone(), entry("socket").mode >> 9),
        (Kind::Socket, 0)
    );
    let (first, second) = (entry("dir/first"), entry("z"));
    assert_eq!(
        (first.hard_link.clone(), second.hard_link.as_deref()),
        (None, Some("dir/first"))
    );
    assert_eq!(
        (first.id, first.nanos, second.size),
        (second.id, second.nanos, 1)
    );
}

#[test]
fn a_hard_link_never_points_to_what_is_left_out() {
    let root = tree(&["a", "c"]);
    fs::hard_link(root.path().join("a"), root.path().join("b")).unwrap();
    let entries = entries(root.path(), &filter(&[], &["a"], &[])).unwrap();
    assert!(entries.iter().all(|entry| entry.hard_link.is_none()));
}

#[test]
fn extended_attributes_are_kept() {
    let root = tree(&["a"]);
    let flags = rustix::fs::XattrFlags::empty();
    let long = vec![b'x'; 1000];
    let set = rustix::fs::setxattr(root.path().join("a"), "user.skiff", &long, flags);
    if set == Err(rustix::io::Errno::NOTSUP) {
        return;
    }
    set.unwrap();
    let entries = entries(root.path(), &Filter::default()).unwrap();
    assert!(entries[0].xattrs.contains(&("user.skiff".to_owned(), long)));
}

#[test]
fn what_is_excluded_is_neither_opened_nor_named() {
    let root = tree(&["kept/a", "secret/b"]);
    let bad = root
        .path()
        .join(std::ffi::OsStr::from_bytes(b"secret/\xff"));
    fs::write(&bad, "").unwrap();
    // A reader would wait for a writer for ever.
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        root.path().join("secret/fifo"),
        rustix::fs::Mode::RUSR,
    )
    .unwrap();
    assert_eq!(
        paths(root.path(), &filter(&[], &["secret"], &[])),
        ["kept", "kept/a"]
    );
    assert_eq!(
        paths(root.path(), &filter(&[], &["secret/*", "!secret/b"], &[])),
        ["kept", "kept/a", "secret", "secret/b"]
    );
    let error = entries(root.path(), &Filter::default()).unwrap_err();
    assert!(
        matches!(&error, ContextError::NotUtf8(path) if path.starts_with("secret/")),
        "{error}"
    );
}

#[test]
fn unreadable_things_are_named_unless_excluded() {
    let root = tree(&["a", "shut/b"]);
    let shut = root.path().join("shut");
    fs::set_permissions(root.path().join("a"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(&shut, fs::Permissions::from_mode(0o000)).unwrap();
    let is_root = fs::read_dir(&shut).is_ok();
    let excluded = paths(root.path(), &filter(&[], &["*", "!shut/x"], &[]));
    let errors: Vec<String> = [&["a"][..], &["shut"]]
        .iter()
        .filter_map(|exclude| entries(root.path(), &filter(&[], exclude, &[])).err())
        .map(|error| error.to_string().replace(root.path().to_str().unwrap(), ""))
        .collect();
    fs::set_permissions(&shut, fs::Permissions::from_mode(0o700)).unwrap();
    assert!(excluded.is_empty());
    // Permissions do not bind root.
    if !is_root {
        insta::assert_snapshot!(errors.join("\n"), @r"
        cannot read `/shut`: Permission denied (os error 13); make it readable or exclude it in .dockerignore
        cannot read `/a`: Permission denied (os error 13); make it readable or exclude it in .dockerignore
        ");
    }
}

#[test]
fn known_ids_spare_the_read() {
    let root = tree(&["a", "b"]);
    let known = |entry: &Entry, _: &Metadata| (entry.path == "a").then_some(BlobId([9; 20]));
    let mut ids = Vec::new();
    walk(
        root.path(),
        &Filter::default(),
        &known,
        &CancellationToken::new(),
        |entry| {
            ids.push(entry.id.unwrap());
            Ok(())
        },
    )
    .unwrap();
    assert_eq!(ids[0], BlobId([9; 20]));
    assert_ne!(ids[1], BlobId([9; 20]));
}

#[test]
fn sizes_have_more_than_32_bits() {
    let root = tree(&["sparse"]);
    let size = (5 << 30) + 1;
    let file = fs::File::options()
        .write(true)
        .open(root.path().join("sparse"));
    file.unwrap().set_len(size).unwrap();
    let known = |_: &Entry, _: &Metadata| Some(BlobId([9; 20]));
    let mut sizes = Vec::new();
    let filter = Filter::default();
    let stop = CancellationToken::new();
    walk(root.path(), &filter, &known, &stop, |entry| {
        sizes.push(entry.size);
        Ok(())
    })
    .unwrap();
    assert_eq!(sizes, [size]);
    assert!(
        file_id::open(&root.path().join("sparse"), size)
            .unwrap()
            .is_some()
    );
}

#[test]
fn an_error_of_the_sink_or_a_stop_ends_the_walk() {
    let names: Vec<String> = (0..2000).map(|n| format!("d{}/{n}", n % 7)).collect();
    let root = tree(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut count = 0;
    let stop = CancellationToken::new();
    let full = |_| {
        count += 1;
        if count == 10 {
            Err(ContextError::Changed("x".to_owned()))
        } else {
            Ok(())
        }
    };
    let error = walk(root.path(), &Filter::default(), &nothing_known, &stop, full).unwrap_err();
    assert!(matches!(error, ContextError::Changed(_)));
    let error = walk(
        root.path(),
        &Filter::default(),
        &nothing_known,
        &stop,
        |_| {
            stop.cancel();
            Ok(())
        },
    );
    assert!(matches!(error, Err(ContextError::Stopped)));
}

#[test]
fn a_context_that_is_no_folder_is_named() {
    let root = tree(&["file"]);
    for path in ["missing", "file"] {
        let error = entries(&root.path().join(path), &Filter::default()).unwrap_err();
        assert!(matches!(&error, ContextError::Root { .. }), "{error}");
    }
}

/// fsutil's `ComparePath`, which a builder checks the order with.
fn compare(a: &str, b: &str) -> Ordering {
    a.split('/').cmp(b.split('/'))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn sorted_parents_first_and_as_the_patterns_say(
        files in prop::collection::btree_set("[ab.-]{1,2}x(/[ab.-]{1,2}x){0,3}", 1..12),
        include in prop::collection::vec("[ab*?/]{1,5}", 0..3),
        exclude in prop::collection::vec("!?[ab*?/.x]{1,6}", 0..4),
    ) {
        let root = tempfile::tempdir().unwrap();
        for file in &files {
            let full = root.path().join(file);
            // A path may be both a file and a folder of another one: whichever comes first.
            let _ = fs::create_dir_all(full.parent().unwrap());
            if full.parent().unwrap().is_dir() && !full.exists() {
                fs::write(&full, file).unwrap();
            }
        }
        let filter = Filter { include, exclude, follow: Vec::new() };
        let Ok(kept) = entries(root.path(), &filter) else { return Ok(()) };
        let all = entries(root.path(), &Filter::default()).unwrap();

        prop_assert!(kept.windows(2).all(|pair| compare(&pair[0].path, &pair[1].path).is_lt()));
        for entry in &kept {
            if let Some((parent, _)) = entry.path.rsplit_once('/') {
                prop_assert!(kept.iter().any(|e| e.path == parent && e.kind == Kind::Directory));
            }
        }
        // Without any pruning: every path asked on its own.
        let include = (!filter.include.is_empty()).then(|| Patterns::parse(&filter.include).unwrap());
        let exclude = Patterns::parse(&filter.exclude).unwrap();
        for entry in all.iter().filter(|e| e.kind == Kind::File) {
            let wanted = include.as_ref().is_none_or(|p| p.matches_from_top(&entry.path))
                && !exclude.matches_from_top(&entry.path);
            prop_assert_eq!(kept.contains(entry), wanted, "{}", &entry.path);
        }
    }
}
