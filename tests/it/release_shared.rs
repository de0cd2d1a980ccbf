//! Several containers in one repository: tags that begin with their names.

use crate::support::registry::{manifest, tags};
use crate::support::releases::change;
use crate::support::stack;
use crate::support::workspace::Workspace;

/// `a` to `d`, `d` built from `a`, all in `…/all`.
fn shared() -> Workspace {
    let workspace = Workspace::new();
    for name in ["a", "b", "c", "d"] {
        let from = if name == "d" { "a" } else { "scratch" };
        workspace.dockerfile(name, &format!("FROM {from}\nCOPY x /{name}\n"));
    }
    let (host, prefix) = (stack::registry(), &workspace.prefix);
    workspace.write(
        "containers.toml",
        format!(
            "version = 1\n[registry]\nprovider = \"oci\"\nhost = \"{host}\"\nrepository = \"{prefix}/all\"\n\
             [discover]\nroots = [\"containers/*\"]\n"
        ),
    );
    change(&workspace, "1");
    workspace
}

#[test]
fn containers_that_share_a_repository_are_released_and_put_back_each_under_its_name() {
    let workspace = shared();
    let all = format!("{}/all", workspace.prefix);
    workspace.deploy(&["--release", "r1", "--tag", "v1"]);
    for name in ["a", "b", "c", "d"] {
        for tag in ["latest", "r1", "v1"] {
            let there = manifest(&all, &format!("{name}-{tag}"));
            assert!(there.is_some(), "{name}-{tag}: {:?}", tags(&all));
        }
    }
    let found = tags(&all);
    for tag in ["buildcache-a", "buildcache-d"] {
        assert!(found.contains(&tag.to_owned()), "{found:?}");
    }
    for tag in ["latest", "r1", "v1", "buildcache"] {
        assert!(!found.contains(&tag.to_owned()), "{found:?}");
    }
    let of = |tag: &str| ["a", "b", "c", "d"].map(|name| manifest(&all, &format!("{name}-{tag}")));
    let first = of("latest");
    change(&workspace, "2");
    workspace.deploy(&["--release", "r2"]);
    assert!(of("latest") == of("r2") && of("r2") != first);
    // What is there under its key is not built again.
    let again = workspace.deploy(&["--release", "r3"]);
    assert!(again.stdout.contains("skipped"), "{}", again.stdout);
    let ended = workspace.run(&["rollback", "--to", "r1", "--yes"]);
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    assert!(of("latest") == first);
    let ended = workspace.run(&["status"]);
    assert_eq!(
        ended.stdout.matches("as recorded").count(),
        4,
        "{}",
        ended.stdout
    );
    let ended = workspace.run(&["promote", "r2", "--yes"]);
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    assert!(of("latest") == of("r2"));
}

#[test]
fn in_a_shared_repository_no_tag_reads_as_that_of_another_container_or_as_a_key() {
    let workspace = shared();
    let ended = workspace.run(&["build", "a", "--release", "b"]);
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    for name in ["a-x", "key"] {
        workspace.dockerfile(name, "FROM scratch\nCOPY x /x\n");
    }
    let ended = workspace.run(&["build", "b"]);
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("would begin with `key-`"),
        "{}",
        ended.stderr
    );
    std::fs::remove_dir_all(workspace.root().join("containers/key")).unwrap();
    let ended = workspace.run(&["build", "a", "--release", "x-1"]);
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("reads as a tag of `a-x`"),
        "{}",
        ended.stderr
    );
}

#[test]
fn of_caches_that_share_a_repository_only_those_go_that_are_meant() {
    let workspace = Workspace::new();
    for name in ["etl", "etl-gpu", "train"] {
        workspace.dockerfile(name, &format!("FROM scratch\nCOPY Dockerfile /{name}\n"));
    }
    let (host, prefix) = (stack::registry(), &workspace.prefix);
    workspace.write(
        "containers.toml",
        format!(
            "version = 1\n[registry]\nprovider = \"oci\"\nhost = \"{host}\"\nrepository = \"{prefix}/all\"\n\
             [cache]\nexport = \"always\"\n[discover]\nroots = [\"containers/*\"]\n"
        ),
    );
    workspace.commit();
    workspace.deploy(&["--release", "r1"]);
    // A branch whose cache of `etl` would have the name that the shared cache of `etl-gpu` has, and another one.
    workspace.git(&["checkout", "--quiet", "-b", "x"]);
    for name in ["etl", "etl-gpu", "train"] {
        workspace.dockerfile(name, &format!("FROM scratch\nCOPY Dockerfile /{name}-x\n"));
    }
    workspace.commit();
    workspace.deploy(&["--release", "r2"]);
    workspace.git(&["checkout", "--quiet", "main"]);
    let all = format!("{prefix}/all");
    let caches = || -> Vec<String> {
        let mut tags = tags(&all);
        tags.retain(|tag| tag.starts_with("buildcache"));
        tags
    };
    let shared = ["buildcache-etl", "buildcache-etl-gpu", "buildcache-train"];
    // A branch's is marked, so that it reads as nobody else's.
    let of_x = ["etl-gpu", "etl", "train"].map(|name| {
        let start = format!("buildcache-{name}-x-");
        let found = caches().into_iter().find(|tag| tag.starts_with(&start));
        found.unwrap_or_else(|| panic!("no {start}: {:?}", caches()))
    });
    let mut both = shared.map(str::to_owned).to_vec();
    both.extend(of_x.clone());
    both.sort_unstable();
    assert_eq!(caches(), both);
    let before = tags(&all);
    let prune = |arguments: &[&str]| {
        let ended = workspace.run(&[&["cache", "prune", "--yes"], arguments].concat());
        assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    };
    // No container has a branch of this name.
    prune(&["--branch", "gpu"]);
    assert_eq!(tags(&all), before);
    prune(&["etl", "--branch", "x"]);
    both.retain(|tag| *tag != of_x[1]);
    assert_eq!(caches(), both);
    prune(&["--branch", "x"]);
    assert_eq!(caches(), shared);
    prune(&["etl", "--all"]);
    assert_eq!(caches(), ["buildcache-etl-gpu", "buildcache-train"]);
    // Images are no caches.
    for name in ["etl", "etl-gpu", "train"] {
        for tag in ["latest", "r1", "r2"] {
            assert!(manifest(&all, &format!("{name}-{tag}")).is_some());
        }
    }
}
