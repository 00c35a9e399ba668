//! What policies are asked, in Mayfly's words and in Cedar's.

use std::collections::{BTreeSet, HashMap, HashSet};

use cedar_policy::{Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression};
use mayfly_sdk::task::{Actor, Detail, Subject};
use mayfly_sdk::{Reason, Refusal, Selector, SpiffeId, Timestamp};
use serde_json::{Map, Value, json};

use super::read::schema;
use crate::registry::{Entry, NodeFacts};
use crate::task::Task;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A task that has none above it.
    Begin,
    /// A task below another one.
    Delegate,
}

/// Who wants to do what, and all that is known about it.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The task as it would be, or, for a renewal, as it is.
    pub task: &'a Task,
    /// Whether a token of an open task is to be made anew.
    pub renewal: bool,
    /// What the issuer attested about the node.
    pub node: &'a NodeFacts,
    /// The entry that allows it so far.
    pub entry: &'a Entry,
    /// What the node says about the workload.
    pub facts: &'a [Selector],
    /// The time.
    pub now: Timestamp,
}

/// Principal, action and resource, and whatever else has a place among them.
#[derive(Debug)]
pub struct Asked {
    action: Action,
    principal: SpiffeId,
    audience: String,
    others: BTreeSet<SpiffeId>,
}

impl Action {
    /// What policies call it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::Delegate => "delegate",
        }
    }

    fn uid(self) -> Result<EntityUid, Refusal> {
        uid("Action", self.as_str())
    }
}

impl Question<'_> {
    /// What it would be.
    #[must_use]
    pub fn action(&self) -> Action {
        if self.task.parent.is_some() { Action::Delegate } else { Action::Begin }
    }

    /// The context of the decision, as the schema describes it.
    #[must_use]
    pub fn context(&self) -> Value {
        let Self { task, node, entry, .. } = self;
        let details = Details::of(task.grant.details());
        let above = task.chain.split_last().map_or(&[][..], |(_, above)| above);
        let mut context = json!({
            "now": self.now.to_string(),
            "renewal": self.renewal,
            "purpose": &*task.purpose,
            "life_s": task.deadline.remaining(task.begun_at).as_s(),
            "hop": task.hop,
            "max_hops": task.max_hops,
            "detached": task.detached,
            "scopes": task.grant.scope(),
            "delegable": task.grant.delegable(),
            "detail_types": details.types,
            "tools": details.tools,
            "locations": details.locations,
            "any_location": details.any_location,
            "actions": details.actions,
            "any_action": details.any_action,
            "above": above.iter().map(workload).collect::<Vec<_>>(),
            "instance": task.instance().map(|instance| instance.to_string()).unwrap_or_default(),
            "node": { "spiffe_id": node.spiffe_id.as_str(), "selectors": texts(node.selectors.iter()) },
            "workload": { "selectors": texts(entry.spec.selectors.iter().chain(self.facts)) },
            "entry": { "name": entry.name(), "uid": entry.uid.to_string(), "owner": &*entry.owner },
        });
        if let Value::Object(members) = &mut context {
            self.add_optional(members, above);
        }
        context
    }

    fn add_optional(&self, members: &mut Map<String, Value>, above: &[Actor]) {
        let mut add = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                members.insert(name.to_owned(), value);
            }
        };
        let may_act = self.task.may_act.as_ref();
        add("may_act", may_act.map(|ids| ids.iter().map(entity).collect()));
        add("root", above.first().map(workload));
        add("parent", above.last().map(workload));
        add(
            "user",
            match &self.task.subject {
                Subject::User(user) => {
                    let mut said = json!({ "provider": user.provider(), "subject": user.subject() });
                    let client = self.task.user_token.as_ref().and_then(|token| token.client.as_deref());
                    if let (Some(client), Value::Object(members)) = (client, &mut said) {
                        members.insert("client".to_owned(), client.into());
                    }
                    Some(said)
                }
                Subject::Workload(_) => None,
            },
        );
    }

    /// Who asks for what.
    ///
    /// # Errors
    /// [`Reason::Internal`]: the task has no holder.
    pub fn asked(&self) -> Result<Asked, Refusal> {
        let holder = self.task.holder().ok_or_else(|| Refusal::new(Reason::Internal, "a task without a holder"))?;
        let above = self.task.chain.iter().map(|actor| &actor.spiffe_id);
        Ok(Asked {
            action: self.action(),
            principal: holder.spiffe_id.clone(),
            audience: self.task.grant.audience().to_owned(),
            others: above.chain(self.task.may_act.iter().flatten()).cloned().collect(),
        })
    }
}

