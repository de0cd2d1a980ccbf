//! A BuildKit with S3 caches, as far as the stack can have one: an engine's own, behind a port where every call is passed
//! on. It calls itself a BuildKit, and what it is told to keep in a bucket it keeps in the stack's registry; in the bucket it
//! leaves the list of layers that BuildKit leaves there (`cache/remotecache/s3`). The steps of a cache are found, or not, by
//! BuildKit itself.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::buildkit::v1::control_server::{Control, ControlServer};
use bollard_buildkit_proto::moby::buildkit::v1::types::BuildkitVersion;
use bollard_buildkit_proto::moby::buildkit::v1::{
    BuildHistoryEvent, BuildHistoryRequest, BytesMessage, DiskUsageRequest, DiskUsageResponse,
    InfoRequest, InfoResponse, ListWorkersRequest, ListWorkersResponse, PruneRequest, SolveRequest,
    SolveResponse, StatusRequest, StatusResponse, UpdateBuildHistoryRequest,
    UpdateBuildHistoryResponse, UsageRecord,
};
use futures_util::{Stream, StreamExt as _};
use serde_json::{Value, json};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

use super::bridge::Bridge;
use super::{aws, registry, stack};

/// Runs until it is dropped.
pub(crate) struct S3Builder {
    address: String,
    told: Arc<Mutex<Vec<Told>>>,
    _bridge: Bridge,
    runtime: Option<tokio::runtime::Runtime>,
}

/// What the builder was told of a cache in a bucket.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    /// Else imported.
    pub exported: bool,
    pub attributes: HashMap<String, String>,
}

impl S3Builder {
    /// In the place of the engine at this address (`unix://…`).
    pub(crate) fn before(engine: &str) -> Self {
        let bridge = Bridge::to(engine);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let told = Arc::<Mutex<Vec<Told>>>::default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        let entered = runtime.enter();
        let upstream = bridge.address().replace("tcp://", "http://");
        let passing = Passing {
            channel: Endpoint::try_from(upstream).unwrap().connect_lazy(),
            told: Arc::clone(&told),
        };
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let incoming = futures_util::stream::unfold(listener, |listener| async {
            let accepted = listener.accept().await.map(|(client, _)| client);
            Some((accepted, listener))
        });
        let server = ControlServer::new(passing).max_decoding_message_size(16 << 20);
        let server = tonic::transport::Server::builder().add_service(server);
        runtime.spawn(server.serve_with_incoming(incoming));
        drop(entered);
        Self {
            address,
            told,
            _bridge: bridge,
            runtime: Some(runtime),
        }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Repository and tag that have a cache of this name, prefix included.
    pub(crate) fn keeps(bucket: &str, name: &str) -> (String, String) {
        (format!("s3/{bucket}"), name.replace('/', "-"))
    }

    /// In the order in which it was told.
    pub(crate) fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }
}

impl Drop for S3Builder {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(std::time::Duration::from_secs(5));
        }
    }
}

/// Where the registry has what is in the bucket by this name.
fn instead(attributes: &HashMap<String, String>) -> (String, String) {
    let name = format!("{}{}", attributes["prefix"], attributes["name"]);
    S3Builder::keeps(&attributes["bucket"], &name)
}

struct Passing {
    channel: Channel,
    told: Arc<Mutex<Vec<Told>>>,
}

impl Passing {
    fn client(&self) -> ControlClient<Channel> {
        ControlClient::new(self.channel.clone()).max_decoding_message_size(16 << 20)
    }

    /// A cache of the registry in the place of one in a bucket.
    fn replaced(&self, exported: bool, attributes: HashMap<String, String>) -> Value {
        let (repository, tag) = instead(&attributes);
        let told = Told {
            exported,
            attributes,
        };
        self.told.lock().unwrap().push(told);
        json!({"ref": format!("{}/{repository}:{tag}", stack::registry())})
    }
}

type Out<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn out<T: Send + 'static>(response: Response<Streaming<T>>) -> Response<Out<T>> {
    response.map(|stream| Box::pin(stream) as Out<T>)
}

