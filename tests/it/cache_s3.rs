//! Build caches in S3, as far as the stack has it: the bucket is asked for before the build, and a builder that cannot is
//! refused. What a builder that can is told is tested beside `cache/s3`.

use crate::support::aws::s3;
use crate::support::bridge::Bridge;
use crate::support::gate::{Answer, Gate, Rule};
use crate::support::stack;
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
