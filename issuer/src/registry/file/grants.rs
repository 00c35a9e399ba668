//! What an entry grants beyond an identity: claims, administration, tasks, quotas.

use mayfly_sdk::task::User;
use mayfly_sdk::{Refusal, SpiffeId};
use serde_json::{Map, Value};

use super::fields::Fields;
use super::text::{self, invalid};
use super::tree::Tree;
use crate::registry::entry::{AdminGrant, AllowedDetails, Quotas, TaskGrant, UsersOf};
use crate::registry::rules::Rules;

/// The most bytes that an entry's claims have as JSON: they are in every token.
const MAX_CLAIMS_BYTES: usize = 2048;
/// The most grants of administration.
const MAX_ADMIN_GRANTS: usize = 64;
/// The most audiences, scopes or verbs of one grant.
const MAX_ITEMS: usize = 256;
/// The most providers whose users one entry names.
const MAX_PROVIDERS: usize = 64;
/// The longest deadline of a task (DESIGN 9).
const MAX_DEADLINE_S: u32 = 8 * 3600;
/// The most distinct SPIFFE IDs that one entry may be given on one node.
const MAX_RENDERINGS: i64 = 1_000_000;

/// Claims that tokens of ours give a meaning to: those of RFC 7519 4.1, and those of task tokens, so that no JWT-SVID
/// looks like one.
const RESERVED_CLAIMS: &[&str] = &[
    "iss",
    "sub",
    "aud",
    "exp",
    "nbf",
    "iat",
    "jti",
    "cnf",
    "act",
    "may_act",
    "client_id",
    "scope",
    "authorization_details",
    "txn",
    "status",
    "par",
    "att",
];
/// What every claim of our own begins with.
const OWN_CLAIMS: &str = "mayfly_";

/// `claims`: any JSON under names that nobody else gives a meaning to.
pub(super) fn claims(fields: &mut Fields<'_>) -> Map<String, Value> {
    let mut claims = Map::new();
    for (place, name, value) in fields.map("claims") {
        if name.is_empty() || RESERVED_CLAIMS.contains(&name.as_str()) || name.starts_with(OWN_CLAIMS) {
            fields.note_at(&place, invalid(format!("the claim {name:?} is the issuer's; an entry may not set it")));
            continue;
        }
        match json(value) {
            Ok(value) => {
                claims.insert(name, value);
            }
            Err(refusal) => fields.note_at(&place, refusal),
        }
    }
    let length = Value::Object(claims.clone()).to_string().len();
    if length > MAX_CLAIMS_BYTES {
        fields.note(
            "claims",
            invalid(format!("the claims have {length} bytes, and at most {MAX_CLAIMS_BYTES} are allowed")),
        );
    }
    claims
}

/// `admin`: a list of `{verbs, id_prefix, owner}`.
pub(super) fn admin(fields: &mut Fields<'_>, rules: &Rules) -> Box<[AdminGrant]> {
    let grants = match fields.take("admin") {
        None => return Box::default(),
        Some(Tree::List(grants)) if grants.len() <= MAX_ADMIN_GRANTS => grants,
        Some(_) => {
            fields.note("admin", invalid(format!("a list of at most {MAX_ADMIN_GRANTS} grants belongs here")));
            return Box::default();
        }
    };
    let place = fields.place().key("admin");
    let mut read = Vec::with_capacity(grants.len());
    for (at, grant) in grants.into_iter().enumerate() {
        let mut grant = Fields::open(grant, place.item(at), &["verbs", "id_prefix", "owner"], fields.problems());
        let verbs = grant.required_texts("verbs", MAX_ITEMS, text::verb);
        let id_prefix = grant.optional("id_prefix", |text| match text.parse::<SpiffeId>()? {
            id if id.is_member_of(&rules.trust_domain) => Ok(id),
            id => Err(invalid(format!("{id} is not in the trust domain {}", rules.trust_domain))),
        });
        let owner = grant.optional("owner", |text| text::name("an owner", text).map(Into::into));
        read.push(AdminGrant { verbs, id_prefix, owner });
    }
    read.into()
}

