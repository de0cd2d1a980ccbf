//! Containers among each other and with their files.

use super::{HEAD, errors, errors_of};

#[test]
fn containers_need_their_folders_and_files() {
    insta::assert_snapshot!(errors(
        &["c/train/Dockerfile.gpu", "c/etl/dockerfile", "c/file", "c/base/Dockerfile", "c/empty/"],
        &format!("{HEAD}[discover]\nroots = [\"c/*\"]\n[containers.train]\ndockerfile = \"Dockerfile.gpv\"\n[containers.etl]\ncontext = \"c/etl\"\n[containers.file]\ncontext = \"c/file\"\n[containers.bose]\n[containers.empty]\n[containers.out]\ncontext = \"../nowhere/x\"\n")
    ), @r#"
    error: no Dockerfile for container `train`
     --> containers.toml:8:14
      |
    8 | dockerfile = "Dockerfile.gpv"
      |              ^^^^^^^^^^^^^^^^ `c/train/Dockerfile.gpv`: no such file
      |
      = help: did you mean `dockerfile = "Dockerfile.gpu"`?

    error: no Dockerfile for container `etl`
      --> containers.toml:10:11
       |
    10 | context = "c/etl"
       |           ^^^^^^^ `c/etl/Dockerfile`: no such file
       |
       = help: did you mean `dockerfile = "dockerfile"`?

    error: `c/file` cannot be a context
      --> containers.toml:12:11
       |
    12 | context = "c/file"
       |           ^^^^^^^^ is a file, not a folder
       |
       = help: write a folder, relative to the manifest's

    error: container `bose` has no context
      --> containers.toml:13:13
       |
    13 | [containers.bose]
       |             ^^^^ no folder of this name was discovered either
       |
       = help: did you mean `base`, which was discovered?
       = help: write `context = "path/of/its/folder"`

    error: no Dockerfile for container `empty`
      --> containers.toml:14:13
       |
    14 | [containers.empty]
       |             ^^^^^ `c/empty/Dockerfile`: no such file
       |
       = help: write `dockerfile = "…"`, relative to the context

    error: `../nowhere/x` cannot be a context
      --> containers.toml:16:11
       |
    16 | context = "../nowhere/x"
       |           ^^^^^^^^^^^^^^ no such folder
       |
       = help: write a folder, relative to the manifest's
    "#);
}

#[test]
fn names_that_mean_two_things_are_refused() {
    insta::assert_snapshot!(errors(
        &["a/Dockerfile", "skiff/Dockerfile"],
        &format!("{HEAD}[cache]\nref = \"localhost:5000/a:latest\"\n[channels]\nlatest = [\"main\"]\nstable = []\n[containers.a]\ncontext = \"a\"\ntags = [\"stable\", \"{{sha}}\", \"{{sha}}\"]\n[containers.skiff]\ncontext = \"skiff\"\n[containers.all]\ncontext = \"a\"\n[containers.Big]\ncontext = \"a\"\n[containers.\"a/b\"]\ncontext = \"a\"\n")
    ), @r#"
    error: the cache `localhost:5000/a:latest` would replace an image of container `a`
     --> containers.toml:6:7
      |
    6 | ref = "localhost:5000/a:latest"
      |       ^^^^^^^^^^^^^^^^^^^^^^^^^ a channel
      |
      = help: write another tag, such as "{repository}:buildcache"

    error: `stable` is a channel, which moves, and a tag, which must not
      --> containers.toml:12:9
       |
     9 | stable = []
       | ------ a channel
    ...
    12 | tags = ["stable", "{sha}", "{sha}"]
       |         ^^^^^^^^ an immutable tag
       |
       = help: take it out of the tags: promotion sets it

    error: tag `{sha}` is listed twice
      --> containers.toml:12:28
       |
    12 | tags = ["stable", "{sha}", "{sha}"]
       |                   -------  ^^^^^^^
       |                   |
       |                   first here
       |
       = help: leave one out

    error: container `skiff` would share the repository `skiff` with the release records
      --> containers.toml:13:13
       |
    13 | [containers.skiff]
       |             ^^^^^
       |
       = help: give the container another name

    error: wrong name in `containers.all`
      --> containers.toml:15:13
       |
    15 | [containers.all]
       |             ^^^ `all` means every container on the command line
       |
       = help: give the container another name

    error: wrong name in `containers.Big`
      --> containers.toml:17:13
       |
    17 | [containers.Big]
       |             ^^^ no registry accepts this name
       |
       = help: a name is lower-case letters and digits, joined by `.`, `_`, `__` or `-`; for example `big`

    error: wrong name in `containers."a/b"`
      --> containers.toml:19:13
       |
    19 | [containers."a/b"]
       |             ^^^^^ no registry accepts this name
       |
       = help: a name is lower-case letters and digits, joined by `.`, `_`, `__` or `-`; for example `a-b`
    "#);
    insta::assert_snapshot!(errors(
        &["a/Dockerfile", "b/Dockerfile"],
        &format!("{HEAD}repository = \"team/app\"\n[cache]\nref = \"cache.local/c:x\"\n[defaults]\ntags = [\"latest\"]\n[containers.a]\ncontext = \"a\"\n[containers.b]\ncontext = \"b\"\n")
    ), @r#"
    error: containers `a` and `b` would share the cache `cache.local/c:x`
     --> containers.toml:7:7
      |
    7 | ref = "cache.local/c:x"
      |       ^^^^^^^^^^^^^^^^^ the same for both
      |
      = help: put `{repository}` or `{name}` in it, such as "{repository}:buildcache"

    error: `latest` is a channel, which moves, and a tag, which must not
     --> containers.toml:9:9
      |
    9 | tags = ["latest"]
      |         ^^^^^^^^ an immutable tag
      |
      = note: without `[channels]`, `latest` is the channel
      = help: take it out of the tags: promotion sets it
    "#);
}

#[test]
fn circles_are_named() {
    let files = [
        "a/Dockerfile",
        "b/Dockerfile",
        "c/Dockerfile",
        "d/Dockerfile",
    ];
    let text = format!(
        "{HEAD}[discover]\nroots = [\"*\"]\n[containers.a]\nneeds = [\"b\"]\n[containers.b]\nneeds = [\"d\", \"c\"]\n[containers.c]\nneeds = [\"a\"]\n"
    );
    insta::assert_snapshot!(errors(&files, &text), @r#"
    error: `needs` goes in a circle: a -> b -> c -> a
      --> containers.toml:8:10
       |
     8 | needs = ["b"]
       |          ^^^ `a` needs `b`
     9 | [containers.b]
    10 | needs = ["d", "c"]
       |               --- `b` needs `c`
    11 | [containers.c]
    12 | needs = ["a"]
       |          --- `c` needs `a`
       |
       = help: take one of these out
    "#);
}

#[test]
fn a_manifest_without_containers_says_how_to_have_some() {
    insta::assert_snapshot!(errors(&["infra/containers/x/"], &format!("{HEAD}[discover]\nroots = [\"infra/containers/*\", \"infre/*\"]\n")), @r#"
    error: the manifest has no containers
     --> containers.toml:5:2
      |
    5 | [discover]
      |  ^^^^^^^^
      |
      = help: let them be found:
              [discover]
              roots = ["containers/*"]
      = help: or write each:
              [containers.NAME]
              context = "path/of/its/folder"

    warning: `infra/containers/*` finds no container
     --> containers.toml:6:10
      |
    6 | roots = ["infra/containers/*", "infre/*"]
      |          ^^^^^^^^^^^^^^^^^^^^ one folder matches, without a `Dockerfile`

    warning: `infre/*` finds no container
     --> containers.toml:6:32
      |
    6 | roots = ["infra/containers/*", "infre/*"]
      |                                ^^^^^^^^^ no folder matches
      |
      = help: there is no folder `infre`; did you mean `infra`?
    "#);
    insta::assert_snapshot!(errors(&[], HEAD), @r#"
    error: the manifest has no containers
     --> containers.toml:1:1
      |
    1 | version = 1
      | ^
      |
      = help: let them be found:
              [discover]
              roots = ["containers/*"]
      = help: or write each:
              [containers.NAME]
              context = "path/of/its/folder"
    "#);
}

#[test]
fn a_wrong_need_of_the_defaults_is_reported_once() {
    let text = format!("{HEAD}[discover]\nroots = [\"*\"]\n[defaults]\nneeds = [\"postgres\"]\n");
    insta::assert_snapshot!(errors(&["a/Dockerfile", "b/Dockerfile"], &text), @r#"
    error: container `a` needs `postgres`, which does not exist
     --> containers.toml:8:10
      |
    8 | needs = ["postgres"]
      |          ^^^^^^^^^^ no such container
      |
      = help: the containers: a, b
    "#);
}

#[test]
fn keys_of_another_cache_backend_and_a_folder_that_is_sent_are_refused() {
    let says = |cache: &str, texts: &[&str]| {
        let found = errors_of(&format!("[cache]\n{cache}"));
        for text in texts {
            assert!(found.contains(text), "{text}: {found}");
        }
    };
    let none = "backend = \"none\"\ndir = \"x\"";
    let texts = ["`cache.dir` is of no use here", "the backend \"local\""];
    says(none, &texts);
    says("bucket = \"caches\"", &["`cache.bucket` is of no use here"]);
    let local = "backend = \"local\"";
    says(local, &["`cache.dir` is missing", "write `dir = "]);
    let inside = format!("{local}\ndir = \"train/x\"");
    says(&inside, &["inside of a build context of `train`"]);
    assert_eq!(
        errors_of(&format!("[cache]\n{local}\ndir = \"../x\"")),
        "good"
    );
    let s3 = "backend = \"s3\"";
    says(s3, &["`cache.bucket` is missing"]);
    let wrong = format!("{s3}\nbucket = \"s3://B\"\nprefix = \"a//b\"\nendpoint = \"s3.lan\"");
    let texts = [
        "is not the name of a bucket",
        "is not the beginning of keys",
        "is not the URL of a service",
    ];
    says(&wrong, &texts);
    let good = "bucket = \"caches\"\nprefix = \"a/b/\"\nendpoint = \"http://localhost:9000\"\npath_style = true";
    assert_eq!(errors_of(&format!("[cache]\n{s3}\n{good}")), "good");
    // A bucket may be for cache mounts alone, whatever build caches are in.
    let mounts = "mounts = \"s3\"";
    for backend in ["", s3, "backend = \"none\"", "backend = \"registry\""] {
        let all = errors_of(&format!("[cache]\n{backend}\n{mounts}\n{good}"));
        assert_eq!(all, "good", "{backend}");
    }
    insta::assert_snapshot!(errors_of(&format!("[cache]\n{mounts}\nprefix = \"a\"")), @r#"
    error: `cache.bucket` is missing
     --> containers.toml:6:1
      |
    6 | mounts = "s3"
      | ^^^^^^ `mounts = "s3"` needs it
      |
      = help: write `bucket = "team-caches"`
    "#);
    let elsewhere = "mounts = \"registry\"\nprefix = \"a\"";
    insta::assert_snapshot!(errors_of(&format!("[cache]\n{elsewhere}")), @r#"
    error: `cache.prefix` is of no use here
     --> containers.toml:7:1
      |
    7 | prefix = "a"
      | ^^^^^^ belongs to caches in "s3"
      |
      = help: leave it out, or write `backend = "s3"` or `mounts = "s3"`
    "#);
}

#[test]
fn untrusted_runs_write_where_no_trusted_one_reads() {
    let two = |untrusted: &str, more: &str| {
        errors(
            &["a/Dockerfile", "b/Dockerfile"],
            &format!(
                "{HEAD}repository = \"t/{{name}}\"\nuntrusted = \"{untrusted}\"\n{more}\n\
                 [containers.a]\ncontext = \"a\"\n[containers.b]\ncontext = \"b\"\n"
            ),
        )
    };
    assert_eq!(two("pr/{name}", ""), "good");
    let told = [
        two("t/{name}", ""),
        two("pr/all", ""),
        two("c/{name}", "[cache]\nref = \"localhost:5000/c/{name}:x\""),
        two("pr/{nam}", ""),
    ];
    insta::assert_snapshot!(told.join("\n"), @r#"
    error: untrusted runs would write to what trusted ones read
     --> containers.toml:6:13
      |
    6 | untrusted = "t/{name}"
      |             ^^^^^^^^^^ `localhost:5000/t/a` is where trusted runs keep `a`
      |
      = help: write another repository, such as "pr/{name}"
    error: containers `a` and `b` would share the untrusted repository `localhost:5000/pr/all`
     --> containers.toml:6:13
      |
    6 | untrusted = "pr/all"
      |             ^^^^^^^^
      |
      = help: put `{name}` in it, such as "pr/{name}"
    error: untrusted runs would write to what trusted ones read
     --> containers.toml:6:13
      |
    6 | untrusted = "c/{name}"
      |             ^^^^^^^^^^ `localhost:5000/c/a` is where trusted runs keep `a`
      |
      = help: write another repository, such as "pr/{name}"
    error: wrong value for `registry.untrusted`
     --> containers.toml:6:13
      |
    6 | untrusted = "pr/{nam}"
      |             ^^^^^^^^^^ unknown variable `{nam}`
      |
      = help: did you mean `{name}`?
    "#);
}
