//! Whole manifests, good and bad, as users meet them.

use std::path::Path;

use proptest::prelude::*;

use super::model::{CacheBackend, CacheExport, Network, Profile, ProjectManifest};
use super::schema::{Key, Kind, MANIFEST};
use super::*;
use crate::diagnostic::human::render;

/// The least that every manifest below begins with.
const HEAD: &str = "version = 1\n[registry]\nprovider = \"oci\"\nhost = \"localhost:5000\"\n";

/// A repository with these files; a name that ends with `/` is a folder.
fn repository(files: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        let path = dir.path().join(file);
        if file.ends_with('/') {
            std::fs::create_dir_all(path).unwrap();
        } else {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "FROM scratch\n").unwrap();
        }
    }
    dir
}

fn load_in(root: &Path, text: &str) -> Loaded {
    let root = std::fs::canonicalize(root).unwrap();
    let source = SourceText::new("containers.toml", text);
    load_text(&Location {
        source: &source,
        path: &root.join("containers.toml"),
        root: &root,
    })
}

/// The rendered errors of a manifest in a repository with these files.
fn errors(files: &[&str], text: &str) -> String {
    let dir = repository(files);
    match load_in(dir.path(), text) {
        Ok(_) => "good".to_owned(),
        Err(diagnostics) => render(&diagnostics, false),
    }
}

/// The errors of a manifest that is good but for what follows the registry and one container.
fn errors_of(rest: &str) -> String {
    errors(
        &["train/Dockerfile"],
        &format!("{HEAD}{rest}\n[containers.train]\ncontext = \"train\"\n"),
    )
}

fn titles(diagnostics: &[Diagnostic]) -> Vec<&str> {
    diagnostics.iter().map(|d| d.title.as_str()).collect()
}

fn good(files: &[&str], text: &str) -> (tempfile::TempDir, ProjectManifest) {
    let dir = repository(files);
    let (manifest, warnings) = load_in(dir.path(), text)
        .unwrap_or_else(|diagnostics| panic!("{}", render(&diagnostics, false)));
    assert_eq!(titles(&warnings), Vec::<&str>::new());
    (dir, manifest)
}

#[test]
fn the_smallest_manifest_gets_every_default() {
    let (dir, manifest) = good(&["containers/train/Dockerfile"], find::MINIMAL);
    let root = std::fs::canonicalize(dir.path()).unwrap();
    assert_eq!(manifest.root, root);
    assert!(manifest.registry.plain_http && manifest.channels.is_none());
    assert_eq!(manifest.state.to_string(), "localhost:5000/skiff");
    assert_eq!(manifest.cache.backend, CacheBackend::Registry);
    assert_eq!(manifest.cache.export, CacheExport::Channels);
    let train = &manifest.containers["train"];
    assert_eq!(train.context, root.join("containers/train"));
    assert_eq!(train.dockerfile, root.join("containers/train/Dockerfile"));
    assert_eq!(train.repository.to_string(), "localhost:5000/train");
    assert_eq!(train.cache_repository, train.repository);
    assert_eq!(train.cache_tag.as_str(), "buildcache");
    assert_eq!(train.platform.to_string(), "linux/amd64");
    assert_eq!(
        (train.profile, train.network),
        (Profile::Docker, Network::Default)
    );
    assert!(train.tags.is_empty() && train.needs.is_empty() && train.timeout.is_none());
    let pattern = &manifest.source.text[train.span.range.clone()];
    assert_eq!(pattern, "\"containers/*\"");
}

