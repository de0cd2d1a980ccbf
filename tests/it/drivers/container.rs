//! The container of the driver `docker-container`.

use super::{fresh, good, refused};
use crate::support::bridge::Bridge;
use crate::support::builder_image::BuilderImage;
use crate::support::stack::{self, SecondEngine};
use crate::support::workspace::{Workspace, ended};

#[test]
fn the_container_is_made_once_reused_upgraded_and_started_again() {
    let first = Bridge::tcp();
    let workspace = Workspace::with(&[("etl", &fresh())]);
    let mut image = BuilderImage::push(&workspace.prefix, &first);
    let deploy = |image: &BuilderImage| {
        let mut command = workspace.skiff(&["build"]);
        command.envs(image.variables());
        let ended = ended(command);
        good(&ended, &["(driver docker-container: builder.driver)"]);
        let names = image.containers();
        assert_eq!(names.len(), 1, "{names:?}");
        (
            names[0].clone(),
            image.docker(&[
                "inspect",
                "--format",
                "{{.Id}} {{.State.StartedAt}}",
                &names[0],
            ]),
        )
    };
    workspace.manifest(&image.manifest("docker-container"));
    workspace.commit();
    let (name, made) = deploy(&image);
    assert_eq!(
        deploy(&image),
        (name.clone(), made.clone()),
        "it was not reused"
    );
    image.docker(&["stop", "--time", "1", &name]);
    let (_, started) = deploy(&image);
    assert_eq!(
        made.split(' ').next(),
        started.split(' ').next(),
        "it was not started again"
    );

    let second = Bridge::tcp();
    image.upgrade(&second);
    workspace.manifest(&image.manifest("docker-container"));
    workspace.commit();
    let (upgraded, made_anew) = deploy(&image);
    assert_eq!(upgraded, name);
    assert_ne!(
        made.split(' ').next(),
        made_anew.split(' ').next(),
        "it was not upgraded"
    );
    // The state outlives the container: three starts on one volume.
    let starts = image.docker(&["exec", &name, "wc", "-l", "/var/lib/buildkit/starts"]);
    assert!(starts.starts_with('3'), "{starts}");
}

#[test]
fn an_image_that_cannot_be_pulled_and_a_buildkitd_that_ends_are_explained() {
    let workspace = Workspace::with(&[("etl", &fresh())]);
    let registry = stack::registry();
    let builder =
        |image: &str| format!("[builder]\ndriver = \"docker-container\"\nimage = \"{image}\"\n");
    workspace.manifest(&builder(&format!("{registry}/nowhere:1")));
    workspace.commit();
    refused(
        &workspace.run(&["build"]),
        &[
            "the builder's image",
            "nowhere:1 cannot be pulled",
            "builder.image",
        ],
    );
    let bridge = Bridge::tcp();
    let image = BuilderImage::push(&workspace.prefix, &bridge);
    workspace.manifest(&image.manifest("docker-container"));
    workspace.commit();
    // Without roots of its own the test's buildkitd says that it has no configuration, and ends.
    let ended = workspace.run(&["build"]);
    refused(
        &ended,
        &[
            "the BuildKit in the container skiff-buildkit-",
            "no configuration",
            "docker rm -f",
        ],
    );
}

#[test]
fn auto_takes_a_container_where_the_engine_has_no_containerd_store() {
    let engine = SecondEngine::plain();
    let bridge = Bridge::tcp();
    let workspace = Workspace::with(&[("etl", &fresh())]);
    let image = BuilderImage::push(&workspace.prefix, &bridge).in_engine(engine.address());
    workspace.manifest(&image.manifest("auto"));
    workspace.commit();
    let mut command = workspace.skiff(&["deploy", "--release", "r1"]);
    command.envs(image.variables());
    let ended = ended(command);
    good(
        &ended,
        &[
            "(driver docker-container: the engine has no containerd image store)",
            "latest moved",
        ],
    );
    assert_eq!(image.containers().len(), 1);
    let other = workspace.run(&["deploy", "--all", "--release", "r2"]);
    good(
        &other,
        &["(driver docker: the engine has the containerd image store)"],
    );
}
