//! `skiff cache`: what lies in the registry for the next run, and what of it is taken away.

use serde_json::{Value, json};

use crate::support::aws::{Answer, Api, TrueName, authorization, call};
use crate::support::base64;
use crate::support::guarded::{GuardedRegistry, PASSWORD, USER};
use crate::support::registry::{self, all_tags, manifest, tags};
use crate::support::stack::{self, SecondEngine};
use crate::support::workspace::{Ended, Workspace, ended};

const MOUNT: &str = "FROM BUSYBOX\nRUN date > /deps\nCOPY lock /\n\
    RUN --mount=type=cache,id=ID,target=/c cat /lock >> /c/log; echo ID\n";

/// `etl` with a cache mount, deployed from `main` as r1 and from `feature/x` as r2, each with a cache of its own.
fn deployed() -> Workspace {
    let workspace = Workspace::new();
    let id = format!("m-{}", workspace.prefix);
    // The id is no part of a step's cache: the words of the step set workspaces apart.
    workspace.dockerfile("etl", &MOUNT.replace("ID", &id));
    workspace.manifest("[cache]\nexport = \"always\"\nmounts = \"registry\"\n");
    workspace.write("containers/etl/lock", "one\n");
    workspace.commit();
    workspace.deploy(&["--release", "r1"]);
    workspace.git(&["checkout", "--quiet", "-b", "feature/x"]);
    workspace.write("containers/etl/lock", "two\n");
    workspace.commit();
    workspace.deploy(&["--release", "r2"]);
    workspace.git(&["checkout", "--quiet", "main"]);
    workspace
}

fn good(ended: &Ended) -> &str {
    assert_eq!(ended.code, 0, "{}\n{}", ended.stdout, ended.stderr);
    ended.stdout.trim()
}

fn json(ended: &Ended) -> Value {
    serde_json::from_str(good(ended)).unwrap()
}

/// The tags that a list of caches names, sorted.
fn named(caches: &Value) -> Vec<String> {
    let caches = caches.as_array().unwrap().iter();
    let tag = |cache: &Value| {
        let reference = cache["reference"].as_str().unwrap();
        reference.rsplit(':').next().unwrap().to_owned()
    };
    let mut tags: Vec<_> = caches.map(tag).collect();
    tags.sort();
    tags
}

fn mount_tag(repository: &str) -> String {
    let mut tags = tags(repository).into_iter();
    tags.find(|tag| tag.starts_with("mount-")).unwrap()
}

/// Bytes of all blobs of these manifests, each once, and of the manifests.
fn weight(repository: &str, tags: &[&str]) -> u64 {
    let mut blobs = std::collections::BTreeMap::new();
    let mut bytes = 0;
    for tag in tags {
        let path = format!("/v2/{repository}/manifests/{tag}");
        bytes += registry::get(stack::registry(), &path).1.len() as u64;
        let manifest = manifest(repository, tag).unwrap();
        let layers = manifest["layers"].as_array().unwrap().iter();
        for blob in layers.chain([&manifest["config"]]) {
            let size = blob["size"].as_u64().unwrap();
            blobs.insert(blob["digest"].as_str().unwrap().to_owned(), size);
        }
    }
    bytes + blobs.values().sum::<u64>()
}

#[test]
fn caches_are_listed_with_what_they_are_of_and_every_blob_is_counted_once() {
    let workspace = deployed();
    let repository = workspace.repository("etl");
    let mount = mount_tag(&repository);
    // An image that has the name of a cache is none.
    registry::put_artifact(&repository, "buildcache-note", "text/plain", "a note");

    let listed = json(&workspace.run(&["cache", "ls", "--format", "json"]));
    let caches = &listed["caches"];
    assert_eq!(
        named(caches),
        ["buildcache", "buildcache-feature-x", mount.as_str()]
    );
    let of = |tag: &str| {
        let caches = caches.as_array().unwrap().iter();
        let suffix = format!(":{tag}");
        let mut found = caches.filter(|c| c["reference"].as_str().unwrap().ends_with(&suffix));
        found.next().unwrap().clone()
    };
    for (tag, kind, branch, in_use) in [
        ("buildcache", "build", Value::Null, true),
        ("buildcache-feature-x", "build", json!("feature-x"), false),
        (&mount, "mount", Value::Null, true),
    ] {
        let cache = of(tag);
        assert_eq!(cache["kind"], kind, "{cache}");
        assert_eq!(cache["containers"], json!(["etl"]), "{cache}");
        assert_eq!(cache["branch"], branch, "{cache}");
        assert_eq!(cache["in_use"], in_use, "{cache}");
        assert_eq!(cache["bytes"], weight(&repository, &[tag]), "{cache}");
        assert!(cache["age_seconds"].is_number(), "{cache}");
    }
    assert!(of(&mount)["mount"].as_str().unwrap().starts_with("m-"));

    let used = json(&workspace.run(&["cache", "du", "--format", "json"]));
    let all = ["buildcache", "buildcache-feature-x", mount.as_str()];
    assert_eq!(used["bytes"], weight(&repository, &all), "{used}");
    assert_eq!(used["usage"][0]["kind"], "build");
    assert_eq!(used["usage"][0]["bytes"], weight(&repository, &all[..2]));
    assert_eq!(used["usage"][1]["caches"], 1);

    let human = workspace.run(&["cache", "ls", "etl"]);
    let lines: Vec<&str> = good(&human).lines().collect();
    assert_eq!(lines.len(), 6, "{}", human.stdout);
    assert!(lines[1].contains("channels"), "{}", human.stdout);
    assert!(good(&workspace.run(&["cache", "du"])).contains("3 caches"));
    let unknown = workspace.run(&["cache", "ls", "elt"]);
    assert_eq!(unknown.code, 2);
    assert!(
        unknown.stderr.contains("did you mean `etl`?"),
        "{}",
        unknown.stderr
    );
}

