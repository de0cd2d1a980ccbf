//! What a context may hold: sent as Docker's own client sends it, or refused with a better message.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, Mode, mkfifoat};

use crate::support::image::{self, Listing};
use crate::support::registry::layers;
use crate::support::stack;
use crate::support::workspace::{Ended, Workspace, ended};

/// One container, `etl`, whose image is its context.
fn whole(fill: impl FnOnce(&Path)) -> Workspace {
    let workspace = Workspace::with(&[("etl", "FROM scratch\nCOPY . /\n")]);
    fill(&workspace.root().join("containers/etl"));
    workspace
}

/// Docker's own client on the same context: what it makes, or what it says.
fn by_docker(workspace: &Workspace) -> Result<Listing, String> {
    let archive = workspace.root().join("docker.tar");
    let output = Command::new("docker")
        .args(["buildx", "build", "--progress=plain", "containers/etl"])
        .arg(format!("--output=type=tar,dest={}", archive.display()))
        .current_dir(workspace.root())
        .envs(stack::variables())
        .output()
        .unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(image::of_tar(fs::File::open(archive).unwrap()))
}

fn by_skiff(workspace: &Workspace, release: &str) -> Listing {
    workspace.deploy(&["--release", release]);
    let layers = image::of_layers(&workspace.repository("etl"), release);
    layers.into_iter().flatten().collect()
}

