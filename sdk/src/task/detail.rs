use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::call::Call;
use super::constraint::Constraint;
use super::grant::{At, GrantError, distinct, no_others};
use super::value::{ArgumentValue, text};
use crate::json::Object;

/// The most details of one grant.
const MAX_DETAILS: usize = 32;
const MAX_ELEMENTS: usize = 32;
const MAX_ARGUMENTS: usize = 32;
const MAX_ARGUMENT_NAME: usize = 64;
const MAX_TOOL_NAME: usize = 128;

/// One element of `authorization_details` (RFC 9396).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Detail {
    /// `mcp_tool`: calls of one tool.
    Tool(Tool),
    /// `resource`: whatever else has places, actions and kinds of data.
    Resource(Resource),
}

/// Calls of one tool, whose arguments may be limited.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tool {
    name: String,
    at: Resource,
    constraints: BTreeMap<String, Constraint>,
}

/// What is not there is not limited; an empty list allows nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Resource {
    locations: Option<BTreeSet<String>>,
    actions: Option<BTreeSet<String>>,
    datatypes: Option<BTreeSet<String>>,
    identifier: Option<String>,
}

impl Detail {
    /// Whether whatever this allows is allowed by `other`.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tool(own), Self::Tool(other)) => own.is_within(other),
            (Self::Resource(own), Self::Resource(other)) => own.is_within(other),
            (Self::Tool(_), Self::Resource(_)) | (Self::Resource(_), Self::Tool(_)) => false,
        }
    }

    /// Whether this call may be made: it names all that this limits, and nothing beyond.
    #[must_use]
    pub fn admits(&self, call: &Call<'_>) -> bool {
        match (self, call.tool) {
            (Self::Tool(tool), Some((name, arguments))) => {
                tool.name == name && tool.at.admits(call) && tool.admits(arguments)
            }
            (Self::Resource(resource), None) => resource.admits(call),
            (Self::Tool(_), None) | (Self::Resource(_), Some(_)) => false,
        }
    }

    /// Reads a list of details that differ, as it stands in `authorization_details`.
    ///
    /// # Errors
    /// [`GrantError`].
    pub fn list(list: &Value) -> Result<BTreeSet<Self>, GrantError> {
        let whole = At::WHOLE;
        let at = whole.at("authorization_details");
        let list = list.as_array().ok_or_else(|| at.wrong("a list"))?;
        if list.len() > MAX_DETAILS {
            return Err(at.wrong("at most 32 details"));
        }
        let mut details = BTreeSet::new();
        for (n, detail) in list.iter().enumerate() {
            let n = n.to_string();
            let at = at.at(&n);
            if !details.insert(Self::parse(detail, &at)?) {
                return Err(at.wrong("it is listed twice"));
            }
        }
        Ok(details)
    }

    fn parse(value: &Value, at: &At<'_>) -> Result<Self, GrantError> {
        let object = value.as_object().ok_or_else(|| at.wrong("a detail is an object"))?;
        match object.get("type").and_then(Value::as_str) {
            Some("mcp_tool") => Ok(Self::Tool(Tool::parse(object, at)?)),
            Some("resource") => {
                no_others(object, &["type", "locations", "actions", "datatypes", "identifier"], at)?;
                Ok(Self::Resource(Resource::parse(object, at)?))
            }
            _ => Err(at.at("type").wrong("the type of a detail is mcp_tool or resource")),
        }
    }

    /// It as it stands in a grant.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut object = Object::new();
        match self {
            Self::Tool(tool) => {
                object.insert("type".to_owned(), "mcp_tool".into());
                object.insert("tool".to_owned(), tool.name.clone().into());
                tool.at.write(&mut object);
                if !tool.constraints.is_empty() {
                    let each = tool.constraints.iter().map(|(name, constraint)| (name.clone(), constraint.to_json()));
                    object.insert("constraints".to_owned(), each.collect::<Object>().into());
                }
            }
            Self::Resource(resource) => {
                object.insert("type".to_owned(), "resource".into());
                resource.write(&mut object);
            }
        }
        object.into()
    }
}

impl Tool {
    /// What the tool is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it may be called, and how.
    #[must_use]
    pub fn resource(&self) -> &Resource {
        &self.at
    }

    /// Which arguments are limited, and to what.
    #[must_use]
    pub fn constraints(&self) -> &BTreeMap<String, Constraint> {
        &self.constraints
    }

    /// Whether its constraints hold for these arguments; [`Detail::admits`] looks at the rest too. An argument that is limited
    /// must be there.
    #[must_use]
    pub fn admits(&self, arguments: &Object) -> bool {
        self.constraints.iter().all(|(name, constraint)| {
            let value = arguments.get(name).and_then(ArgumentValue::from_json);
            value.is_some_and(|value| constraint.admits(&value))
        })
    }

