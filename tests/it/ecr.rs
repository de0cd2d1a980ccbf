//! Amazon ECR: under its true name against a real registry with TLS and login, and what goes wrong with it.

use std::process::Command;

use serde_json::json;

use crate::support::aws::{Answer, Api, NAME, TrueName, authorization, counted};
use crate::support::base64;
use crate::support::gate::Gate;
use crate::support::guarded::GuardedRegistry;
use crate::support::stack::{self, SecondEngine};
use crate::support::workspace::{Ended, Workspace, ended};

/// bcrypt of `first-token` and `second-token`.
const FIRST: &str = "$2b$04$abcdefghijklmnopqrstuuDCItQMwWYiXKMvD7sATttfpI/s3W6nG";
const SECOND: &str = "$2b$04$abcdefghijklmnopqrstuu.QSSkp..IJEKEADLdfO71UZzvBcaghu";

/// A parent and a child; `more` stands below `[registry]`.
fn workspace(more: &str) -> Workspace {
    let workspace = Workspace::with(&[
        ("base", "FROM BUSYBOX\nRUN echo > /base\n"),
        ("etl", "FROM base\nRUN echo > /etl\n"),
    ]);
    let prefix = &workspace.prefix;
    workspace.write(
        "containers.toml",
        format!(
            "version = 1\n[registry]\nrepository = \"{prefix}/{{name}}\"\n{more}\n\
             [discover]\nroots = [\"containers/*\"]\n[defaults]\nnetwork = \"none\"\n"
        ),
    );
    workspace.commit();
    workspace
}

fn deploy_with(workspace: &Workspace, api: &str, arguments: &[&str]) -> Command {
    let mut command = workspace.skiff(&[&["deploy"], arguments].concat());
    command.env("AWS_ENDPOINT_URL", api);
    command
}

