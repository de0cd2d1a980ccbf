//! Large contexts and endless logs in bounded memory.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::process::Child;
use std::time::Duration;

use crate::support::workspace::Workspace;
use crate::support::{image, registry};

/// skiff's own peak, whatever the context or the logs.
const MAX_PEAK_KIB: u64 = 64 * 1024;

/// The peak of a plan, in which git's index is held.
const MAX_PLAN_KIB: u64 = 100 * 1024;

/// Waits for the end and returns exit code and peak resident memory (`VmHWM`) in KiB.
fn peak(mut child: Child) -> (Option<i32>, u64) {
    let path = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        if let Ok(status) = std::fs::read_to_string(&path) {
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            if let Some(kib) = line.and_then(|line| line.trim().split(' ').next()?.parse().ok()) {
                peak = kib;
            }
        }
        if let Some(status) = child.try_wait().unwrap() {
            return (status.code(), peak);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Starts a deploy whose output goes to a file beside the workspace's containers.
fn start(workspace: &Workspace) -> Child {
    let log = std::fs::File::create(workspace.root().join("log")).unwrap();
    let mut skiff = workspace.skiff(&["deploy", "--release", "r1"]);
    skiff
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

#[test]
fn alone_a_gigabyte_in_20_000_files_is_sent_in_64_mib() {
    let workspace = Workspace::with(&[(
        "etl",
        "FROM BUSYBOX AS files\nCOPY . /src\nRUN find /src -type f | wc -l > /count\nFROM scratch\nCOPY --from=files /count /\n",
    )]);
    let contents = vec![7_u8; 50 * 1024];
    for folder in 0..200_u64 {
        for file in 0..100 {
            let mut unique = contents.clone();
            unique[..8].copy_from_slice(&(folder * 100 + file).to_le_bytes());
            workspace.write(&format!("containers/etl/d{folder:03}/f{file:03}"), unique);
        }
    }
    let (code, peak) = peak(start(&workspace));
    assert_eq!(code, Some(0));
    assert!(peak > 0 && peak <= MAX_PEAK_KIB, "peak {peak} KiB");
}

/// As data, like Docker's client: the protocol knows no holes. Its size has more than 31 bits.
#[test]
fn alone_a_sparse_file_is_sent_in_64_mib() {
    let workspace = Workspace::with(&[(
        "etl",
        "FROM BUSYBOX AS files\nRUN --mount=target=/src stat -c %s /src/sparse > /count && tail -c 3 /src/sparse >> /count\n\
         FROM scratch\nCOPY --from=files /count /\n",
    )]);
    workspace.write("containers/etl/sparse", "");
    let path = workspace.root().join("containers/etl/sparse");
    let mut file = std::fs::File::create(path).unwrap();
    file.set_len(2 << 30).unwrap();
    file.seek(SeekFrom::End(0)).unwrap();
    file.write_all(b"end").unwrap();
    let (code, peak) = peak(start(&workspace));
    assert_eq!(code, Some(0));
    assert!(peak > 0 && peak <= MAX_PEAK_KIB, "peak {peak} KiB");
    let repository = workspace.repository("etl");
    let layer = image::layer(&repository, &registry::layers(&repository, "r1")[0]);
    let text = String::from_utf8_lossy(&layer).into_owned();
    assert!(text.contains("2147483651\nend"), "{text}");
}

/// All of them are read for the key: by name and type, as git knows what is in them.
#[test]
fn alone_a_context_of_300_000_files_is_planned_in_bounded_memory() {
    let workspace = Workspace::with(&[("etl", "FROM BUSYBOX\nCOPY . /src\n")]);
    for folder in 0..300 {
        let folder = workspace
            .root()
            .join(format!("containers/etl/d{folder:03}"));
        std::fs::create_dir(&folder).unwrap();
        for file in 0..1000 {
            std::fs::File::create(folder.join(format!("f{file:03}"))).unwrap();
        }
    }
    let plan = |git: &str| {
        let log = std::fs::File::create(workspace.root().join(".git/log")).unwrap();
        let mut skiff = workspace.skiff(&["plan", "--all", "--format", "json"]);
        let (code, peak) = peak(skiff.stdout(log).spawn().unwrap());
        let plan = std::fs::read(workspace.root().join(".git/log")).unwrap();
        let plan: serde_json::Value = serde_json::from_slice(&plan).unwrap();
        assert_eq!(code, Some(0));
        assert!(peak > 0 && peak <= MAX_PLAN_KIB, "{git}: peak {peak} KiB");
        plan["containers"][0]["key"].as_str().unwrap().to_owned()
    };
    let untracked = plan("not committed");
    workspace.commit();
    assert_eq!(plan("committed"), untracked);
}

#[test]
fn alone_a_gigabyte_of_log_is_told_in_64_mib() {
    // Never the same: an engine that has run it does not run it again.
    let line = format!("{:0>200}", fastrand::u64(..));
    let workspace = Workspace::with(&[(
        "etl",
        &format!("FROM BUSYBOX\nRUN yes {line} | head -c 1073741824\n"),
    )]);
    let (code, peak) = peak(start(&workspace));
    assert_eq!(code, Some(0));
    assert!(peak > 0 && peak <= MAX_PEAK_KIB, "peak {peak} KiB");
    let told = std::fs::read_to_string(workspace.root().join("log")).unwrap();
    assert!(told.contains(&line), "nothing of the output was told");
}
