use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use mayfly_sdk::selector::Selector;
use ring::digest::{SHA256, digest};

use super::*;
use crate::workload::running::Running;
use crate::workload::{Attestation, Attestors, Verdict};

fn copy(at: &Path) -> Running {
    install(&sleep(), at);
    Running::sleep(at)
}

/// By another process: a descriptor of this one that is open for writing would for a moment also be open in whatever another test
/// starts just then, and the kernel runs no file that somebody may write to.
fn install(program: &Path, at: &Path) {
    assert!(Command::new("install").args(["-m", "755"]).args([program, at]).status().unwrap().success());
}

fn sleep() -> PathBuf {
    fs::canonicalize("/bin/sleep").unwrap()
}

fn selector(text: &str) -> Selector {
    text.parse().unwrap()
}

async fn attest(process: &Arc<HeldProcess>, needs: &[&str]) -> Attestation {
    let needs: Vec<_> = needs.iter().map(|name| selector(&format!("unix:{name}:x"))).collect();
    Attestors::new().attest(process, &Needs::of(&needs)).await.unwrap()
}

#[tokio::test]
async fn two_copies_of_a_program_differ_by_path_alone() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().canonicalize().unwrap();
    let paths = [directory.join("one"), directory.join("two")];
    let mut found = Vec::new();
    for path in &paths {
        let running = copy(path);
        found.push(attest(&running.held(), &["path", "sha256"]).await);
    }
    let path = |n: usize| selector(&format!("unix:path:{}", paths[n].display()));
    let sha256 = selector(&format!("unix:sha256:{}", hex::encode(digest(&SHA256, &fs::read(sleep()).unwrap()))));
    for (mine, other) in [(0, 1), (1, 0)] {
        assert_eq!(found[mine].judge(&[path(mine), sha256.clone()]), Verdict::Holds);
        assert_eq!(found[mine].judge(&[path(other)]), Verdict::Fails);
        assert_eq!(found[mine].undetermined, []);
    }
}

#[tokio::test]
async fn users_and_groups_are_named() {
    let running = Running::sleep("sleep");
    let found = attest(&running.held(), &["user", "group", "supplementary_gid", "supplementary_group"]).await;
    let user = User::from_uid(Uid::effective()).unwrap().unwrap();
    assert!(found.facts.contains(&selector(&format!("unix:uid:{}", user.uid))));
    assert!(found.facts.contains(&selector(&format!("unix:user:{}", user.name))));
    let group = Group::from_gid(Gid::effective()).unwrap().unwrap();
    assert!(found.facts.contains(&selector(&format!("unix:gid:{}", group.gid))));
    assert!(found.facts.contains(&selector(&format!("unix:group:{}", group.name))));
    for gid in nix::unistd::getgroups().unwrap() {
        assert!(found.facts.contains(&selector(&format!("unix:supplementary_gid:{gid}"))));
    }
}

#[tokio::test]
async fn a_user_without_a_name_has_none() {
    let mut command = Command::new("sleep");
    command.arg("600").uid(54_321).gid(54_322);
    let Ok(running) = Running::start(&mut command) else {
        eprintln!("skipped: only root can run a process as another user");
        return;
    };
    let found = attest(&running.held(), &["user", "group"]).await;
    assert_eq!(found.judge(&[selector("unix:uid:54321"), selector("unix:gid:54322")]), Verdict::Holds);
    assert_eq!(found.judge(&[selector("unix:user:root")]), Verdict::Fails);
    assert_eq!(found.undetermined, []);
}

#[tokio::test]
async fn what_no_entry_asks_for_is_not_computed() {
    let running = Running::sleep("sleep");
    let found = attest(&running.held(), &[]).await;
    let keys: Vec<_> = found.facts.iter().map(Selector::key).collect();
    assert_eq!(keys, ["gid", "uid"]);
}

