//! What the fuzzer calls.

use super::{cgroup, process, systemd, unix};

/// Reads a text as the files of a process in `/proc`, and as a name that the process chose for itself in them.
///
/// # Panics
/// If a process can change by its own name what is read elsewhere in these files.
#[doc(hidden)]
pub fn fuzz_process_files(text: &str) {
    for path in cgroup::path_of(text).into_iter().chain([text]) {
        assert!(text.contains(path), "no path of the file");
        assert!(systemd::unit(path).is_none_or(|unit| !unit.contains('/')), "a unit is one name");
        assert!(systemd::slice(path).is_none() || systemd::unit(path).is_some(), "a slice without a unit");
    }
    process::start_time_of(text);
    unix::gids_of(text);

    // The command's name (`prctl`, PR_SET_NAME) may be any bytes.
    let stat = format!("7 ({text}) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 1000 1 18446744073709551615");
    assert_eq!(process::start_time_of(&stat), Some(4711), "the start time of a process called {text:?}");
    // In these two files the kernel writes no name with a line feed: `status` escapes it, and no cgroup may have one.
    let name = text.replace('\n', "");
    assert_eq!(unix::gids_of(&format!("Name:\t{name}\nGroups:\t4 20 \n")), Some(vec![4, 20]), "groups of {name:?}");
    let below = format!("/user.slice/user-1000.slice/user@1000.service/{name}");
    assert_eq!(cgroup::path_of(&format!("0::{below}\n")), Some(below.as_str()), "the cgroup {name:?}");
    assert_eq!(systemd::unit(&below), Some("user@1000.service"), "the unit of the cgroup {name:?}");
    assert_eq!(systemd::slice(&below), Some("user-1000.slice"), "the slice of the cgroup {name:?}");
}
