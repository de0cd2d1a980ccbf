//! Many commits of a small monorepo: the affected containers of a range are those whose files differ between two
//! checkouts of its ends, walked as for a build. Nothing is shared with the code under test but the walk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use fastrand::Rng;

use super::repository::Repository;
use crate::cancel::CancellationToken;
use crate::changes::commit::Commit;
use crate::context::entry::Kind;
use crate::context::ignore::IgnoreFile;
use crate::context::walk::{nothing_known, walk};

const COMMITS: usize = 120;

/// Name, context, Dockerfile, named context.
type Container = (
    &'static str,
    &'static str,
    &'static str,
    Option<&'static str>,
);

const CONTAINERS: [Container; 8] = [
    ("c0", "c/c0", "c/c0/Dockerfile", None),
    ("c1", "c/c1", "c/c1/Dockerfile", None),
    ("c2", "c/c2", "c/c2/Dockerfile", None),
    ("c3", "c/c3", "c/c3/Dockerfile", None),
    ("elsewhere", "c/c3/src", "docker/elsewhere", None),
    ("named", "c/named", "c/named/Dockerfile", Some("libs")),
    ("again", "c/c2", "docker/again", Some("libs")),
    ("whole", ".", "docker/whole", None),
];

const FOLDERS: [&str; 7] = ["", "src", "src/a", "docs", "data", "data/x", "top"];
const NAMES: [&str; 6] = ["a.py", "b.pyc", "README.md", "keep.txt", "two words", "é\n"];
const RULES: [&str; 8] = [
    "",
    "*.md\n",
    "**/*.pyc\ndocs\n",
    "*\n!src\n",
    "*\n!**/*.py\n",
    "data/**\n!data/keep.txt\n",
    "src/[ab]*\n",
    "# none\n/docs/\n!docs/keep.txt\n",
];

/// What each container reads of a checkout, by path: type, permissions and content.
type Files = BTreeMap<String, String>;

struct Snapshot {
    commit: Commit,
    /// Where the tree is.
    folder: tempfile::TempDir,
    /// What the manifest says of each container.
    arguments: [u32; CONTAINERS.len()],
}

impl Snapshot {
    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(path)
    }

    /// Everything that a container is built from, where these rules hold.
    fn files(&self, number: usize, rules: &Self) -> Files {
        let (_, context, dockerfile, named) = CONTAINERS[number];
        let mut files = Files::new();
        let own = format!("{dockerfile}.dockerignore");
        let ignore = if self.at(&own).exists() {
            own
        } else {
            format!("{context}/.dockerignore")
        };
        for path in [
            dockerfile.to_owned(),
            ignore,
            format!("{}/.dockerignore", named.unwrap_or("-")),
        ] {
            files.insert(
                format!("/{path}"),
                format!("{:?}", std::fs::read(self.at(&path)).ok()),
            );
        }
        let dockerfile = rules.at(dockerfile);
        let main = IgnoreFile::of(&rules.at(context), Some(&dockerfile)).unwrap();
        let libs = named.map(|name| (name, IgnoreFile::of(&rules.at(name), None).unwrap()));
        for (root, ignore) in std::iter::once((context, main)).chain(libs) {
            let filter = ignore.map(|file| file.filter()).unwrap_or_default();
            let stop = CancellationToken::new();
            walk(&self.at(root), &filter, &nothing_known, &stop, |entry| {
                if entry.kind != Kind::Directory {
                    let what = format!("{:?} {:o} {:?}", entry.kind, entry.mode, entry.id);
                    files.insert(format!("{root}/{}", entry.path), what);
                }
                Ok(())
            })
            .unwrap();
        }
        files
    }
}

fn manifest(arguments: &[u32]) -> String {
    let section = |((name, context, dockerfile, named), argument): (&Container, &u32)| {
        let up = match *context {
            "." => String::new(),
            context => "../".repeat(context.split('/').count()),
        };
        let named = named.map(|named| format!("contexts = {{ named = \"{named}\" }}\n"));
        format!(
            "[containers.{name}]\ncontext = \"{context}\"\ndockerfile = \"{up}{dockerfile}\"\n\
             args = {{ N = \"{argument}\" }}\n{}",
            named.unwrap_or_default()
        )
    };
    CONTAINERS.iter().zip(arguments).map(section).collect()
}