fn by_inputs(workspace: &Workspace) -> Listing {
    let ended = workspace.run(&["inputs", "etl", "--format", "json"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    image::of_inputs(&ended.stdout).remove("context").unwrap()
}

fn fails(ended: &Ended, code: i32, texts: &[&str]) {
    assert_eq!(ended.code, code, "{}\n{}", ended.stdout, ended.stderr);
    let all = format!("{}{}", ended.stdout, ended.stderr);
    for text in texts {
        assert!(all.contains(text), "{text:?} is missing in:\n{all}");
    }
}

#[test]
fn every_kind_of_file_arrives_as_with_docker() {
    let workspace = whole(|root| {
        let at = |path: &str| root.join(path);
        fs::create_dir_all(at("folder/empty")).unwrap();
        fs::create_dir(at("sticky")).unwrap();
        fs::write(at("folder/file"), "content").unwrap();
        fs::write(at("folder/new\nline"), "1").unwrap();
        fs::write(at("\u{1b}[31m 学习 \\"), "2").unwrap();
        fs::write(at(&format!("{}.long", "n".repeat(250))), "3").unwrap();
        let deep = format!("{}/{}", "d".repeat(120), "e".repeat(120));
        fs::create_dir_all(at(&deep)).unwrap();
        fs::write(at(&format!("{deep}/{}", "f".repeat(120))), "4").unwrap();
        for (path, target) in [
            ("dangling", "no/where"),
            ("absolute", "/etc/hostname"),
            ("to-folder", "folder"),
            ("out", "../../containers.toml"),
            ("folder/up", "../sticky"),
            ("itself", "itself"),
        ] {
            symlink(target, at(path)).unwrap();
        }
        fs::hard_link(at("folder/file"), at("folder/link")).unwrap();
        fs::hard_link(at("folder/file"), at("a-link")).unwrap();
        fs::hard_link(at("folder/up"), at("folder/up-link")).unwrap();
        for (path, mode) in [
            ("folder/file", 0o640),
            ("run", 0o755),
            ("setuid", 0o4755),
            ("setgid", 0o2711),
            ("none", 0o000),
        ] {
            if !at(path).exists() {
                fs::write(at(path), path).unwrap();
            }
            fs::set_permissions(at(path), Permissions::from_mode(mode)).unwrap();
        }
        fs::set_permissions(at("sticky"), Permissions::from_mode(0o1777)).unwrap();
        fs::set_permissions(at("folder/empty"), Permissions::from_mode(0o2700)).unwrap();
        mkfifoat(CWD, at("fifo"), Mode::from_raw_mode(0o640)).unwrap();
    });
    let docker = by_docker(&workspace).unwrap();
    assert_eq!(by_skiff(&workspace, "r1"), docker);
    // An image has a hard link's first name wherever the archive came to it first; what is listed is what is sent.
    let plain = |listing: &Listing| -> Vec<String> {
        let kept = listing
            .iter()
            .filter(|(_, what)| !what.starts_with("hardlink"));
        kept.map(|(path, what)| format!("{path} {what}")).collect()
    };
    let inputs = by_inputs(&workspace);
    assert!(docker.keys().eq(inputs.keys()));
    assert_eq!(plain(&inputs), plain(&docker));
}

#[test]
fn a_socket_is_what_docker_makes_of_it() {
    let workspace = whole(|root| {
        fs::write(root.join("file"), "content").unwrap();
        drop(UnixListener::bind(root.join("socket")).unwrap());
    });
    let docker = by_docker(&workspace).unwrap();
    assert_eq!(by_skiff(&workspace, "r1"), docker);
}

#[test]
fn a_name_that_is_not_utf_8_is_named_where_docker_only_gives_up() {
    use std::os::unix::ffi::OsStrExt as _;
    let workspace = whole(|root| {
        let name = std::ffi::OsStr::from_bytes(b"caf\xe9.txt");
        fs::write(root.join(name), "").unwrap();
    });
    assert!(by_docker(&workspace).unwrap_err().contains("invalid UTF-8"));
    let remedy = "rename it or exclude it in .dockerignore";
    let texts = ["name is not UTF-8", "caf\u{fffd}.txt", remedy];
    fails(&workspace.run(&["deploy", "--release", "r1"]), 1, &texts);
    fails(&workspace.run(&["inputs", "etl"]), 2, &texts);
    workspace.write("containers/etl/.dockerignore", "caf*\n");
    assert_eq!(by_skiff(&workspace, "r2"), by_docker(&workspace).unwrap());
}

#[test]
fn names_that_differ_in_case_only_are_two_files() {
    let workspace = whole(|root| {
        fs::write(root.join("README.md"), "upper").unwrap();
        fs::write(root.join("readme.md"), "lower").unwrap();
    });
    workspace.commit();
    // As where file systems do not tell them apart.
    workspace.git(&["config", "core.ignorecase", "true"]);
    let docker = by_docker(&workspace).unwrap();
    assert!(docker.contains_key("README.md") && docker.contains_key("readme.md"));
    assert_eq!(by_skiff(&workspace, "r1"), docker);
    assert_eq!(by_inputs(&workspace), docker);
    let key = || {
        let ended = workspace.run(&["inputs", "etl", "--format", "json"]);
        let inputs: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        inputs["key"].as_str().unwrap().to_owned()
    };
    let first = key();
    for (name, content) in [("README.md", "upper"), ("readme.md", "lower")] {
        let path = format!("containers/etl/{name}");
        workspace.write(&path, "other");
        assert_ne!(key(), first, "{name}");
        workspace.write(&path, content);
        assert_eq!(key(), first, "{name}");
    }
}

/// The differ of a builder trusts size and time (buildkit#4817): Docker's client ships the old content.
#[test]
fn other_content_of_the_same_size_and_time_is_sent() {
    let workspace = whole(|root| fs::write(root.join("file"), "first").unwrap());
    let file = workspace.root().join("containers/etl/file");
    let time = fs::metadata(&file).unwrap().modified().unwrap();
    let write = |content: &str| {
        fs::write(&file, content).unwrap();
        let file = fs::File::options().append(true).open(&file).unwrap();
        file.set_modified(time).unwrap();
    };
    let shipped = |release: &str| {
        workspace.deploy(&["--release", release]);
        let repository = workspace.repository("etl");
        let layers = layers(&repository, release);
        let archives = layers
            .iter()
            .map(|digest| image::layer(&repository, digest));
        String::from_utf8_lossy(&archives.flatten().collect::<Vec<_>>()).into_owned()
    };
    for (run, content) in ["first", "other", "third", "first"].iter().enumerate() {
        write(content);
        let shipped = shipped(&format!("r{run}"));
        assert!(shipped.contains(content), "{content} was not sent");
    }
}

#[test]
fn a_file_that_may_not_be_read_is_named() {
    let workspace = whole(|root| {
        fs::write(root.join("secret"), "content").unwrap();
        fs::set_permissions(root.join("secret"), Permissions::from_mode(0o000)).unwrap();
    });
    // Permissions do not bind root: another user, who owns nothing here.
    let other = |arguments: &[&str]| {
        let skiff = workspace.skiff(arguments);
        let mut other = Command::new("setpriv");
        other
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(skiff.get_program())
            .args(skiff.get_args())
            .current_dir(workspace.root());
        for (name, value) in skiff.get_envs() {
            match value {
                Some(value) => other.env(name, value),
                None => other.env_remove(name),
            };
        }
        ended(other)
    };
    fs::set_permissions(workspace.root(), Permissions::from_mode(0o755)).unwrap();
    let texts = [
        "etl/secret`: Permission denied",
        "make it readable or exclude it in .dockerignore",
    ];
    fails(&other(&["inputs", "etl"]), 2, &texts);
    workspace.write("containers/etl/.dockerignore", "secret\n");
    fails(&other(&["inputs", "etl"]), 0, &["Dockerfile"]);
}

#[test]
fn a_file_that_changes_while_it_is_sent_is_named() {
    let workspace = whole(|_| {});
    let log = workspace.root().join("containers/etl/growing.log");
    fs::write(&log, vec![b'x'; 32 << 20]).unwrap();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = std::thread::spawn({
        let stop = stop.clone();
        move || {
            let mut file = fs::File::options().append(true).open(&log).unwrap();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                std::io::Write::write_all(&mut file, b"one more line\n").unwrap();
            }
        }
    });
    let ended = workspace.run(&["deploy", "--release", "r1"]);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
    fails(
        &ended,
        1,
        &[
            "file changed while it was sent: growing.log",
            ".dockerignore",
        ],
    );
    workspace.deploy(&["--release", "r2"]);
}

/// A folder that loses files all the time is sent without them, or the file is named; it is never sent in halves.
#[test]
fn a_file_that_vanishes_is_left_out_or_named() {
    let workspace = whole(|root| {
        for number in 0..2000 {
            fs::write(root.join(format!("f{number:04}")), "content").unwrap();
        }
    });
    let root = workspace.root().join("containers/etl");
    let remover = std::thread::spawn(move || {
        for number in (0..2000).rev() {
            fs::remove_file(root.join(format!("f{number:04}"))).unwrap();
            std::thread::sleep(std::time::Duration::from_micros(300));
        }
    });
    let ended = workspace.run(&["deploy", "--release", "r1"]);
    remover.join().unwrap();
    match ended.code {
        0 => {}
        _ => fails(&ended, 1, &["file changed while it was sent: f"]),
    }
    let kept = by_skiff(&workspace, "r2");
    assert_eq!(kept.keys().collect::<Vec<_>>(), ["Dockerfile"]);
}

#[test]
fn what_docker_refuses_in_an_ignore_file_is_shown_before_anything_is_built() {
    for (line, why) in [
        ("!", "must stand before a path"),
        ("a/[b", "a `[` has no `]`"),
        ("a\\", "must stand before a character"),
        ("?\\q", "has no meaning"),
        ("*{2}", "is repeated already"),
    ] {
        let workspace = whole(|root| {
            fs::write(root.join("x"), "").unwrap();
            fs::write(root.join(".dockerignore"), format!("# c\n\n{line}\n")).unwrap();
        });
        by_docker(&workspace).unwrap_err();
        let ended = workspace.run(&["inputs", "etl"]);
        fails(&ended, 2, &["containers/etl/.dockerignore:3", why]);
        let ended = workspace.run(&["deploy", "--release", "r1"]);
        assert!([1, 2].contains(&ended.code), "{line}: {}", ended.stderr);
        assert!(ended.stderr.contains(why), "{line}: {}", ended.stderr);
    }
}

const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";

#[test]
fn lfs_pointers_are_refused_before_anything_is_built() {
    let workspace = whole(|root| {
        fs::write(
            root.join(".gitattributes"),
            "*.bin filter=lfs diff=lfs merge=lfs -text\n",
        )
        .unwrap();
        fs::create_dir(root.join("models")).unwrap();
        fs::write(root.join("models/a.bin"), POINTER).unwrap();
        fs::write(root.join("notes.txt"), POINTER).unwrap();
    });
    workspace.commit();
    let ended = workspace.run(&["deploy", "--release", "r1"]);
    fails(
        &ended,
        2,
        &[
            "`etl` would ship Git LFS pointers in the place of files: containers/etl/models/a.bin",
            "git lfs pull",
            ".dockerignore",
        ],
    );
    assert!(!ended.stderr.contains("notes.txt"), "{}", ended.stderr);
    // What is not sent may lack what it likes.
    workspace.write("containers/etl/.dockerignore", "models\n");
    workspace.deploy(&["--release", "r2"]);
    fs::remove_file(workspace.root().join("containers/etl/.dockerignore")).unwrap();
    workspace.write("containers/etl/models/a.bin", "the model");
    workspace.deploy(&["--release", "r3"]);
}

#[test]
fn empty_submodules_are_refused_before_anything_is_built() {
    let workspace = whole(|root| fs::create_dir(root.join("vendor")).unwrap());
    let commit = "160000,1234567890123456789012345678901234567890,containers/etl/vendor";
    workspace.git(&["update-index", "--add", "--cacheinfo", commit]);
    let ended = workspace.run(&["deploy", "--release", "r1"]);
    fails(
        &ended,
        2,
        &[
            "`etl` would ship empty folders in the place of submodules: containers/etl/vendor",
            "git submodule update --init --recursive containers/etl/vendor",
        ],
    );
    workspace.write("containers/etl/.dockerignore", "vendor\n");
    workspace.deploy(&["--release", "r2"]);
}
