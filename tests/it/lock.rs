//! `pin = true` and `skiff lock`: base images are those of `containers.lock` until somebody renews it.

use std::fs;

use crate::support::registry::{self, delete, layers, manifest};
use crate::support::stack;
use crate::support::workspace::{Ended, Workspace, ended};

/// Another project, whose image stands under a tag that moves.
struct Upstream(Workspace);

impl Upstream {
    fn new() -> Self {
        let upstream = Self(Workspace::with(&[("base", "FROM BUSYBOX\nCOPY mark /\n")]));
        upstream.moves_on("one");
        upstream
    }

    fn moves_on(&self, mark: &str) {
        self.0.write("containers/base/mark", mark);
        self.0.commit();
        self.0.deploy(&["--release", mark]);
    }

    fn image(&self) -> String {
        let repository = self.0.repository("base");
        format!("{}/{repository}:latest", stack::registry())
    }

    fn vanishes(&self) {
        delete(&self.0.repository("base"), "latest");
    }
}

/// One container on that image, pinned.
fn pinned(upstream: &Upstream) -> Workspace {
    let workspace = Workspace::new();
    let from = format!("FROM {}\nCOPY a.txt /\n", upstream.image());
    workspace.dockerfile("etl", &from);
    workspace.write("containers/etl/a.txt", "1");
    pin(&workspace);
    workspace.commit();
    workspace
}

fn pin(workspace: &Workspace) {
    let path = workspace.root().join("containers.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(
        path,
        text.replace("version = 1\n", "version = 1\npin = true\n"),
    )
    .unwrap();
}

fn lock_file(workspace: &Workspace) -> String {
    fs::read_to_string(workspace.root().join("containers.lock")).unwrap_or_default()
}

fn good(ended: &Ended) {
    assert_eq!(ended.code, 0, "{}\n{}", ended.stdout, ended.stderr);
}

fn plan(workspace: &Workspace) -> String {
    let ended = workspace.run(&["plan", "etl"]);
    good(&ended);
    ended.stdout
}

#[test]
fn a_locked_image_stays_until_the_lock_is_renewed() {
    let upstream = Upstream::new();
    let workspace = pinned(&upstream);
    let ended = workspace.deploy(&["--release", "r1"]);
    assert!(ended.stderr.contains("commit it"), "{}", ended.stderr);
    let first = lock_file(&workspace);
    assert!(first.contains(&format!("\"{}\" = \"sha256:", upstream.image())));
    workspace.commit();
    upstream.moves_on("two");
    assert!(plan(&workspace).contains("skip"), "{}", plan(&workspace));
    // It is built from what is locked, not from what stands under the tag.
    workspace.write("containers/etl/a.txt", "2");
    workspace.commit();
    workspace.deploy(&["--release", "r1.1"]);
    let etl = workspace.repository("etl");
    let (old, new) = (layers(&etl, "r1"), layers(&etl, "r1.1"));
    assert_eq!(new[..new.len() - 1], old[..old.len() - 1]);
    // What is locked is not asked for again.
    good(&workspace.run(&["lock"]));
    assert_eq!(lock_file(&workspace), first);
    let ended = workspace.run(&["lock", "--update"]);
    good(&ended);
    assert!(
        ended
            .stdout
            .contains(&format!("~ {} sha256:", upstream.image()))
    );
    assert!(ended.stdout.contains(" -> sha256:"), "{}", ended.stdout);
    assert_ne!(lock_file(&workspace), first);
    workspace.commit();
    // The lock file alone makes it a candidate, and its key differs.
    let ended = workspace.deploy_changed(&["--release", "r2"]);
    assert!(ended.stdout.contains("built"), "{}", ended.stdout);
    assert_ne!(
        manifest(&workspace.repository("etl"), "r1"),
        manifest(&workspace.repository("etl"), "r2")
    );
}

#[test]
fn in_a_ci_an_image_that_is_not_locked_is_an_error() {
    let upstream = Upstream::new();
    let workspace = pinned(&upstream);
    let mut command = workspace.skiff(&["deploy", "etl"]);
    command.env("CI", "true");
    let ended = ended(command);
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("containers.lock lacks"),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.contains("run `skiff lock`"),
        "{}",
        ended.stderr
    );
    assert_eq!(lock_file(&workspace), "");
    // A plan writes nothing either.
    plan(&workspace);
    assert_eq!(lock_file(&workspace), "");
}

#[test]
fn images_that_nobody_uses_leave_the_lock_and_names_are_checked() {
    let upstream = Upstream::new();
    let workspace = pinned(&upstream);
    good(&workspace.run(&["lock"]));
    let locked = lock_file(&workspace);
    let stale = format!("\"stale.example/x:1\" = \"sha256:{}\"\n", "0".repeat(64));
    workspace.write("containers.lock", format!("{locked}{stale}"));
    let wrong = workspace.run(&["lock", "--update", "python:3.11"]);
    assert_eq!(wrong.code, 2, "{}", wrong.stderr);
    assert!(
        wrong.stderr.contains("no Dockerfile uses `python:3.11`"),
        "{}",
        wrong.stderr
    );
    let ended = workspace.run(&["lock"]);
    good(&ended);
    assert!(
        ended.stdout.contains("- stale.example/x:1"),
        "{}",
        ended.stdout
    );
    assert_eq!(lock_file(&workspace), locked);
}

