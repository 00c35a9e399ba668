use std::os::unix::fs::{chown, symlink};
use std::os::unix::net::{UnixListener as StdListener, UnixStream};

use tempfile::TempDir;

use super::*;

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run/agent/api.sock");
    (directory, path)
}

fn place_with_directory() -> (TempDir, PathBuf) {
    let (directory, path) = place();
    make_directories(path.parent().unwrap()).unwrap();
    (directory, path)
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Refused, with a text that names the path.
fn refusal(path: &Path) -> BindError {
    let error = bind(path, Access::Everybody).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(path.to_str().unwrap())
            || text.contains(path.parent().unwrap().parent().unwrap().to_str().unwrap()),
        "{text}"
    );
    assert!(text.contains(": "), "{text}");
    error
}

/// Rows: WE-20.
#[tokio::test]
async fn everybody_may_connect_and_only_we_may_change_the_directory() {
    let (_directory, path) = place();
    let _listener = bind(&path, Access::Everybody).unwrap();
    assert_eq!(mode(&path), 0o777);
    assert_eq!(mode(path.parent().unwrap()), 0o755);
    assert_eq!(mode(path.parent().unwrap().parent().unwrap()), 0o755);
    UnixStream::connect(&path).unwrap();
    let names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["api.sock"], "no other name is left");
}

#[tokio::test]
async fn the_longest_path_is_that_of_the_kernel() {
    let directory = tempfile::tempdir().unwrap();
    let room = LONGEST_PATH - directory.path().as_os_str().len() - 1;
    let longest = directory.path().join("s".repeat(room));
    let _listener = bind(&longest, Access::Everybody).unwrap();
    UnixStream::connect(&longest).unwrap();
    let longer = directory.path().join("s".repeat(room + 1));
    assert!(matches!(refusal(&longer), BindError::TooLong { octets: 108, .. }));
}

#[tokio::test]
async fn a_path_must_be_absolute() {
    for path in ["api.sock", "run/api.sock", "/", "", "/run/.."] {
        assert!(matches!(bind(Path::new(path), Access::Everybody), Err(BindError::NotAbsolute(_))), "{path}");
    }
}

/// Rows: WE-20.
#[tokio::test]
async fn a_socket_that_nobody_serves_is_replaced() {
    let (_directory, path) = place_with_directory();
    drop(StdListener::bind(&path).unwrap());
    assert_eq!(UnixStream::connect(&path).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    let _listener = bind(&path, Access::Everybody).unwrap();
    UnixStream::connect(&path).unwrap();
}

#[tokio::test]
async fn a_socket_that_somebody_serves_is_left_to_him() {
    let (_directory, path) = place_with_directory();
    let theirs = StdListener::bind(&path).unwrap();
    assert!(matches!(refusal(&path), BindError::InUse(_)));
    assert!(refusal(&path).to_string().contains("stop it"));
    UnixStream::connect(&path).unwrap();
    drop(theirs);
    bind(&path, Access::Everybody).unwrap();
}

#[tokio::test]
async fn a_served_socket_with_a_full_queue_is_served_still() {
    let (_directory, path) = place_with_directory();
    let theirs = socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None).unwrap();
    nix::sys::socket::bind(theirs.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
    nix::sys::socket::listen(&theirs, nix::sys::socket::Backlog::new(1).unwrap()).unwrap();
    let mut queued = Vec::new();
    for _ in 0..10 {
        let client = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_NONBLOCK, None).unwrap();
        connect(client.as_raw_fd(), &UnixAddr::new(&path).unwrap()).ok();
        queued.push(client);
    }
    assert!(matches!(refusal(&path), BindError::InUse(_)));
}

/// Rows: WE-20.
#[tokio::test]
async fn links_and_files_are_not_touched() {
    let (directory, path) = place_with_directory();
    let target = directory.path().join("target");
    for exists in [false, true] {
        if exists {
            drop(StdListener::bind(&target).unwrap());
        }
        symlink(&target, &path).unwrap();
        assert!(matches!(refusal(&path), BindError::Symlink(_)));
        assert_eq!(fs::read_link(&path).unwrap(), target);
        fs::remove_file(&path).unwrap();
    }
    fs::write(&path, "precious").unwrap();
    assert!(matches!(refusal(&path), BindError::NotASocket(_)));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(refusal(&path), BindError::NotASocket(_)));
}

#[tokio::test]
async fn a_directory_that_others_may_change_is_refused() {
    let (_directory, path) = place_with_directory();
    let (near, far) = (path.parent().unwrap(), path.parent().unwrap().parent().unwrap());
    for unsafe_mode in [0o777, 0o1777, 0o775, 0o1775] {
        chmod(near, unsafe_mode);
        assert!(matches!(refusal(&path), BindError::UnsafeDirectory { .. }), "{unsafe_mode:o}");
    }
    chmod(near, 0o755);
    chmod(far, 0o777);
    assert!(matches!(refusal(&path), BindError::UnsafeDirectory { .. }));
    chmod(far, 0o1777);
    bind(&path, Access::Everybody).unwrap();
}

#[tokio::test]
async fn a_directory_of_another_user_is_refused() {
    let (_directory, path) = place_with_directory();
    if chown(path.parent().unwrap(), Some(12_345), None).is_err() {
        eprintln!("skipped: only root can give a directory to another user");
        return;
    }
    assert!(matches!(refusal(&path), BindError::UnsafeDirectory { owner: 12_345, .. }));
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let (directory, path) = place();
    fs::write(directory.path().join("run"), "a file").unwrap();
    let text = bind(&path, Access::Everybody).unwrap_err().to_string();
    assert!(text.contains("could not make its directory"), "{text}");
}

#[tokio::test]
async fn a_directory_may_be_reached_over_a_link() {
    let (directory, path) = place_with_directory();
    let link = directory.path().join("var-run");
    symlink(path.parent().unwrap(), &link).unwrap();
    let _listener = bind(&link.join("api.sock"), Access::Everybody).unwrap();
    UnixStream::connect(&path).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_start_together_one_serves() {
    let (_directory, path) = place_with_directory();
    drop(StdListener::bind(&path).unwrap());
    let mut starting = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let path = path.clone();
        starting.spawn(async move { bind(&path, Access::Everybody) });
    }
    let (bound, refused): (Vec<_>, Vec<_>) = starting.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!(bound.len(), 1);
    assert!(refused.iter().all(|error| matches!(error, Err(BindError::InUse(_)))), "{refused:?}");
}

#[tokio::test]
async fn a_socket_of_the_owner_lies_in_a_directory_that_others_cannot_enter() {
    let (_directory, path) = place_with_directory();
    let _listener = bind(&path, Access::Owner).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
}
