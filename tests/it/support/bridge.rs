//! A BuildKit that listens where a test wants it: the engine's own, behind a socket or a port. Every connection is passed
//! on to an upgraded `POST /grpc` of the engine, which speaks the very API of a buildkitd.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::stack;

/// Runs until it is dropped; then its connections end, and with them what they build.
pub(crate) struct Bridge {
    address: String,
    connections: Arc<Mutex<JoinSet<()>>>,
    listener: tokio::task::JoinHandle<()>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Bridge {
    /// On a socket in this folder.
    pub(crate) fn unix(folder: &Path) -> Self {
        let path = folder.join("buildkitd.sock");
        let address = format!("unix://{}", path.display());
        Self::start(
            address,
            Leads::ToBuildKit(stack_engine()),
            |runtime, accept| {
                let _entered = runtime.enter();
                let listener = UnixListener::bind(path).unwrap();
                runtime.spawn(async move {
                    while let Ok((client, _)) = listener.accept().await {
                        accept(Box::new(client));
                    }
                })
            },
        )
    }

    /// On a port of loopback, plain.
    pub(crate) fn tcp() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        Self::on(listener, None, Leads::ToBuildKit(stack_engine()))
    }

    /// The same to the BuildKit of another engine (`unix://…`).
    pub(crate) fn to(engine: &str) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = engine.strip_prefix("unix://").unwrap().to_owned();
        Self::on(listener, None, Leads::ToBuildKit(socket))
    }

    /// On a port of loopback, for clients that [`Certificates`] admit.
    pub(crate) fn mtls(certificates: &Certificates) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        Self::on(
            listener,
            Some(certificates.server("h2")),
            Leads::ToBuildKit(stack_engine()),
        )
    }

    /// The same to the whole API of the engine.
    pub(crate) fn engine(certificates: &Certificates) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        Self::on(
            listener,
            Some(certificates.server("http/1.1")),
            Leads::ToEngine(stack_engine()),
        )
    }

    /// On this very address, `127.0.0.1:port`: a builder that comes back.
    pub(crate) fn again(address: &str) -> Self {
        let address = address.strip_prefix("tcp://").unwrap();
        Self::on(
            std::net::TcpListener::bind(address).unwrap(),
            None,
            Leads::ToBuildKit(stack_engine()),
        )
    }

    fn on(listener: std::net::TcpListener, tls: Option<Arc<ServerConfig>>, leads: Leads) -> Self {
        listener.set_nonblocking(true).unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        Self::start(address, leads, |runtime, accept| {
            let _entered = runtime.enter();
            let listener = TcpListener::from_std(listener).unwrap();
            runtime.spawn(async move {
                while let Ok((client, _)) = listener.accept().await {
                    match &tls {
                        None => accept(Box::new(client)),
                        Some(tls) => {
                            let tls = tokio_rustls::TlsAcceptor::from(Arc::clone(tls));
                            if let Ok(client) = tls.accept(client).await {
                                accept(Box::new(client));
                            }
                        }
                    }
                }
            })
        })
    }

    fn start(
        address: String,
        leads: Leads,
        listen: impl FnOnce(
            &tokio::runtime::Runtime,
            Box<dyn Fn(Box<dyn Duplex>) + Send + Sync>,
        ) -> tokio::task::JoinHandle<()>,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let connections = Arc::<Mutex<JoinSet<()>>>::default();
        let (all, handle) = (Arc::clone(&connections), runtime.handle().clone());
        let accept = move |client: Box<dyn Duplex>| {
            all.lock()
                .unwrap()
                .spawn_on(pass(client, leads.clone()), &handle);
        };
        let listener = listen(&runtime, Box::new(accept));
        Self {
            address,
            connections,
            listener,
            runtime: Some(runtime),
        }
    }

    /// As a builder's address.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn port(&self) -> &str {
        self.address.rsplit(':').next().unwrap()
    }

    /// Whether anybody is connected.
    pub(crate) fn is_used(&self) -> bool {
        let mut connections = self.connections.lock().unwrap();
        while connections.try_join_next().is_some() {}
        !connections.is_empty()
    }

    /// Breaks every connection; new ones are taken.
    pub(crate) fn break_connections(&self) {
        self.connections.lock().unwrap().abort_all();
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.listener.abort();
        self.break_connections();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(std::time::Duration::from_secs(5));
        }
    }
}

pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// To which socket a connection is passed, and what of it.
#[derive(Clone)]
enum Leads {
    ToBuildKit(String),
    ToEngine(String),
}

/// The socket of the stack's engine.
fn stack_engine() -> String {
    let address = &stack::variables()["DOCKER_HOST"];
    address.strip_prefix("unix://").unwrap().to_owned()
}

async fn pass(mut client: Box<dyn Duplex>, leads: Leads) {
    let (Leads::ToBuildKit(socket) | Leads::ToEngine(socket)) = &leads;
    let mut engine = UnixStream::connect(socket).await.unwrap();
    if let Leads::ToEngine(_) = leads {
        let _ = tokio::io::copy_bidirectional(&mut client, &mut engine).await;
        return;
    }
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(engine))
        .await
        .unwrap();
    let connection = tokio::spawn(connection.with_upgrades());
    let request = hyper::Request::post("/grpc")
        .header("host", "docker")
        .header("connection", "Upgrade")
        .header("upgrade", "h2c")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let mut upgraded = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let _ = tokio::io::copy_bidirectional(&mut client, &mut upgraded).await;
    connection.abort();
}

/// An authority, a server of loopback and a client that it signed, and a stranger, as PEM files.
pub(crate) struct Certificates {
    folder: tempfile::TempDir,
}

impl Certificates {
    pub(crate) fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = "set -e\n\
            new='openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'\n\
            for ca in ca other; do\n\
              $new -x509 -days 2 -subj /CN=$ca -addext basicConstraints=critical,CA:TRUE -keyout $ca.key -out $ca.pem\n\
            done\n\
            printf 'subjectAltName=IP:127.0.0.1\\n' >san\n\
            sign() { mkdir -p $1; $new -subj /CN=$1 -keyout $1/key.pem -out $1.csr; cp ca.pem $1/ca.pem; \
              openssl x509 -req -days 2 -in $1.csr -CA $2.pem -CAkey $2.key -CAcreateserial -extfile san -out $1/cert.pem; }\n\
            sign server ca; sign client ca; sign stranger other\n";
        let output = std::process::Command::new("sh")
            .args(["-c", script])
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Self { folder }
    }

    /// The folder of `client` or `stranger` with ca.pem, cert.pem and key.pem.
    pub(crate) fn of(&self, who: &str) -> PathBuf {
        self.folder.path().join(who)
    }

    fn server(&self, protocol: &str) -> Arc<ServerConfig> {
        let path = |name: &str| self.folder.path().join(name);
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(path("ca.pem")).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .unwrap();
        let certificate = CertificateDer::from_pem_file(path("server/cert.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(path("server/key.pem")).unwrap();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate], key)
            .unwrap();
        config.alpn_protocols = vec![protocol.into()];
        Arc::new(config)
    }
}