#[test]
fn pruning_takes_caches_and_no_other_tag() {
    let workspace = deployed();
    let repository = workspace.repository("etl");
    let mount = mount_tag(&repository);
    registry::put_artifact(&repository, "buildcache-note", "text/plain", "a note");
    let before = all_tags(&repository);

    // Without a criterion, without anybody to ask, and on a dry run nothing goes.
    assert_eq!(workspace.run(&["cache", "prune"]).code, 2);
    let asked = workspace.run(&["cache", "prune", "--branch", "feature/x"]);
    assert_eq!(asked.code, 2);
    assert!(asked.stderr.contains("--yes"), "{}", asked.stderr);
    let dry = workspace.run(&["cache", "prune", "--all", "--dry-run", "--format", "json"]);
    let dry = json(&dry);
    assert_eq!(
        named(&dry["deleted"]),
        ["buildcache", "buildcache-feature-x", mount.as_str()]
    );
    // Nothing is that old, and what every run uses would need `--all`.
    for arguments in [&["--older-than", "14d"][..], &["--branch", "main"]] {
        let young = workspace.run(&[&["cache", "prune", "--yes"], arguments].concat());
        assert!(
            good(&young).contains("nothing to delete"),
            "{}",
            young.stdout
        );
    }
    assert_eq!(all_tags(&repository), before);

    // The content of a cache has another tag: deleting it would take that away, too.
    let (_, bytes) = registry::get(
        stack::registry(),
        &format!("/v2/{repository}/manifests/buildcache-feature-x"),
    );
    registry::put_manifest(&repository, "precious", &bytes);
    let shielded = workspace.run(&["cache", "prune", "--branch", "feature/x", "--yes"]);
    good(&shielded);
    let why = "buildcache-feature-x stays: precious has the same content";
    assert!(shielded.stderr.contains(why), "{}", shielded.stderr);

    let pruned = workspace.run(&["cache", "prune", "--all", "--yes", "--format", "json"]);
    let pruned = json(&pruned);
    assert_eq!(named(&pruned["deleted"]), ["buildcache", mount.as_str()]);
    let mut left = before.clone();
    left.retain(|tag| tag != "buildcache" && *tag != mount);
    left.push("precious".into());
    left.sort();
    assert_eq!(all_tags(&repository), left);
    // The images are whole.
    for tag in ["r1", "r2", "latest"] {
        let image = format!("{}/{repository}:{tag}", stack::registry());
        stack::docker(&["run", "--rm", "--pull", "always", &image, "cat", "/lock"]);
    }
}

#[test]
fn caches_of_branches_that_are_gone_go_once_the_remote_says_so() {
    let workspace = deployed();
    let repository = workspace.repository("etl");
    let gone = ["cache", "prune", "--gone-branches", "--yes"];
    let alone = workspace.run(&gone);
    assert_eq!(alone.code, 2, "{}", alone.stdout);
    assert!(alone.stderr.contains("cannot be told"), "{}", alone.stderr);

    let remote = tempfile::tempdir().unwrap();
    let path = remote.path().to_str().unwrap();
    workspace.git(&["init", "--quiet", "--bare", path]);
    workspace.git(&["remote", "add", "origin", path]);
    workspace.git(&["push", "--quiet", "origin", "main", "feature/x"]);
    workspace.git(&["branch", "--quiet", "-D", "feature/x"]);
    assert!(good(&workspace.run(&gone)).contains("nothing to delete"));
    workspace.git(&["push", "--quiet", "origin", ":feature/x"]);
    assert!(good(&workspace.run(&gone)).contains("1 deleted"));
    let left = tags(&repository);
    assert!(
        !left.contains(&"buildcache-feature-x".to_owned()),
        "{left:?}"
    );
    assert!(left.contains(&"buildcache".to_owned()), "{left:?}");
}

