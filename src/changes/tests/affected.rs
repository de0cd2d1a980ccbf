//! Which containers a change concerns.

use std::os::unix::fs::PermissionsExt as _;

use super::repository::Repository;

const FOUND: &str = "[discover]\nroots = [\"c/*\"]\n";

/// `base`, `child` that is built from it, and `alone`.
fn three() -> Repository {
    let repository = Repository::with(FOUND, &["c/alone/a.py", "c/child/b.py", "README.md"]);
    repository.write("c/base/Dockerfile", "FROM scratch\n");
    repository.write("c/child/Dockerfile", "FROM base\n");
    repository.write("c/alone/Dockerfile", "FROM scratch\n");
    repository.commit();
    repository
}

#[test]
fn files_of_a_context_and_of_parents() {
    let repository = three();
    let first = repository.head();
    assert!(repository.affected(&first).is_empty());
    repository.write("README.md", "more");
    repository.write("c/loose", "not in a context");
    repository.commit();
    assert!(repository.affected(&first).is_empty());
    repository.write("c/base/new", "");
    assert_eq!(
        repository.affected(&first),
        [
            "base: c/base/new is new since X, not committed",
            "child: built from base, which changed since X",
        ]
    );
    repository.commit();
    repository.remove("c/alone/a.py");
    repository.commit();
    assert_eq!(
        repository.affected(&first),
        [
            "alone: c/alone/a.py was deleted since X",
            "base: c/base/new is new since X",
            "child: built from base, which changed since X",
        ]
    );
    // And back again.
    repository.git(&["revert", "-n", "HEAD"]);
    repository.commit();
    assert_eq!(repository.names(&first), ["base", "child"]);
}

#[test]
fn a_rename_concerns_both_sides() {
    let repository = three();
    let first = repository.head();
    repository.git(&["mv", "c/child/b.py", "c/alone/b.py"]);
    repository.git(&["config", "diff.renames", "copies"]);
    repository.git(&["config", "status.renames", "copies"]);
    let expected = ["alone", "child"];
    assert_eq!(repository.names(&first), expected);
    repository.commit();
    assert_eq!(repository.names(&first), expected);
}

#[test]
fn ignore_rules_hold_and_the_files_that_rule_count() {
    let repository = three();
    repository.write("c/alone/.dockerignore", "*\n!src\nsrc/**/*.pyc\n");
    repository.write("c/child/.dockerignore", "*.md\n");
    repository.write("c/child/Dockerfile.dockerignore", "docs\n");
    let first = repository.commit();
    repository.write("c/alone/a.py", "more");
    repository.write("c/alone/src/x/a.pyc", "more");
    repository.write("c/child/docs/x", "more");
    repository.commit();
    assert!(repository.affected(&first).is_empty());
    let second = repository.head();
    repository.write("c/alone/src/x/a.py", "more");
    // Excluded and not asked: this Dockerfile has an ignore file of its own.
    repository.write("c/child/x.md", "more");
    repository.commit();
    assert_eq!(repository.names(&second), ["alone", "child"]);
    let third = repository.head();
    repository.remove("c/alone/.dockerignore");
    repository.commit();
    assert_eq!(
        repository.affected(&third),
        ["alone: c/alone/.dockerignore was deleted since X"]
    );
    let fourth = repository.head();
    repository.remove("c/child/Dockerfile.dockerignore");
    repository.commit();
    assert_eq!(repository.names(&fourth), ["child"]);
    // The Dockerfile counts though it is excluded; a malformed rule excludes nothing.
    repository.write("c/alone/.dockerignore", "Dockerfile\n");
    repository.write("c/child/.dockerignore", "[\n");
    let fifth = repository.commit();
    repository.write("c/alone/Dockerfile", "FROM scratch\nENV a=b\n");
    repository.write("c/child/x.md", "other");
    assert_eq!(repository.names(&fifth), ["alone", "child"]);
}