    fn is_within(&self, other: &Self) -> bool {
        let limited = |(name, limit): (&String, &Constraint)| {
            self.constraints.get(name).is_some_and(|constraint| constraint.is_within(limit))
        };
        self.name == other.name && self.at.is_within(&other.at) && other.constraints.iter().all(limited)
    }

    fn parse(object: &Object, at: &At<'_>) -> Result<Self, GrantError> {
        no_others(object, &["type", "tool", "locations", "actions", "datatypes", "identifier", "constraints"], at)?;
        let legal = |name: &&str| {
            (1..=MAX_TOOL_NAME).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte))
        };
        let name = object.get("tool").and_then(Value::as_str).filter(legal);
        let name = name
            .ok_or_else(|| at.at("tool").wrong("a tool is named by 1 to 128 of the characters A-Z a-z 0-9 . _ - /"))?;
        let mut constraints = BTreeMap::new();
        if let Some(value) = object.get("constraints") {
            let at = at.at("constraints");
            let each = value.as_object().ok_or_else(|| at.wrong("constraints are an object"))?;
            if each.len() > MAX_ARGUMENTS {
                return Err(at.wrong("at most 32 arguments are limited"));
            }
            for (argument, constraint) in each {
                let at = at.at(argument);
                let legal = (1..=MAX_ARGUMENT_NAME).contains(&argument.len())
                    && argument.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
                if !legal {
                    return Err(at.wrong("an argument is named by 1 to 64 of the characters A-Z a-z 0-9 _ -"));
                }
                constraints.insert(argument.clone(), Constraint::parse(constraint, &at)?);
            }
        }
        Ok(Self { name: name.to_owned(), at: Resource::parse(object, at)?, constraints })
    }
}

impl Resource {
    /// At which places; none: not limited.
    #[must_use]
    pub fn locations(&self) -> Option<&BTreeSet<String>> {
        self.locations.as_ref()
    }

    /// What may be done; none: not limited.
    #[must_use]
    pub fn actions(&self) -> Option<&BTreeSet<String>> {
        self.actions.as_ref()
    }

    /// With which kinds of data; none: not limited.
    #[must_use]
    pub fn datatypes(&self) -> Option<&BTreeSet<String>> {
        self.datatypes.as_ref()
    }

    /// To what alone; none: not limited.
    #[must_use]
    pub fn identifier(&self) -> Option<&str> {
        self.identifier.as_deref()
    }

    /// Whether a call may be made as far as its place, action, kinds of data and identifier go: each that is limited must be
    /// named.
    #[must_use]
    pub fn admits(&self, call: &Call<'_>) -> bool {
        let among = |list: &Option<BTreeSet<String>>, named: &[&str]| {
            let within = |list: &BTreeSet<String>| !named.is_empty() && named.iter().all(|one| list.contains(*one));
            list.as_ref().is_none_or(within)
        };
        among(&self.locations, call.location.as_slice())
            && among(&self.actions, call.action.as_slice())
            && among(&self.datatypes, call.datatypes)
            && self.identifier.as_deref().is_none_or(|only| call.identifier == Some(only))
    }

    fn is_within(&self, other: &Self) -> bool {
        let subset = |own: &Option<BTreeSet<String>>, other: &Option<BTreeSet<String>>| match (own, other) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(own), Some(other)) => own.is_subset(other),
        };
        subset(&self.locations, &other.locations)
            && subset(&self.actions, &other.actions)
            && subset(&self.datatypes, &other.datatypes)
            && (other.identifier.is_none() || self.identifier == other.identifier)
    }

    fn parse(object: &Object, at: &At<'_>) -> Result<Self, GrantError> {
        let list = |name: &str| {
            let at = at.at(name);
            let one = |value: &Value| text(value).map(str::to_owned).ok_or("a text of 1 to 512 bytes");
            object.get(name).map(|list| distinct(list, MAX_ELEMENTS, &at, one)).transpose()
        };
        let identifier = match object.get("identifier") {
            None => None,
            Some(value) => {
                let identifier = text(value).ok_or_else(|| at.at("identifier").wrong("a text of 1 to 512 bytes"))?;
                Some(identifier.to_owned())
            }
        };
        Ok(Self { locations: list("locations")?, actions: list("actions")?, datatypes: list("datatypes")?, identifier })
    }

    fn write(&self, object: &mut Object) {
        let lists = [("locations", &self.locations), ("actions", &self.actions), ("datatypes", &self.datatypes)];
        for (name, list) in lists {
            if let Some(list) = list {
                object.insert(name.to_owned(), list.iter().cloned().collect::<Vec<_>>().into());
            }
        }
        if let Some(identifier) = &self.identifier {
            object.insert("identifier".to_owned(), identifier.clone().into());
        }
    }
}