/// One step of somebody's work.
fn work(repository: &Repository, rng: &mut Rng, arguments: &mut [u32]) {
    let tops = [
        "c/c0",
        "c/c1",
        "c/c2",
        "c/c3",
        "c/named",
        "libs",
        ".",
        "docs/site",
    ];
    let pick = |rng: &mut Rng| {
        let (top, folder) = (rng.choice(tops).unwrap(), rng.choice(FOLDERS).unwrap());
        format!("{top}/{folder}/{}", rng.choice(NAMES).unwrap())
    };
    let path = pick(rng);
    let full = repository.root.join(&path);
    let exists = full.symlink_metadata().is_ok();
    match rng.u8(0..14) {
        0..6 => {
            if exists {
                repository.remove(&path);
            }
            repository.write(&path, &rng.u8(0..4).to_string());
        }
        6 if exists => repository.remove(&path),
        7 if exists => {
            let to = pick(rng);
            let to = repository.root.join(to);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::rename(full, to).unwrap();
        }
        8 if exists && !full.is_symlink() => {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = *rng.choice(&[0o644, 0o755]).unwrap();
            std::fs::set_permissions(full, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        9 => {
            if exists {
                repository.remove(&path);
            }
            std::fs::create_dir_all(full.parent().unwrap()).unwrap();
            let target = *rng
                .choice(&["../c1", "..", "a.py", "nowhere", "../../c/c2", "/"])
                .unwrap();
            repository.link(target, &path);
        }
        10 => {
            let places = [
                "c/c0/.dockerignore",
                "c/c3/src/.dockerignore",
                "libs/.dockerignore",
                "c/c2/.dockerignore",
                "docker/again.dockerignore",
                "c/named/.dockerignore",
            ];
            let place = rng.choice(places).unwrap();
            if rng.u8(0..4) == 0 && repository.root.join(place).exists() {
                repository.remove(place);
            } else {
                repository.write(place, rng.choice(RULES).unwrap());
            }
        }
        11 => {
            let (name, _, dockerfile, _) = *rng.choice(&CONTAINERS).unwrap();
            let base = if name == "c1" { "c0" } else { "scratch" };
            repository.write(
                dockerfile,
                &format!("FROM {base}\nENV N={}\n", rng.u8(0..3)),
            );
        }
        12 => {
            *rng.choice(arguments.iter_mut()).unwrap() = rng.u32(0..3);
            repository.manifest(&manifest(arguments));
        }
        _ => {}
    }
}

fn snapshot(repository: &Repository, arguments: [u32; CONTAINERS.len()]) -> Snapshot {
    let commit = repository.commit();
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().with_extension("tar");
    let output = format!("--output={}", archive.display());
    repository.git(&["archive", "--format=tar", &output, "HEAD"]);
    let tar = Command::new("tar")
        .args([Path::new("-xf"), &archive, Path::new("-C"), folder.path()])
        .status();
    assert!(tar.unwrap().success());
    std::fs::remove_file(archive).unwrap();
    Snapshot {
        commit,
        folder,
        arguments,
    }
}

/// By looking at all files of both.
fn naive(old: &Snapshot, new: &Snapshot) -> Vec<String> {
    let differs = |number: &usize| {
        let number = *number;
        old.arguments[number] != new.arguments[number]
            || old.files(number, new) != new.files(number, new)
    };
    let mut names: BTreeSet<&str> = (0..CONTAINERS.len())
        .filter(differs)
        .map(|number| CONTAINERS[number].0)
        .collect();
    if names.contains("c0") {
        names.insert("c1");
    }
    let all = CONTAINERS.iter().map(|(name, ..)| *name);
    all.filter(|name| names.contains(name))
        .map(str::to_owned)
        .collect()
}

#[test]
fn affected_is_what_differs_between_two_checkouts() {
    let seed = fastrand::u64(..);
    let mut rng = Rng::with_seed(seed);
    let repository = Repository::new();
    let mut arguments = [0; CONTAINERS.len()];
    for (name, context, dockerfile, named) in CONTAINERS {
        let base = if name == "c1" { "c0" } else { "scratch" };
        repository.write(dockerfile, &format!("FROM {base}\n"));
        // Tracked, so that every checkout has the folder.
        repository.write(&format!("{context}/stays"), "");
        repository.write(&format!("{}/stays", named.unwrap_or("libs")), "");
    }
    repository.write("docker/whole.dockerignore", "*\n!top\n!libs\n");
    repository.manifest(&manifest(&arguments));
    let mut snapshots = vec![snapshot(&repository, arguments)];
    let mut affected = 0;
    for number in 1..COMMITS {
        for _ in 0..rng.usize(1..6) {
            work(&repository, &mut rng, &mut arguments);
        }
        snapshots.push(snapshot(&repository, arguments));
        let new = &snapshots[number];
        for old in [&snapshots[number - 1], &snapshots[rng.usize(0..number)]] {
            let (found, expected) = (repository.names(&old.commit), naive(old, new));
            let (from, to) = (&old.commit, &new.commit);
            assert_eq!(
                found,
                expected,
                "seed {seed}, {from}..{to}: {:#?}",
                repository.affected(from)
            );
            affected += found.len();
        }
    }
    let share = affected * 100 / (2 * (COMMITS - 1) * CONTAINERS.len());
    assert!(
        (5..95).contains(&share),
        "{share} % affected: nothing is tested"
    );
}
