//! SVIDs as files, kept current by `svid x509 watch`, and the command that runs after each swap.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use mayfly_rig::{Daemon, Rig, eventually, mayfly};
use nix::{
    sys::signal::Signal,
    unistd::{getegid, geteuid},
};

/// SVIDs of 6 s are renewed every 3 s.
const SHORT: [(&str, &str); 2] = [("ttl.allow_short_ttl", "true"), ("ttl.x509", "\"6s\"")];

/// A trust domain with one workload, and `svid x509 watch` of it.
struct Kept {
    watch: Daemon,
    dir: PathBuf,
    rig: Rig,
}

impl Kept {
    fn start(more: &[&str]) -> Self {
        let rig = Rig::started(&SHORT);
        rig.apply(&rig.entry("files", ""));
        let dir = rig.dir().join("svid");
        let mut command = Command::new(mayfly());
        command.args(["svid", "x509", "watch", "--write"]).arg(&dir).args(more);
        command.env("SPIFFE_ENDPOINT_SOCKET", rig.endpoint("a")).env("PLACE", rig.dir());
        let watch = Daemon::start(command, rig.dir().join("watch.log"));
        let kept = Self { watch, dir, rig };
        eventually("the files are written", 20, || kept.certificate().map(drop));
        kept
    }

    fn certificate(&self) -> Option<String> {
        fs::read_to_string(self.dir.join("svid.pem")).ok()
    }

    /// Waits until another certificate is there.
    fn renewed(&self) {
        let before = self.certificate();
        eventually("the next SVID is written", 30, || {
            let now = self.certificate();
            (now.is_some() && now != before).then_some(())
        });
    }

    /// A file that a command leaves beside the files of the SVID.
    fn place(&self, name: &str) -> PathBuf {
        self.rig.dir().join(name)
    }
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn the_command_runs_after_each_swap_and_finds_the_new_files() {
    let kept = Kept::start(&["--on-update", r#"sh -c 'cksum < "$MAYFLY_SVID_DIR/svid.pem" >> "$PLACE/seen"'"#]);
    let seen = kept.place("seen");
    for _ in 0..3 {
        kept.renewed();
    }
    eventually("it ran after each of four swaps", 30, || (lines(&seen).len() >= 4).then_some(()));
    let different: BTreeSet<_> = lines(&seen).into_iter().collect();
    assert!(different.len() >= 4, "{different:?}");
}

#[test]
fn owner_and_mode_are_those_that_were_asked_for_at_every_renewal() {
    // Whoever is not root can give files to nobody but himself.
    let owner = if geteuid().is_root() { (65_534, 65_533) } else { (geteuid().as_raw(), getegid().as_raw()) };
    let kept = Kept::start(&["--owner", &format!("{}:{}", owner.0, owner.1), "--mode", "0640"]);
    for _ in 0..2 {
        let set = fs::canonicalize(kept.dir.join("..data")).unwrap();
        for (name, mode) in [("svid.pem", 0o644), ("key.pem", 0o640), ("bundle.pem", 0o644)] {
            // The set may have been swapped meanwhile; then the next round looks at another.
            let Ok(metadata) = fs::metadata(set.join(name)) else { continue };
            assert_eq!((metadata.uid(), metadata.gid()), owner, "{name}");
            assert_eq!(metadata.permissions().mode() & 0o7777, mode, "{name}");
        }
        kept.renewed();
    }
}

#[test]
fn a_command_that_runs_when_the_watch_ends_may_finish() {
    let hook = r#"sh -c 'touch "$PLACE/begun"; sleep 3; touch "$PLACE/finished"'"#;
    let kept = Kept::start(&["--on-update", hook]);
    eventually("the command runs", 20, || kept.place("begun").exists().then_some(()));
    assert!(!kept.place("finished").exists());
    let finished = kept.place("finished");
    let Kept { watch, rig: _rig, .. } = kept;
    watch.signal(Signal::SIGTERM);
    assert!(watch.stop().success());
    assert!(finished.exists(), "it was cut off");
}

#[test]
fn files_that_cannot_be_replaced_stay_and_the_watch_goes_on_until_they_can() {
    let mut kept = Kept::start(&[]);
    let mode = |mode| fs::set_permissions(&kept.dir, fs::Permissions::from_mode(mode)).unwrap();
    // A directory that others may write is refused.
    mode(0o777);
    let before = kept.certificate();
    eventually("the refusal is told", 30, || kept.watch.log().contains("can be written by others").then_some(()));
    assert!(kept.watch.is_running(), "{}", kept.watch.log());
    assert_eq!(kept.certificate(), before);
    fs::set_permissions(&kept.dir, fs::Permissions::from_mode(0o755)).unwrap();
    kept.renewed();
    assert!(kept.watch.is_running(), "{}", kept.watch.log());
}