impl Asked {
    /// It as Cedar takes it.
    pub(super) fn request(&self, context: Value) -> Result<(Request, Entities), Refusal> {
        let broken = |error: &dyn std::fmt::Display| {
            tracing::error!(cause = %error, "a question to the policies was not understood");
            Refusal::new(Reason::Internal, "the policies could not be asked")
        };
        let (schema, action) = (schema()?, self.action.uid()?);
        let context = Context::from_json_value(context, Some((schema, &action))).map_err(|error| broken(&error))?;
        let (principal, resource) = (uid("Workload", self.principal.as_str())?, uid("Audience", &self.audience)?);
        let mut known = self.others.clone();
        known.insert(self.principal.clone());
        let mut entities = known.iter().map(described).collect::<Result<Vec<_>, _>>()?;
        entities.push(Entity::with_uid(resource.clone()));
        let entities = Entities::from_entities(entities, Some(schema)).map_err(|error| broken(&error))?;
        let request =
            Request::new(principal, action, resource, context, Some(schema)).map_err(|error| broken(&error))?;
        Ok((request, entities))
    }
}

/// What details say, all together.
#[derive(Default)]
struct Details {
    types: BTreeSet<String>,
    tools: BTreeSet<String>,
    locations: BTreeSet<String>,
    any_location: bool,
    actions: BTreeSet<String>,
    any_action: bool,
}

impl Details {
    fn of(details: &BTreeSet<Detail>) -> Self {
        let mut all = Self::default();
        for detail in details {
            let detail = detail.to_json();
            let text = |name: &str| detail.get(name).and_then(Value::as_str).map(str::to_owned);
            all.types.extend(text("type"));
            all.tools.extend(text("tool"));
            let list = |name: &str, to: &mut BTreeSet<String>, any: &mut bool| match detail.get(name) {
                Some(list) => {
                    to.extend(list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
                }
                None => *any = true,
            };
            list("locations", &mut all.locations, &mut all.any_location);
            list("actions", &mut all.actions, &mut all.any_action);
        }
        all
    }
}

fn texts<'a>(selectors: impl Iterator<Item = &'a Selector>) -> BTreeSet<&'a str> {
    selectors.map(Selector::as_str).collect()
}

fn workload(actor: &Actor) -> Value {
    entity(&actor.spiffe_id)
}

fn entity(id: &SpiffeId) -> Value {
    json!({ "__entity": { "type": "Workload", "id": id.as_str() } })
}

/// A workload, and the paths that it is in.
fn described(id: &SpiffeId) -> Result<Entity, Refusal> {
    let text = id.as_str();
    let trust_domain = id.trust_domain().to_string();
    let path =
        text.strip_prefix("spiffe://").and_then(|rest| rest.strip_prefix(trust_domain.as_str())).unwrap_or_default();
    let ends = text.match_indices('/').map(|(at, _)| at).skip(2).chain([text.len()]);
    let paths = ends.filter_map(|end| text.get(..end)).map(|above| uid("Path", above));
    let attributes = HashMap::from([
        ("trust_domain".to_owned(), RestrictedExpression::new_string(trust_domain.clone())),
        ("path".to_owned(), RestrictedExpression::new_string(path.to_owned())),
    ]);
    Entity::new(uid("Workload", text)?, attributes, paths.collect::<Result<HashSet<_>, _>>()?)
        .map_err(|error| Refusal::new(Reason::Internal, error.to_string()))
}

fn uid(kind: &str, id: &str) -> Result<EntityUid, Refusal> {
    let kind: EntityTypeName = kind.parse().ok().ok_or_else(|| Refusal::new(Reason::Internal, "a kind of policies"))?;
    Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}
