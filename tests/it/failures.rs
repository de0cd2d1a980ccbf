//! What goes wrong ends in one clear message and the right exit code, and leaves nothing half-done.

use std::os::unix::net::UnixListener;

use crate::support::gate::{Answer, Gate, Rule};
use crate::support::registry::tags;
use crate::support::stack::{self, SecondEngine, within};
use crate::support::workspace::{Ended, Workspace, ended};

fn fails(ended: &Ended, code: i32, texts: &[&str]) {
    assert_eq!(ended.code, code, "{}\n{}", ended.stdout, ended.stderr);
    for text in texts {
        let all = format!("{}{}", ended.stdout, ended.stderr);
        assert!(all.contains(text), "{text:?} is missing in:\n{all}");
    }
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

fn one(dockerfile: &str) -> Workspace {
    Workspace::with(&[("etl", dockerfile)])
}

#[test]
fn no_engine() {
    let workspace = one("FROM BUSYBOX\n");
    let mut command = workspace.skiff(&["deploy"]);
    command.env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    fails(
        &ended(command),
        2,
        &[
            "no docker engine answers at unix:///nowhere/docker.sock",
            "DOCKER_HOST",
        ],
    );
}

#[test]
fn a_socket_that_nobody_serves() {
    let workspace = one("FROM BUSYBOX\n");
    let socket = workspace.root().join("dead.sock");
    drop(UnixListener::bind(&socket).unwrap());
    let mut command = workspace.skiff(&["deploy"]);
    command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
    fails(&ended(command), 2, &["no docker engine answers", "refused"]);
}

#[test]
fn an_engine_without_the_containerd_store() {
    let engine = SecondEngine::plain();
    let workspace = one("FROM BUSYBOX\n");
    let mut command = workspace.skiff(&["deploy", "--builder", "docker"]);
    command.env("DOCKER_HOST", engine.address());
    fails(
        &ended(command),
        2,
        &["has no containerd image store", "containerd-snapshotter"],
    );
}

#[test]
fn an_unknown_name_gets_the_nearest() {
    let workspace = Workspace::with(&[("train", "FROM BUSYBOX\n"), ("etl", "FROM BUSYBOX\n")]);
    fails(
        &workspace.run(&["deploy", "trian"]),
        2,
        &["trian", "did you mean `train`?"],
    );
    fails(
        &workspace.run(&["deploy", "postgres"]),
        2,
        &["postgres", "etl, train"],
    );
}

#[test]
fn a_wrong_flag_and_a_missing_manifest() {
    let workspace = one("FROM BUSYBOX\n");
    fails(&workspace.run(&["deploy", "--alll"]), 2, &["--all"]);
    fails(
        &workspace.run(&["deploy", "--file", "nowhere.toml"]),
        2,
        &["nowhere.toml"],
    );
    fails(
        &workspace.run(&["deploy", "--all", "--release", "not a tag"]),
        2,
        &["--release", "not a tag"],
    );
    fails(
        &workspace.run(&["deploy", "--events", "no/such/folder/e"]),
        2,
        &["no/such/folder/e"],
    );
}

#[test]
fn a_syntax_error_in_a_dockerfile_shows_the_line() {
    let workspace = one("FROM BUSYBOX\nRUNN echo\n");
    fails(
        &workspace.run(&["deploy"]),
        1,
        &["containers/etl/Dockerfile:2", "RUNN"],
    );
    assert!(tags(&workspace.repository("etl")).is_empty());
}

#[test]
fn a_base_image_that_does_not_exist() {
    let workspace = one(&format!("FROM {}/nowhere:1\n", stack::registry()));
    fails(
        &workspace.run(&["deploy"]),
        1,
        &["containers/etl/Dockerfile:1", "nowhere:1", "not found"],
    );
}

#[test]
fn a_run_that_fails_shows_its_output_and_its_line() {
    let workspace = one("FROM BUSYBOX\nRUN echo to-stdout && echo to-stderr >&2 && exit 3\n");
    fails(
        &workspace.run(&["deploy"]),
        1,
        &[
            "containers/etl/Dockerfile:2",
            "exit code: 3",
            "| to-stdout",
            "| to-stderr",
            "no channel moved",
            "safe",
        ],
    );
    assert!(tags(&workspace.repository("etl")).is_empty());
}

#[test]
fn a_copy_of_a_missing_file() {
    let workspace = one("FROM BUSYBOX\nCOPY nowhere.py /\n");
    fails(
        &workspace.run(&["deploy"]),
        1,
        &[
            "containers/etl/Dockerfile:2",
            "nowhere.py",
            "not found",
            "build context",
        ],
    );
}

#[test]
fn one_failure_moves_no_channel_of_the_set_and_starts_nothing_new() {
    let workspace = Workspace::with(&[
        ("bad", "FROM BUSYBOX\nRUN exit 1\n"),
        ("child", "FROM bad\n"),
        ("good", "FROM BUSYBOX\nRUN echo > /x\n"),
    ]);
    let result = workspace.run(&["deploy", "--jobs", "2", "--release", "r1"]);
    fails(&result, 1, &["bad, which it needs, failed"]);
    assert!(!tags(&workspace.repository("good")).contains(&"latest".to_owned()));
    assert!(tags(&workspace.repository("child")).is_empty());
}

#[test]
fn a_registry_that_is_down() {
    let workspace = one("FROM BUSYBOX\n");
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    workspace.manifest_for(&format!("localhost:{}", free.port()), "");
    workspace.commit();
    fails(
        &workspace.run(&["deploy"]),
        2,
        &["refused", &format!("localhost:{}", free.port())],
    );
}

#[test]
fn a_registry_that_fails_for_good_in_the_middle_of_the_push() {
    let gate = Gate::start(&[Rule {
        method: "PUT",
        path: "/blobs/uploads/",
        from: 1,
        times: u64::MAX,
        answer: Answer::Status(500),
    }]);
    let workspace = one("FROM BUSYBOX\nRUN head -c 9000 /dev/urandom > /x\n");
    workspace.manifest_for(&gate.host(), "");
    workspace.commit();
    fails(
        &workspace.run(&["deploy", "--all", "--release", "r1"]),
        1,
        &["push failed", "500", "safe"],
    );
    assert!(tags(&workspace.repository("etl")).is_empty());
}

#[test]
fn a_registry_that_recovers_is_tried_again_without_rebuilding() {
    let gate = Gate::start(&[
        Rule {
            method: "PUT",
            path: "/blobs/uploads/",
            from: 1,
            times: 2,
            answer: Answer::Status(500),
        },
        Rule {
            method: "PUT",
            path: "/manifests/latest",
            from: 1,
            times: 2,
            answer: Answer::Status(503),
        },
    ]);
    // Never the same: an engine that has run it does not run it again.
    let once = format!("built-once-{}", fastrand::u64(..));
    let workspace = one(&format!(
        "FROM BUSYBOX\nRUN head -c 9000 /dev/urandom > /x && echo {once}\n"
    ));
    workspace.manifest_for(&gate.host(), "");
    workspace.commit();
    let ended = workspace.deploy(&["--release", "r1"]);
    assert_eq!(
        ended.stderr.matches(&format!("| {once}")).count(),
        1,
        "{}",
        ended.stderr
    );
    assert!(tags(&workspace.repository("etl")).contains(&"latest".to_owned()));
}

#[test]
fn a_channel_that_cannot_be_moved_is_exit_code_3() {
    let gate = Gate::start(&[Rule {
        method: "PUT",
        path: "/manifests/latest",
        from: 1,
        times: u64::MAX,
        answer: Answer::Status(403),
    }]);
    let workspace = one("FROM BUSYBOX\nRUN echo > /x\n");
    workspace.manifest_for(&gate.host(), "");
    workspace.commit();
    fails(
        &workspace.run(&["deploy", "--all", "--release", "r1"]),
        3,
        &["latest", "403", "the images are complete"],
    );
    assert!(tags(&workspace.repository("etl")).contains(&"r1".to_owned()));
}

#[test]
fn a_cache_that_cannot_be_exported_is_a_warning() {
    let gate = Gate::start(&[Rule {
        method: "PUT",
        path: "/manifests/buildcache",
        from: 1,
        times: u64::MAX,
        answer: Answer::Status(403),
    }]);
    let workspace = one("FROM BUSYBOX\nRUN echo > /x\n");
    workspace.manifest_for(&gate.host(), "");
    workspace.commit();
    let ended = workspace.deploy(&["--release", "r1"]);
    assert!(
        ended
            .stderr
            .contains("warning: etl: the cache was not exported"),
        "{}",
        ended.stderr
    );
    assert_eq!(tags(&workspace.repository("etl")), ["latest", "r1"]);
}

#[test]
fn a_build_that_takes_longer_than_its_timeout() {
    let workspace = one("FROM BUSYBOX\nRUN sleep 600\n");
    workspace.manifest("[containers.etl]\ntimeout = \"3s\"\n");
    workspace.commit();
    fails(&workspace.run(&["deploy"]), 1, &["timeout"]);
}

#[test]
fn a_push_that_stalls_is_given_up_and_a_silent_command_is_not() {
    let gate = Gate::start(&[Rule {
        method: "PUT",
        path: "/blobs/uploads/",
        from: 1,
        times: u64::MAX,
        answer: Answer::Stall,
    }]);
    let once = fastrand::u64(..);
    let workspace = one(&format!(
        "FROM BUSYBOX\nRUN sleep 5 && head -c 9000 /dev/urandom > /x && echo {once}\n"
    ));
    workspace.manifest_for(&gate.host(), "[cache]\nbackend = \"none\"\n");
    workspace.commit();
    let mut command = workspace.skiff(&["deploy", "--all", "--release", "r1"]);
    command.env("SKIFF_STALL_TIMEOUT", "3s");
    let stalled = ended(command);
    fails(
        &stalled,
        1,
        &[
            "RUN sleep 5",
            "no progress for 3 s",
            "exporting to image",
            "SKIFF_STALL_TIMEOUT",
        ],
    );
    assert!(tags(&workspace.repository("etl")).is_empty());
    let mut wrong = workspace.skiff(&["deploy"]);
    wrong.env("SKIFF_STALL_TIMEOUT", "soon");
    fails(
        &ended(wrong),
        2,
        &["SKIFF_STALL_TIMEOUT", "`soon` is not a duration", "1h30m"],
    );
}

#[test]
fn a_builder_without_room_says_so_and_what_to_do() {
    let engine = SecondEngine::on_a_small_disk();
    let workspace = one("FROM BUSYBOX\nCOPY large /\n");
    workspace.write("containers/etl/large", vec![0; 300_000_000]);
    workspace.manifest("[defaults]\nnetwork = \"none\"\n");
    workspace.commit();
    let mut command = workspace.skiff(&["deploy", "--all", "--release", "r1"]);
    command.env("DOCKER_HOST", engine.address());
    fails(
        &ended(command),
        1,
        &["no space left on device", "docker builder prune"],
    );
    assert!(tags(&workspace.repository("etl")).is_empty());
}

#[test]
fn a_closed_stdout_stops_no_release() {
    let workspace = one("FROM BUSYBOX\nRUN echo > /x\n");
    for progress in ["plain", "json"] {
        let skiff = workspace.skiff(&[
            "deploy",
            "--all",
            "--release",
            progress,
            "--progress",
            progress,
        ]);
        // Closed from the start; and a reader that is gone at once.
        for script in [
            "exec \"$0\" \"$@\" >&-",
            "\"$0\" \"$@\" | true; exit ${PIPESTATUS[0]}",
        ] {
            let ended = ended(within(&["bash", "-c", script], &skiff));
            assert_eq!(ended.code, 0, "{script}: {}", ended.stderr);
            assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        }
        assert!(tags(&workspace.repository("etl")).contains(&progress.to_owned()));
    }
}

#[test]
fn keep_going_builds_what_does_not_need_the_one_that_failed() {
    let workspace = Workspace::with(&[
        ("bad", "FROM BUSYBOX\nRUN exit 1\n"),
        ("child", "FROM bad\n"),
        ("good", "FROM BUSYBOX\nRUN sleep 1\n"),
        ("late", "FROM good\n"),
    ]);
    let result = workspace.run(&["deploy", "--keep-going", "--release", "r1"]);
    fails(
        &result,
        1,
        &[
            "not built because bad, which it needs, failed",
            "2 of 4 built",
        ],
    );
    assert_eq!(tags(&workspace.repository("good")), ["buildcache", "r1"]);
    assert_eq!(tags(&workspace.repository("late")), ["r1"]);
    assert!(tags(&workspace.repository("child")).is_empty());
}

#[test]
fn a_name_that_moves_is_no_release_and_no_tag() {
    let workspace = one("FROM BUSYBOX\n");
    fails(
        &workspace.run(&["build", "--release", "latest"]),
        2,
        &["`latest`, is a channel"],
    );
    fails(
        &workspace.run(&["build", "--release", "buildcache"]),
        2,
        &["is the tag of a cache"],
    );
    fails(
        &workspace.run(&["deploy", "--tag", "key-1"]),
        2,
        &["skiff's own tags"],
    );
    fails(
        &workspace.run(&["deploy", "--channel", "buildcache"]),
        2,
        &["is the tag of a cache"],
    );
    workspace
        .manifest("[containers.etl]\ntags = [\"{branch}\"]\n[channels]\nstable = [\"main\"]\n");
    workspace.git(&["checkout", "--quiet", "-b", "stable"]);
    fails(
        &workspace.run(&["build"]),
        2,
        &["`stable`, is a channel", "{branch}"],
    );
    assert!(tags(&workspace.repository("etl")).is_empty());
}

#[test]
fn the_excerpt_holds_all_lines_of_an_instruction() {
    let workspace = one("FROM BUSYBOX\nRUN echo a && \\\n    echo b && \\\n    exit 4\n");
    fails(
        &workspace.run(&["deploy"]),
        1,
        &["2 | / RUN echo a", "4 | |     exit 4", "exit code: 4"],
    );
}

#[test]
fn a_container_fails_for_its_own_reasons_only() {
    let workspace = Workspace::with(&[
        ("good", "FROM BUSYBOX\nCOPY ok /ok\nRUN sleep 2\n"),
        ("wrong-target", "FROM BUSYBOX AS a\n"),
    ]);
    workspace.write("containers/good/ok", "");
    workspace.write("containers/good/all.Dockerfile", "FROM scratch\nCOPY . /\n");
    // What reads the whole context meets a file that cannot be sent.
    let odd = std::os::unix::ffi::OsStringExt::from_vec(vec![b'x', 0xff]);
    let odd: std::ffi::OsString = odd;
    std::fs::write(workspace.root().join("containers/good").join(odd), "").unwrap();
    workspace.manifest(
        "[containers.bad]\ncontext = \"containers/good\"\ndockerfile = \"all.Dockerfile\"\n\
         [containers.wrong-target]\ntarget = \"b\"\n",
    );
    workspace.commit();
    let ended = workspace.run(&["deploy", "good", "bad", "--jobs", "2", "--release", "r1"]);
    fails(&ended, 1, &["bad: name is not UTF-8", "1 of 2 built"]);
    assert!(tags(&workspace.repository("good")).contains(&"r1".to_owned()));
    fails(
        &workspace.run(&["deploy", "wrong-target"]),
        2,
        &["has no stage `b`"],
    );
}
