//! Parameters of a request: `application/x-www-form-urlencoded`, each at most once (RFC 6749 3.2).

use std::collections::HashMap;

use axum::http::{HeaderMap, header};
use mayfly_sdk::{Reason, Refusal};

/// More than any request here has.
const MAX_PARAMETERS: usize = 64;

/// The parameters of one request; those without a value are not there.
pub(in crate::web) struct Form(HashMap<String, String>);

impl Form {
    /// Reads a body.
    ///
    /// # Errors
    /// [`Reason::InvalidArgument`]: it is of another type, has a parameter twice, or too many.
    pub(in crate::web) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, Refusal> {
        let wrong = |what: String| Refusal::new(Reason::InvalidArgument, what);
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(wrong("the body is to be application/x-www-form-urlencoded".to_owned()));
        }
        let mut form = HashMap::new();
        for (count, (name, value)) in form_urlencoded::parse(body).enumerate() {
            if count == MAX_PARAMETERS {
                return Err(wrong(format!("a request has at most {MAX_PARAMETERS} parameters")));
            }
            if value.is_empty() {
                continue;
            }
            if form.contains_key(&*name) {
                let shown: String = name.chars().filter(|character| !character.is_control()).take(64).collect();
                return Err(wrong(format!("the parameter {shown} is there twice")));
            }
            form.insert(name.into_owned(), value.into_owned());
        }
        Ok(Self(form))
    }

    pub(in crate::web) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// # Errors
    /// [`Reason::InvalidArgument`]: it is missing.
    pub(in crate::web) fn required(&self, name: &str) -> Result<&str, Refusal> {
        self.get(name).ok_or_else(|| Refusal::new(Reason::InvalidArgument, format!("the parameter {name} is missing")))
    }

    /// A number of seconds, or of anything else that is counted.
    ///
    /// # Errors
    /// [`Reason::InvalidArgument`]: it is no number.
    pub(in crate::web) fn number(&self, name: &str) -> Result<Option<u32>, Refusal> {
        let read = |text: &str| {
            text.parse().ok().ok_or_else(|| Refusal::new(Reason::InvalidArgument, format!("{name} is a whole number")))
        };
        self.get(name).map(read).transpose()
    }
}
