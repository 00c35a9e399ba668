//! The token endpoint: a task of the client's own, a part of another one's, or a further token of one that is open; and what services pass
//! on in place of a token that they were shown.

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use mayfly_sdk::task::Binding;
use mayfly_sdk::{Reason, Refusal, Serial, Ttl};
use serde_json::{Value, json};

use super::{Call, client::Client, error::OAuthError, form::Form, transaction};
use crate::{
    ledger::RequestId,
    mint::{BeginTask, Begun, RenewTask, Request},
    registry::AssertedFacts,
};

const CLIENT_CREDENTIALS: &str = "client_credentials";
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";

/// On whose behalf a task is asked for.
#[derive(Default)]
struct Above {
    /// The token of another task.
    parent_token: Option<String>,
    /// The token of a user.
    subject_token: Option<String>,
}

/// RFC 6749 4.4 and RFC 8693.
pub(super) async fn answer(State(call): State<Call>, headers: HeaderMap, body: Bytes) -> Result<Response, OAuthError> {
    let request_id = *Serial::generate(call.oauth.minter.directory.clock().now_ms())?.as_bytes();
    let (kind, answer) = token(&call, request_id, &headers, &body).await.map_err(OAuthError::of(request_id))?;
    call.oauth.metrics.issued(kind);
    Ok(super::json(StatusCode::OK, &answer))
}

