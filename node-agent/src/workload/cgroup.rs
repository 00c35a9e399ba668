//! `cgroup:path`: the control group of a process.

use std::fs;

use super::{Attestor, Facts, HeldProcess, Needs, Undetermined};

/// The attestor of `cgroup:path`, such as `/system.slice/nginx.service` or `/docker/<id>`.
#[derive(Debug)]
pub(super) struct Cgroup;

impl Attestor for Cgroup {
    fn name(&self) -> &'static str {
        "cgroup"
    }

    fn attest(&self, process: &HeldProcess, needs: &Needs) -> Facts {
        let mut facts = Facts::none("cgroup");
        if needs.want("cgroup", "path") {
            facts.add_or_undetermined("path", path(process, "cgroup", "path"));
        }
        facts
    }
}

/// The path of the process's cgroup, as seen from the node agent's cgroup namespace.
pub(super) fn path(process: &HeldProcess, kind: &'static str, key: &'static str) -> Result<String, Undetermined> {
    if process.pid() == 0 {
        return Err(Undetermined::other_pid_namespace(kind, key));
    }
    let lines = fs::read_to_string(format!("/proc/{}/cgroup", process.pid()))
        .map_err(|error| Undetermined::of_proc(kind, key, &error))?;
    match path_of(&lines) {
        Some(path) if path.starts_with("/..") => Err(Undetermined::other_cgroup_namespace(kind, key)),
        Some(path) => Ok(path.to_owned()),
        None => Err(Undetermined::passing(kind, key, "the kernel names no cgroup for the process".to_owned())),
    }
}

/// Picks the line that says where the process is, of the lines `ID:CONTROLLERS:PATH` of `cgroups(7)`.
///
/// The unified hierarchy (`0::`), unless it says `/` and a version 1 hierarchy says more: machines exist where both are mounted and only the old
/// one is in use. Of those, systemd's own comes first, then those that every container runtime uses, then any.
pub(super) fn path_of(lines: &str) -> Option<&str> {
    const PREFERRED: [&str; 4] = ["", "name=systemd", "memory", "pids"];
    let hierarchies =
        || lines.split('\n').filter_map(|line| line.splitn(3, ':').skip(1).collect::<Vec<_>>().try_into().ok());
    let deeper = |[_, path]: &[&str; 2]| *path != "/";
    for preferred in PREFERRED {
        let found = hierarchies()
            .find(|hierarchy: &[&str; 2]| hierarchy[0].split(',').any(|name| name == preferred) && deeper(hierarchy));
        if let Some([_, path]) = found {
            return Some(path);
        }
    }
    hierarchies().find(deeper).or_else(|| hierarchies().next()).map(|[_, path]| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "12:memory:/docker/abc\n11:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n0::/\n";

    #[test]
    fn the_unified_hierarchy_is_read() {
        assert_eq!(path_of("0::/system.slice/nginx.service\n"), Some("/system.slice/nginx.service"));
        assert_eq!(path_of("0::/a:b\n"), Some("/a:b"));
        assert_eq!(path_of("0::/a\r\n"), Some("/a\r"), "another group than /a");
    }

    #[test]
    fn an_empty_unified_line_does_not_hide_the_old_ones() {
        assert_eq!(path_of(HYBRID), Some("/docker/abc"));
        assert_eq!(path_of("3:pids:/p\n2:cpu,memory:/m\n0::/\n"), Some("/m"));
        assert_eq!(path_of("2:rdma:/\n1:net_cls:/n\n0::/\n"), Some("/n"));
    }

    #[test]
    fn both_used_means_the_unified_one() {
        assert_eq!(path_of("1:name=systemd:/old\n0::/new\n"), Some("/new"));
    }

    #[test]
    fn a_process_in_no_group_is_at_the_root() {
        assert_eq!(path_of("2:cpu:/\n0::/\n"), Some("/"));
        assert_eq!(path_of(""), None);
        assert_eq!(path_of("nonsense\n\n::\n"), Some(""));
    }
}
