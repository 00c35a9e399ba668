//! What is wrong with a configuration, and what to do about it.

use std::net::SocketAddr;

use mayfly_sdk::{
    TrustDomain,
    settings::{Problem, Settings},
};

use super::{Config, Profile};
use crate::{
    agentless::ProviderConfig,
    attest::MachineAuthorities,
    users::{Own, UserProviderConfig},
};

/// The most tasks that a node may be allowed to have open.
const TASKS_OF_NODE: usize = 200_000;

impl Settings for Config {
    fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut problem = |key: &str, what: String, remedy: &str| problems.push(Problem::new(key, what, remedy));
        if self.trust_domain.is_empty() {
            problem("trust_domain", "is not set".into(), "name the trust domain, such as \"example.org\"");
        } else if let Err(error) = TrustDomain::from_name(&self.trust_domain) {
            problem("trust_domain", error.to_string(), "use 1 to 255 of the characters a-z 0-9 . _ -");
        }
        if !mayfly_sdk::id::is_legal_segment(&self.name) {
            problem("name", format!("\"{}\" is not a path segment", self.name), "use the characters A-Z a-z 0-9 . _ -");
        }
        if !self.metrics.listen.is_empty() && self.metrics.listen.parse::<SocketAddr>().is_err() {
            problem("metrics.listen", "is not an address".into(), "write IP:PORT, or \"\" for none");
        }
        if !self.web.public_url.is_empty() && !self.web.public_url.starts_with("https://") {
            problem("web.public_url", "does not begin with https://".into(), "write https://HOST, or \"\" for none");
        }
        if self.web.public_url.trim_end_matches('/').matches('/').count() > 2 {
            problem("web.public_url", "has a path".into(), "write https://HOST: what lies below it is fixed");
        }
        if !["full", "off"].contains(&self.store.synchronous.as_str()) {
            problem("store.synchronous", format!("\"{}\" is unknown", self.store.synchronous), "use \"full\"");
        }
        for (key, limit) in [
            ("limits.handshakes", self.limits.handshakes),
            ("limits.connections", self.limits.connections),
            ("limits.mint_batch", self.limits.mint_batch),
            ("limits.mint_queue", self.limits.mint_queue),
            ("tasks.per_instance", self.tasks.per_instance),
            ("tasks.per_node", self.tasks.per_node),
            ("tasks.per_root", self.tasks.per_root),
            ("tasks.begins_per_instance", usize::try_from(self.tasks.begins_per_instance).unwrap_or(usize::MAX)),
            ("tasks.begins_per_node", usize::try_from(self.tasks.begins_per_node).unwrap_or(usize::MAX)),
            ("web.connections", self.web.connections),
            ("admin.connections", self.admin.connections),
        ] {
            if limit == 0 {
                problem(key, "is 0, so that nothing would be served".into(), "remove it to take the default");
            }
        }
        if self.tasks.per_node > TASKS_OF_NODE {
            let what = format!("is more than {TASKS_OF_NODE}: a node hears of all of its tasks in one message");
            problem("tasks.per_node", what, "set less, or use more nodes");
        }
        if !self.admin.listen.is_empty() && self.admin.listen.parse::<SocketAddr>().is_err() {
            problems.push(Problem::new("admin.listen", "is not an address", "write IP:PORT, or \"\" for none"));
        }
        self.check_web(&mut problems);
        if let Some(Err(refusal)) = self.attest.x509pop_ca.as_deref().map(MachineAuthorities::read) {
            let remedy = "name a PEM file of certificate authorities, readable by the issuer's user";
            problems.push(Problem::new("attest.x509pop_ca", refusal.what, remedy));
        }
        problems.extend(ProviderConfig::problems(&self.agentless));
        let own = Own { trust_domain: &self.trust_domain, public_url: &self.web.public_url };
        problems.extend(UserProviderConfig::problems(&self.users, own));
        self.check_lifetimes(&mut problems);
        problems
    }
}