#[tokio::test]
async fn a_program_that_was_replaced_on_disk_is_not_the_one_at_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().canonicalize().unwrap().join("app");
    let running = copy(&path);
    let process = running.held();
    fs::write(path.with_extension("new"), "another").unwrap();
    fs::rename(path.with_extension("new"), &path).unwrap();
    let found = attest(&process, &["path", "sha256"]).await;
    let claimed = selector(&format!("unix:path:{}", path.display()));
    let Verdict::Undetermined(why) = found.judge([&claimed]) else { panic!("{found:?}") };
    assert!(why.remedy.contains("restart the workload"), "{why:?}");
    assert_eq!(found.judge(&[selector("unix:path:/usr/bin/other")]), Verdict::Fails, "it was never there");
    let sha256 = selector(&format!("unix:sha256:{}", hex::encode(digest(&SHA256, &fs::read(sleep()).unwrap()))));
    assert_eq!(found.judge(&[sha256]), Verdict::Holds, "of the file that runs");
}

#[tokio::test]
async fn a_mount_namespace_of_ones_own_does_not_lend_a_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().canonicalize().unwrap().join("trusted");
    fs::write(&path, "the real one").unwrap();
    let script = format!("mount --bind {} {path} && exec {path} 600", sleep().display(), path = path.display());
    let running = Running::start(Command::new("unshare").args(["-m", "sh", "-c", &script])).unwrap();
    // Until the shell has become `sleep`.
    let mut claims = false;
    for _ in 0..2000 {
        claims = fs::read_link(format!("/proc/{}/exe", running.pid())).is_ok_and(|link| link == path);
        if claims {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    if !claims {
        eprintln!("skipped: no mount namespaces here");
        return;
    }
    let found = attest(&running.held(), &["path"]).await;
    assert!(found.facts.iter().all(|fact| fact.key() != "path"), "{found:?}");
    assert!(matches!(found.judge(&[selector(&format!("unix:path:{}", path.display()))]), Verdict::Undetermined(_)));
}

#[test]
fn groups_are_read_from_the_status() {
    assert_eq!(gids_of("Name:\tx\nGroups:\t4 24 1000 \nNStgid:\t1\n"), Some(vec![4, 24, 1000]));
    assert_eq!(gids_of("Groups:\t\n"), Some(vec![]));
    assert_eq!(gids_of("Groups:\t4 x\n"), None);
    assert_eq!(gids_of("Name:\tGroups: 0\n"), None);
}

const VARIABLE: &str = "MAYFLY_TEST_UNPRIVILEGED";

#[test]
fn without_the_privilege_path_and_digest_are_undetermined() {
    let root = Running::sleep("sleep");
    // A copy, for the build directory may be closed to others.
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let program = directory.path().join("test");
    install(&std::env::current_exe().unwrap(), &program);
    let mut command = Command::new(program);
    command.args(["--exact", "workload::unix::tests::other_user", "--nocapture"]).env(VARIABLE, root.pid().to_string());
    match command.uid(54_321).gid(54_322).output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(_) => eprintln!("skipped: only root can run a process as another user"),
    }
}

/// Not a test of its own: what the process of another user runs.
#[test]
#[expect(clippy::disallowed_methods, reason = "how the test talks to its other process")]
fn other_user() {
    let Ok(pid) = std::env::var(VARIABLE) else { return };
    let process = Arc::new(HeldProcess::of_pid(pid.parse().unwrap()).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let found = runtime.block_on(attest(&process, &["path", "sha256", "uid"]));
    assert_eq!(found.judge(&[selector("unix:uid:0")]), Verdict::Holds);
    for text in ["unix:path:/usr/bin/sleep", "unix:sha256:00"] {
        let Verdict::Undetermined(why) = found.judge(&[selector(text)]) else { panic!("{text}: {found:?}") };
        assert!(why.remedy.contains("CAP_SYS_PTRACE"), "{why:?}");
    }
    assert_eq!(
        found.judge(&[selector("unix:path:/usr/bin/sleep"), selector("unix:uid:1")]),
        Verdict::Fails,
        "what fails for certain fails"
    );
    assert!(matches!(process.same_executable(), crate::workload::Program::Undetermined(_)));
}