fn fails(ended: &Ended, code: i32, texts: &[&str]) {
    assert_eq!(ended.code, code, "{}\n{}", ended.stdout, ended.stderr);
    for text in texts {
        assert!(
            ended.stderr.contains(text),
            "{text:?} is missing in:\n{}",
            ended.stderr
        );
    }
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

#[test]
fn a_deploy_under_the_true_name_makes_what_is_missing_and_no_call_too_many() {
    let ecr = TrueName::start();
    let engine = SecondEngine::inside(&ecr);
    let workspace = workspace("account = \"123456789012\"\nregion = \"us-east-1\"");
    let calls = |arguments: &[&str]| {
        let api = Gate::before(stack::aws(), &[]);
        let mut command = deploy_with(&workspace, &format!("http://{}", api.host()), arguments);
        command.env("DOCKER_HOST", engine.address());
        let ended = ended(ecr.inside(&command));
        assert_eq!(ended.code, 0, "{}\n{}", ended.stdout, ended.stderr);
        let calls = api.seen();
        let calls = calls.iter().map(|call| call.rsplit('.').next().unwrap());
        (counted(calls), ended)
    };

    let arguments = ["--release", "r1", "--events", "events.ndjson", "-vv"];
    let (first, told) = calls(&arguments);
    assert_eq!(
        format!("{first:?}"),
        "{\"CreateRepository\": 3, \"DescribeRepositories\": 1, \"GetAuthorizationToken\": 1}"
    );
    for container in ["base", "etl"] {
        let repository = workspace.repository(container);
        let line = format!("created the repository {NAME}/{repository}");
        assert!(told.stderr.contains(&line), "{}", told.stderr);
        for tag in ["r1", "latest", "buildcache"] {
            assert!(
                ecr.registry.has(&repository, tag),
                "{repository}:{tag}: {}",
                told.stderr
            );
        }
    }
    let events = std::fs::read_to_string(workspace.root().join("events.ndjson")).unwrap();
    assert!(events.contains("\"repository_created\""), "{events}");
    let secrets = [
        "123456789012-auth-token",
        &base64("AWS:123456789012-auth-token"),
    ];
    for text in [&told.stdout, &told.stderr, &events] {
        assert!(
            secrets.iter().all(|secret| !text.contains(secret)),
            "{text}"
        );
    }

    let (second, told) = calls(&["--all", "--release", "r2"]);
    assert_eq!(
        format!("{second:?}"),
        "{\"DescribeRepositories\": 1, \"GetAuthorizationToken\": 1}"
    );
    assert!(!told.stderr.contains("created"), "{}", told.stderr);
}

#[test]
fn caches_that_have_a_repository_of_their_own_get_it_made() {
    let ecr = TrueName::start();
    let engine = SecondEngine::inside(&ecr);
    let place = "account = \"123456789012\"\nregion = \"us-east-1\"";
    let workspace = workspace(place);
    let caches = format!("{}/caches", workspace.prefix);
    let manifest = std::fs::read_to_string(workspace.root().join("containers.toml")).unwrap();
    let cache = format!("[cache]\nref = \"{NAME}/{caches}:{{name}}\"\n");
    workspace.write("containers.toml", format!("{manifest}{cache}"));
    workspace.commit();
    let deploy = |release: &str| {
        let arguments = ["--all", "--no-cache", "--release", release];
        let mut command = deploy_with(&workspace, &format!("http://{}", stack::aws()), &arguments);
        command.env("DOCKER_HOST", engine.address());
        let ended = ended(ecr.inside(&command));
        assert_eq!(ended.code, 0, "{}\n{}", ended.stdout, ended.stderr);
        ended.stderr
    };
    let line = format!("created the repository {NAME}/{caches}");
    let told = deploy("r1");
    assert!(told.contains(&line), "{told}");
    for container in ["base", "etl"] {
        assert!(ecr.registry.has(&caches, container), "{container}: {told}");
        let repository = workspace.repository(container);
        assert!(!ecr.registry.has(&repository, "buildcache"), "{told}");
    }
    let told = deploy("r2");
    assert!(!told.contains("created the repository"), "{told}");
}

#[test]
fn a_dry_run_needs_no_credentials_where_the_manifest_names_account_and_region() {
    let workspace = workspace("account = \"123456789012\"\nregion = \"cn-north-1\"");
    let mut command = deploy_with(&workspace, "http://127.0.0.1:9", &["--dry-run"]);
    command.env_remove("AWS_ACCESS_KEY_ID");
    let ended = ended(command);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let host = "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn";
    let image = format!("{host}/{}:", workspace.repository("etl"));
    assert!(ended.stdout.contains(&image), "{}", ended.stdout);
    let warning = "what the registry has is not known";
    assert!(ended.stderr.contains(warning), "{}", ended.stderr);
}

#[test]
fn other_credentials_than_the_manifests_are_refused_with_both_named() {
    let other = workspace("account = \"999999999999\"");
    fails(
        &other.run(&["deploy"]),
        2,
        &["999999999999", "123456789012", NAME, "AWS_PROFILE"],
    );
    let other = workspace("region = \"eu-central-1\"");
    fails(
        &other.run(&["deploy"]),
        2,
        &["eu-central-1", "us-east-1", "AWS_REGION=eu-central-1"],
    );
}

#[test]
fn no_credentials_and_no_region_say_where_was_looked() {
    let workspace = workspace("");
    let without = |variable: &str| {
        let mut command = workspace.skiff(&["deploy"]);
        command
            .env("HOME", workspace.root())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env_remove(variable)
            .env_remove("AWS_DEFAULT_REGION");
        ended(command)
    };
    fails(
        &without("AWS_ACCESS_KEY_ID"),
        2,
        &[
            "no AWS credentials are found",
            "AWS_PROFILE",
            "roles of the container",
            "aws sso login",
        ],
    );
    fails(
        &without("AWS_REGION"),
        2,
        &["no AWS region is set", "AWS_REGION", "region = "],
    );
}

/// The stack's registry, for which an API of the test's own speaks.
fn endpoint() -> String {
    format!("http://{}", stack::registry())
}

#[test]
fn missing_repositories_are_all_named_where_none_may_be_made() {
    let api = Api::start(|action, input| match action {
        "GetAuthorizationToken" => authorization(&endpoint(), "p", 43_200),
        _ if input.to_string().contains("/etl") || input.to_string().contains("/sfm") => {
            Answer::Error("RepositoryNotFoundException", "one of them does not exist")
        }
        _ => Answer::Json(json!({"repositories": []})),
    });
    let workspace = workspace("create = false");
    workspace.dockerfile("sfm", "FROM BUSYBOX\n");
    workspace.commit();
    let ended = ended(deploy_with(&workspace, &api.url(), &[]));
    let missing = [workspace.repository("etl"), workspace.repository("sfm")];
    fails(
        &ended,
        2,
        &[
            &missing.join(", "),
            "create = false",
            &format!(
                "for name in {}; do aws ecr create-repository --region us-east-1",
                missing.join(" ")
            ),
        ],
    );
    assert!(!api.calls().contains_key("CreateRepository"));
}

#[test]
fn a_repository_that_is_there_is_not_what_the_missing_permission_is_for() {
    let api = Api::start(|action, input| {
        let missing = input.to_string().contains("/etl");
        match action {
            "GetAuthorizationToken" => authorization(&endpoint(), "p", 43_200),
            "CreateRepository" => Answer::Error(
                "AccessDeniedException",
                "User: arn:aws:sts::123456789012:assumed-role/ci/job is not authorized to perform: ecr:CreateRepository \
                 on resource: arn:aws:ecr:us-east-1:123456789012:repository/team/x",
            ),
            _ if missing => Answer::Error("RepositoryNotFoundException", "not there"),
            _ => Answer::Json(json!({"repositories": []})),
        }
    });
    let workspace = workspace("");
    let ended = ended(deploy_with(&workspace, &api.url(), &[]));
    fails(
        &ended,
        2,
        &[
            &format!(
                "AWS refuses ecr:CreateRepository on {} in us-east-1",
                workspace.repository("etl")
            ),
            "arn:aws:sts::123456789012:assumed-role/ci/job",
            "arn:aws:ecr:us-east-1:123456789012:repository/team/x",
            "allow ecr:CreateRepository on",
        ],
    );
}

#[test]
fn what_aws_refuses_comes_with_its_words_and_a_remedy() {
    let workspace = workspace("");
    for (code, message, remedy) in [
        (
            "AccessDeniedException",
            "User: arn:aws:iam::123456789012:user/x is not authorized to perform: ecr:GetAuthorizationToken on resource: *",
            "allow ecr:GetAuthorizationToken on *",
        ),
        (
            "ExpiredTokenException",
            "The security token included in the request is expired",
            "aws sso login",
        ),
        (
            "InvalidSignatureException",
            "The request signature we calculated does not match",
            "AWS_SECRET_ACCESS_KEY belongs to AWS_ACCESS_KEY_ID",
        ),
        (
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
            "AWS_ACCESS_KEY_ID",
        ),
    ] {
        let api = Api::start(move |_, _| Answer::Error(code, message));
        let ended = ended(deploy_with(&workspace, &api.url(), &[]));
        fails(&ended, 2, &[code, message, remedy, "us-east-1"]);
        assert_eq!(
            api.calls()["GetAuthorizationToken"],
            1,
            "{code} is for good"
        );
    }
}

#[test]
fn an_api_that_is_busy_is_asked_again() {
    let mut busy = 3;
    let api = Api::start(move |_, _| {
        busy -= 1;
        match busy {
            2 => Answer::Status(503),
            1 => Answer::Error("ThrottlingException", "Rate exceeded"),
            _ => authorization(&endpoint(), "p", 43_200),
        }
    });
    let workspace = workspace("");
    let ended = ended(deploy_with(&workspace, &api.url(), &["--dry-run"]));
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(api.calls()["GetAuthorizationToken"], 3);
}

#[test]
fn a_token_that_ends_during_a_build_is_renewed_for_its_push() {
    let registry = GuardedRegistry::admitting(FIRST);
    let endpoint = format!("http://{}", registry.host());
    let mut tokens = 0;
    let api = Api::start(move |action, _| match action {
        "GetAuthorizationToken" => {
            tokens += 1;
            match tokens {
                1 => authorization(&endpoint, "first-token", 8),
                _ => authorization(&endpoint, "second-token", 43_200),
            }
        }
        _ => Answer::Json(json!({"repositories": []})),
    });
    let workspace = workspace("");
    // Never the same: an engine that has run it does not run it again.
    let once = fastrand::u64(..);
    workspace.dockerfile(
        "etl",
        &format!("FROM base\nRUN echo in-the-middle && sleep 8 && echo {once} > /etl\n"),
    );
    workspace.commit();
    let mut command = deploy_with(&workspace, &api.url(), &["--release", "r1"]);
    let mut child = command
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = String::new();
    for line in std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap())) {
        let line = line.unwrap();
        if line.contains("| in-the-middle") {
            registry.admit_only(SECOND);
        }
        told.push_str(&line);
        told.push('\n');
    }
    assert!(child.wait().unwrap().success(), "{told}");
    assert!(told.contains("| in-the-middle"), "{told}");
    for tag in ["r1", "latest"] {
        assert!(registry.has(&workspace.repository("etl"), tag), "{told}");
    }
    assert_eq!(api.calls()["GetAuthorizationToken"], 2, "{told}");
}