#[test]
fn a_dockerfile_elsewhere_named_contexts_and_one_context_for_two() {
    let repository = Repository::with(
        "[containers.a]\ncontext = \"src\"\ndockerfile = \"../docker/a\"\ncontexts = { libs = \"libs\" }\n\
         [containers.b]\ncontext = \"src\"\ndockerfile = \"../docker/b\"\n",
        &["src/x", "libs/lib.py", "libs/docs/x"],
    );
    repository.write("docker/a.real", "FROM scratch\n");
    repository.link("a.real", "docker/a");
    repository.write("docker/b", "FROM scratch\n");
    repository.write("libs/.dockerignore", "docs\n");
    let first = repository.commit();
    let after = |path: &str| {
        repository.write(path, "changed");
        let names = repository.names(&first);
        repository.git(&["clean", "-qfd"]);
        repository.git(&["checkout", "-q", "."]);
        names
    };
    assert_eq!(after("src/x"), ["a", "b"]);
    assert_eq!(after("docker/b"), ["b"]);
    assert_eq!(after("docker/a.real"), ["a"]);
    assert_eq!(after("libs/lib.py"), ["a"]);
    assert_eq!(after("libs/.dockerignore"), ["a"]);
    assert!(after("libs/docs/x").is_empty());
    assert!(after("docker/c").is_empty());
    assert_eq!(after("docker/a.dockerignore"), ["a"]);
}

#[test]
fn permissions_links_and_types_count() {
    let repository = three();
    repository.link("a.py", "c/alone/link");
    let first = repository.commit();
    let file = repository.root.join("c/alone/a.py");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(repository.names(&first), ["alone"]);
    let second = repository.commit();
    repository.remove("c/alone/link");
    repository.link("../child", "c/alone/link");
    // The link itself, and nobody behind it: it is part of a context.
    assert_eq!(
        repository.affected(&second),
        ["alone: c/alone/link changed since X, not committed"]
    );
    let third = repository.commit();
    repository.write("c/child/b.py", "what the link leads to");
    assert_eq!(repository.names(&third), ["child"]);
    repository.remove("c/alone/link");
    repository.write("c/alone/link/is/a/folder", "now");
    let fourth = repository.commit();
    assert_eq!(repository.names(&third), ["alone", "child"]);
    assert!(repository.names(&fourth).is_empty());
}

#[test]
fn a_link_on_the_way_to_a_context_counts() {
    let repository = Repository::with(
        "[containers.a]\ncontext = \"current\"\n[containers.b]\ncontext = \"b\"\n",
        &["v1/x", "v2/x", "b/Dockerfile"],
    );
    for file in ["v1/Dockerfile", "v2/Dockerfile"] {
        repository.write(file, "FROM scratch\n");
    }
    repository.write("b/Dockerfile", "FROM scratch\n");
    repository.link("v1", "current");
    let first = repository.commit();
    assert!(repository.names(&first).is_empty());
    repository.remove("current");
    repository.link("v2", "current");
    assert_eq!(
        repository.affected(&first),
        ["a: current changed since X, not committed"]
    );
}

#[test]
fn names_of_any_bytes() {
    use std::os::unix::ffi::OsStrExt as _;
    let repository = three();
    let first = repository.head();
    repository.git(&["config", "core.quotePath", "true"]);
    for (name, shown) in [
        (&b"two\nlines \"quoted\"\t"[..], "two\\nlines \"quoted\"\\t"),
        (b"not \xff utf-8", "not \u{fffd} utf-8"),
        ("é ü".as_bytes(), "é ü"),
        (b"? x", "? x"),
        (b" -> y", " -> y"),
        (b":(glob)*", ":(glob)*"),
    ] {
        let path = repository
            .root
            .join("c/alone")
            .join(std::ffi::OsStr::from_bytes(name));
        std::fs::write(&path, "").unwrap();
        let uncommitted = format!("alone: c/alone/{shown} is new since X, not committed");
        assert_eq!(repository.affected(&first), [uncommitted]);
        repository.commit();
        let committed = format!("alone: c/alone/{shown} is new since X");
        assert_eq!(repository.affected(&first), [committed]);
        repository.git(&["reset", "-q", "--hard", first.as_str()]);
    }
    // Two names that differ in case only are two files.
    repository.write("c/alone/A.py", "1");
    repository.write("c/alone/.dockerignore", "a.py\n");
    let second = repository.commit();
    repository.write("c/alone/a.py", "2");
    assert!(repository.names(&second).is_empty());
    repository.write("c/alone/A.py", "2");
    assert_eq!(repository.names(&second), ["alone"]);
}

