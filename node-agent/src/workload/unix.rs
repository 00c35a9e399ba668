//! `unix:*`: users, groups and the executable.
//!
//! Names of users and groups come from the C library (`getpwuid_r`, `getgrgid_r`), as for every other program on the machine, so that those of a
//! directory service count too; such a service may be slow, so they are looked up only if an entry names one, and off the async threads.
//!
//! `unix:path` holds only if the file at that path, as the node agent or the machine's first process sees it, is the very file that runs. What a
//! process claims of its own path is worth nothing: in a mount namespace of his own, any user can put any file at `/usr/bin/app`.

mod digests;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use nix::unistd::{Gid, Group, Uid, User};

use super::{Attestor, Facts, FileId, HeldProcess, Needs, Undetermined};
use digests::Digests;

/// The attestor of `unix:uid`, `user`, `gid`, `group`, `supplementary_gid`, `supplementary_group`, `path` and `sha256`.
#[derive(Debug, Default)]
pub(super) struct Unix {
    digests: Digests,
}

impl Attestor for Unix {
    fn name(&self) -> &'static str {
        "unix"
    }

    fn attest(&self, process: &HeldProcess, needs: &Needs) -> Facts {
        let mut facts = Facts::none("unix");
        facts.add("uid", process.uid());
        facts.add("gid", process.gid());
        if needs.want("unix", "supplementary_gid") {
            supplementary(&mut facts, process, "supplementary_gid", |facts, gid| facts.add("supplementary_gid", gid));
        }
        if needs.want("unix", "path") {
            facts.add_or_undetermined("path", path(process));
        }
        facts
    }

    fn slow_keys(&self) -> &'static [&'static str] {
        &["user", "group", "supplementary_group", "sha256"]
    }

    fn attest_slowly(&self, process: &HeldProcess, key: &'static str) -> Facts {
        let mut facts = Facts::none("unix");
        match key {
            "user" => name(
                &mut facts,
                key,
                User::from_uid(Uid::from_raw(process.uid())).map(|user| user.map(|user| user.name)),
            ),
            "group" => name(&mut facts, key, group(process.gid())),
            "supplementary_group" => supplementary(&mut facts, process, key, |facts, gid| name(facts, key, group(gid))),
            _ => facts.add_or_undetermined(key, self.sha256(process).map(hex::encode)),
        }
        facts
    }
}

impl Unix {
    fn sha256(&self, process: &HeldProcess) -> Result<[u8; 32], Undetermined> {
        let failed = |error| Undetermined::of_proc("unix", "sha256", &error);
        visible(process, "sha256")?;
        // The link leads to the file itself, whatever its name is now and in whichever mount namespace.
        let executable = File::open(format!("/proc/{}/exe", process.pid())).map_err(failed)?;
        self.digests.of(executable).map_err(failed)
    }
}

fn visible(process: &HeldProcess, key: &'static str) -> Result<(), Undetermined> {
    if process.pid() == 0 { Err(Undetermined::other_pid_namespace("unix", key)) } else { Ok(()) }
}

fn name(facts: &mut Facts, key: &'static str, found: nix::Result<Option<String>>) {
    match found {
        Ok(Some(name)) => facts.add(key, name),
        Ok(None) => {}
        Err(errno) => {
            facts.undetermined(Undetermined::passing("unix", key, format!("the name could not be looked up: {errno}")));
        }
    }
}

fn group(gid: u32) -> nix::Result<Option<String>> {
    Group::from_gid(Gid::from_raw(gid)).map(|group| group.map(|group| group.name))
}

fn supplementary(facts: &mut Facts, process: &HeldProcess, key: &'static str, add: impl Fn(&mut Facts, u32)) {
    match supplementary_gids(process, key) {
        Ok(gids) => gids.into_iter().for_each(|gid| add(facts, gid)),
        Err(undetermined) => facts.undetermined(undetermined),
    }
}

fn supplementary_gids(process: &HeldProcess, key: &'static str) -> Result<Vec<u32>, Undetermined> {
    visible(process, key)?;
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid()))
        .map_err(|error| Undetermined::of_proc("unix", key, &error))?;
    gids_of(&status)
        .ok_or_else(|| Undetermined::passing("unix", key, "/proc/<pid>/status has no line of groups".to_owned()))
}

/// The line `Groups:` of `/proc/<pid>/status`.
pub(super) fn gids_of(status: &str) -> Option<Vec<u32>> {
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:"))?;
    groups.split_ascii_whitespace().map(|gid| gid.parse().ok()).collect()
}

/// The path of the executable, if the file there is the one that runs.
fn path(process: &HeldProcess) -> Result<String, Undetermined> {
    visible(process, "path")?;
    let running = process.executable().map_err(Clone::clone)?;
    let link = fs::read_link(format!("/proc/{}/exe", process.pid()))
        .map_err(|error| Undetermined::of_proc("unix", "path", &error))?;
    let Some(claimed) = link.to_str() else {
        return Err(Undetermined::passing("unix", "path", "the path of the executable is not UTF-8".to_owned()));
    };
    let is_running =
        |path: &str| fs::metadata(path).is_ok_and(|file| running == FileId { dev: file.dev(), inode: file.ino() });
    if is_running(claimed) || is_running(&format!("/proc/1/root{claimed}")) {
        return Ok(claimed.to_owned());
    }
    Err(Undetermined::other_file(claimed.strip_suffix(" (deleted)").unwrap_or(claimed).to_owned()))
}

#[cfg(test)]
mod tests;