/// What is issued, by its name in metrics, and the answer that carries it.
async fn token(
    call: &Call,
    request_id: RequestId,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(&'static str, Value), Refusal> {
    let form = Form::read(headers, body)?;
    let client = if call.info.is_some() { call.client().await? } else { call.asserted(&form, headers).await? };
    let wrong = |what: &str| Refusal::new(Reason::InvalidArgument, what);
    if form.get("client_id").is_some_and(|id| id != client.spiffe_id.as_str()) {
        return Err(wrong("client_id is the SPIFFE ID of the client"));
    }
    if form.get("actor_token").is_some() {
        return Err(wrong("the actor is the client, by its SVID; an actor_token is not taken"));
    }
    match form.get("requested_token_type") {
        None | Some(ACCESS_TOKEN | JWT) => {
            let begun = access_token(call, &client, &form, request_id).await?;
            Ok(("task", issued(&begun, call.oauth.minter.directory.clock().now())))
        }
        Some(transaction::TOKEN_TYPE) => {
            if form.required("grant_type")? != TOKEN_EXCHANGE {
                return Err(Refusal::new(Reason::Unimplemented, "a transaction token is had by token-exchange"));
            }
            of_access_token(&form)?;
            Ok(("transaction", transaction::issue(call, &client, &form, request_id).await?))
        }
        Some(_) => Err(wrong("access tokens and transaction tokens are issued here, and no others")),
    }
}

async fn access_token(call: &Call, client: &Client, form: &Form, request_id: RequestId) -> Result<Begun, Refusal> {
    client.actor()?;
    let wrong = |what: &str| Refusal::new(Reason::InvalidArgument, what);
    let above = match form.required("grant_type")? {
        CLIENT_CREDENTIALS => Above::default(),
        TOKEN_EXCHANGE => above(form, &call.oauth.minter.task_iss)?,
        _ => return Err(Refusal::new(Reason::Unimplemented, "grant_type is client_credentials or token-exchange")),
    };
    let minter = &call.oauth.minter;
    match form.get("task_id") {
        Some(id) if above.is_nobody() => {
            let id = id.parse().ok().ok_or_else(|| wrong("task_id is 32 hexadecimal digits"))?;
            let wanted = RenewTask { id, svid: client.key.clone() };
            minter.renew_task(&client.node, request(client, request_id, wanted)).await
        }
        Some(_) => Err(wrong("task_id is of a task that is open; a part of another task is a task of its own")),
        None => {
            let wanted = begin(form, client, above)?;
            minter.begin_task(&client.node, request(client, request_id, wanted)).await
        }
    }
}

/// The subject of an exchange is a task token.
fn of_access_token(form: &Form) -> Result<(), Refusal> {
    if [ACCESS_TOKEN, JWT].contains(&form.required("subject_token_type")?) {
        return Ok(());
    }
    Err(Refusal::new(Reason::InvalidArgument, "the subject_token_type is that of an access token"))
}

/// The elements of a list that is written with spaces.
pub(super) fn words(list: &str) -> Vec<String> {
    list.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

impl Above {
    fn is_nobody(&self) -> bool {
        self.parent_token.is_none() && self.subject_token.is_none()
    }
}

/// Whose token is exchanged: that of a task, or that of a user. An ID token is a user's; of the other kinds a token is of a task
/// that says so of itself, and is verified as one.
fn above(form: &Form, own: &str) -> Result<Above, Refusal> {
    let kind = form.required("subject_token_type")?;
    let token = form.required("subject_token")?;
    if kind != ID_TOKEN && ![ACCESS_TOKEN, JWT].contains(&kind) {
        let what = "the subject_token_type is that of an access token, an ID token or a JWT";
        return Err(Refusal::new(Reason::InvalidArgument, what));
    }
    let is_users = kind == ID_TOKEN || crate::users::claimed_issuer(token).is_some_and(|issuer| issuer != own);
    let token = Some(token.to_owned());
    Ok(if is_users {
        Above { subject_token: token, ..Above::default() }
    } else {
        Above { parent_token: token, ..Above::default() }
    })
}

fn begin(form: &Form, client: &Client, above: Above) -> Result<BeginTask, Refusal> {
    let words = |name: &str| words(form.get(name).unwrap_or_default());
    if form.get("audience").is_some() {
        return Err(Refusal::new(Reason::InvalidArgument, "name the resource (RFC 8707) in place of an audience"));
    }
    let details = serde_json::from_str::<Value>(form.get("authorization_details").unwrap_or("[]")).ok();
    let grant = json!({
        "audience": form.required("resource")?, "scope": words("scope"), "delegable": words("task_delegable"),
        "authorization_details":
            details.ok_or_else(|| Refusal::new(Reason::InvalidGrant, "authorization_details is a JSON array"))?,
    });
    let deadline = form.number("task_deadline")?.map(Ttl::from_s).filter(|deadline| !deadline.is_zero());
    let max_hops = form.number("task_max_hops")?.map(u8::try_from).transpose();
    let too_deep = |_| Refusal::new(Reason::InvalidArgument, "task_max_hops is 255 at the most");
    Ok(BeginTask {
        svid: client.key.clone(),
        purpose: form.required("task_purpose")?.to_owned(),
        grant: grant.to_string(),
        deadline,
        max_hops: max_hops.map_err(too_deep)?,
        may_act: form.get("task_may_act").is_some().then(|| words("task_may_act")),
        detached: detached(form)?,
        by_node: false,
        parent_token: above.parent_token,
        subject_token: above.subject_token,
    })
}

/// Whether the task is to outlive its process.
fn detached(form: &Form) -> Result<bool, Refusal> {
    match form.get("task_detached") {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Refusal::new(Reason::InvalidArgument, "task_detached is true or false")),
    }
}

fn request<W>(client: &Client, request_id: RequestId, wanted: W) -> Request<W> {
    Request {
        request_id,
        entry: client.entry.uid,
        issuance: client.entry.issuance,
        instance: client.instance,
        facts: AssertedFacts::default(),
        wanted,
    }
}

/// RFC 8693 2.2.1, with the grant as given (RFC 9396 7).
fn issued(begun: &Begun, now: mayfly_sdk::Timestamp) -> Value {
    let Begun { held, issued, binding } = begun;
    let (task, grant) = (&held.task, held.task.grant.to_json());
    let scope: Vec<&str> = task.grant.scope().iter().map(String::as_str).collect();
    json!({
        "access_token": issued.credential.token,
        "issued_token_type": ACCESS_TOKEN,
        "token_type": match binding { Binding::Certificate(_) => "Bearer", Binding::Key(_) => "DPoP" },
        "expires_in": issued.credential.not_after.remaining(now).as_s(),
        "scope": scope.join(" "),
        "authorization_details": grant.get("authorization_details").cloned().unwrap_or_else(|| json!([])),
        "task": {
            "id": task.id, "root": task.root, "parent": task.parent, "state": held.state.as_str(),
            "deadline": task.deadline.unix_s(),
        },
    })
}
