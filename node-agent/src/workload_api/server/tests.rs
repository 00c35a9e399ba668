//! Over the socket itself, as clients come.

use hyper_util::rt::TokioIo;
use mayfly_proto::node;
use mayfly_proto::task::task_service_client::TaskServiceClient;
use mayfly_proto::workload as wire;
use mayfly_proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use prost::Message as _;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::*;
use crate::listener::Limits;
use crate::test_node::{TestNode, entry};

pub(in crate::workload_api) struct Served {
    pub(in crate::workload_api) node: TestNode,
    pub(in crate::workload_api) channel: Channel,
    tasks: JoinSet<()>,
    _directory: tempfile::TempDir,
}

/// A node with the entry `web`, behind its socket.
pub(in crate::workload_api) async fn served() -> Served {
    let (node, directory) = (TestNode::in_sync().await, tempfile::tempdir().unwrap());
    node.put(entry("web")).await;
    let path = directory.path().join("api.sock");
    let listener = Listener::bind(&path, Limits::default()).unwrap();
    let (api, stop) = (node.api.clone(), node.stop.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        serve(Serve { listener, api, sds: Sds::default(), health: HealthReporter::new(), stop }).await.unwrap();
    });
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://localhost").connect_with_connector(connector).await.unwrap();
    Served { node, channel, tasks, _directory: directory }
}

impl Served {
    pub(in crate::workload_api) async fn halt(mut self) {
        drop(self.channel);
        self.node.halt().await;
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }

    /// The code of an empty call to this path.
    async fn call(&self, path: &'static str, with_header: bool) -> Code {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<wire::X509svidRequest, wire::X509svidRequest>::default();
        let path = http::uri::PathAndQuery::from_static(path);
        let answer: Result<tonic::Response<_>, Status> =
            grpc.unary(request(wire::X509svidRequest {}, with_header), path, codec).await;
        answer.map(|_| ()).map_or_else(|status| status.code(), |()| Code::Ok)
    }
}

fn request<T>(message: T, with_header: bool) -> Request<T> {
    let mut request = Request::new(message);
    if with_header {
        request.metadata_mut().insert("workload.spiffe.io", tonic::metadata::MetadataValue::from_static("true"));
    }
    request
}

/// Rows: WE-1, WE-3, WE-4.
#[tokio::test]
async fn a_client_with_the_header_gets_its_svid() {
    let served = served().await;
    let mut client = SpiffeWorkloadApiClient::new(served.channel.clone());
    let mut stream = client.fetch_x509svid(request(wire::X509svidRequest {}, true)).await.unwrap().into_inner();
    let message = stream.message().await.unwrap().unwrap();
    assert_eq!(message.svids[0].spiffe_id, "spiffe://example.org/web");
    served.node.stop.cancel();
    assert_eq!(stream.message().await.unwrap_err().code(), Code::Unavailable);
    served.halt().await;
}

/// Rows: WE-5, WE-9.
#[tokio::test]
async fn every_call_of_the_workload_api_needs_the_header_and_nothing_else_does() {
    let served = served().await;
    for path in [
        "/SpiffeWorkloadAPI/FetchX509SVID",
        "/SpiffeWorkloadAPI/FetchX509Bundles",
        "/SpiffeWorkloadAPI/FetchJWTSVID",
        "/SpiffeWorkloadAPI/FetchJWTBundles",
        "/SpiffeWorkloadAPI/ValidateJWTSVID",
        "/SpiffeWorkloadAPI/FetchWITSVID",
        "/SpiffeWorkloadAPI/FetchWITBundles",
        "/mayfly.task.v1.TaskService/Begin",
        "/mayfly.task.v1.TaskService/Watch",
        "/mayfly.task.v1.TaskService/Delegate",
        "/mayfly.task.v1.TaskService/Complete",
        "/mayfly.task.v1.TaskService/List",
        "/mayfly.task.v1.TaskService/Validate",
    ] {
        assert_eq!(served.call(path, false).await, Code::InvalidArgument, "{path}");
    }
    assert_eq!(served.call("/SpiffeWorkloadAPI/FetchWITSVID", true).await, Code::Unimplemented);
    assert_eq!(served.call("/SpiffeWorkloadAPI/Nope", true).await, Code::Unimplemented);
    assert_eq!(served.call("/nothing.Here/Nope", false).await, Code::Unimplemented);
    let check = HealthCheckRequest { service: SERVICE.to_owned() };
    let health = HealthClient::new(served.channel.clone()).check(check).await.unwrap().into_inner();
    assert_eq!(health.status(), tonic_health::pb::health_check_response::ServingStatus::Serving);
    served.halt().await;
}