#[test]
fn the_manifest_s_own_change_concerns_those_it_speaks_of() {
    let two = |more: &str| format!("{FOUND}{more}");
    let repository = three();
    let first = repository.head();
    let after = |text: &str| {
        repository.manifest(text);
        let causes = repository.affected(&first);
        repository.commit();
        assert_eq!(repository.affected(&first).len(), causes.len());
        repository.git(&["reset", "-q", "--hard", first.as_str()]);
        causes
    };
    assert!(after(&two("# only a comment\n")).is_empty());
    assert!(after(&two("[cache]\nexport = \"never\"\n")).is_empty());
    assert!(after(&two("[containers.alone]\ntimeout = \"5m\"\n")).is_empty());
    assert_eq!(
        after(&two(
            "[containers.alone]\nargs = { A = \"1\" }\ntarget = \"x\"\n"
        )),
        ["alone: containers.toml changed target, args since X"]
    );
    assert_eq!(
        after(&two("[containers.base]\nlabels = { a = \"1\" }\n")),
        [
            "base: containers.toml changed labels since X",
            "child: built from base, which changed since X"
        ]
    );
    assert_eq!(after(&two("[defaults]\nprofile = \"lambda\"\n")).len(), 3);
    assert_eq!(
        after(&two("[containers.other]\ncontext = \"c/alone\"\n"))
            .last()
            .unwrap(),
        "other: containers.toml did not have this container since X"
    );
    repository.write(
        "containers.toml",
        "version = 1\n[registry]\nprovider = \"oci\"\nhost = \"localhost:5001\"\n[discover]\nroots = [\"c/*\"]\n",
    );
    assert_eq!(
        repository.affected(&first)[0],
        "alone: containers.toml changed its registry since X"
    );
    repository.git(&["reset", "-q", "--hard", first.as_str()]);
    // One that cannot be read, and none at all.
    repository.write("containers.toml", "version = ");
    let broken = repository.commit();
    repository.git(&["rm", "-q", "containers.toml"]);
    let none = repository.commit();
    repository.git(&["checkout", "-q", first.as_str(), "--", "containers.toml"]);
    repository.commit();
    assert_eq!(repository.affected(&broken).len(), 3);
    assert_eq!(
        repository.affected(&none)[0],
        "alone: containers.toml is new since X"
    );
    assert!(repository.affected(&first).is_empty());
}

#[test]
fn a_manifest_that_is_a_link_is_read_where_it_is() {
    let repository = three();
    repository.git(&["mv", "containers.toml", "real.toml"]);
    repository.link("real.toml", "containers.toml");
    let first = repository.commit();
    let text = std::fs::read_to_string(repository.root.join("real.toml")).unwrap();
    repository.write(
        "real.toml",
        &(text.clone() + "[containers.alone]\ntarget = \"x\"\n"),
    );
    assert_eq!(repository.names(&first), ["alone"]);
    repository.write("other.toml", &text);
    repository.remove("containers.toml");
    repository.link("other.toml", "containers.toml");
    assert_eq!(repository.names(&first).len(), 3);
}

#[test]
fn a_manifest_below_the_top_and_contexts_beside_it() {
    let repository = Repository::new();
    let head = "version = 1\n[registry]\nprovider = \"oci\"\nhost = \"localhost:5000\"\n";
    let own = "[containers.a]\ncontext = \"../src/a\"\n[containers.b]\ncontext = \"b\"\n";
    repository.write("deploy/containers.toml", &format!("{head}{own}"));
    repository.write("src/a/Dockerfile", "FROM scratch\n");
    repository.write("deploy/b/Dockerfile", "FROM scratch\n");
    let first = repository.commit();
    repository.write("src/a/x", "1");
    let causes = repository.causes("deploy/containers.toml", &first);
    let lines: Vec<_> = causes
        .iter()
        .map(|(n, c)| format!("{n}: {}", c.since("X")))
        .collect();
    assert_eq!(lines, ["a: ../src/a/x is new since X, not committed"]);
    repository.write(
        "deploy/containers.toml",
        &format!("{head}{own}target = \"x\"\n"),
    );
    assert_eq!(repository.causes("deploy/containers.toml", &first).len(), 2);
}

#[test]
fn submodules_and_other_repositories() {
    let library = Repository::with("", &["lib.py"]);
    let old = library.head();
    library.write("lib.py", "2");
    library.commit();
    let repository = three();
    let url = library.root.display().to_string();
    repository.git(&["submodule", "--quiet", "add", &url, "c/alone/lib"]);
    repository.git(&["submodule", "--quiet", "add", &url, "vendor/lib"]);
    repository.write("c/child/.dockerignore", "lib\n");
    let first = repository.commit();
    assert!(repository.affected(&first).is_empty());
    repository.git(&["config", "diff.ignoreSubmodules", "all"]);
    repository.git(&["-C", "c/alone/lib", "checkout", "-q", old.as_str()]);
    assert_eq!(
        repository.affected(&first),
        ["alone: c/alone/lib changed since X, not committed"]
    );
    repository.git(&["config", "--unset", "diff.ignoreSubmodules"]);
    repository.commit();
    repository.git(&["config", "diff.ignoreSubmodules", "all"]);
    assert_eq!(
        repository.affected(&first),
        ["alone: c/alone/lib changed since X"]
    );
    let second = repository.head();
    // A new file in one that is no container's; then in one that is.
    repository.write("vendor/lib/x", "1");
    assert!(repository.affected(&second).is_empty());
    repository.write("c/alone/lib/x", "1");
    assert_eq!(repository.names(&second), ["alone"]);
    repository.remove("c/alone/lib/x");
    // A repository that is no submodule: what is in it git does not say.
    repository.git(&["init", "-q", "c/child/nested"]);
    repository.write("c/child/nested/x", "1");
    assert_eq!(
        repository.affected(&second),
        ["child: c/child/nested is new since X, not committed"]
    );
}

