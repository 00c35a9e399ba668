//! One open `Sync` stream.

use std::time::Duration;

use mayfly_proto::node;
use mayfly_proto::node::node_service_client::NodeServiceClient;
use mayfly_proto::node::sync_request::Message as Ask;
pub(super) use mayfly_proto::node::sync_response::Message as Update;
use mayfly_sdk::{Reason, Refusal, Revision};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use super::hello::{Greeter, check_hello};
use crate::holdings::{Gathering, to_wire};

/// How long the issuer may take to say hello.
const HELLO_WITHIN: Duration = Duration::from_secs(15);
/// The longest message from an issuer that is read, in bytes.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// Calls to the issuer over one connection.
pub(crate) type NodeClient = NodeServiceClient<Channel>;

/// One open `Sync` stream, with the connection that it runs over.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: NodeClient,
    pub(super) issuer: String,
    /// The issuer's wall clock less ours, milliseconds.
    pub(super) skew_ms: i64,
    /// When it was opened, on the monotonic clock: what the issuer says of the whole is not older.
    pub(super) opened: Duration,
    /// Parts of a snapshot that has begun.
    pub(super) gathering: Gathering,
    updates: Streaming<node::SyncResponse>,
    requests: mpsc::Sender<node::SyncRequest>,
}

impl Session {
    /// Opens the stream on a fresh connection and exchanges hellos.
    ///
    /// # Errors
    /// What the issuer refuses, or that it does not answer.
    pub(super) async fn open(
        channel: Channel,
        issuer: String,
        greeter: &Greeter,
        held: Option<Revision>,
    ) -> Result<Self, Refusal> {
        let late =
            |_| Refusal::new(Reason::HandshakeTimeout, format!("the issuer at {issuer} did not say hello in time"));
        let opened = Self::greet(channel, issuer.clone(), greeter, held);
        tokio::time::timeout(HELLO_WITHIN, opened).await.map_err(late)?
    }

    async fn greet(
        channel: Channel,
        issuer: String,
        greeter: &Greeter,
        held: Option<Revision>,
    ) -> Result<Self, Refusal> {
        let mut client = NodeClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let (requests, outbound) = mpsc::channel(8);
        let (asked_ms, opened) = (greeter.clock.now_ms(), greeter.clock.monotonic());
        let start = node::SyncStart { hello: Some(greeter.hello()), held: held.map(to_wire) };
        send(&requests, Ask::Start(start)).await?;
        let mut updates = client
            .sync(ReceiverStream::new(outbound))
            .await
            .map_err(|status| Refusal::from_status(&status))?
            .into_inner();
        let Update::Hello(node::SyncHello { hello }) = next(&mut updates).await? else {
            return Err(Refusal::new(Reason::MessageInvalid, "the issuer did not say hello first"));
        };
        check_hello(hello.as_ref(), greeter)?;
        // Half way between question and answer, as NTP does it.
        let ours_ms = i64::midpoint(asked_ms, greeter.clock.now_ms());
        let skew_ms = hello.map_or(0, |hello| hello.clock_ms).saturating_sub(ours_ms);
        Ok(Self { client, issuer, skew_ms, opened, gathering: Gathering::default(), updates, requests })
    }

    /// The next update. Cancel safe.
    ///
    /// # Errors
    /// The stream has ended, and why.
    pub(super) async fn next(&mut self) -> Result<Update, Refusal> {
        next(&mut self.updates).await
    }

    /// Acknowledges a revision.
    ///
    /// # Errors
    /// The stream has ended.
    pub(super) async fn acknowledge(&self, revision: Revision) -> Result<(), Refusal> {
        send(&self.requests, Ask::Ack(node::Ack { revision: Some(to_wire(revision)) })).await
    }

    /// Tells what this node cannot serve.
    ///
    /// # Errors
    /// The stream has ended.
    pub(super) async fn report(&self, problems: Vec<node::EntryProblem>) -> Result<(), Refusal> {
        send(&self.requests, Ask::Report(node::NodeReport { problems })).await
    }
}

async fn send(requests: &mpsc::Sender<node::SyncRequest>, message: Ask) -> Result<(), Refusal> {
    let sent = requests.send(node::SyncRequest { message: Some(message) }).await;
    sent.map_err(|_closed| Refusal::new(Reason::Unavailable, "the connection to the issuer has ended"))
}

async fn next(updates: &mut Streaming<node::SyncResponse>) -> Result<Update, Refusal> {
    let ended = || Refusal::new(Reason::Unavailable, "the issuer has ended the stream");
    let update = updates.message().await.map_err(|status| Refusal::from_status(&status))?.ok_or_else(ended)?;
    update.message.ok_or_else(|| Refusal::new(Reason::MessageInvalid, "the issuer sent an empty update"))
}