#[test]
fn everything_that_is_built_can_be_written() {
    let (dir, manifest) = good(
        &[
            "c/train/docker/Dockerfile.gpu",
            "c/base/Dockerfile",
            "c/etl/Dockerfile",
            "libs/common/",
        ],
        r#"
version = 1
required_version = ">=0.1, <1"
[registry]
provider = "oci"
host = "registry.local:8080"
insecure = true
repository = "team/{name}"
create = true
[release]
[channels]
latest = ["main", "ml-development"]
next = []
[builder]
driver = "docker"
[cache]
backend = "none"
ref = "cache.local/team:{name}-cache"
export = "never"
mounts = "off"
[discover]
roots = ["c/*"]
exclude = ["c/old"]
[defaults]
platforms = ["linux/amd64"]
profile = "sagemaker"
tags = ["{timestamp}", "{name}-{short_sha}"]
args = { PYTHON = "3.11", CUDA = "12" }
needs = ["base"]
timeout = "60m"
[containers.train]
dockerfile = "docker/Dockerfile.gpu"
target = "runtime"
args = { CUDA = 13, DEBUG = true }
contexts = { common = "libs/common" }
labels = { "org.example.team" = "ml" }
network = "none"
platforms = ["linux/arm64/v8"]
profile = "lambda"
tags = []
timeout = "1h30m"
[containers.train-cpu]
context = "./c/train/"
dockerfile = "docker/Dockerfile.gpu"
"#,
    );
    let root = std::fs::canonicalize(dir.path()).unwrap();
    let names: Vec<&str> = manifest.containers.keys().map(String::as_str).collect();
    assert_eq!(names, ["train", "train-cpu", "base", "etl"]);
    assert!(manifest.registry.plain_http);
    assert_eq!(manifest.state.path(), "team/skiff");
    let channels: Vec<_> = manifest
        .channels
        .iter()
        .flatten()
        .map(|(t, b)| (t.as_str(), b.len()))
        .collect();
    assert_eq!(channels, [("latest", 2), ("next", 0)]);
    let train = &manifest.containers["train"];
    assert_eq!(train.context, root.join("c/train"));
    assert_eq!(train.dockerfile, root.join("c/train/docker/Dockerfile.gpu"));
    let args: Vec<_> = train.args.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(args, ["CUDA=13", "DEBUG=true", "PYTHON=3.11"]);
    assert_eq!(train.contexts["common"], root.join("libs/common"));
    assert_eq!(train.platform.to_string(), "linux/arm64/v8");
    assert_eq!(train.timeout, Some(std::time::Duration::from_secs(5400)));
    assert_eq!(
        (train.profile, train.network),
        (Profile::Lambda, Network::None)
    );
    assert!(train.tags.is_empty());
    assert_eq!(train.cache_repository.to_string(), "cache.local/team");
    assert_eq!(train.cache_tag.as_str(), "train-cache");
    assert_eq!(&manifest.source.text[train.span.range.clone()], "train");
    let cpu = &manifest.containers["train-cpu"];
    assert_eq!(
        (&cpu.context, &cpu.needs),
        (&train.context, &vec!["base".to_owned()])
    );
    assert_eq!(cpu.tags, ["{timestamp}", "{name}-{short_sha}"]);
    assert_eq!(
        manifest.containers["base"].needs,
        Vec::<String>::new(),
        "base does not need itself"
    );
    assert_eq!(manifest.containers["etl"].profile, Profile::Sagemaker);
}

#[test]
fn the_contracts_example_is_refused_for_what_is_not_built_and_nothing_else() {
    let text = r#"
version = 1
# required_version = ">=0.3"

[registry]
provider = "ecr"
repository = "team/{name}"
create = true

[release]
state = "team/skiff"

[channels]
latest = ["main", "development", "ml-development"]

[builder]
driver = "auto"

[cache]
backend = "registry"
ref = "{repository}:buildcache"
export = "channels"
mounts = "registry"

[mirrors]
"docker.io" = "123456789012.dkr.ecr.us-east-1.amazonaws.com/docker-hub"

[discover]
roots = ["infrastructure/containers/*"]
exclude = []

[defaults]
platforms = ["linux/amd64"]
profile = "sagemaker"
tags = ["{timestamp}"]
tag_unchanged = false

[containers.train]
context = "infrastructure/containers/train"
dockerfile = "Dockerfile"
target = "runtime"
args = { PYTHON = "3.11" }
contexts = { common = "libs/common" }
secrets = [{ id = "pip", env = "PIP_TOKEN" }]
ssh = ["default"]
labels = {}
network = "default"
extra_inputs = ["libs/common/**"]
needs = ["base"]
max_age = "7d"
timeout = "60m"
"#;
    let dir = repository(&[
        "infrastructure/containers/train/Dockerfile",
        "infrastructure/containers/base/Dockerfile",
        "libs/common/",
    ]);
    let diagnostics = load_in(dir.path(), text).unwrap_err();
    insta::assert_snapshot!(titles(&diagnostics).join("\n"), @"");
}