#[test]
fn a_damaged_lock_is_an_error_and_stays_as_it_is() {
    let upstream = Upstream::new();
    let workspace = pinned(&upstream);
    let text = "version = 1\n[images]\n\"busybox:1\" = \"sha256:1\"\n";
    workspace.write("containers.lock", text);
    for arguments in [&["deploy", "etl"][..], &["lock"], &["lock", "--update"]] {
        let ended = workspace.run(arguments);
        assert_eq!(ended.code, 2, "{}", ended.stderr);
        assert!(
            ended.stderr.contains("containers.lock:3"),
            "{}",
            ended.stderr
        );
        assert!(
            ended.stderr.contains("docker.io/library/busybox:1"),
            "{}",
            ended.stderr
        );
    }
    assert_eq!(lock_file(&workspace), text);
}

#[test]
fn a_locked_image_that_is_gone_is_named_with_its_remedy() {
    let upstream = Upstream::new();
    let workspace = pinned(&upstream);
    good(&workspace.run(&["lock"]));
    workspace.commit();
    upstream.vanishes();
    upstream.moves_on("two");
    let ended = workspace.run(&["deploy", "etl"]);
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    assert!(ended.stderr.contains("no longer has"), "{}", ended.stderr);
    let remedy = format!("skiff lock --update {}", upstream.image());
    assert!(ended.stderr.contains(&remedy), "{}", ended.stderr);
    good(&workspace.run(&["lock", "--update", &upstream.image()]));
    workspace.commit();
    workspace.deploy(&[]);
}

#[test]
fn a_lock_that_disagrees_with_the_dockerfiles_says_where() {
    let upstream = Upstream::new();
    let workspace = pinned(&upstream);
    good(&workspace.run(&["lock"]));
    // The image of another platform, as somebody may have written it by hand.
    let digest = foreign(&upstream);
    let image = upstream.image();
    let text = format!("version = 1\n[images]\n\"{image}\" = \"{digest}\"\n");
    let stale = format!("\"stale.example/x:1\" = \"sha256:{}\"\n", "0".repeat(64));
    workspace.write("containers.lock", format!("{text}{stale}"));
    workspace.commit();
    let ended = workspace.deploy(&["--release", "r1"]);
    let said = [
        "containers.lock has stale.example/x:1, which no Dockerfile uses",
        "is locked as an image that is not for linux/amd64",
        &format!("skiff lock --update {image}"),
    ];
    for text in said {
        assert!(ended.stderr.contains(text), "{text}: {}", ended.stderr);
    }
    good(&workspace.run(&["lock", "--update"]));
    workspace.commit();
    let ended = workspace.deploy(&["--release", "r2"]);
    for text in ["no Dockerfile uses", "is locked as an image"] {
        assert!(!ended.stderr.contains(text), "{}", ended.stderr);
    }
}

/// Puts an image beside the upstream one that is the same for another platform.
fn foreign(upstream: &Upstream) -> String {
    let repository = upstream.0.repository("base");
    let mut config = registry::config(&repository, "latest");
    config["architecture"] = "arm64".into();
    let config = config.to_string();
    let mut manifest = manifest(&repository, "latest").unwrap();
    manifest["config"]["digest"] = registry::put_blob(&repository, config.as_bytes()).into();
    manifest["config"]["size"] = config.len().into();
    let types = [
        ("docker.distribution.manifest.v2", "oci.image.manifest.v1"),
        ("docker.container.image.v1", "oci.image.config.v1"),
        (
            "docker.image.rootfs.diff.tar.gzip",
            "oci.image.layer.v1.tar+gzip",
        ),
    ];
    let bytes = types.iter().fold(manifest.to_string(), |text, (from, to)| {
        text.replace(from, to)
    });
    registry::put_manifest(&repository, "foreign", bytes.as_bytes());
    registry::digest(bytes.as_bytes())
}

#[test]
fn every_way_to_use_an_image_is_locked_and_one_with_a_digest_is_not() {
    let upstream = Upstream::new();
    let workspace = Workspace::new();
    let own = upstream.image();
    workspace.dockerfile(
        "etl",
        &format!(
            "FROM BUSYBOX\nCOPY --from={own} /bin/busybox /copied\n\
             RUN --mount=type=bind,from={own},target=/m ls /m/bin > /mounted\n"
        ),
    );
    pin(&workspace);
    workspace.commit();
    good(&workspace.run(&["lock"]));
    let text = lock_file(&workspace);
    let busybox = format!("\"{}/busybox:1\"", stack::registry());
    assert!(
        text.contains(&busybox) && text.contains(&format!("\"{own}\"")),
        "{text}"
    );
    workspace.deploy(&[]);
    let digest = text.split('"').rfind(|part| part.starts_with("sha256:"));
    workspace.dockerfile("etl", &format!("FROM {own}@{}\n", digest.unwrap()));
    let ended = workspace.run(&["lock"]);
    good(&ended);
    assert!(
        !lock_file(&workspace).contains("sha256"),
        "{}",
        lock_file(&workspace)
    );
}
