//! One call to the issuer for many slots.

use std::sync::Arc;
use std::time::Duration;

use mayfly_proto::node;
use mayfly_sdk::grpc::retry_after;
use mayfly_sdk::{Clock, Reason, Refusal};

use super::slot::{Credential, Held, Slot};
use crate::holdings::HeldBundle;
use crate::link::NodeClient;

/// How long the issuer may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What is sent for one slot.
pub(super) struct Ask<C: Credential> {
    pub(super) slot: Arc<Slot<C>>,
    pub(super) item: C::Item,
    pub(super) made: C::Made,
    pub(super) issuance: u64,
}

/// What has become of one slot.
pub(super) struct Minted<C: Credential> {
    pub(super) slot: Arc<Slot<C>>,
    pub(super) outcome: Result<Held<C>, Failure>,
}

/// Why one slot got nothing, and when to try again.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) refusal: Refusal,
    pub(super) again: Again,
}

/// When to try again what failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// With the pauses of a failed call, at the earliest after this long.
    After(Duration),
    /// The issuer says that trying again cannot help: seldom, in case it errs.
    Seldom,
    /// The connection is gone: when there is another one.
    WhenConnected,
}

/// Has the batch minted and checks what came.
pub(super) async fn mint<C: Credential>(
    client: NodeClient,
    asks: Vec<Ask<C>>,
    own: Arc<HeldBundle>,
    clock: Clock,
) -> Vec<Minted<C>> {
    let (mut items, mut waiting) = (Vec::with_capacity(asks.len()), Vec::with_capacity(asks.len()));
    for Ask { slot, item, made, issuance } in asks {
        items.push(item);
        waiting.push((slot, made, issuance));
    }
    let answer = tokio::time::timeout(ANSWER_WITHIN, C::mint(client, items)).await;
    let outcomes = match answer {
        Ok(Ok(outcomes)) => outcomes,
        Ok(Err(status)) => return all_failed(waiting, &failure_of(&status)),
        Err(_elapsed) => {
            let refusal = Refusal::new(Reason::Unavailable, "the issuer did not answer in time");
            return all_failed(waiting, &Failure { refusal, again: Again::After(Duration::ZERO) });
        }
    };
    let mut outcomes = outcomes.into_iter();
    let mut minted = Vec::with_capacity(waiting.len());
    for (slot, made, issuance) in waiting {
        let outcome = match outcomes.next().flatten() {
            Some(Ok(issue)) => C::accept(&slot.key.request, issue, made, &own, &clock)
                .map(|accepted| Held { accepted, issuance, checked_with: Arc::clone(&own) })
                .map_err(|refusal| Failure {
                    refusal: not_accepted(&refusal),
                    again: Again::After(Duration::from_secs(1)),
                }),
            Some(Err(refused)) => Err(failure_from(refused)),
            None => {
                let refusal = Refusal::new(Reason::MessageInvalid, "the issuer did not answer for every item");
                Err(Failure { refusal, again: Again::After(Duration::from_secs(1)) })
            }
        };
        minted.push(Minted { slot, outcome });
    }
    minted
}

/// For a workload: what the issuer sent is of no use now, which says nothing about the workload's rights.
fn not_accepted(refusal: &Refusal) -> Refusal {
    let what = format!("what the issuer sent was not accepted: {} [{}]", refusal.what, refusal.reason.code());
    Refusal::new(Reason::Unavailable, what)
}

fn all_failed<C: Credential>(waiting: Vec<(Arc<Slot<C>>, C::Made, u64)>, failure: &Failure) -> Vec<Minted<C>> {
    waiting.into_iter().map(|(slot, ..)| Minted { slot, outcome: Err(failure.clone()) }).collect()
}

fn failure_of(status: &tonic::Status) -> Failure {
    let refusal = Refusal::from_status(status);
    let again = match retry_after(status) {
        Some(pause) => Again::After(pause),
        // Without advice of our own issuer, it was the connection.
        None if refusal.reason == Reason::Unavailable => Again::WhenConnected,
        None => Again::After(Duration::from_secs(1)),
    };
    Failure { refusal, again }
}

fn failure_from(refused: node::Refused) -> Failure {
    let reason = refused.reason.parse().unwrap_or(Reason::PermissionDenied);
    let pause = Duration::from_millis(refused.retry_after_ms.into());
    let again = if pause.is_zero() { Again::Seldom } else { Again::After(pause) };
    Failure { refusal: Refusal::new(reason, refused.what), again }
}
