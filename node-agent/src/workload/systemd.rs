//! `systemd:unit` and `systemd:slice`: under which unit of the system's service manager a process runs.
//!
//! Read from the cgroup path, as systemd itself does (`cg_path_get_unit`): the unit is the first component that is no slice. What lies below is
//! delegated, and its owner may name it as he likes: a user can make `user@1000.service/nginx.service`, and is still `user@1000.service` here.

use super::{Attestor, Facts, HeldProcess, Needs, cgroup};

/// The attestor of `systemd:unit` and `systemd:slice`.
#[derive(Debug)]
pub(super) struct Systemd;

impl Attestor for Systemd {
    fn name(&self) -> &'static str {
        "systemd"
    }

    fn attest(&self, process: &HeldProcess, needs: &Needs) -> Facts {
        let mut facts = Facts::none("systemd");
        for (key, part) in [("unit", unit as fn(&str) -> Option<&str>), ("slice", slice)] {
            if !needs.want("systemd", key) {
                continue;
            }
            match cgroup::path(process, "systemd", key) {
                Ok(path) => part(&path).into_iter().for_each(|name| facts.add(key, name)),
                Err(undetermined) => facts.undetermined(undetermined),
            }
        }
        facts
    }
}

/// The kinds of unit that have processes.
const UNITS: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];

pub(super) fn unit(path: &str) -> Option<&str> {
    let name = components(path).find(|name| !is_slice(name))?;
    UNITS.iter().any(|kind| name.strip_suffix(kind).is_some_and(|stem| !stem.is_empty())).then_some(name)
}

pub(super) fn slice(path: &str) -> Option<&str> {
    unit(path)?;
    components(path).take_while(|name| is_slice(name)).last()
}

fn is_slice(name: &str) -> bool {
    name.strip_suffix(".slice").is_some_and(|stem| !stem.is_empty())
}

/// The names in a cgroup path; systemd puts `_` before those that would be taken for the kernel's.
fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty()).map(|name| name.strip_prefix('_').unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_slices_are_read_from_the_path() {
        for (path, expected) in [
            ("/system.slice/nginx.service", (Some("nginx.service"), Some("system.slice"))),
            (
                "/system.slice/system-getty.slice/getty@tty1.service",
                (Some("getty@tty1.service"), Some("system-getty.slice")),
            ),
            ("/user.slice/user-1000.slice/session-3.scope", (Some("session-3.scope"), Some("user-1000.slice"))),
            ("/system.slice/docker-0123.scope/init", (Some("docker-0123.scope"), Some("system.slice"))),
            ("/init.scope", (Some("init.scope"), None)),
            ("/system.slice/_cgroup.service", (Some("cgroup.service"), Some("system.slice"))),
            ("/docker/0123", (None, None)),
            ("/", (None, None)),
            ("/system.slice", (None, None)),
            ("/system.slice/.service", (None, None)),
        ] {
            assert_eq!((unit(path), slice(path)), expected, "{path}");
        }
    }

    #[test]
    fn a_user_cannot_pass_for_a_system_service() {
        let path = "/user.slice/user-1000.slice/user@1000.service/nginx.service";
        assert_eq!(unit(path), Some("user@1000.service"));
        let path = "/user.slice/user-1000.slice/user@1000.service/system.slice/nginx.service";
        assert_eq!(slice(path), Some("user-1000.slice"));
    }
}
