//! Transaction tokens (draft-ietf-oauth-transaction-tokens-10): what a service that admitted an agent passes on within the trust domain in
//! place of the agent's token, which is for itself alone. It says on whose behalf and by whom something is done, and lets nobody in.
//!
//! What the issuer vouches for stands by itself; the words of the service that asked are kept apart, under `requested`.

use mayfly_sdk::task::{MAX_TOKEN_BYTES, TaskClaims};
use mayfly_sdk::{Reason, Refusal, Serial, Ttl};
use serde_json::{Map, Value, json};

use super::{Call, client::Client, form::Form, token::words};
use crate::ledger::{Kind, Personal, Record, RequestId};
use crate::mint::sha256;

/// The `requested_token_type` by which one is asked for, and the `issued_token_type`.
pub(super) const TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:txn_token";
/// The longest that one lives; never longer than the token it was made from.
const LONGEST: Ttl = Ttl::from_s(300);
/// The largest context that a service gives, bytes of JSON.
const MAX_CONTEXT: usize = 2048;

/// One for the task whose token this service was shown, or that is the agent's own: recorded, then released.
pub(super) async fn issue(call: &Call, client: &Client, form: &Form, request_id: RequestId) -> Result<Value, Refusal> {
    let minter = &call.oauth.minter;
    minter.tasks.admit_further(&client.node.spiffe_id, client.instance)?;
    let now = minter.directory.clock().now();
    let trust_domain = client.spiffe_id.trust_domain();
    if form.required("audience")? != trust_domain.as_str() {
        let what = format!("the audience of a transaction token is the trust domain {trust_domain}");
        return Err(Refusal::new(Reason::InvalidArgument, what));
    }
    let shown = form.required("subject_token")?;
    let claims = shown_to(call, client, shown)?;
    let scope = words(form.required("scope")?);
    if let Some(more) = scope.iter().find(|scope| !claims.grant.scope().contains(*scope)) {
        let what = format!("the scope {more:?} is not one of the token's");
        return Err(Refusal::new(Reason::ScopeExceedsParent, what));
    }
    let expires_at = now.saturating_add(LONGEST).min(claims.expires_at);
    let jti = Serial::generate(minter.directory.clock().now_ms())?;
    let payload = {
        let mut payload = members(&claims, &scope);
        payload.insert("iss".to_owned(), format!("{}/txn", minter.task_iss.trim_end_matches("/task")).into());
        payload.insert("aud".to_owned(), trust_domain.as_str().into());
        payload.insert("req_wl".to_owned(), client.spiffe_id.as_str().into());
        payload.insert("jti".to_owned(), json!(jti));
        payload.insert("iat".to_owned(), now.unix_s().into());
        payload.insert("exp".to_owned(), expires_at.unix_s().into());
        for (claim, parameter) in [("tctx", "request_details"), ("rctx", "request_context")] {
            if let (Some(requested), Some(Value::Object(context))) = (context(form, parameter)?, payload.get_mut(claim))
            {
                context.insert("requested".to_owned(), requested);
            }
        }
        Value::Object(payload).to_string()
    };
    let token = minter.authorities.snapshot().transaction().sign_notice(payload.as_bytes()).await?;
    if token.len() > MAX_TOKEN_BYTES {
        return Err(Refusal::new(Reason::GrantTooLarge, "the transaction token would be longer than 8 KiB"));
    }
    let record = Record {
        node: Some(client.node.spiffe_id.clone()),
        instance: client.instance,
        entry_uid: Some(client.entry.uid.to_string().into()),
        revision: Some(client.entry.revision),
        request_id: Some(request_id),
        released_sha256: Some(sha256(&[token.as_bytes()])),
        not_after: Some(expires_at),
        personal: Personal {
            spiffe_id: Some(client.spiffe_id.clone()),
            actor: Some(claims.subject.to_string().into()),
            detail: Some(format!("for the task {}", claims.task.id).into()),
        },
        ..Record::new(Kind::TransactionTokenIssued, jti)
    };
    minter.directory.record(vec![record]).await?;
    Ok(json!({
        "access_token": token,
        "issued_token_type": TOKEN_TYPE,
        "token_type": "N_A",
        "expires_in": expires_at.remaining(now).as_s(),
        "scope": scope.join(" "),
    }))
}

/// The claims of a token that is good at this moment, and that this service was meant to see or this agent holds.
fn shown_to(call: &Call, client: &Client, token: &str) -> Result<TaskClaims, Refusal> {
    let minter = &call.oauth.minter;
    let claims = minter.task_keys().read(token, minter.directory.clock().now())?;
    let own = client.actor().is_ok_and(|actor| claims.holder() == Some(&actor));
    if !own && !client.entry.serves(claims.grant.audience()) {
        let what = "the token is neither for a resource that this workload serves nor its own";
        return Err(Refusal::new(Reason::AudienceNotServed, what));
    }
    Ok(minter.inspect(token, claims.grant.audience(), None)?)
}

/// What the issuer says of the task. `act` is always there, as in what introspection answers.
fn members(claims: &TaskClaims, scope: &[String]) -> Map<String, Value> {
    let of_task = claims.to_json();
    let holder =
        claims.holder().map(|holder| json!({"sub": holder.spiffe_id, "instance": holder.instance.to_string()}));
    let details = of_task.get("authorization_details").cloned().unwrap_or_else(|| json!([]));
    let mut members = Map::new();
    members.insert("txn".to_owned(), json!(claims.task.root));
    members.insert("sub".to_owned(), claims.subject.to_string().into());
    members.insert("act".to_owned(), of_task.get("act").cloned().or(holder).unwrap_or_default());
    members.insert("scope".to_owned(), scope.join(" ").into());
    members.insert("tctx".to_owned(), json!({"task": claims.task.id, "authorization_details": details}));
    members.insert("rctx".to_owned(), json!({"resource": claims.grant.audience()}));
    // How the task stands decides about what was made from it too.
    if let Some(status) = of_task.get("status") {
        members.insert("status".to_owned(), status.clone());
    }
    members
}

/// A JSON object of the service's own words.
fn context(form: &Form, parameter: &str) -> Result<Option<Value>, Refusal> {
    let Some(text) = form.get(parameter) else { return Ok(None) };
    let wrong = || Refusal::new(Reason::InvalidArgument, format!("{parameter} is a JSON object of 2 KiB at the most"));
    let object = (text.len() <= MAX_CONTEXT).then(|| mayfly_sdk::json::object(text.as_bytes()).ok()).flatten();
    object.map(|object| Some(Value::Object(object))).ok_or_else(wrong)
}
