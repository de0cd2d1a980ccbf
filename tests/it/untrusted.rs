//! `registry.untrusted`: what runs without a channel write, and that those with one read nothing of it.

use std::fs;

use serde_json::Value;

use crate::support::registry::{all_tags, config};
use crate::support::stack;
use crate::support::workspace::Workspace;

/// `base`, and `train` that is built from it; on branch `main`, which moves `latest`.
fn pair(more: &str) -> Workspace {
    let workspace = Workspace::new();
    let (host, prefix) = (stack::registry(), &workspace.prefix);
    workspace.write(
        "containers.toml",
        format!(
            "version = 1\n[registry]\nprovider = \"oci\"\nhost = \"{host}\"\nrepository = \"{prefix}/{{name}}\"\n\
             untrusted = \"{prefix}-pr/{{name}}\"\n[discover]\nroots = [\"containers/*\"]\n{more}"
        ),
    );
    workspace.dockerfile("base", "FROM BUSYBOX\nCOPY base.txt /\n");
    workspace.dockerfile("train", "FROM base\nCOPY main.py /\n");
    workspace.write("containers/base/base.txt", "1");
    workspace.write("containers/train/main.py", "1");
    workspace.commit();
    workspace
}

/// Runs it, and returns for each container of the run what became of it and where: `train built pr/train`.
fn run(workspace: &Workspace, arguments: &[&str]) -> Vec<String> {
    let file = workspace.root().join(".git/metadata.json");
    // Releases are named by the clock, in seconds, and a name is given once.
    std::thread::sleep(std::time::Duration::from_secs(1));
    let metadata = ["--metadata-file", file.to_str().unwrap()];
    let ended = workspace.run(&[arguments, &metadata].concat());
    assert_eq!(ended.code, 0, "{}\n{}", ended.stdout, ended.stderr);
    let metadata: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let told = metadata.as_object().unwrap().iter().map(|(name, value)| {
        let image = value["image"].as_str().unwrap();
        let (image, _) = image.split_once('@').unwrap();
        let path = image.rsplit_once(&workspace.prefix).unwrap().1;
        let path = path.replacen("-pr/", "pr/", 1);
        format!("{name} {} {path}", value["status"].as_str().unwrap())
    });
    told.collect()
}

fn tags_in(workspace: &Workspace, path: &str, begin: &str) -> usize {
    let tags = all_tags(&format!("{}{path}", workspace.prefix));
    tags.iter().filter(|tag| tag.starts_with(begin)).count()
}

#[test]
fn branches_without_a_channel_write_apart_and_channels_do_not_read_it() {
    let workspace = pair("");
    workspace.git(&["switch", "--quiet", "--create", "feature"]);
    let all = ["deploy", "--all"];
    assert_eq!(
        run(&workspace, &all),
        ["base built pr/base", "train built pr/train"]
    );
    let (trusted, apart) = (
        workspace.repository("train"),
        format!("{}-pr/train", workspace.prefix),
    );
    assert_eq!(all_tags(&trusted), Vec::<String>::new());
    // Nothing to promote, so no record.
    assert_eq!(
        all_tags(&workspace.repository("skiff")),
        Vec::<String>::new()
    );
    let label = |repository: &str, tag: &str| {
        config(repository, tag)["config"]["Labels"]["skiff.repository"].clone()
    };
    let key = |repository: &str| {
        let tags = all_tags(repository).into_iter();
        tags.filter(|tag| tag.starts_with("key-"))
            .collect::<Vec<_>>()
    };
    let host = stack::registry();
    assert_eq!(label(&apart, &key(&apart)[0]), format!("{host}/{apart}"));
    assert_eq!(
        run(&workspace, &all),
        ["base skipped pr/base", "train skipped pr/train"]
    );

    workspace.git(&["switch", "--quiet", "main"]);
    assert_eq!(
        run(&workspace, &all),
        ["base built /base", "train built /train"]
    );
    assert_eq!(label(&trusted, "latest"), format!("{host}/{trusted}"));
    // The same sources have the same key, wherever they are built.
    assert_eq!(key(&trusted), key(&apart));
}

#[test]
fn what_a_channel_has_is_not_built_again_for_a_branch() {
    let workspace = pair("");
    run(&workspace, &["deploy", "--all"]);
    workspace.git(&["switch", "--quiet", "--create", "feature"]);
    workspace.write("containers/train/main.py", "2");
    workspace.commit();
    assert_eq!(
        run(&workspace, &["deploy", "--all"]),
        ["base skipped /base", "train built pr/train"]
    );
    assert_eq!(
        all_tags(&format!("{}-pr/base", workspace.prefix)),
        Vec::<String>::new()
    );
    // A parent that was not asked for gets no tag, whatever its child gets.
    workspace.write("containers/train/main.py", "3");
    workspace.commit();
    assert_eq!(
        run(&workspace, &["deploy", "train", "--tag", "yours"]),
        ["base skipped /base", "train built pr/train"]
    );
    // Tags that were asked for are an image's of this branch.
    assert_eq!(
        run(&workspace, &["deploy", "base", "--tag", "mine"]),
        ["base built pr/base"]
    );
    assert_eq!(tags_in(&workspace, "-pr/base", "mine"), 1);
    assert_eq!(tags_in(&workspace, "/base", "mine"), 0);
    // A channel that is named is moved, where channels are.
    assert_eq!(
        run(&workspace, &["deploy", "train", "--channel", "try"]),
        ["base skipped /base", "train built /train"]
    );
}

#[test]
fn caches_of_a_branch_stay_with_it() {
    let workspace = pair("[cache]\nexport = \"always\"\nref = \"{repository}-cache:layers\"\n");
    workspace.git(&["switch", "--quiet", "--create", "feature"]);
    run(&workspace, &["deploy", "--all"]);
    assert_eq!(tags_in(&workspace, "-pr/train-cache", "layers-feature"), 1);
    assert_eq!(tags_in(&workspace, "/train-cache", ""), 0);
    let listed = workspace.run(&["cache", "ls"]);
    assert!(
        listed.stdout.contains("-pr/train-cache:layers-feature"),
        "{}",
        listed.stdout
    );
    workspace.git(&["switch", "--quiet", "main"]);
    run(&workspace, &["deploy", "--all"]);
    assert_eq!(tags_in(&workspace, "/train-cache", "layers"), 1);
    // A branch begins with the default branch's.
    workspace.git(&["switch", "--quiet", "--create", "other"]);
    workspace.write("containers/train/main.py", "3");
    workspace.commit();
    let events = workspace.root().join(".git/events");
    run(
        &workspace,
        &["deploy", "--all", "--events", events.to_str().unwrap()],
    );
    let events = fs::read_to_string(events).unwrap();
    let chosen: Vec<_> = (events.lines())
        .filter(|line| line.contains("\"cache_chosen\""))
        .collect();
    let expected = format!(
        "{}/{}/train-cache:layers\"",
        stack::registry(),
        workspace.prefix
    );
    assert!(
        chosen.len() == 1 && chosen[0].contains(&expected),
        "{chosen:?}"
    );
}
