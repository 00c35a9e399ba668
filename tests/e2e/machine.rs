//! Machines within this one: namespaces with systemd as their first process, and a network cable between two of them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use mayfly_rig::{Daemon, eventually};
use tempfile::TempDir;

const SCRIPT: &str = include_str!("machine/boot.sh");

/// A machine that runs; it and everything in it ends with this value.
pub(crate) struct Machine {
    daemon: Option<Daemon>,
    /// The first process of the machine, as this one sees it.
    init: u32,
    cgroup: PathBuf,
    _dir: TempDir,
}

/// Whether there can be machines here; where not, it is said what was not run.
pub(crate) fn to_be_had(what: &str) -> bool {
    use std::io::Write as _;
    let lacking = lacking();
    if let Some(why) = &lacking {
        // Past the test harness's capture, which hides what passes.
        let mut uncaptured = std::io::stderr();
        writeln!(uncaptured, "NOT RUN: {what}: {why}").unwrap();
    }
    lacking.is_none()
}

/// Why there can be none.
fn lacking() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("it needs root".to_owned());
    }
    for program in ["/lib/systemd/systemd", "/usr/bin/nsenter", "/usr/bin/curl"] {
        if !Path::new(program).exists() {
            return Some(format!("{program} is missing"));
        }
    }
    if Command::new("ip").arg("-V").output().is_err() {
        return Some("ip (iproute2) is missing".to_owned());
    }
    if cgroups().is_none() {
        return Some("there is no cgroup v2".to_owned());
    }
    let tried = Command::new("unshare")
        .args(["--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--fork", "sh", "-ec"])
        .arg("d=$(mktemp -d); mount -t tmpfs none $d; mkdir $d/u $d/w $d/m; mount -t overlay none -o lowerdir=/etc,upperdir=$d/u,workdir=$d/w $d/m; mount -t cgroup2 none $d/u; umount $d/u $d/m $d; rmdir $d")
        .output()
        .unwrap();
    (!tried.status.success()).then(|| format!("no namespaces to be had: {}", String::from_utf8_lossy(&tried.stderr)))
}

/// Where cgroups of version 2 are.
fn cgroups() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let mount = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|words| words[2] == "cgroup2")?;
    Some(PathBuf::from(mount[1]))
}

impl Machine {
    /// Boots one.
    pub(crate) fn boot(name: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("mayfly-machine-").tempdir().unwrap();
        let cgroup = cgroups().unwrap().join(dir.path().file_name().unwrap());
        fs::create_dir(&cgroup).unwrap();
        let script = dir.path().with_extension("sh");
        fs::write(&script, SCRIPT).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec unshare --mount --pid --net --uts --ipc --cgroup --fork --kill-child --propagation private sh \"$@\""]);
        command.arg(&cgroup).arg(&script).arg(dir.path()).arg(name);
        let log = dir.path().with_extension("log");
        let mut machine = Self { daemon: None, init: 0, cgroup, _dir: dir };
        let daemon = machine.daemon.insert(Daemon::start(command, log.clone()));
        machine.init = eventually("the machine has a first process", 60, || {
            assert!(daemon.is_running(), "{name} did not boot: {}", daemon.log());
            let children = format!("/proc/{0}/task/{0}/children", daemon.id());
            fs::read_to_string(children).ok()?.split_whitespace().next()?.parse().ok()
        });
        let mut booted = String::new();
        for _ in 0..1800 {
            let output = machine.at_root("systemctl is-system-running || systemctl list-units --failed --no-legend");
            booted = String::from_utf8_lossy(&output.stdout).into_owned();
            if booted.contains("running\n") {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        assert!(booted.contains("running\n"), "{name}: {booted}{}", fs::read_to_string(&log).unwrap_or_default());
        fs::remove_file(script).unwrap();
        fs::remove_file(log).unwrap();
        machine
    }

    /// Puts a cable between two machines, and tells each the other's name.
    pub(crate) fn connect(&self, address: &str, other: &Self, other_address: &str, other_name: &str) {
        let (init, other_init) = (self.init.to_string(), other.init.to_string());
        let laid = Command::new("ip")
            .args(["link", "add", "eth0", "netns", &init, "type", "veth", "peer", "name", "eth0", "netns", &other_init])
            .output()
            .unwrap();
        assert!(laid.status.success(), "{}", String::from_utf8_lossy(&laid.stderr));
        for (machine, address) in [(self, address), (other, other_address)] {
            let up = format!("ip link set lo up && ip address add {address}/24 dev eth0 && ip link set eth0 up");
            let up = machine.at_root(&up);
            assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
        }
        let named = self.at_root(&format!("echo '{other_address} {other_name}' >> /etc/hosts"));
        assert!(named.status.success(), "{}", String::from_utf8_lossy(&named.stderr));
    }

    /// The machine's `/root/mayfly`, where the commands run.
    pub(crate) fn directory(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/root/mayfly", self.init))
    }

    /// Runs commands as root of the machine, as a person at its console does; the first that fails ends them.
    pub(crate) fn at_root(&self, commands: &str) -> Output {
        let mut command = Command::new("timeout");
        command.args(["300", "nsenter", "--target", &self.init.to_string()]);
        command.args(["--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup"]);
        command.args(["--root", "--wd"]).args(["env", "-i", "HOME=/root"]);
        command.arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.args(["bash", "-euc", &format!("cd /root/mayfly\n{commands}")]).output().unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Its first process takes all others with it.
        if self.init != 0 {
            let init = nix::unistd::Pid::from_raw(self.init.cast_signed());
            nix::sys::signal::kill(init, nix::sys::signal::Signal::SIGKILL).ok();
        }
        drop(self.daemon.take());
        for _ in 0..50 {
            remove_groups(&self.cgroup);
            if !self.cgroup.exists() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
}

/// A cgroup goes when nothing is in it any more.
fn remove_groups(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    fs::remove_dir(group).ok();
}