/// `task`: what task tokens the workload may ask for.
pub(super) fn task(fields: &mut Fields<'_>) -> Option<Box<TaskGrant>> {
    let tree = fields.take("task")?;
    let place = fields.place().key("task");
    let known = ["audiences", "scopes", "authorization_details", "delegable", "max_hops", "deadline", "users"];
    let mut task = Fields::open(tree, place, &known, fields.problems());
    let audiences = task.required_texts("audiences", MAX_ITEMS, text::resource_or_any);
    let scopes = task.texts("scopes", MAX_ITEMS, text::scope);
    let authorization_details = details(&mut task);
    let delegable = task.texts("delegable", MAX_ITEMS, text::resource_or_any);
    let max_hops = task.integer("max_hops", 0, 16).and_then(|hops| u8::try_from(hops).ok());
    let deadline = task.ttl("deadline").and_then(|deadline| {
        let checked = match deadline.as_s() {
            0..=MAX_DEADLINE_S => Ok(deadline),
            _ => Err(invalid("the deadline of a task is at most 8h".to_owned())),
        };
        task.keep("deadline", checked)
    });
    let users = users(&mut task);
    Some(Box::new(TaskGrant { audiences, scopes, authorization_details, delegable, max_hops, deadline, users }))
}

/// `users`: a list of `{provider, clients}`, each provider once.
fn users(task: &mut Fields<'_>) -> Box<[UsersOf]> {
    let all = match task.take("users") {
        None => return Box::default(),
        Some(Tree::List(all)) if all.len() <= MAX_PROVIDERS => all,
        Some(_) => {
            task.note("users", invalid(format!("a list of at most {MAX_PROVIDERS} providers belongs here")));
            return Box::default();
        }
    };
    let place = task.place().key("users");
    let mut read: Vec<UsersOf> = Vec::with_capacity(all.len());
    for (at, one) in all.into_iter().enumerate() {
        let mut one = Fields::open(one, place.item(at), &["provider", "clients"], task.problems());
        let known = |text: &str| read.iter().any(|other| *other.provider == *text);
        let provider = one.required("provider", |text| match User::new(text, "x") {
            Ok(_) if known(text) => Err(invalid(format!("the provider {text:?} stands there twice"))),
            Ok(_) => Ok(text.into()),
            Err(_) => {
                Err(invalid(format!("a provider has 1 to 64 of the characters a-z 0-9 -, and {text:?} does not")))
            }
        });
        let clients = one.texts("clients", MAX_ITEMS, text::client);
        if let Some(provider) = provider {
            read.push(UsersOf { provider, clients });
        }
    }
    read.into()
}

/// `authorization_details`: details in the form of a grant, or `*` alone.
fn details(task: &mut Fields<'_>) -> AllowedDetails {
    let Some(tree) = task.take("authorization_details") else { return AllowedDetails::default() };
    let read = match json(tree) {
        Ok(Value::Array(list)) if list.len() <= MAX_ITEMS => AllowedDetails::try_from(list),
        Ok(_) => Err(invalid(format!("a list of at most {MAX_ITEMS} details belongs here"))),
        Err(refusal) => Err(refusal),
    };
    task.keep("authorization_details", read).unwrap_or_default()
}

/// `serves`: resource URIs; `*` only where the rules allow it.
pub(super) fn serves(fields: &mut Fields<'_>, rules: &Rules) -> Box<[Box<str>]> {
    fields.texts("serves", MAX_ITEMS, |text| {
        if text == "*" && !rules.allow_serves_any {
            return Err(invalid("only in dev may a workload serve any audience".to_owned()));
        }
        text::resource_or_any(text)
    })
}

/// `quotas`: how much of the entry one node may use.
pub(super) fn quotas(fields: &mut Fields<'_>) -> Quotas {
    let Some(tree) = fields.take("quotas") else { return Quotas::default() };
    let place = fields.place().key("quotas");
    let mut quotas = Fields::open(tree, place, &["renderings"], fields.problems());
    let renderings = quotas.integer("renderings", 1, MAX_RENDERINGS);
    Quotas { renderings: renderings.and_then(|most| u32::try_from(most).ok()) }
}

/// The JSON that a tree is; a key that stands there twice has no one meaning.
fn json(tree: Tree) -> Result<Value, Refusal> {
    Ok(match tree {
        Tree::Null => Value::Null,
        Tree::Bool(value) => Value::Bool(value),
        Tree::Number(number) => Value::Number(number),
        Tree::Text(text) => Value::String(text),
        Tree::List(items) => Value::Array(items.into_iter().map(json).collect::<Result<_, _>>()?),
        Tree::Map(fields) => {
            let mut object = Map::new();
            for (key, value) in fields {
                if object.contains_key(&key) {
                    return Err(invalid(format!("the key {key:?} stands there twice")));
                }
                object.insert(key, json(value)?);
            }
            Value::Object(object)
        }
    })
}
