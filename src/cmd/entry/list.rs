//! `mayfly entry list`.

use std::io::{self, Write};

use mayfly_proto::admin;

use super::Shown;
use crate::admin::AdminArgs;
use crate::failure::Failure;
use crate::output::{self, Items, Out, View};
use crate::runtime;

#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Only the entries of this owner
    #[arg(long)]
    owner: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
}

impl List {
    pub(crate) fn run(self, out: Out) -> Result<(), Failure> {
        runtime::client(async {
            let mut client = self.admin.connect().await?;
            let mut request = admin::ListEntriesRequest { owner: self.owner.unwrap_or_default(), ..Default::default() };
            let mut items = Vec::new();
            loop {
                let page = client.list_entries(request.clone()).await;
                let page = page.map_err(|status| Failure::status("the entries were not listed", &status))?.into_inner();
                items.extend(page.items.into_iter().map(Shown::from));
                if page.next_page_token.is_empty() {
                    return Ok(out.show(&Items { items })?);
                }
                request.page_token = page.next_page_token;
            }
        })
    }
}

impl View for Items<Shown> {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        let rows: Vec<_> = self
            .items
            .iter()
            .map(|entry| {
                [
                    entry.name.clone(),
                    entry.owner.clone(),
                    output::or_dash(entry.revision.as_ref()),
                    entry.spiffe_id.clone(),
                ]
            })
            .collect();
        output::table(w, ["NAME", "OWNER", "REVISION", "SPIFFE ID"], &rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_listed_in_both_forms() {
        assert_eq!(
            output::golden(&Items { items: vec![super::super::example()] }),
            "NAME  OWNER  REVISION  SPIFFE ID\nweb   shop   1.7       spiffe://example.org/web\n{\"items\":[{\"name\":\"web\",\"uid\":\"01jd\",\"owner\":\
             \"shop\",\"spiffe_id\":\"spiffe://example.org/web\",\"revision\":\"1.7\",\"created_at\":\"2027-01-15T08:00:00Z\",\"updated_at\":null,\
             \"entry\":{\"name\":\"web\",\"node\":[\"node:attestor:join_token\"],\"selectors\":[\"unix:uid:1000\"],\"spiffe_id\":\
             \"spiffe://example.org/web\",\"x509_ttl\":300}}]}\n"
        );
    }
}
