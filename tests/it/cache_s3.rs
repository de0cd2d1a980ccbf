//! Build caches in S3, as far as the stack has it: the bucket is asked for before the build, and a builder that cannot is
//! refused. What a builder that can is told is tested beside `cache/s3`.

use serde_json::Value;

use crate::cache::{OFFLINE, events, imported, on_by, steps};
use crate::support::aws::s3;
use crate::support::bridge::Bridge;
use crate::support::gate::{Answer, Gate, Rule};
use crate::support::registry;
use crate::support::s3_builder::S3Builder;
use crate::support::stack::{self, SecondEngine};
use crate::support::workspace::{Ended, Workspace, ended};

/// Makes a bucket.
fn make(bucket: &str) {
    assert_eq!(s3("PUT", &format!("/{bucket}"), "").0, 200);
}

/// A run with caches in this bucket. The stack has no builder that has S3, so that none gets far.
fn run(bucket: &str, endpoint: &str, builder: &str) -> Ended {
    let workspace = Workspace::with(&[("etl", "FROM BUSYBOX\n")]);
    workspace.manifest(&format!(
        "[cache]\nbackend = \"s3\"\nbucket = \"{bucket}\"\nprefix = \"team\"\nendpoint = \"http://{endpoint}\"\n\
         path_style = true\n"
    ));
    workspace.commit();
    let arguments = ["deploy", "--release", "r1", "-vv", "--builder", builder];
    let mut command = workspace.skiff(&arguments);
    command.env("AWS_SECRET_ACCESS_KEY", "a-secret-of-the-test");
    let ended = ended(command);
    assert!(
        !format!("{ended:?}").contains("a-secret-of-the-test"),
        "{}",
        ended.stderr
    );
    ended
}

#[test]
fn a_builder_without_s3_is_an_error_before_the_build() {
    make("skiff-caches");
    let folder = tempfile::tempdir().unwrap();
    // The engine's own BuildKit says what it is also where it is reached as any other.
    let bridge = Bridge::unix(folder.path());
    for builder in ["docker", bridge.address()] {
        let refused = run("skiff-caches", stack::aws(), builder);
        assert_eq!(refused.code, 2, "{}", refused.stdout);
        for text in ["has no S3 caches", "docker-container"] {
            assert!(refused.stderr.contains(text), "{}", refused.stderr);
        }
        assert!(!refused.stderr.contains("cannot be used"));
    }
}

#[test]
fn a_bucket_that_cannot_be_used_is_a_warning_before_the_build() {
    let says = |bucket: &str, endpoint: &str, texts: &[&str]| {
        let ended = run(bucket, endpoint, "docker");
        for text in texts {
            assert!(ended.stderr.contains(text), "{text}: {}", ended.stderr);
        }
    };
    says(
        "skiff-none",
        stack::aws(),
        &[
            "the bucket skiff-none cannot be used: there is no such bucket",
            "`bucket` below",
        ],
    );
    let forbidden = Gate::before(
        stack::aws(),
        &[Rule {
            method: "HEAD",
            path: "/skiff-caches",
            from: 1,
            times: 1,
            answer: Answer::Status(403),
        }],
    );
    make("skiff-caches");
    says(
        "skiff-caches",
        &forbidden.host(),
        &[
            "may not be looked at with these credentials",
            "allow s3:ListBucket",
        ],
    );
    says("skiff-caches", "localhost:1", &["it cannot be reached"]);
}

/// `etl` with caches in a bucket of the workspace's own.
fn workspace(dockerfile: &str, more: &str) -> Workspace {
    let workspace = Workspace::with(&[("etl", dockerfile)]);
    let bucket = &workspace.prefix;
    make(bucket);
    workspace.manifest(&format!(
        "[cache]\nbackend = \"s3\"\nbucket = \"{bucket}\"\nprefix = \"team\"\nendpoint = \"http://{}\"\n\
         path_style = true\n{more}\n{OFFLINE}",
        stack::aws()
    ));
    workspace
}

/// Deploys on an engine that is empty, by a builder that has S3.
fn on_a_fresh_runner(workspace: &Workspace, release: &str) -> (Ended, Vec<Value>) {
    let engine = SecondEngine::fresh();
    let builder = S3Builder::before(&engine.address());
    let arguments = ["--release", release, "--builder", builder.address()];
    on_by(workspace, &arguments, &engine.address())
}

#[test]
fn a_layer_that_a_bucket_has_no_more_costs_a_second_build_and_not_the_deploy() {
    let dockerfile = "FROM BUSYBOX\nRUN head -c 100000 /dev/urandom > /deps\nCOPY main.py /\nRUN cat /main.py > /app\n";
    let workspace = workspace(dockerfile, "");
    workspace.write("containers/etl/main.py", "1");
    on_a_fresh_runner(&workspace, "r1");
    let deps = &registry::layers(&workspace.repository("etl"), "r1")[1];
    let (kept, _) = S3Builder::keeps(&workspace.prefix, "team/etl/buildcache");
    registry::delete_blob(&kept, deps);
    workspace.write("containers/etl/main.py", "2");
    let (ended, told) = on_a_fresh_runner(&workspace, "r2");
    assert_eq!(imported(&told).len(), 1, "{}", ended.stderr);
    assert_eq!(steps(&told), (0, 3), "{}", ended.stderr);
    let warnings = events(&told, "warning");
    let said = warnings[0]["message"].as_str().unwrap();
    assert!(
        said.contains("is damaged, building again without the cache: sha256:"),
        "{said}"
    );
    assert!(said.ends_with("is gone"), "{said}");
}

#[test]
fn of_several_caches_in_a_bucket_the_one_with_most_of_the_steps_is_taken() {
    let dockerfile =
        "FROM BUSYBOX\nCOPY lock /\nRUN date > /deps\nCOPY main.py /\nRUN date > /app\n";
    let workspace = workspace(dockerfile, "export = \"always\"");
    let with_lock = |lock: &str, main: &str, release: &str| {
        workspace.write("containers/etl/lock", lock);
        workspace.write("containers/etl/main.py", main);
        let (_, told) = on_a_fresh_runner(&workspace, release);
        let taken = imported(&told)
            .pop()
            .map(|place| place.rsplit('/').next().unwrap().to_owned());
        (taken, steps(&told))
    };
    with_lock("one", "1", "r1");
    workspace.git(&["checkout", "--quiet", "-b", "feature"]);
    with_lock("two", "1", "r2");
    let shared = Some("buildcache".to_owned());
    assert_eq!(with_lock("one", "3", "r3"), (shared, (2, 4)));
    let own = Some("buildcache-feature".to_owned());
    assert_eq!(with_lock("one", "4", "r4"), (own, (2, 4)));
}
