use super::*;
use crate::workload::running::Running;

/// Asks again until the answer is another one.
fn until_not(process: &HeldProcess, answer: &Program) -> Program {
    loop {
        let now = process.same_executable();
        if now != *answer {
            return now;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_zombie_is_dead() {
    let mut child = Running::shell();
    let process = child.held();
    assert!(process.alive());
    assert_eq!(process.same_executable(), Program::Same);
    child.0.kill().unwrap();
    // Nobody has waited for it, so that its pid is still taken and /proc still shows it.
    while process.alive() {
        std::thread::yield_now();
    }
    assert!(fs::exists(format!("/proc/{}", process.pid())).unwrap());
    assert_eq!(process.same_executable(), Program::Dead);
    assert!(matches!(HeldProcess::of_pid(process.pid()), Err(HoldError::Dead)));
    child.0.wait().unwrap();
    assert!(!process.alive());
}

#[test]
fn a_process_that_execs_is_another_program() {
    let mut child = Running::shell();
    let process = child.held();
    let shell = process.executable().unwrap();
    child.exec();
    assert_eq!(until_not(&process, &Program::Same), Program::Changed);
    assert!(process.alive(), "it lives, with the same pid");
    assert_eq!(process.executable().unwrap(), shell, "what it was when it was held");
    drop(child);
    assert_eq!(process.same_executable(), Program::Dead);
}

#[test]
fn a_pid_that_is_free_holds_nobody() {
    let child = Running::shell();
    let pid = child.pid();
    drop(child);
    assert!(matches!(HeldProcess::of_pid(pid), Err(HoldError::Dead)));
}

#[test]
fn both_ends_of_a_pair_are_this_process() {
    let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let process = HeldProcess::of_peer(&one).unwrap();
    assert_eq!(u32::try_from(process.pid()).unwrap(), std::process::id());
    assert_eq!(process.uid(), nix::unistd::geteuid().as_raw());
    assert_eq!(process.start_time(), start_time(process.pid()).unwrap());
}

#[test]
fn the_start_time_is_found_behind_any_name() {
    let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
    for name in ["app", "a b", ") 9 9", "((", ""] {
        assert_eq!(start_time_of(&format!("77 ({name}) {rest}")), Some(4242), "{name}");
    }
    for broken in ["", "77 (app", "77 (app) S 1 2", "77 (app) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 x"] {
        assert_eq!(start_time_of(broken), None, "{broken}");
    }
}
