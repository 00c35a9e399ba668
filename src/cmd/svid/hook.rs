//! The command that runs after each swap of the files, so that a program that knows only files takes up the new ones.
//!
//! - No shell: the words are split here, and nothing of an SVID is ever among them.
//! - One at a time. While it fails it is tried again, with a pause that grows, until it succeeds or newer files take its turn.
//! - At the end, one that runs may finish.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::failure::{Exit, Failure};
use crate::output::Format;

/// How long the command may take.
const RUN_WITHIN: Duration = Duration::from_mins(1);
/// How long one that runs when the watch ends may go on.
const END_WITHIN: Duration = Duration::from_secs(10);
/// The first and the longest pause between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// The words of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hook {
    program: String,
    arguments: Vec<String>,
}

impl std::str::FromStr for Hook {
    type Err = String;

    /// Splits at blanks; quotes and backslashes as in a shell, and nothing else of it.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = words(text).ok_or("a quote is not closed")?.into_iter();
        let program = words.next().filter(|word| !word.is_empty()).ok_or("it names no program")?;
        Ok(Self { program, arguments: words.collect() })
    }
}

impl Hook {
    /// Runs once for each change of `swapped`, until `stop`. Failures go to standard error.
    pub(super) async fn follow(
        self,
        dir: OsString,
        mut swapped: watch::Receiver<u64>,
        stop: CancellationToken,
        format: Format,
    ) {
        while let Some(Ok(())) = stop.run_until_cancelled(swapped.changed()).await {
            swapped.mark_unchanged();
            let mut pause = PAUSES.0;
            while let Err(failure) = self.run(Path::new(&dir), &stop).await {
                failure.report(format);
                tokio::select! {
                    () = sleep(pause) => pause = (pause * 2).min(PAUSES.1),
                    changed = swapped.changed() => if changed.is_err() { return },
                    () = stop.cancelled() => return,
                }
            }
        }
    }

    /// Runs it once; what it prints goes to standard error, so that standard output stays what it is.
    async fn run(&self, dir: &Path, stop: &CancellationToken) -> Result<(), Failure> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env("MAYFLY_SVID_DIR", dir).stdin(Stdio::null()).stdout(std::io::stderr());
        // A group of its own: ^C on the terminal is for this process, which lets it finish.
        let mut child = command.process_group(0).kill_on_drop(true).spawn().map_err(|error| self.failed(error))?;
        let group = child.id().and_then(|id| i32::try_from(id).ok());
        let ended = tokio::select! {
            ended = timeout(RUN_WITHIN, child.wait()) => ended,
            () = stop.cancelled() => timeout(END_WITHIN, child.wait()).await,
        };
        match ended {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(self.failed(status)),
            Ok(Err(error)) => Err(self.failed(error)),
            Err(_elapsed) => {
                // Not reaped yet, so the group is still its own; one that has just ended needs no signal.
                if let Some(group) = group {
                    killpg(Pid::from_raw(group), Signal::SIGKILL).ok();
                }
                child.wait().await.ok();
                Err(self.failed("it did not end in time and was killed"))
            }
        }
    }

    fn failed(&self, why: impl std::fmt::Display) -> Failure {
        let what = format!("`{}` did not take up the new SVID", self.program);
        let remedy = "run it by hand as this user; it is tried again, and after each renewal";
        Failure::new(Exit::Unavailable, "on_update_failed", what, why.to_string(), remedy)
    }
}

fn words(text: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().push(rest.next()?),
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    fn hook(text: &str) -> Result<Vec<String>, String> {
        text.parse::<Hook>().map(|hook| std::iter::once(hook.program).chain(hook.arguments).collect())
    }

    #[test]
    fn words_are_split_and_nothing_is_expanded() {
        assert_eq!(hook("nginx -s  reload").unwrap(), ["nginx", "-s", "reload"]);
        assert_eq!(
            hook(r#"sh -c 'kill "$P"' "a b" c\ d "" e"f"'g'"#).unwrap(),
            ["sh", "-c", "kill \"$P\"", "a b", "c d", "", "efg"]
        );
        assert_eq!(hook("a;b $(c) `d` | e > f").unwrap(), ["a;b", "$(c)", "`d`", "|", "e", ">", "f"]);
        for text in ["", "  ", "''", "a 'b", "a \"b", "a \\"] {
            assert!(hook(text).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_command_that_fails_is_run_again_until_it_succeeds() {
        let dir = tempfile::tempdir().unwrap();
        let script = r#"sh -c 'echo x >> "$MAYFLY_SVID_DIR/runs"; test $(wc -l < "$MAYFLY_SVID_DIR/runs") -ge 2'"#;
        let (swap, swapped) = watch::channel(0);
        let stop = CancellationToken::new();
        let hook: Hook = script.parse().unwrap();
        let mut following = JoinSet::new();
        following.spawn(hook.follow(dir.path().into(), swapped, stop.clone(), Format::Text));
        swap.send(1).unwrap();
        let runs = || std::fs::read_to_string(dir.path().join("runs")).unwrap_or_default().lines().count();
        let reaches = async |count: usize| {
            let reached = async {
                while runs() < count {
                    sleep(Duration::from_millis(20)).await;
                }
            };
            timeout(Duration::from_mins(1), reached).await.unwrap_or_else(|_elapsed| panic!("{} runs", runs()));
        };
        reaches(2).await;
        swap.send(2).unwrap();
        reaches(3).await;
        stop.cancel();
        following.join_next().await.unwrap().unwrap();
        assert_eq!(runs(), 3);
    }
}
