use std::{
    fs,
    os::unix::{fs::symlink, net::UnixListener},
    path::{Path, PathBuf},
    process::Command,
};

use mayfly_rig::{Rig, eventually, mayfly};

use super::{jwt, not_run, ready, text};

/// A file system of its own; gone when this is dropped.
struct Mount(PathBuf);

impl Mount {
    /// Mounts an empty file system in memory; none: we may not.
    fn tmpfs(at: &Path, options: &str) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).output().ok()?;
        if mounted.status.success() {
            return Some(Self(at.into()));
        }
        not_run(&format!("a test that needs root to mount: {}", text(&mounted.stderr)));
        None
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

#[test]
fn a_full_disk_refuses_issuing_and_room_mends_it() {
    let mut rig = Rig::new(&[]);
    let Some(_mount) = Mount::tmpfs(&rig.issuer_state(), "size=8m,mode=0700") else { return };
    rig.start_issuer();
    rig.start_agent("a");
    rig.apply(&rig.entry("workload", ""));
    eventually("a JWT-SVID is issued", 10, || jwt(&rig, "before").ok());

    let ballast = rig.issuer_state().join("ballast");
    fill(&ballast);
    let told = eventually("a full disk is noticed", 60, || {
        let output = rig.run(&["--output", "json", "join-token", "create"]);
        (!output.status.success()).then(|| text(&output.stderr))
    });
    assert!(told.contains("store_full") && told.contains("make room"), "{told}");
    // The write of an administrator has failed, and nothing was minted since.
    let issuer = format!("{}:9464", rig.ip());
    let state = ready(&issuer);
    assert!(state.starts_with("HTTP/1.1 503") && state.contains("store_full"), "{state}");
    assert!(jwt(&rig, "during").is_err(), "something was issued that was not recorded");

    fs::remove_file(&ballast).unwrap();
    // Nobody asks for anything: whoever balances load waits for readiness first.
    eventually("the issuer is ready", 30, || ready(&issuer).starts_with("HTTP/1.1 200").then_some(()));
    eventually("a JWT-SVID is issued again", 60, || jwt(&rig, "after").ok());
    assert!(rig.run(&["join-token", "create"]).status.success());
    rig.stop_issuer();
}

/// Takes all the room that there is.
fn fill(ballast: &Path) {
    use std::io::Write as _;
    let mut file = fs::File::create(ballast).unwrap();
    for size in [1 << 16, 1 << 12, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

/// Starts a daemon that must end by itself within 10 s, and gives what it said.
fn refused(rig: &Rig, daemon: &str, config: &str) -> String {
    let path = rig.dir().join(format!("{daemon}-refused.toml"));
    fs::write(&path, config).unwrap();
    let log = rig.dir().join("refused.log");
    fs::remove_file(&log).ok();
    let mut command = Command::new(mayfly());
    command.args([daemon, "run", "--config"]).arg(path);
    let mut process = mayfly_rig::Daemon::start(command, log);
    eventually("the daemon refuses to start", 10, || (!process.is_running()).then_some(()));
    let said = process.log();
    assert!(!process.stop().success(), "{said}");
    assert!(said.contains("->"), "there is no remedy: {said}");
    said
}

fn agent_config(rig: &Rig, state: &Path, socket: &Path) -> String {
    format!(
        "trust_domain = \"test.example\"\nstate_dir = \"{}\"\nsocket = \"{}\"\nruntime_dir = \"{}\"\nissuer.addresses = \
         [\"{}\"]\nmetrics.listen = \"{}:9465\"\n",
        state.display(),
        socket.display(),
        rig.dir().join("runtime").display(),
        rig.issuer_address(),
        rig.ip()
    )
}

#[test]
fn a_read_only_state_directory_is_named() {
    let rig = Rig::new(&[]);
    let place = rig.dir().join("read-only");
    let Some(_mount) = Mount::tmpfs(&place, "ro") else { return };
    let issuer = format!(
        "trust_domain = \"test.example\"\nstate_dir = \"{}\"\nlisten = \"{}\"\nadmin_socket = \"{}\"\nmetrics.listen = \"\"\nweb.listen = \"\"\n",
        place.join("issuer").display(),
        rig.issuer_address(),
        rig.admin_socket().display()
    );
    let agent = agent_config(&rig, &place.join("agent"), &rig.dir().join("run/api.sock"));
    for (daemon, config) in [("issuer", issuer), ("agent", agent)] {
        let said = refused(&rig, daemon, &config);
        assert!(said.contains("read-only") && said.contains("Read-only file system"), "{said}");
    }
}

/// Rows: WE-20.
#[test]
fn a_socket_path_that_is_a_link_or_a_file_or_taken_is_left_alone() {
    let rig = Rig::new(&[]);
    let run = rig.dir().join("run");
    fs::create_dir(&run).unwrap();
    let (link, file, taken) = (run.join("link.sock"), run.join("file.sock"), run.join("taken.sock"));
    symlink(rig.dir().join("elsewhere"), &link).unwrap();
    fs::write(&file, "precious").unwrap();
    let _listener = UnixListener::bind(&taken).unwrap();
    for (socket, says) in [(&link, "symbolic link"), (&file, "not a socket"), (&taken, "taken.sock")] {
        let said = refused(&rig, "agent", &agent_config(&rig, &rig.dir().join("state"), socket));
        assert!(said.contains(says) && said.contains(socket.to_str().unwrap()), "{said}");
    }
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink() && !rig.dir().join("elsewhere").exists());
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    std::os::unix::net::UnixStream::connect(&taken).unwrap();
}
