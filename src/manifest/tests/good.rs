//! Manifests that are taken, and what becomes of them.

use super::super::find;
use super::super::model::{
    Branches, CacheBackend, CacheExport, EcrSettings, Network, Profile, Provider,
};
use super::{HEAD, good, load_in, repository};

#[test]
fn the_smallest_manifest_gets_every_default() {
    let text = format!("{HEAD}[discover]\nroots = [\"containers/*\"]\n");
    let (dir, manifest) = good(&["containers/train/Dockerfile"], &text);
    let root = std::fs::canonicalize(dir.path()).unwrap();
    assert_eq!(manifest.root, root);
    assert!(manifest.registry.plain_http);
    let channels: Vec<_> = manifest
        .channels
        .iter()
        .map(|(tag, branches)| (tag.as_str(), branches))
        .collect();
    assert_eq!(channels, [("latest", &Branches::Default)]);
    assert_eq!(manifest.cache.backend, CacheBackend::Registry);
    assert_eq!(manifest.cache.export, CacheExport::Channels);
    let train = &manifest.containers["train"];
    assert_eq!(train.context, root.join("containers/train"));
    assert_eq!(train.dockerfile, root.join("containers/train/Dockerfile"));
    assert_eq!(train.repository.to_string(), "localhost:5000/train");
    assert_eq!(train.cache_repository, train.repository);
    assert_eq!(train.cache_tag.as_str(), "buildcache");
    assert_eq!(train.platforms[0].to_string(), "linux/amd64");
    assert_eq!(
        (train.profile, train.network),
        (Profile::Docker, Network::Default)
    );
    assert!(train.tags.is_empty() && train.needs.is_empty() && train.timeout.is_none());
    let pattern = &train.span.source.text[train.span.range.clone()];
    assert_eq!(pattern, "\"containers/*\"");
}

#[test]
fn the_manifest_that_is_proposed_is_taken() {
    let (_dir, manifest) = good(&["containers/train/Dockerfile"], find::MINIMAL);
    let ecr = EcrSettings {
        account: None,
        region: None,
        create: true,
    };
    assert_eq!(manifest.registry.provider, Provider::Ecr(ecr));
    assert!(!manifest.registry.plain_http);
    assert_eq!(manifest.containers["train"].repository.path(), "team/train");
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
    let channels: Vec<_> = manifest
        .channels
        .iter()
        .map(|(t, b)| (t.as_str(), b.clone()))
        .collect();
    let latest = Branches::Named(vec!["main".into(), "ml-development".into()]);
    assert_eq!(
        channels,
        [("latest", latest), ("next", Branches::Named(vec![]))]
    );
    let train = &manifest.containers["train"];
    assert_eq!(train.context, root.join("c/train"));
    assert_eq!(train.dockerfile, root.join("c/train/docker/Dockerfile.gpu"));
    let args: Vec<_> = train.args.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(args, ["CUDA=13", "DEBUG=true", "PYTHON=3.11"]);
    assert_eq!(train.contexts["common"], root.join("libs/common"));
    assert_eq!(train.platforms[0].to_string(), "linux/arm64/v8");
    assert_eq!(train.timeout, Some(std::time::Duration::from_mins(90)));
    assert_eq!(
        (train.profile, train.network),
        (Profile::Lambda, Network::None)
    );
    assert!(train.tags.is_empty());
    assert_eq!(train.cache_repository.to_string(), "cache.local/team");
    assert_eq!(train.cache_tag.as_str(), "train-cache");
    assert_eq!(&train.span.source.text[train.span.range.clone()], "train");
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
fn one_container_may_have_a_repository_without_name() {
    let text = format!("{HEAD}repository = \"team/app\"\n[containers.a]\ncontext = \"a\"\n");
    let (_dir, manifest) = good(&["a/Dockerfile"], &text);
    let a = &manifest.containers["a"];
    assert_eq!(
        (a.repository.path(), a.cache_tag.as_str()),
        ("team/app", "buildcache-a")
    );
}

#[test]
fn different_sources_of_one_secret_set_containers_apart() {
    let secret = |name: &str, source: &str| {
        format!("[containers.{name}]\ncontext = \"a\"\nsecrets = [{{ id = \"{source} }}]\n")
    };
    let text = [
        HEAD.to_owned(),
        secret("one", "token\", env = \"ONE\""),
        secret("too", "token\", env = \"ONE\""),
        secret("two", "token\", file = \"two\""),
        secret("other", "other\", env = \"ONE\""),
    ];
    let (_dir, manifest) = good(&["a/Dockerfile"], &text.concat());
    let apart = |name: &str| manifest.containers[name].options.secrets_apart.clone();
    assert_eq!(apart("one"), apart("too"));
    assert!(apart("one").is_some() && apart("two").is_some() && apart("one") != apart("two"));
    assert_eq!(apart("other"), None);
}
