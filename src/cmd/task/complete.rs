//! `mayfly task complete`.

use std::io::{self, Write};

use mayfly_proto::task as wire;
use serde::Serialize;

use crate::endpoint::EndpointArgs;
use crate::failure::Failure;
use crate::output::{Out, View};

#[derive(Debug, clap::Args)]
pub(crate) struct Complete {
    /// The task
    id: String,
    /// It was given up, and not done
    #[arg(long)]
    failed: bool,
    #[command(flatten)]
    endpoint: EndpointArgs,
}

/// The tasks that this ended: none where it had ended before.
#[derive(Debug, Serialize)]
struct Ended {
    ended: Vec<String>,
}

impl Complete {
    pub(crate) async fn run(self, out: Out) -> Result<(), Failure> {
        let request = wire::CompleteRequest { id: self.id, failed: self.failed };
        let answer = self.endpoint.tasks().await?.complete(request).await;
        let answer = answer.map_err(|status| Failure::status("the task was not completed", &status))?.into_inner();
        Ok(out.show(&Ended { ended: answer.ended })?)
    }
}

impl View for Ended {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        self.ended.iter().try_for_each(|id| writeln!(w, "{id}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output;

    #[test]
    fn what_was_ended_is_shown_in_both_forms() {
        let ended = Ended { ended: vec!["01".to_owned(), "02".to_owned()] };
        assert_eq!(output::golden(&ended), "01\n02\n{\"ended\":[\"01\",\"02\"]}\n");
    }
}
