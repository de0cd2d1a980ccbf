//! The service behind a real connection, and a small receiver that does what a builder does.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bollard_buildkit_proto::fsutil::types::{Stat, packet::PacketType};
use bollard_buildkit_proto::moby::filesync::v1::file_sync_client::FileSyncClient;
use bollard_buildkit_proto::moby::filesync::v1::file_sync_server::FileSyncServer;
use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint, Server};

use super::*;
use crate::context::walk::nothing_known;

fn service(root: &Path) -> FileSyncService {
    let dir = LocalDir {
        root: root.to_owned(),
        known: Arc::new(nothing_known),
        expected: None,
    };
    let dirs = HashMap::from([("context".to_owned(), dir)]);
    FileSyncService::new(dirs, Arc::default())
}

async fn connect(service: &FileSyncService) -> FileSyncClient<Channel> {
    let (near, far) = tokio::io::duplex(64 << 10);
    let server = FileSyncServer::new(service.clone());
    tokio::spawn(
        Server::builder()
            .add_service(server)
            .serve_with_incoming(tokio_stream::once(Ok::<_, std::io::Error>(far))),
    );
    let mut near = Some(near);
    let connector = tower::service_fn(move |_| {
        let near = near
            .take()
            .ok_or_else(|| std::io::Error::other("one connection only"));
        async { near.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://session");
    FileSyncClient::new(endpoint.connect_with_connector(connector).await.unwrap())
}

#[derive(Debug, Default)]
struct Received {
    stats: Vec<Stat>,
    files: BTreeMap<String, Vec<u8>>,
    fin: bool,
    /// Text of an error packet, and of the call's status.
    errors: Vec<String>,
}

fn packet(kind: PacketType, id: u32) -> Packet {
    Packet {
        r#type: kind.into(),
        id,
        ..Packet::default()
    }
}

/// Receives a folder; `between` runs after the last metadata and before the first request.
async fn receive(
    service: &FileSyncService,
    headers: &[(&'static str, &str)],
    between: impl FnOnce(),
) -> Received {
    let mut client = connect(service).await;
    let (ask, asked) = mpsc::unbounded_channel();
    let mut request = Request::new(tokio_stream::wrappers::UnboundedReceiverStream::new(asked));
    for (key, value) in headers {
        request.metadata_mut().append(*key, value.parse().unwrap());
    }
    let mut received = Received::default();
    let mut packets = match client.diff_copy(request).await {
        Ok(response) => response.into_inner(),
        Err(status) => {
            received.errors.push(status.message().to_owned());
            return received;
        }
    };
    let mut between = Some(between);
    let mut open = BTreeMap::new();
    loop {
        let packet_in = match packets.message().await {
            Ok(Some(packet)) => packet,
            Ok(None) => return received,
            Err(status) => {
                received.errors.push(status.message().to_owned());
                return received;
            }
        };
        match (packet_in.r#type(), packet_in.stat) {
            (PacketType::PacketStat, Some(stat)) => received.stats.push(stat),
            (PacketType::PacketStat, None) => {
                between.take().unwrap()();
                for (id, stat) in (0..).zip(&received.stats) {
                    // fsutil: no type bit, and not a hard link.
                    if stat.mode & 0x8f28_0000 == 0 && stat.linkname.is_empty() {
                        open.insert(id, Vec::new());
                        ask.send(packet(PacketType::PacketReq, id)).unwrap();
                    }
                }
                if open.is_empty() {
                    ask.send(packet(PacketType::PacketFin, 0)).unwrap();
                }
            }
            (PacketType::PacketData, _) if packet_in.data.is_empty() => {
                let path = received.stats[packet_in.id as usize].path.clone();
                let data = open.remove(&packet_in.id).unwrap();
                received.files.insert(path, data);
                if open.is_empty() {
                    ask.send(packet(PacketType::PacketFin, 0)).unwrap();
                }
            }
            (PacketType::PacketData, _) => {
                open.get_mut(&packet_in.id).unwrap().extend(packet_in.data);
            }
            (PacketType::PacketFin, _) => received.fin = true,
            (PacketType::PacketErr, _) => {
                received
                    .errors
                    .push(String::from_utf8(packet_in.data).unwrap());
            }
            (PacketType::PacketReq, _) => panic!("a sender does not ask"),
        }
    }
}

const CONTEXT: &[(&str, &str)] = &[("dir-name", "context")];

/// Bytes that differ from place to place.
fn content(size: usize) -> Vec<u8> {
    (0..size)
        .map(|n| u8::try_from((n * 31 + n / 251) % 256).unwrap())
        .collect()
}

#[tokio::test]
async fn a_folder_arrives_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    let chunk = usize::try_from(transfer::CHUNK).unwrap();
    let sizes = [0, 1, chunk - 1, chunk, chunk + 1, 5 * chunk + 7];
    for (n, size) in sizes.iter().enumerate() {
        fs::create_dir_all(at(&format!("d{}", n % 2))).unwrap();
        fs::write(at(&format!("d{}/f{n}", n % 2)), content(*size)).unwrap();
    }
    symlink("d0/f0", at("link")).unwrap();
    fs::hard_link(at("d0/f2"), at("second")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();

    let service = service(root.path());
    let received = receive(&service, CONTEXT, || {}).await;

    assert!(received.errors.is_empty(), "{:?}", received.errors);
    assert!(received.fin);
    let paths: Vec<&str> = received
        .stats
        .iter()
        .map(|stat| stat.path.as_str())
        .collect();
    assert_eq!(
        paths,
        [
            "d0", "d0/f0", "d0/f2", "d0/f4", "d1", "d1/f1", "d1/f3", "d1/f5", "link", "second",
            "socket"
        ]
    );
    for (n, size) in sizes.iter().enumerate() {
        assert!(
            received.files[&format!("d{}/f{n}", n % 2)] == content(*size),
            "file {n}"
        );
    }
    assert!(received.files["socket"].is_empty());
    assert_eq!(received.files.len(), sizes.len() + 1);
    let stat = |path: &str| {
        received
            .stats
            .iter()
            .find(|stat| stat.path == path)
            .unwrap()
    };
    assert_eq!(stat("link").linkname, "d0/f0");
    assert_eq!(stat("second").linkname, "d0/f2");
    assert_eq!(
        (stat("d0/f4").size, stat("d0").size),
        ((chunk + 1).try_into().unwrap(), 0)
    );
    assert!(
        received
            .stats
            .iter()
            .all(|stat| stat.uid == 0 && stat.gid == 0)
    );
    let progress = &service.ledger.progress;
    assert_eq!(progress.files.load(Relaxed), sizes.len() as u64 + 1);
    assert_eq!(
        progress.bytes.load(Relaxed),
        sizes.iter().sum::<usize>() as u64
    );
    assert!(service.failure().is_none());
}

#[tokio::test]
async fn only_what_is_asked_for_is_sent() {
    let root = tempfile::tempdir().unwrap();
    for name in ["Dockerfile", ".dockerignore", "other"] {
        fs::write(root.path().join(name), name).unwrap();
    }
    let service = service(root.path());
    let headers = [
        ("dir-name", "context"),
        ("followpaths", "Dockerfile"),
        ("followpaths", "%2Edockerignore"),
        ("followpaths-encoded", "1"),
        ("exclude-patterns", "Docker*"),
    ];
    let received = receive(&service, &headers, || {}).await;
    assert_eq!(
        received.files.into_keys().collect::<Vec<_>>(),
        [".dockerignore"]
    );
    assert!(received.fin);
}

#[tokio::test]
async fn an_unknown_folder_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let received = receive(&service(root.path()), &[("dir-name", "secrets")], || {}).await;
    assert_eq!(received.errors, ["no access allowed to dir \"secrets\""]);
}

type Change = fn(&Path);

#[tokio::test]
async fn a_file_that_changes_while_it_is_sent_fails_the_transfer() {
    let chunk = usize::try_from(transfer::CHUNK).unwrap();
    let changes: [(&str, Change); 5] = [
        ("same size", |path| {
            let mut bytes = fs::read(path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("shorter", |path| fs::write(path, "short").unwrap()),
        ("longer", |path| fs::write(path, content(1 << 20)).unwrap()),
        ("gone", |path| fs::remove_file(path).unwrap()),
        ("a link", |path| {
            fs::remove_file(path).unwrap();
            symlink("b", path).unwrap();
        }),
    ];
    for (name, change) in changes {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("src")).unwrap();
        let path = root.path().join("src/a.py");
        fs::write(&path, content(2 * chunk + 9)).unwrap();
        fs::write(root.path().join("src/b"), "unchanged").unwrap();
        let service = service(root.path());
        let received = receive(&service, CONTEXT, || change(&path)).await;
        let text = "file changed while it was sent: src/a.py";
        assert_eq!(
            received.errors.first().map(String::as_str),
            Some(text),
            "{name}"
        );
        assert!(!received.files.contains_key("src/a.py"), "{name}");
        assert_eq!(service.failure().unwrap().to_string(), text, "{name}");
    }
}

#[tokio::test]
async fn a_rewrite_with_the_same_size_and_time_shows_in_the_metadata() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a");
    let mut times = Vec::new();
    let modified = std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for text in ["one", "two", "one"] {
        fs::write(&path, text).unwrap();
        fs::File::open(&path)
            .unwrap()
            .set_modified(modified)
            .unwrap();
        let received = receive(&service(root.path()), CONTEXT, || {}).await;
        times.push(received.stats[0].mod_time);
    }
    assert_eq!(times[0], times[2]);
    assert_ne!(times[0], times[1]);
    assert!(
        times
            .iter()
            .all(|time| time / 1_000_000_000 == 1_700_000_000)
    );
}

#[tokio::test]
async fn a_fault_of_the_walk_reaches_builder_and_owner() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("a"), "").unwrap();
    let service = service(root.path());
    let headers = [("dir-name", "context"), ("exclude-patterns", "[")];
    let received = receive(&service, &headers, || {}).await;
    let text = service.failure().unwrap().to_string();
    assert!(text.starts_with("pattern `[` is malformed"), "{text}");
    assert_eq!(received.errors, [text.clone(), text]);
    assert!(!received.fin);
}

#[tokio::test]
async fn an_invalid_request_ends_the_call() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("folder")).unwrap();
    let service = service(root.path());
    let mut client = connect(&service).await;
    let (ask, asked) = mpsc::channel(1);
    let mut request = Request::new(ReceiverStream::new(asked));
    request
        .metadata_mut()
        .insert("dir-name", "context".parse().unwrap());
    let mut packets = client.diff_copy(request).await.unwrap().into_inner();
    ask.send(packet(PacketType::PacketReq, 0)).await.unwrap();
    let status = loop {
        match packets.message().await {
            Ok(packet) => assert!(packet.is_some(), "ended without a status"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.message(), "invalid file id 0");
    assert!(service.failure().is_none());
}

#[tokio::test]
async fn a_builder_that_goes_away_stops_all_reading() {
    let root = tempfile::tempdir().unwrap();
    // Hashing this would take minutes; it has no blocks on disk.
    let huge = fs::File::create(root.path().join("huge")).unwrap();
    huge.set_len(1 << 40).unwrap();
    let service = service(root.path());
    let mut client = connect(&service).await;
    let idle = Arc::strong_count(&service.ledger);
    let (ask, asked) = mpsc::channel(1);
    let mut request = Request::new(ReceiverStream::new(asked));
    request
        .metadata_mut()
        .insert("dir-name", "context".parse().unwrap());
    let packets = client.diff_copy(request).await.unwrap();
    assert!(Arc::strong_count(&service.ledger) > idle);
    drop((packets, ask));
    let over = async {
        while Arc::strong_count(&service.ledger) > idle {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), over)
        .await
        .unwrap();
    assert!(service.failure().is_none());
}
