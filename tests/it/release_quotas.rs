//! Releases under ECR's own rules.

use crate::support::quotas::{Ecr, QUOTAS, Rules, is_valid_artifact};
use crate::support::registry::manifest;
use crate::support::workspace::{Ended, Workspace, ended};

/// More containers than [`Rules::put_images_a_second`] below.
fn six() -> Workspace {
    let workspace = Workspace::new();
    for n in 0..6 {
        workspace.dockerfile(&format!("c{n:02}"), "FROM scratch\nCOPY x /x\n");
    }
    let prefix = &workspace.prefix;
    workspace.write(
        "containers.toml",
        format!(
            "version = 1\n[registry]\nrepository = \"{prefix}/{{name}}\"\n[cache]\nbackend = \"none\"\n\
             [discover]\nroots = [\"containers/*\"]\n"
        ),
    );
    change(&workspace, "1");
    workspace
}

fn change(workspace: &Workspace, content: &str) {
    for n in 0..6 {
        workspace.write(&format!("containers/c{n:02}/x"), format!("{n} {content}"));
    }
    workspace.commit();
}

fn run(workspace: &Workspace, ecr: &Ecr, arguments: &[&str]) -> Ended {
    let mut command = workspace.skiff(arguments);
    command.env("AWS_ENDPOINT_URL", ecr.api.url());
    ended(command)
}

#[test]
fn a_set_larger_than_the_quota_moves_and_comes_back_with_immutable_tags_and_an_ended_token() {
    let ecr = Ecr::start(Rules {
        token_ends_at: Some("/manifests/release-"),
        put_images_a_second: 3,
        ..QUOTAS
    });
    let workspace = six();
    // Its token ends in the middle of the release, hours before it should: another one is asked for.
    for release in ["r1", "r2"] {
        let ended = run(&workspace, &ecr, &["deploy", "--all", "--release", release]);
        let text = format!("{}{}", ended.stdout, ended.stderr);
        assert_eq!(ended.code, 0, "{text}");
        if release == "r1" {
            let host = ecr.gate.host();
            let state = format!("created the repository {host}/{}/skiff", workspace.prefix);
            assert!(text.contains(&state), "{text}");
            change(&workspace, "2");
        }
    }
    let ended = run(&workspace, &ecr, &["rollback", "--yes"]);
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    for n in 0..6 {
        let repository = workspace.repository(&format!("c{n:02}"));
        assert_eq!(manifest(&repository, "latest"), manifest(&repository, "r1"));
    }
    assert!(ecr.refused("quota") > 0 && ecr.refused("token") > 0);
    assert_eq!(ecr.refused("immutable"), 0);
    let state = format!("{}/skiff", workspace.prefix);
    assert!(is_valid_artifact(&manifest(&state, "release-r1").unwrap()));
    assert!(is_valid_artifact(
        &manifest(&state, "channel-latest").unwrap()
    ));
}

#[test]
fn a_channel_that_is_immutable_and_an_image_with_too_many_tags() {
    let ecr = Ecr::start(Rules {
        movable: &["channel-"],
        ..QUOTAS
    });
    let workspace = six();
    let first = run(&workspace, &ecr, &["deploy", "c00", "--release", "r1"]);
    assert_eq!(first.code, 0, "{}{}", first.stdout, first.stderr);
    change(&workspace, "2");
    let second = run(&workspace, &ecr, &["deploy", "c00", "--release", "r2"]);
    let text = format!("{}{}", second.stdout, second.stderr);
    assert_eq!(second.code, 3, "{text}");
    for said in [
        "the tag is immutable",
        "exclude the tags",
        "latest did not move",
        "safe",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    let full = Ecr::start(Rules {
        tags_an_image: 2,
        ..QUOTAS
    });
    let third = run(
        &workspace,
        &full,
        &[
            "deploy",
            "c01",
            "--release",
            "r3",
            "--tag",
            "v1",
            "--tag",
            "v2",
        ],
    );
    let text = format!("{}{}", third.stdout, third.stderr);
    assert_eq!(third.code, 3, "{text}");
    assert!(
        text.contains("403") && text.contains("no channel moved"),
        "{text}"
    );
}