#[tokio::test]
async fn a_task_is_begun_and_watched_over_the_socket_for_whoever_connected() {
    use mayfly_proto::task as tasks;
    let served = served().await;
    served.node.put(node::Entry { issuance: 2, tasks: true, ..entry("web") }).await;
    let mut client = TaskServiceClient::new(served.channel.clone());
    let wish = tasks::BeginRequest {
        purpose: "to see".to_owned(),
        grant: r#"{"audience": "https://files.example.org/"}"#.to_owned(),
        ..tasks::BeginRequest::default()
    };
    let begun = client.begin(request(wish, true)).await.unwrap().into_inner();
    let task = begun.task.unwrap();
    let watched = tasks::WatchRequest { id: task.id.clone() };
    let mut stream = client.watch(request(watched, true)).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().token, begun.token);
    let done = tasks::CompleteRequest { id: task.id, failed: false };
    client.complete(request(done, true)).await.unwrap();
    assert_eq!(stream.message().await.unwrap().unwrap().task.unwrap().state, "completed");
    let end = tokio::time::timeout(std::time::Duration::from_secs(20), stream.message()).await.expect("an end in time");
    assert_eq!(end.unwrap(), None, "the stream ends with OK");
    served.halt().await;
}

/// Rows: WE-10, WE-11.
#[tokio::test]
async fn reflection_lists_what_is_served_in_both_versions() {
    use tonic_reflection::pb::{v1, v1alpha};
    let served = served().await;
    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(served.channel.clone());
    let asked = tokio_stream::once(request);
    let answer = client.server_reflection_info(asked).await.unwrap().into_inner().message().await.unwrap().unwrap();
    let Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(list)) = answer.message_response
    else {
        panic!("no list")
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    assert!(names.contains(&SERVICE.to_owned()), "{names:?}");
    let ours: Vec<_> = names.iter().filter(|name| name.starts_with("mayfly.")).collect();
    assert_eq!(ours, [TASKS], "the protocol between node agents and issuers is not served here");
    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
            SERVICE.to_owned(),
        )),
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(served.channel.clone());
    let asked = tokio_stream::once(request);
    let answer = client.server_reflection_info(asked).await.unwrap().into_inner().message().await.unwrap().unwrap();
    let Some(v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(files)) =
        answer.message_response
    else {
        panic!("no file")
    };
    let files =
        files.file_descriptor_proto.iter().map(|file| prost_types::FileDescriptorProto::decode(&file[..]).unwrap());
    let services = files.flat_map(|file| file.service).filter(|service| service.name() == SERVICE);
    let methods: Vec<_> = services.flat_map(|service| service.method).map(|method| method.name().to_owned()).collect();
    let standard = ["FetchX509SVID", "FetchX509Bundles", "FetchJWTSVID", "FetchJWTBundles", "ValidateJWTSVID"];
    assert!(standard.iter().all(|name| methods.iter().any(|method| method == name)), "{methods:?}");
    let wit = ["FetchWITSVID", "FetchWITBundles"];
    assert_eq!(methods.len(), 7, "{methods:?}");
    assert!(methods.iter().all(|method| standard.contains(&&**method) || wit.contains(&&**method)), "{methods:?}");
    served.halt().await;
}
