//! Ignore rules: what Docker's client puts into an image, what skiff puts there, and what `skiff inputs` lists are the same.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Command;

use crate::support::image::{self, Listing};
use crate::support::stack;
use crate::support::trees::Tree;
use crate::support::workspace::Workspace;

/// All trees.
const TREES: usize = MAIN + 5 * BATCH;
/// Trees that are the context of a container of their own.
const MAIN: usize = 20;
/// The others are named contexts, so many for each container.
const BATCH: usize = 56;
/// Builds that Docker's client runs at a time.
const AT_ONCE: usize = 12;

/// The container that shows the tree of this number.
fn container(number: usize) -> String {
    if number < MAIN {
        format!("main-{number}")
    } else {
        format!("batch-{}", (number - MAIN) / BATCH)
    }
}

fn folder(number: usize) -> String {
    if number < MAIN {
        format!("containers/{}", container(number))
    } else {
        format!("trees/t{number}")
    }
}

/// A workspace with all the trees in it.
fn workspace(rng: &mut fastrand::Rng) -> (Workspace, Vec<Tree>) {
    let workspace = Workspace::new();
    let mut manifest = "[cache]\nbackend = \"none\"\n".to_owned();
    let mut batches = BTreeMap::<String, (String, String)>::new();
    let trees: Vec<Tree> = (0..TREES).map(|_| Tree::generate(rng)).collect();
    for (number, tree) in trees.iter().enumerate() {
        let folder = folder(number);
        tree.write(&workspace.root().join(&folder));
        workspace.write(&format!("{folder}/Dockerfile"), "FROM scratch\nCOPY . /\n");
        // A third of the containers have the Dockerfile's own file, beside one that then does not count.
        if number < MAIN && number % 3 == 0 {
            workspace.write(&format!("{folder}/Dockerfile.dockerignore"), &tree.ignore);
            workspace.write(&format!("{folder}/.dockerignore"), "**\n");
        } else {
            workspace.write(&format!("{folder}/.dockerignore"), &tree.ignore);
        }
        if number >= MAIN {
            let (dockerfile, contexts) = batches.entry(container(number)).or_default();
            writeln!(dockerfile, "COPY --from=t{number} . /{number}/").unwrap();
            write!(contexts, "t{number} = \"{folder}\", ").unwrap();
        }
    }
    for (name, (dockerfile, contexts)) in batches {
        workspace.dockerfile(&name, &format!("FROM scratch\n{dockerfile}"));
        writeln!(manifest, "[containers.{name}]\ncontexts = {{ {contexts} }}").unwrap();
    }
    workspace.manifest(&manifest);
    (workspace, trees)
}

/// What Docker's own client copies, by tree.
fn by_docker(workspace: &Workspace) -> Vec<Listing> {
    std::fs::create_dir(workspace.root().join("docker")).unwrap();
    let mains: Vec<usize> = (0..MAIN).collect();
    mains
        .chunks(AT_ONCE)
        .for_each(|numbers| bake(workspace, numbers));
    let mut listings: Vec<_> = (0..MAIN)
        .map(|number| archive(workspace, &container(number)))
        .collect();
    for first in (MAIN..TREES).step_by(BATCH) {
        let (name, numbers) = (container(first), first..first + BATCH);
        let contexts = numbers.clone().flat_map(|number| {
            let context = format!("t{number}={}", folder(number));
            ["--build-context".to_owned(), context]
        });
        let output = format!("--output=type=tar,dest=docker/{name}.tar");
        let rest = [output, format!("containers/{name}")];
        let arguments: Vec<_> = contexts.chain(rest).collect();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        docker(workspace, &[&["build"], &*arguments].concat());
        let all = archive(workspace, &name);
        listings.extend(numbers.map(|number| below(&all, number)));
    }
    listings
}

/// Many builds by one command: starting the client takes longer than such a build.
fn bake(workspace: &Workspace, numbers: &[usize]) {
    let mut targets = serde_json::Map::new();
    for name in numbers.iter().copied().map(container) {
        let output = format!("type=tar,dest=docker/{name}.tar");
        let context = format!("containers/{name}");
        let target = serde_json::json!({ "context": context, "output": [output] });
        targets.insert(name, target);
    }
    let names: Vec<_> = targets.keys().cloned().collect();
    let group = serde_json::json!({ "default": { "targets": names } });
    let bake = serde_json::json!({ "group": group, "target": targets });
    workspace.write("bake.json", bake.to_string());
    docker(workspace, &["bake", "--allow=fs=*", "--file=bake.json"]);
}