impl Config {
    fn check_web(&self, problems: &mut Vec<Problem>) {
        let mut problem =
            |key: &str, what: &str, remedy: &str| problems.push(Problem::new(key, what.to_owned(), remedy));
        if !self.web.listen.is_empty() && self.web.address().is_none() {
            problem("web.listen", "is not an address", "write IP:PORT, or \"\" for none");
        }
        if !self.web.mtls_listen.is_empty() && self.web.mtls_listen.parse::<SocketAddr>().is_err() {
            problem("web.mtls_listen", "is not an address", "write IP:PORT, or \"\" for none");
        }
        if !self.web.mtls_url.is_empty() && !self.web.mtls_url.starts_with("https://") {
            problem("web.mtls_url", "does not begin with https://", "write https://HOST:PORT, or \"\"");
        }
        let path = &self.bundle_endpoint.path;
        if !path.starts_with('/') || !path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-~".contains(&b)) {
            problem(
                "bundle_endpoint.path",
                "is not the path of a URL",
                "begin with / and use the characters A-Z a-z 0-9 . _ - ~ /",
            );
        }
        for (key, file) in [("web.certificate", &self.web.certificate), ("web.key", &self.web.key)] {
            match (self.bundle_endpoint.profile, file) {
                (Profile::HttpsWeb, None) => {
                    problem(key, "is not set", "name a PEM file: the profile https_web presents it");
                }
                (Profile::HttpsSpiffe, Some(_)) => problem(
                    key,
                    "is set, and the profile https_spiffe presents the issuer's own identity",
                    "remove it, or set bundle_endpoint.profile = \"https_web\"",
                ),
                (Profile::HttpsWeb, Some(_)) | (Profile::HttpsSpiffe, None) => {}
            }
        }
    }

    fn check_lifetimes(&self, problems: &mut Vec<Problem>) {
        let floor = if self.ttl.allow_short_ttl { 1 } else { 60 };
        for (key, ttl) in [("ttl.x509", self.ttl.x509), ("ttl.jwt", self.ttl.jwt), ("ttl.node", self.ttl.node)] {
            if !(floor..=6 * 3600).contains(&ttl.as_s()) {
                let remedy = "use 60 s to 6 h; demonstrations may set ttl.allow_short_ttl";
                problems.push(Problem::new(key, format!("{ttl} is out of range"), remedy));
            }
        }
        let shortest = if self.ttl.allow_short_ttl { 10 } else { 30 };
        let range = [
            ("ttl.task", self.ttl.task, shortest..=15 * 60),
            ("tasks.deadline", self.tasks.deadline, 30..=self.tasks.longest_deadline.as_s()),
            ("tasks.longest_deadline", self.tasks.longest_deadline, 30..=8 * 3600),
            ("tasks.silent_after", self.tasks.silent_after, 1..=86_400),
        ];
        for (key, ttl, range) in range {
            if !range.contains(&ttl.as_s()) {
                let remedy = "task tokens: 30 s to 15 min; deadlines: 30 s to 8 h, and the default within the longest; silence: 1 s to 1 day";
                problems.push(Problem::new(key, format!("{ttl} is out of range"), remedy));
            }
        }
        for problem in self.authority.problems() {
            let remedy = "change it, or remove it to take the default";
            problems.push(Problem::new(format!("authority.{}", problem.key), problem.what, remedy));
        }
        let longest = [
            ("ttl.x509", self.ttl.x509, self.authority.longest_x509_ttl().min(self.longest_wit_ttl())),
            ("ttl.node", self.ttl.node, self.authority.longest_x509_ttl()),
            ("ttl.jwt", self.ttl.jwt, self.authority.longest_jwt_ttl()),
            ("ttl.task", self.ttl.task, self.authority.longest_task_ttl()),
        ];
        for (key, ttl, longest) in longest {
            if ttl > longest {
                let what = format!("{ttl} is longer than {longest}, which the life of the signing keys allows");
                problems.push(Problem::new(key, what, "shorten it, or give the keys of [authority] a longer life"));
            }
        }
    }
}
