//! `mayfly entry show`.

use mayfly_proto::admin;

use super::Shown;
use crate::admin::AdminArgs;
use crate::failure::Failure;
use crate::output::Out;
use crate::runtime;

#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// Name or uid
    entry: String,
    #[command(flatten)]
    admin: AdminArgs,
}

impl Show {
    pub(crate) fn run(self, out: Out) -> Result<(), Failure> {
        runtime::client(async {
            let what = format!("the entry {} is not shown", self.entry);
            let answer = self.admin.connect().await?.get_entry(admin::GetEntryRequest { entry: self.entry }).await;
            let answer = answer.map_err(|status| Failure::status(&what, &status))?.into_inner();
            let entry = answer.entry.ok_or_else(|| Failure::bug(&what, "the issuer answered without an entry"))?;
            Ok(out.show(&Shown::from(entry))?)
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::output;

    #[test]
    fn an_entry_is_shown_with_its_fields() {
        let shown = output::golden(&super::super::example());
        assert!(
            shown.starts_with(
                "web\n  spiffe id   spiffe://example.org/web\n  uid         01jd\n  owner       shop\n  revision    1.7\n  created     \
                 2027-01-15T08:00:00Z\n  updated     -\n  node        [\"node:attestor:join_token\"]\n  selectors   [\"unix:uid:1000\"]\n  x509 \
                 ttl    300\n{\"name\":\"web\","
            ),
            "{shown}"
        );
    }
}
