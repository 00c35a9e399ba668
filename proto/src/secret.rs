//! Messages that hold a key or a bearer token show whose they are, and nothing that could be used: whatever logs one leaks
//! nothing.

use std::fmt::{Debug, Formatter, Result};

use crate::{node, node::JwtIssue, sds::TlsCertificate, task, workload};

impl Debug for workload::X509svid {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        named(f, "X509svid", &self.spiffe_id, &self.hint)
    }
}

impl Debug for workload::Jwtsvid {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        named(f, "Jwtsvid", &self.spiffe_id, &self.hint)
    }
}

impl Debug for workload::Witsvid {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        named(f, "Witsvid", &self.spiffe_id, &self.hint)
    }
}

impl Debug for JwtIssue {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("JwtIssue").field("spiffe_id", &self.spiffe_id).field("jti", &self.jti).finish_non_exhaustive()
    }
}

impl Debug for node::TaskIssue {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("TaskIssue").field("task", &self.task).field("jti", &self.jti).finish_non_exhaustive()
    }
}

impl Debug for node::BeginTaskRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("BeginTaskRequest")
            .field("holder", &self.holder)
            .field("grant", &self.grant)
            .finish_non_exhaustive()
    }
}

impl Debug for node::CheckTaskRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("CheckTaskRequest").field("audience", &self.audience).finish_non_exhaustive()
    }
}

impl Debug for task::TaskToken {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("TaskToken").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

impl Debug for task::BeginRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("BeginRequest").field("grant", &self.grant).finish_non_exhaustive()
    }
}

impl Debug for task::DelegateRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("DelegateRequest").field("grant", &self.grant).finish_non_exhaustive()
    }
}

impl Debug for task::ValidateRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("ValidateRequest").field("audience", &self.audience).finish_non_exhaustive()
    }
}

impl Debug for TlsCertificate {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("TlsCertificate").field("certificate_chain", &self.certificate_chain).finish_non_exhaustive()
    }
}

fn named(f: &mut Formatter<'_>, message: &str, spiffe_id: &str, hint: &str) -> Result {
    f.debug_struct(message).field("spiffe_id", &spiffe_id).field("hint", &hint).finish_non_exhaustive()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sds::{DataSource, data_source::Specifier};

    const SECRET: &str = "s3cret";

    #[test]
    fn nothing_that_could_be_used_is_shown() {
        let id = || "spiffe://td/web".to_owned();
        let x509 = workload::X509svid { spiffe_id: id(), x509_svid_key: SECRET.into(), ..Default::default() };
        let jwt = workload::Jwtsvid { spiffe_id: id(), svid: SECRET.into(), ..Default::default() };
        let wit = workload::Witsvid { spiffe_id: id(), wit_svid_key: SECRET.into(), ..Default::default() };
        let key = DataSource { specifier: Some(Specifier::InlineString(SECRET.into())) };
        let shown = [
            format!("{:?}", workload::X509svidResponse { svids: vec![x509], ..Default::default() }),
            format!("{:?}", workload::JwtsvidResponse { svids: vec![jwt] }),
            format!("{:?}", workload::WitsvidResponse { svids: vec![wit] }),
            format!("{:?}", JwtIssue { spiffe_id: id(), token: SECRET.into(), ..Default::default() }),
        ];
        for shown in shown {
            assert!(shown.contains("spiffe://td/web") && !shown.contains(SECRET), "{shown}");
        }
        let token = task::TaskToken { token: SECRET.into(), x509_svid_key: SECRET.into(), ..Default::default() };
        let shown = [
            format!("{:?}", node::TaskIssue { token: SECRET.into(), ..Default::default() }),
            format!("{:?}", node::BeginTaskRequest { parent_token: SECRET.into(), ..Default::default() }),
            format!("{:?}", node::CheckTaskRequest { token: SECRET.into(), ..Default::default() }),
            format!("{:?}", task::BeginResponse { token: Some(token.clone()), ..Default::default() }),
            format!("{:?}", task::WatchResponse { token: Some(token), ..Default::default() }),
            format!("{:?}", node::BeginTaskRequest { subject_token: SECRET.into(), ..Default::default() }),
            format!("{:?}", task::BeginRequest { subject_token: SECRET.into(), ..Default::default() }),
            format!("{:?}", task::DelegateRequest { parent_token: SECRET.into(), ..Default::default() }),
            format!("{:?}", task::ValidateRequest { token: SECRET.into(), ..Default::default() }),
        ];
        let bytes = format!("{:?}", prost::bytes::Bytes::from(SECRET));
        assert!(shown.iter().all(|shown| !shown.contains(SECRET) && !shown.contains(&bytes)), "{shown:?}");
        // As text it would be itself, as bytes a list of numbers.
        let shown = format!("{:?}", TlsCertificate { private_key: Some(key), ..Default::default() });
        assert!(!shown.contains(SECRET), "{shown}");
    }
}