/// The plugin in the workspace. Once more when it fails: on a busy machine it loses its own builds ("no such job").
fn docker(workspace: &Workspace, arguments: &[&str]) {
    let mut said = String::new();
    for _ in 0..2 {
        let output = Command::new("docker")
            .args([&["buildx"], arguments, &["--progress=quiet"]].concat())
            .current_dir(workspace.root())
            .envs(stack::variables())
            .output()
            .unwrap();
        if output.status.success() {
            return;
        }
        said = String::from_utf8_lossy(&output.stderr).into_owned();
    }
    panic!("{said}");
}

fn archive(workspace: &Workspace, name: &str) -> Listing {
    let path = workspace.root().join(format!("docker/{name}.tar"));
    image::of_tar(std::io::BufReader::new(std::fs::File::open(path).unwrap()))
}

/// The part that a batch copied from this tree.
fn below(all: &Listing, number: usize) -> Listing {
    let folder = format!("{number}/");
    let own = all.iter().filter_map(|(path, what)| {
        let path = path.strip_prefix(&folder)?;
        Some((path.to_owned(), what.clone()))
    });
    own.collect()
}

/// What skiff copies, by tree.
fn by_skiff(workspace: &Workspace) -> Vec<Listing> {
    let built = workspace.run(&["build", "--release", "r1"]);
    assert_eq!(built.code, 0, "{}\n{}", built.stdout, built.stderr);
    let mut images = BTreeMap::new();
    (0..TREES)
        .map(|number| {
            let name = container(number);
            let layers = images.entry(name).or_insert_with_key(|name| {
                let layers = image::of_layers(&workspace.repository(name), "r1");
                layers.into_iter().flatten().collect::<Listing>()
            });
            if number < MAIN {
                layers.clone()
            } else {
                below(layers, number)
            }
        })
        .collect()
}

/// What `skiff inputs` lists, by tree.
fn by_inputs(workspace: &Workspace) -> Vec<Listing> {
    let mut contexts = BTreeMap::new();
    (0..TREES)
        .map(|number| {
            let name = container(number);
            let contexts = contexts.entry(name).or_insert_with_key(|name| {
                let ended = workspace.run(&["inputs", name, "--format", "json"]);
                assert_eq!(ended.code, 0, "{name}: {}", ended.stderr);
                image::of_inputs(&ended.stdout)
            });
            let name = if number < MAIN {
                "context".to_owned()
            } else {
                format!("t{number}")
            };
            contexts.remove(&name).unwrap()
        })
        .collect()
}

#[test]
fn generated_trees_are_sent_as_docker_sends_them() {
    let mut rng = fastrand::Rng::with_seed(20_261_124);
    let (workspace, trees) = workspace(&mut rng);
    let started = std::time::Instant::now();
    let inputs = by_inputs(&workspace);
    let docker = by_docker(&workspace);
    let after_docker = started.elapsed();
    let skiff = by_skiff(&workspace);
    let mut differ = String::new();
    let (mut kept, mut left_out) = (0, 0);
    for (number, tree) in trees.iter().enumerate() {
        let (docker, skiff, inputs) = (&docker[number], &skiff[number], &inputs[number]);
        let there = |path: &&String| docker.contains_key(*path);
        kept += tree.nodes.keys().filter(there).count();
        left_out += tree.nodes.keys().filter(|path| !there(path)).count();
        if docker != skiff || docker != inputs {
            let (folder, ignore) = (folder(number), String::from_utf8_lossy(&tree.ignore));
            let missing = |own: &Listing| -> Vec<_> {
                let theirs = docker
                    .iter()
                    .filter(|(path, what)| own.get(*path) != Some(what));
                let ours = own
                    .iter()
                    .filter(|(path, what)| docker.get(*path) != Some(what));
                theirs
                    .map(|x| ("docker", x.0.clone(), x.1.clone()))
                    .chain(ours.map(|x| ("skiff", x.0.clone(), x.1.clone())))
                    .collect()
            };
            writeln!(
                differ,
                "{folder} {ignore:?}\n  image {:?}\n  inputs {:?}",
                missing(skiff),
                missing(inputs)
            )
            .unwrap();
        }
    }
    let count = trees.len();
    let told = format!("{count} trees, {kept} paths sent and {left_out} left out");
    writeln!(
        std::io::stderr(),
        "{told}; docker {after_docker:?}, all {:?}",
        started.elapsed()
    )
    .unwrap();
    assert!(differ.is_empty(), "{differ}");
    assert!(
        kept > count && left_out > count,
        "the trees show nothing: {told}"
    );
}