#[test]
fn what_git_does_not_see_is_a_candidate() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("Dockerfile"), "FROM scratch\n").unwrap();
    let place = outside.path().canonicalize().unwrap();
    let manifest = format!(
        "[containers.out]\ncontext = {place:?}\n[containers.made]\ncontext = \"build/made\"\n\
         [containers.file]\ncontext = \"file\"\n[containers.nested]\ncontext = \"other/here\"\n\
         [containers.seen]\ncontext = \"seen\"\n[containers.sub]\ncontext = \"sub\"\n"
    );
    let repository = Repository::with(&manifest, &["seen/x", "file/x"]);
    let library = Repository::with("", &["Dockerfile"]);
    library.write("Dockerfile", "FROM scratch\n");
    library.commit();
    let url = library.root.display().to_string();
    repository.git(&["submodule", "--quiet", "add", &url, "sub"]);
    repository.write(".gitignore", "/build\n/file/Dockerfile\n/other\n");
    for name in ["seen", "build/made", "file", "other/here"] {
        repository.write(&format!("{name}/Dockerfile"), "FROM scratch\n");
    }
    repository.git(&["init", "-q", "other"]);
    let first = repository.commit();
    let place = place.file_name().unwrap().display();
    assert_eq!(
        repository.affected(&first),
        [
            format!(
                "out: ../{place} is outside of the git checkout: whether it changed is not known"
            ),
            "made: build/made is ignored by git: whether it changed is not known".into(),
            "file: file/Dockerfile is ignored by git: whether it changed is not known".into(),
            "nested: other/here is in another git repository: whether it changed is not known"
                .into(),
        ]
    );
    repository.write("sub/x", "1");
    assert_eq!(repository.names(&first).last().unwrap(), "sub");
}

#[test]
fn worktrees_sparse_checkouts_and_odd_configurations() {
    let repository = three();
    let first = repository.head();
    let beside = tempfile::tempdir().unwrap();
    let place = beside.path().join("tree");
    repository.git(&[
        "worktree",
        "add",
        "-q",
        place.to_str().unwrap(),
        "-b",
        "side",
    ]);
    std::fs::write(place.join("c/alone/a.py"), "2").unwrap();
    let checkout = crate::changes::git::Checkout::find(&place)
        .unwrap()
        .unwrap();
    assert_eq!(checkout.uncommitted_changes().unwrap().len(), 1);
    repository.git(&["worktree", "remove", "--force", place.to_str().unwrap()]);

    for (key, value) in [
        ("status.showUntrackedFiles", "no"),
        ("status.branch", "true"),
        ("status.showStash", "true"),
        ("diff.relative", "true"),
        ("diff.noprefix", "true"),
        ("diff.external", "false"),
        ("core.pager", "false"),
        ("color.ui", "always"),
        ("log.showSignature", "true"),
    ] {
        repository.git(&["config", key, value]);
    }
    repository.write("c/child/new", "");
    assert_eq!(repository.names(&first), ["child"]);
    repository.commit();
    assert_eq!(repository.names(&first), ["child"]);

    repository.git(&["sparse-checkout", "set", "c/alone"]);
    assert!(!repository.root.join("c/child").exists());
    repository.write("c/alone/new", "");
    assert_eq!(repository.names(&first), ["alone"]);
}

#[test]
fn thousands_of_files_are_a_few_questions() {
    let repository = three();
    let first = repository.head();
    for number in 0..5000 {
        let folder = if number % 2 == 0 {
            "c/alone/data"
        } else {
            "docs"
        };
        repository.write(&format!("{folder}/{}/{number}", number % 17), "");
    }
    repository.commit();
    for number in 0..2000 {
        repository.write(&format!("c/base/{number}"), "");
    }
    assert_eq!(repository.names(&first), ["alone", "base", "child"]);
}
