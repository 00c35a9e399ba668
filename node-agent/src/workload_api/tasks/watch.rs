use std::sync::Arc;

use bytes::Bytes;
use mayfly_proto::task as wire;
use mayfly_sdk::task::TaskState;
use tokio::sync::watch;

use crate::tasks::{HeldTask, Standing};
use crate::workload_api::Shared;
use crate::workload_api::entitlement::Entitlement;
use crate::workload_api::stream::{Rendered, View};
use crate::workload_api::svids::put;

/// `Watch`: one task of the caller.
#[derive(Debug)]
pub(super) struct OneTask {
    id: String,
    followed: Option<(Arc<HeldTask>, watch::Receiver<Standing>)>,
}

impl OneTask {
    pub(super) fn new(id: String) -> Self {
        Self { id, followed: None }
    }
}

impl View for OneTask {
    type Message = wire::WatchResponse;

    fn render(&mut self, shared: &Shared, entitlement: &Entitlement) -> Rendered<Self::Message> {
        // One that is followed is known here although it was forgotten: its end is still to be told.
        let task = match &self.followed {
            Some((task, _)) if super::has_part(entitlement, task) => Arc::clone(task),
            _ => match shared.task(entitlement, &self.id) {
                Ok(task) => task,
                Err(refusal) => return Rendered::Refused(refusal),
            },
        };
        let (task, changes) = self.followed.get_or_insert_with(|| {
            let changes = task.follow();
            (task, changes)
        });
        let standing = changes.borrow_and_update().clone();
        let bound = standing.bound.filter(|_| standing.state == TaskState::Open);
        Rendered::Complete(wire::WatchResponse {
            task: Some(task.shown(standing.state)),
            token: bound.map(|bound| bound.handed_out(shared.own_x509_bundle())),
            no_new_work: standing.no_new_work,
        })
    }

    fn canonical(message: &Self::Message) -> Vec<u8> {
        let mut bytes = vec![u8::from(message.no_new_work), u8::from(message.token.is_some())];
        put(&mut bytes, &message.task.as_ref().map(prost::Message::encode_to_vec).unwrap_or_default());
        if let Some(token) = &message.token {
            // The certificate stands for its key.
            for part in [token.token.as_bytes(), &token.x509_svid, &token.bundle] {
                put(&mut bytes, part);
            }
        }
        bytes
    }

    fn is_last(message: &Self::Message) -> bool {
        let state = message.task.as_ref().and_then(|task| task.state.parse::<TaskState>().ok());
        state.is_some_and(TaskState::is_final)
    }

    async fn changed(&mut self) {
        let Some((_, changes)) = &mut self.followed else { return std::future::pending().await };
        if changes.changed().await.is_err() {
            // The sender lives in the task that is followed.
            std::future::pending::<()>().await;
        }
    }
}

impl Shared {
    /// The trust domain's X.509 roots, DER one after the other; empty where there are none yet.
    pub(super) fn own_x509_bundle(&self) -> Bytes {
        self.link.holdings.borrow().bundle(&self.trust_domain).map(|own| own.x509().clone()).unwrap_or_default()
    }
}
