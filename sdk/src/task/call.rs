//! What a service is asked to do, as it is held against the details of a grant.

use crate::json::Object;

/// What somebody asks a service to do, named as details of a grant name it.
///
/// A detail admits a call only if the call names whatever the detail limits: what is not named here is not known to be
/// allowed. What the detail leaves open may be named or not.
///
/// ```
/// use mayfly_sdk::task::Call;
///
/// let call = Call::resource().at("https://files.example.org/reports").action("read").identifier("report-7");
/// # let _ = call;
/// ```
#[derive(Debug, Clone, Copy, Default)]
#[must_use]
pub struct Call<'a> {
    pub(super) tool: Option<(&'a str, &'a Object)>,
    pub(super) location: Option<&'a str>,
    pub(super) action: Option<&'a str>,
    pub(super) datatypes: &'a [&'a str],
    pub(super) identifier: Option<&'a str>,
}

impl<'a> Call<'a> {
    /// A call of this tool with all of its arguments, which details of type `mcp_tool` admit.
    pub fn tool(name: &'a str, arguments: &'a Object) -> Self {
        Self { tool: Some((name, arguments)), ..Self::default() }
    }

    /// Whatever else there is to do, which details of type `resource` admit.
    pub fn resource() -> Self {
        Self::default()
    }

    /// Where: one of `locations`.
    pub const fn at(mut self, location: &'a str) -> Self {
        self.location = Some(location);
        self
    }

    /// What is done: one of `actions`.
    pub const fn action(mut self, action: &'a str) -> Self {
        self.action = Some(action);
        self
    }

    /// All kinds of data that it touches: each of them one of `datatypes`.
    pub const fn datatypes(mut self, datatypes: &'a [&'a str]) -> Self {
        self.datatypes = datatypes;
        self
    }

    /// To what it is done: the `identifier`.
    pub const fn identifier(mut self, identifier: &'a str) -> Self {
        self.identifier = Some(identifier);
        self
    }
}
