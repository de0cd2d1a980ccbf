//! Which folders become containers.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;

use super::{HEAD, errors, load_in, repository, titles};
use crate::diagnostic::human::{Screen, render};

/// The names, or the errors, that these patterns find.
fn found(root: &std::path::Path, discover: &str) -> String {
    match load_in(root, &format!("{HEAD}[discover]\n{discover}\n")) {
        Ok((manifest, warnings)) => {
            let names: Vec<&str> = manifest.containers.keys().map(String::as_str).collect();
            let mut words: Vec<String> = names.into_iter().map(str::to_owned).collect();
            words.extend(titles(&warnings).into_iter().map(|t| format!("({t})")));
            words.join(" ")
        }
        Err(diagnostics) => render(&diagnostics, Screen::default()),
    }
}

#[test]
fn patterns_match_part_by_part() {
    let dir = repository(&[
        "c/train/Dockerfile",
        "c/etl/Dockerfile",
        "c/etl/deep/Dockerfile",
        "c/.hidden/Dockerfile",
        "c/no-dockerfile/",
        "d/gpu-a/Dockerfile",
        "d/gpu-b/Dockerfile",
        "d/cpu/Dockerfile",
    ]);
    for (discover, names) in [
        (r#"roots = ["c/*"]"#, "etl train"),
        (r#"roots = ["./c//*/"]"#, "etl train"),
        (r#"roots = ["c/**"]"#, "deep etl train"),
        (r#"roots = ["**"]"#, "cpu deep etl gpu-a gpu-b train"),
        (r#"roots = ["**/deep"]"#, "deep"),
        (r#"roots = ["c/train"]"#, "train"),
        (r#"roots = ["d/gpu-?", "c/{train,x}"]"#, "gpu-a gpu-b train"),
        (r#"roots = ["d/[!g]*"]"#, "cpu"),
        (r#"roots = ["c/*", "**/train"]"#, "etl train"),
        ("roots = [\"c/*\"]\nexclude = [\"c/etl\"]", "train"),
        (
            "roots = [\"**\"]\nexclude = [\"./d/\", \"c/etl/**\"]",
            "etl train",
        ),
        (
            "roots = [\"**\"]\nexclude = [\"**/gpu-*\"]",
            "cpu deep etl train",
        ),
        (
            r#"roots = ["c/*", "e/*"]"#,
            "etl train (`e/*` finds no container)",
        ),
    ] {
        assert_eq!(found(dir.path(), discover), names, "{discover}");
    }
    // A pattern that names the dot gets the folder, whose name no container can have.
    assert!(found(dir.path(), r#"roots = ["c/.*"]"#).contains("c/.hidden"));
}

#[test]
fn patterns_may_leave_the_manifests_folder() {
    let dir = repository(&["repo/x/", "other/train/Dockerfile"]);
    assert_eq!(
        found(&dir.path().join("repo"), r#"roots = ["../other/*"]"#),
        "train"
    );
    let absolute = format!("roots = [\"{}/other/*\"]", dir.path().display());
    assert_eq!(found(&dir.path().join("repo"), &absolute), "train");
    assert_eq!(
        found(&dir.path().join("other/train"), r#"roots = ["."]"#),
        "train"
    );
}

#[test]
fn links_are_followed_once_and_never_in_circles() {
    let dir = repository(&["c/train/Dockerfile", "elsewhere/etl/Dockerfile"]);
    let link = |to: &str, at: &str| symlink(dir.path().join(to), dir.path().join(at)).unwrap();
    link("c/train", "c/alias");
    link("elsewhere/etl", "c/etl");
    link("c", "c/loop");
    link("nowhere", "c/broken");
    assert_eq!(found(dir.path(), r#"roots = ["c/*"]"#), "etl train");
    assert_eq!(found(dir.path(), r#"roots = ["c/**"]"#), "etl train");
    assert_eq!(
        found(dir.path(), r#"roots = ["**", "**/**/*"]"#),
        "etl train"
    );
}

#[test]
fn two_folders_of_a_name_are_refused() {
    insta::assert_snapshot!(errors(
        &["a/train/Dockerfile", "b/train/Dockerfile"],
        &format!("{HEAD}[discover]\nroots = [\"a/*\", \"b/*\"]\n")
    ), @r#"
    error: two folders for container `train`: `a/train` and `b/train`
     --> containers.toml:6:17
      |
    6 | roots = ["a/*", "b/*"]
      |          -----  ^^^^^ finds the second one
      |          |
      |          finds the first one
      |
      = help: exclude one, `exclude = ["b/train"]`, and give it a name of its own if it is a container: [containers.NAME] with `context = "b/train"`
    "#);
}

#[test]
fn folder_names_that_no_container_can_have_are_refused() {
    insta::assert_snapshot!(errors(
        &["c/Train/Dockerfile", "c/train/Dockerfile", "c/all/Dockerfile"],
        &format!("{HEAD}[discover]\nroots = [\"c/*\"]\n")
    ), @r#"
    error: the folder `c/Train` gives a name that no container can have
     --> containers.toml:6:10
      |
    6 | roots = ["c/*"]
      |          ^^^^^ found by this pattern; a name is lower-case letters and digits, joined by `.`, `_` or `-`
      |
      = help: rename the folder, name it in `discover.exclude`, or give it a name of its own:
              [containers.NAME]
              context = "c/Train"

    error: the folder `c/all` gives a name that no container can have
     --> containers.toml:6:10
      |
    6 | roots = ["c/*"]
      |          ^^^^^ found by this pattern; `all` means every container on the command line
      |
      = help: rename the folder, name it in `discover.exclude`, or give it a name of its own:
              [containers.NAME]
              context = "c/all"
    "#);
}

#[test]
fn a_bad_folder_name_is_mended_by_the_manifest() {
    let dir = repository(&["c/My Model/Dockerfile", "c/etl/Dockerfile"]);
    let written = "roots = [\"c/*\"]\n[containers.my-model]\ncontext = \"c/My Model\"";
    assert_eq!(found(dir.path(), written), "my-model etl");
}

#[test]
fn a_folder_name_that_is_not_utf8_is_refused() {
    let dir = repository(&["c/"]);
    let folder = dir
        .path()
        .join("c")
        .join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("Dockerfile"), "FROM scratch\n").unwrap();
    insta::assert_snapshot!(found(dir.path(), "roots = [\"c/*\"]"), @r#"
    error: the name of the folder `c/caf�` is not UTF-8
     --> containers.toml:6:10
      |
    6 | roots = ["c/*"]
      |          ^^^^^ found by this pattern
      |
      = help: rename the folder, or exclude it in `discover.exclude` with a `*` or `?`
    "#);
}

#[test]
fn the_defaults_dockerfile_makes_a_folder_a_container() {
    let dir = repository(&["c/a/Containerfile", "c/b/Dockerfile"]);
    let discover = "roots = [\"c/*\"]\n[defaults]\ndockerfile = \"Containerfile\"";
    assert_eq!(found(dir.path(), discover), "a");
}