#[tonic::async_trait]
impl Control for Passing {
    type PruneStream = Out<UsageRecord>;
    type StatusStream = Out<StatusResponse>;
    type SessionStream = Out<BytesMessage>;
    type ListenBuildHistoryStream = Out<BuildHistoryEvent>;

    async fn solve(
        &self,
        mut request: Request<SolveRequest>,
    ) -> Result<Response<SolveResponse>, Status> {
        let asked = request.get_mut();
        if let Some(imports) = asked.frontend_attrs.get_mut("cache-imports") {
            let mut list: Vec<Value> = serde_json::from_str(imports).unwrap();
            for cache in list.iter_mut().filter(|cache| cache["Type"] == "s3") {
                let attributes = serde_json::from_value(cache["Attrs"].clone()).unwrap();
                let attributes = self.replaced(false, attributes);
                *cache = json!({"Type": "registry", "Attrs": attributes});
            }
            *imports = json!(list).to_string();
        }
        let mut written = Vec::new();
        for cache in asked.cache.iter_mut().flat_map(|cache| &mut cache.exports) {
            if cache.r#type == "s3" {
                written.push(cache.attrs.clone());
                let instead = self.replaced(true, cache.attrs.clone());
                let mode = cache.attrs["mode"].clone();
                let attributes = [
                    ("ref", instead["ref"].as_str().unwrap()),
                    ("mode", &mode),
                    ("image-manifest", "true"),
                    ("oci-mediatypes", "true"),
                ];
                "registry".clone_into(&mut cache.r#type);
                cache.attrs = attributes.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
            }
        }
        let response = self.client().solve(request).await?;
        for attributes in written {
            let listed = tokio::task::spawn_blocking(move || list_layers(&attributes));
            listed.await.unwrap();
        }
        Ok(response)
    }

    async fn list_workers(
        &self,
        request: Request<ListWorkersRequest>,
    ) -> Result<Response<ListWorkersResponse>, Status> {
        let mut response = self.client().list_workers(request).await?;
        for worker in &mut response.get_mut().record {
            worker
                .labels
                .retain(|label, _| !label.contains(".worker.moby."));
            worker.buildkit_version = Some(BuildkitVersion::default());
        }
        Ok(response)
    }

    async fn session(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (metadata, extensions, messages) = request.into_parts();
        let messages = messages.filter_map(|message| std::future::ready(message.ok()));
        let request = Request::from_parts(metadata, extensions, messages);
        Ok(out(self.client().session(request).await?))
    }

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<Self::StatusStream>, Status> {
        Ok(out(self.client().status(request).await?))
    }

    async fn info(&self, request: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        self.client().info(request).await
    }

    async fn disk_usage(
        &self,
        request: Request<DiskUsageRequest>,
    ) -> Result<Response<DiskUsageResponse>, Status> {
        self.client().disk_usage(request).await
    }

    async fn prune(
        &self,
        request: Request<PruneRequest>,
    ) -> Result<Response<Self::PruneStream>, Status> {
        Ok(out(self.client().prune(request).await?))
    }

    async fn listen_build_history(
        &self,
        request: Request<BuildHistoryRequest>,
    ) -> Result<Response<Self::ListenBuildHistoryStream>, Status> {
        Ok(out(self.client().listen_build_history(request).await?))
    }

    async fn update_build_history(
        &self,
        request: Request<UpdateBuildHistoryRequest>,
    ) -> Result<Response<UpdateBuildHistoryResponse>, Status> {
        self.client().update_build_history(request).await
    }
}

/// Leaves in the bucket what BuildKit leaves there of a cache that it exported.
fn list_layers(attributes: &HashMap<String, String>) {
    let (repository, tag) = instead(attributes);
    let manifest = registry::manifest(&repository, &tag).unwrap();
    let layers = manifest["layers"].as_array().unwrap().iter();
    let layers = layers
        .map(|layer| json!({"blob": layer["digest"], "annotations": {"size": layer["size"]}}));
    let config = json!({"layers": layers.collect::<Vec<_>>(), "records": []});
    let (bucket, prefix) = (&attributes["bucket"], &attributes["prefix"]);
    let path = format!("/{bucket}/{prefix}manifests/{}", attributes["name"]);
    aws::s3("PUT", &path, &config.to_string());
}