#[test]
fn a_registry_that_deletes_nothing_is_named_with_the_remedy() {
    let registry = GuardedRegistry::start();
    let workspace = Workspace::with(&[("etl", "FROM BUSYBOX\nRUN date > /deps\n")]);
    workspace.manifest_for(&registry.host(), "");
    workspace.commit();
    let auth = base64(&format!("{USER}:{PASSWORD}"));
    let config = json!({"auths": {registry.host(): {"auth": auth}}});
    workspace.write(".git/docker/config.json", config.to_string());
    let run = |arguments: &[&str]| {
        let mut command = workspace.skiff(arguments);
        command.env("DOCKER_CONFIG", workspace.root().join(".git/docker"));
        ended(command)
    };
    good(&run(&["deploy", "--all", "--release", "r1"]));
    let refused = run(&["cache", "prune", "--all", "--yes"]);
    assert_eq!(refused.code, 1, "{}", refused.stdout);
    for text in ["deletes nothing", "storage.delete.enabled"] {
        assert!(refused.stderr.contains(text), "{}", refused.stderr);
    }
    assert!(registry.has(&workspace.repository("etl"), "buildcache"));
}

/// `etl` in ECR.
fn in_ecr() -> Workspace {
    let workspace = Workspace::with(&[("etl", "FROM BUSYBOX\nRUN date > /deps\n")]);
    let prefix = &workspace.prefix;
    workspace.write(
        "containers.toml",
        format!(
            "version = 1\n[registry]\nrepository = \"{prefix}/{{name}}\"\n[discover]\nroots = [\"containers/*\"]\n\
             [defaults]\nnetwork = \"none\"\n"
        ),
    );
    workspace.commit();
    workspace
}

#[test]
fn in_ecr_times_are_known_and_tags_go_by_its_api() {
    let ecr = TrueName::start();
    let engine = SecondEngine::inside(&ecr);
    let workspace = in_ecr();
    let run = |arguments: &[&str]| {
        let mut command = workspace.skiff(arguments);
        command.env("DOCKER_HOST", engine.address());
        ended(ecr.inside(&command))
    };
    good(&run(&["deploy", "--all", "--release", "r1"]));
    let repository = workspace.repository("etl");
    // The emulator knows repositories, and not what the registry holds: it is told.
    let listed = json(&run(&["cache", "ls", "--format", "json"]));
    assert_eq!(named(&listed["caches"]), ["buildcache"]);
    let digest = listed["caches"][0]["digest"].as_str().unwrap();
    for tag in ["buildcache", "precious"] {
        let image = json!({
            "repositoryName": repository, "imageTag": tag, "imageDigest": digest,
            "imageManifestMediaType": "application/vnd.oci.image.manifest.v1+json",
            "imageManifest": json!({"schemaVersion": 2, "layers": [], "config": {"size": 1}}).to_string(),
        });
        call("PutImage", &image);
    }
    let now = json(&run(&["cache", "ls", "--format", "json"]));
    let age = now["caches"][0]["age_seconds"].as_i64().unwrap();
    assert!(age < 3600, "{now}");

    let pruned = run(&["cache", "prune", "--all", "--yes"]);
    assert!(good(&pruned).starts_with("1 deleted"), "{}", pruned.stdout);
    assert!(!pruned.stdout.contains("garbage"), "{}", pruned.stdout);
    let left = call("ListImages", &json!({"repositoryName": repository}));
    let left = left["imageIds"].as_array().unwrap().iter();
    let left: Vec<_> = left.map(|id| id["imageTag"].as_str().unwrap()).collect();
    assert_eq!(left, ["precious"]);
    assert!(
        ecr.registry.has(&repository, "buildcache"),
        "by the API only"
    );
}

#[test]
fn the_action_that_ecr_refuses_is_named() {
    let endpoint = format!("http://{}", stack::registry());
    let api = Api::start(move |action, _| match action {
        "GetAuthorizationToken" => authorization(&endpoint, "token", 43200),
        "DescribeRepositories" => Answer::Json(json!({"repositories": []})),
        _ => Answer::Error("AccessDeniedException", "User: x is not authorized"),
    });
    let workspace = in_ecr();
    let run = |arguments: &[&str]| {
        let mut command = workspace.skiff(arguments);
        command.env("AWS_ENDPOINT_URL", api.url());
        ended(command)
    };
    good(&run(&["deploy", "--all", "--release", "r1"]));
    let listed = run(&["cache", "ls"]);
    assert!(good(&listed).contains("buildcache"), "{}", listed.stdout);
    assert!(
        listed.stderr.contains("allow ecr:DescribeImages on"),
        "{}",
        listed.stderr
    );
    let pruned = run(&["cache", "prune", "--all", "--yes"]);
    assert_eq!(pruned.code, 1, "{}", pruned.stdout);
    let remedy = format!(
        "allow ecr:BatchDeleteImage on {}",
        workspace.repository("etl")
    );
    assert!(pruned.stderr.contains(&remedy), "{}", pruned.stderr);
    assert!(manifest(&workspace.repository("etl"), "buildcache").is_some());
}