#[test]
fn all_errors_of_a_file_come_at_once_in_its_order() {
    insta::assert_snapshot!(errors(
        &["c/train/Dockerfile", "c/etl/Dockerfile", "c/Big/Dockerfile"],
        r#"versoin = 1
[registry]
provider = "oci"
host = "https://registry.local/team"
[chanels]
latest = ["main"]
[cache]
backend = "regisrty"
export = "always"
[discover]
roots = "c/*"
[defaults]
args = { PYTHON = 3.10 }
timeout = "1w"
platforms = ["linux/x86_64"]
[containers.train]
context = "c/trian"
needs = ["elt", "train"]
[containers.etl]
context = "c/etl"
secrets = [{ id = "pip" }]
"#), @"");
}

#[test]
fn wrong_types_say_what_was_expected() {
    insta::assert_snapshot!(errors_of(
        "insecure = \"true\"\n[channels]\nlatest = \"main\"\n[cache]\nref = 5\n[discover]\nroots = [1]\n[defaults]\nlabels = [\"a\"]\nargs = { A = 0x10, B = [], C = 2020-01-01 }"
    ), @"");
}

#[test]
fn wrong_values_say_what_would_be_right() {
    insta::assert_snapshot!(errors_of(
        "repository = \"Team/{nam}\"\n[channels]\n\"-x\" = [\"refs/heads/main\", \"a b\"]\nkey-1 = []\n[cache]\nref = \"{repository}\"\n[discover]\nroots = [\"a[\"]\n[defaults]\nplatforms = []\ntags = [\"{timestam}\", \"v 1\", \"feature/x\", \"key-{sha}\"]\nlabels = { \"skiff.key\" = \"1\" }\ncontext = \"\""
    ), @"");
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    insta::assert_snapshot!(errors_of(
        "account = \"123456789012\"\n[channels]\nlatest = [\"release/*\"]\n[builder]\ndriver = \"remote\"\nendpoints = [\"tcp://b1:1234\"]\n[cache]\nbackend = \"s3\"\n[defaults]\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\nprofile = \"oci\"\nnetwork = \"host\"\ntags = [\"{version}\"]\ncontexts = { base = \"docker-image://python:3.11\" }"
    ), @"");
}

#[test]
fn every_not_built_entry_is_a_place_of_the_schema() {
    let mut places = Vec::new();
    all_places(&MANIFEST, "", &mut places);
    for entry in not_built::TABLE {
        assert!(
            places.iter().any(|p| p == entry.place),
            "{} is no key",
            entry.place
        );
    }
}

fn all_places(kind: &Kind, place: &str, places: &mut Vec<String>) {
    places.push(place.to_owned());
    match kind {
        Kind::List(of) | Kind::Filled(of) => all_places(of, &format!("{place}[]"), places),
        Kind::Map(_, of) => all_places(of, &format!("{place}.*"), places),
        Kind::Table(name, keys) => keys.iter().for_each(|k| {
            let child = [name, k.name].join(".");
            all_places(&k.kind, child.trim_start_matches('.'), places);
        }),
        _ => {}
    }
}

#[test]
fn the_registry_must_be_said() {
    insta::assert_snapshot!(errors(&["a/Dockerfile"], "version = 1\n[containers.a]\ncontext = \"a\"\n"), @"");
    insta::assert_snapshot!(errors(&["a/Dockerfile"], "version = 1\n[registry]\nhost = \"r.local\"\n[containers.a]\ncontext = \"a\"\n"), @"");
    insta::assert_snapshot!(errors(&["a/Dockerfile"], "version = 1\n[registry]\nprovider = \"oci\"\ncreate = false\n[containers.a]\ncontext = \"a\"\n"), @"");
}

#[test]
fn another_version_stands_alone() {
    insta::assert_snapshot!(errors_of("").replace("good", "good: the base of the tests"), @"");
    insta::assert_snapshot!(errors(&[], "version = 2\nfuture = true\n"), @"");
    insta::assert_snapshot!(errors(&[], "version = 1\nrequired_version = \">=99.1\"\nfuture = true\n"), @"");
    insta::assert_snapshot!(errors(&[], "version = \"1\"\nrequired_version = \"latest\"\n[registry]\nprovider = \"oci\"\nhost = \"r\"\n"), @"");
}

#[test]
fn syntax_errors_are_shown_together_with_what_was_read() {
    insta::assert_snapshot!(errors(&[], "version = 1\nversion = 2\n[registry]\nhost = localhost\nprovidr = \"oci\"\n[cache]\nexport = \n"), @"");
    insta::assert_snapshot!(errors(&[], "version = 1\n[defaults]\ntags = [\"a\"\nprofile = \"docker\"\n[registry]\nhost = 5\n"), @"");
    insta::assert_snapshot!(errors(&[], "version = 1\n[registry\nhost = \"a\n"), @"");
    insta::assert_snapshot!(errors(&[], "[containers.a]\ncontext = \"a\"\n[containers.a]\ncontext = \"b\"\n"), @"");
}

#[test]
fn containers_need_their_folders_and_files() {
    insta::assert_snapshot!(errors(
        &["c/train/Dockerfile.gpu", "c/etl/dockerfile", "c/file", "c/base/Dockerfile", "c/empty/"],
        &format!("{HEAD}[discover]\nroots = [\"c/*\"]\n[containers.train]\ndockerfile = \"Dockerfile.gpv\"\n[containers.etl]\ncontext = \"c/etl\"\n[containers.file]\ncontext = \"c/file\"\n[containers.bose]\n[containers.empty]\n[containers.out]\ncontext = \"../nowhere/x\"\n")
    ), @"");
}

#[test]
fn a_context_may_be_absolute_or_outside() {
    let outside = repository(&["x/Dockerfile"]);
    let dir = repository(&["repo/containers.toml"]);
    std::os::unix::fs::symlink(outside.path().join("x"), dir.path().join("link")).unwrap();
    let absolute = outside.path().join("x").display().to_string();
    let text = format!(
        "{HEAD}[containers.a]\ncontext = \"{absolute}\"\n[containers.b]\ncontext = \"../link\"\n"
    );
    let (manifest, _) = load_in(&dir.path().join("repo"), &text).unwrap();
    let real = std::fs::canonicalize(outside.path().join("x")).unwrap();
    assert_eq!(manifest.containers["a"].context, real);
    assert_eq!(manifest.containers["b"].dockerfile, real.join("Dockerfile"));
}

#[test]
fn names_that_mean_two_things_are_refused() {
    insta::assert_snapshot!(errors(
        &["a/Dockerfile", "skiff/Dockerfile"],
        &format!("{HEAD}[cache]\nref = \"localhost:5000/a:latest\"\n[channels]\nlatest = [\"main\"]\nstable = []\n[containers.a]\ncontext = \"a\"\ntags = [\"stable\", \"{{sha}}\", \"{{sha}}\"]\n[containers.skiff]\ncontext = \"skiff\"\n[containers.all]\ncontext = \"a\"\n[containers.Big]\ncontext = \"a\"\n[containers.\"a/b\"]\ncontext = \"a\"\n")
    ), @"");
    insta::assert_snapshot!(errors(
        &["a/Dockerfile", "b/Dockerfile"],
        &format!("{HEAD}repository = \"team/app\"\n[cache]\nref = \"cache.local/c:x\"\n[defaults]\ntags = [\"latest\"]\n[containers.a]\ncontext = \"a\"\n[containers.b]\ncontext = \"b\"\n")
    ), @"");
}

#[test]
fn one_container_may_have_a_repository_without_name() {
    let text = format!("{HEAD}repository = \"team/app\"\n[containers.a]\ncontext = \"a\"\n");
    let (_dir, manifest) = good(&["a/Dockerfile"], &text);
    let a = &manifest.containers["a"];
    assert_eq!(
        (a.repository.path(), a.cache_tag.as_str()),
        ("team/app", "buildcache-a")
    );
    assert_eq!(manifest.state.path(), "team/skiff");
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
    insta::assert_snapshot!(errors(&files, &text), @"");
}

#[test]
fn a_manifest_without_containers_says_how_to_have_some() {
    insta::assert_snapshot!(errors(&["infra/containers/x/"], &format!("{HEAD}[discover]\nroots = [\"infra/containers/*\", \"infre/*\"]\n")), @"");
    insta::assert_snapshot!(errors(&[], HEAD), @"");
}

#[test]
fn an_empty_file_and_a_byte_order_mark_are_no_riddles() {
    insta::assert_snapshot!(errors(&[], ""), @"");
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
        render(&load(&path, name).unwrap_err(), false)
    };
    insta::assert_snapshot!(outcome("folder", None), @"");
    insta::assert_snapshot!(outcome("missing.toml", None), @"");
    insta::assert_snapshot!(outcome("latin1.toml", Some(b"version = 1\n# caf\xe9\n")), @"");
    let large = vec![b'\n'; usize::try_from(MAX_BYTES).unwrap() + 1];
    insta::assert_snapshot!(outcome("large.toml", Some(&large)), @"");
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
    let Kind::Table(_, top) = &MANIFEST else {
        return vec![];
    };
    let inner = |key: &'static Key| match &key.kind {
        Kind::Table(_, keys) => keys.iter().map(|k| (key.name, k.name)).collect(),
        Kind::Map(_, Kind::Table(_, keys)) => keys
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
            prop_assert!(!render(&diagnostics, false).is_empty());
        }
    }

    #[test]
    fn a_good_manifest_with_any_edit_makes_no_panic(at in 0_usize..600, length in 0_usize..30, insert in "[\\[\\]\"'=,\n{} a1]{0,4}") {
        let whole = format!("{HEAD}[channels]\nlatest = [\"main\"]\n[cache]\nref = \"{{repository}}:c\"\n[defaults]\nargs = {{ A = 1 }}\nplatforms = [\n\"linux/amd64\",\n]\n[containers.train]\ncontext = \"x\"\nneeds = [\"train\", \"b\"]\ntimeout = \"1h\"\n[containers]\nb = {{ context = \"y\" }}\n");
        let at = at % whole.len();
        let end = (at + length).min(whole.len());
        let text = format!("{}{insert}{}", &whole[..at], &whole[end..]);
        if let Err(diagnostics) = load_in(Path::new("/nonexistent").parent().unwrap(), &text) {
            prop_assert!(!render(&diagnostics, false).is_empty());
        }
    }
}
