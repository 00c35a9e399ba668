//! Daemons under a service manager, which this test plays: it hears when they serve, and keeps a descriptor for the agent.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use mayfly_rig::{Rig, eventually, install, mayfly};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use crate::attacks::{not_run, x509_serial};

#[test]
fn an_agent_takes_up_its_identities_with_the_key_that_its_manager_kept() {
    let mut rig = Rig::new(&[]);
    let path = rig.dir().join("notify.sock");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    rig.set_environment(&[("NOTIFY_SOCKET", path.to_str().unwrap()), ("MAYFLY_AGENT__WARM_RESTART", "systemd")]);

    rig.start_issuer();
    assert_eq!(received(&manager).0, "READY=1", "the issuer serves");
    rig.start_agent("a");
    let (asked, kept) = received(&manager);
    assert_eq!(asked, "FDSTORE=1\nFDNAME=mayfly-agent-warm");
    let kept = kept.expect("a descriptor to keep");
    assert_eq!(received(&manager).0, "READY=1", "the agent serves");

    rig.apply(&rig.entry("workload", ""));
    let serial = eventually("the workload has an identity", 20, || x509_serial(&rig, "a"));
    eventually("the warm state is written", 20, || {
        // Written once a second; the identity came before.
        std::thread::sleep(Duration::from_secs(2));
        rig.dir().join("run-a/agent/warm.sealed").exists().then_some(())
    });
    rig.stop_issuer();
    assert_eq!(received(&manager).0, "STOPPING=1");
    rig.stop_agent("a");
    assert_eq!(received(&manager).0, "STOPPING=1");

    let held = format!("/proc/{}/fd/{}", std::process::id(), kept.as_raw_fd());
    let named = |name: &str| handing_over(&rig, &held, name);
    let (other, ours) = (named("other"), named("mayfly-agent-warm"));
    rig.set_program(ours);
    rig.launch_agent("a");
    assert_eq!(received(&manager).0, "READY=1", "with the key that was kept it asks for no other one");
    assert_eq!(eventually("the identity is there again", 20, || x509_serial(&rig, "a")), serial);
    rig.stop_agent("a");
    assert_eq!(received(&manager).0, "STOPPING=1");

    // Another service's descriptor is none of ours, and without the key the state stays closed.
    rig.set_program(other);
    rig.launch_agent("a");
    assert!(received(&manager).0.starts_with("FDSTORE=1"), "it asks for a new key to be kept");
    assert_eq!(received(&manager).0, "READY=1");
    assert_eq!(x509_serial(&rig, "a"), None, "nothing is served from a state that cannot be opened");
}

/// A message to the manager, and the descriptor that came with it.
fn received(manager: &UnixDatagram) -> (String, Option<OwnedFd>) {
    let mut bytes = [0; 256];
    let mut control = nix::cmsg_space!([std::os::fd::RawFd; 1]);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let message =
        recvmsg::<()>(manager.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC).unwrap();
    let mut descriptors = message.cmsgs().unwrap().filter_map(|control| match control {
        ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
        _ => None,
    });
    // SAFETY: the kernel has just made it for this process, and nobody else knows of it.
    #[expect(unsafe_code, reason = "a descriptor that came in a message")]
    let descriptor = descriptors.next().map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) });
    let length = message.bytes;
    (String::from_utf8(bytes[..length].to_vec()).unwrap(), descriptor)
}

/// A program that runs `mayfly` with a descriptor as systemd hands it over.
fn handing_over(rig: &Rig, descriptor: &str, name: &str) -> PathBuf {
    let path = rig.dir().join(format!("with-{name}"));
    let script = format!(
        "#!/bin/sh\nexport LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES={name}\nexec {} \"$@\" 3<{descriptor}\n",
        mayfly().display()
    );
    let text = path.with_extension("text");
    std::fs::write(&text, script).unwrap();
    install(&text, &path);
    path
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units_and_little_that_they_could_do_harm_with() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return not_run("systemd-analyze is missing");
    }
    let dir = tempfile::tempdir().unwrap();
    let units = mayfly_rig::repository().join("deploy/systemd");
    let copies: Vec<_> = ["mayfly-issuer.service", "mayfly-agent.service"]
        .map(|unit| {
            // systemd wants to see the program, which is not installed here.
            let text = std::fs::read_to_string(units.join(unit)).unwrap();
            std::fs::write(dir.path().join(unit), text.replace("/usr/local/bin/mayfly", mayfly().to_str().unwrap()))
                .unwrap();
            dir.path().join(unit)
        })
        .into();
    let verified = analyze(&["verify", "--man=no"], &copies);
    assert!(verified.0 && verified.1.is_empty(), "{}", verified.1);
    for copy in copies {
        // Tenths of systemd's measure of what a service could do: 100 is everything. The agent has to see other processes.
        let at_most = if copy.ends_with("mayfly-issuer.service") { "--threshold=20" } else { "--threshold=35" };
        let exposed = analyze(&["security", "--offline=true", "--no-pager", at_most], &[copy]);
        assert!(exposed.0, "{}", exposed.1);
    }
}

/// Whether it succeeded, and everything that it said.
fn analyze(args: &[&str], units: &[PathBuf]) -> (bool, String) {
    let output = Command::new("systemd-analyze").args(args).args(units).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}
