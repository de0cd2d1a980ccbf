//! Sessions: what the builder may ask of its client while it builds. A session is a gRPC server of ours that the builder
//! reaches through a connection that we make for it or, where it takes none, through the `Control.Session` call; each of
//! its methods is announced by name.
//!
//! One session per container carries its credentials, secrets and agents (a builder asks for those by id only); one per
//! context root carries files, so that a context shared by several containers travels once.

pub(crate) mod auth;
pub(crate) mod content;
pub(crate) mod filesync;
mod health;
pub(crate) mod load;
pub(crate) mod secrets;
pub(crate) mod ssh;
mod tunnel;

use std::time::Duration;

use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::SecretsServer;
use bollard_buildkit_proto::moby::buildkit::v1::BytesMessage;
use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::filesync::v1::auth_server::AuthServer;
use bollard_buildkit_proto::moby::filesync::v1::file_send_server::FileSendServer;
use bollard_buildkit_proto::moby::filesync::v1::file_sync_server::FileSyncServer;
use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::SshServer;
use http::{HeaderMap, HeaderValue};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::transport::{Channel, Server};
use tonic::{Request, Status};

use self::auth::AuthService;
use self::content::ContentService;
use self::filesync::FileSyncService;
use self::load::Loader;
use self::secrets::SecretsService;
use self::ssh::SshService;
use self::tunnel::{Line, Tunnel};
use super::dial::Stream;
use super::{Builder, CONNECTION_WINDOW, MAX_HEADERS, MAX_MESSAGE, STREAM_WINDOW, new_id};

/// An open session. Dropping it closes it.
pub(crate) struct Session {
    pub(crate) id: String,
    ended: CancellationToken,
    _close: DropGuard,
}

impl Session {
    /// Whether the builder can still reach it: it ends with its connection.
    pub(crate) fn is_open(&self) -> bool {
        !self.ended.is_cancelled()
    }
}

/// What a session offers.
pub(crate) struct Services {
    routes: Routes,
    methods: Vec<&'static str>,
    /// Equal for sessions that offer the same files: the builder then updates the copy it has.
    shared_key: String,
}

impl Services {
    /// What belongs to one container: credentials for its registries, its secrets, its agents.
    pub(crate) fn container(auth: AuthService, secrets: SecretsService, ssh: SshService) -> Self {
        let routes = Routes::new(AuthServer::new(auth))
            .add_service(SecretsServer::new(secrets))
            .add_service(SshServer::new(ssh));
        let mut methods = vec![
            "/moby.filesync.v1.Auth/Credentials",
            "/moby.filesync.v1.Auth/FetchToken",
            "/moby.filesync.v1.Auth/GetTokenAuthority",
            "/moby.filesync.v1.Auth/VerifyTokenAuthority",
            SecretsService::METHOD,
        ];
        methods.extend(SshService::METHODS);
        Self {
            routes,
            methods,
            shared_key: String::new(),
        }
    }

    /// Folders with caches.
    pub(crate) fn with_content(mut self, content: ContentService) -> Self {
        self.routes = self.routes.add_service(content);
        self.methods.extend(ContentService::METHODS);
        self
    }

    /// A place for the image that is built.
    pub(crate) fn with_loader(mut self, loader: Loader) -> Self {
        let service = FileSendServer::new(loader).max_decoding_message_size(MAX_MESSAGE);
        self.routes = self.routes.add_service(service);
        self.methods.push(Loader::METHOD);
        self
    }

    /// The folders of one context root. `shared_key` names machine and folder, and stays the same from run to run.
    pub(crate) fn files(files: FileSyncService, shared_key: String) -> Self {
        let service = FileSyncServer::new(files)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        Self {
            routes: Routes::new(service),
            methods: vec![FileSyncService::METHOD],
            shared_key,
        }
    }
}

/// How long the builder may take to accept a session.
const OPEN_TIMEOUT: Duration = Duration::from_secs(20);

/// Opens a session on a builder.
pub(crate) async fn open(builder: &Builder, services: Services) -> Result<Session, Status> {
    let id = new_id();
    let headers = headers(&id, &services)?;
    let opened = async {
        match &builder.sessions {
            Some(endpoint) => {
                let opened = endpoint.open(headers).await;
                opened.map_err(|error| Status::unavailable(error.to_string()))
            }
            None => tunnel(builder.channel.clone(), headers).await,
        }
    };
    let stream = tokio::time::timeout(OPEN_TIMEOUT, opened)
        .await
        .map_err(|_| Status::deadline_exceeded("the builder did not accept a session"))??;
    let closed = CancellationToken::new();
    let ended = CancellationToken::new();
    let line = Line::new(
        stream,
        closed.clone().cancelled_owned(),
        ended.clone().drop_guard(),
    );
    let server = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_max_header_list_size(MAX_HEADERS)
        .add_routes(services.routes.add_service(health::server()));
    tokio::spawn(async move {
        // An end of the session shows in the Solve that uses it; there is nothing to add here.
        let _ = server
            .serve_with_incoming(tokio_stream::once(Ok::<_, std::io::Error>(line)))
            .await;
    });
    Ok(Session {
        id,
        ended,
        _close: closed.drop_guard(),
    })
}

/// What a session says of itself.
fn headers(id: &str, services: &Services) -> Result<HeaderMap, Status> {
    let methods = services.methods.iter().copied();
    let methods = methods.chain(["/grpc.health.v1.Health/Check"]);
    let fixed = [
        ("x-docker-expose-session-uuid", id),
        ("x-docker-expose-session-name", "skiff"),
        ("x-docker-expose-session-sharedkey", &services.shared_key),
    ];
    let all = fixed
        .into_iter()
        .chain(methods.map(|method| ("x-docker-expose-session-grpc-method", method)));
    let mut headers = HeaderMap::new();
    for (name, value) in all {
        let value = HeaderValue::try_from(value)
            .map_err(|_| Status::internal(format!("{name} is not ASCII")))?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// `Control.Session`, as a stream.
async fn tunnel(channel: Channel, headers: HeaderMap) -> Result<Stream, Status> {
    let (sender, receiver) = mpsc::channel::<BytesMessage>(16);
    let mut request = Request::new(ReceiverStream::new(receiver));
    *request.metadata_mut() = MetadataMap::from_headers(headers);
    let mut client = ControlClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let incoming = client.session(request).await?.into_inner();
    Ok(Box::new(Tunnel::new(incoming, sender)))
}
