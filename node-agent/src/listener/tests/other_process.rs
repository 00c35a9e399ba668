//! Another process: it connects, hands its connection to the test, and then does as it is told.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

const VARIABLE: &str = "MAYFLY_TEST_OTHER_PROCESS";

/// A process that has connected to a socket, and the connection that it made.
pub(super) struct OtherProcess {
    pub(super) child: Child,
    control: UnixStream,
    connection: Option<OwnedFd>,
}

impl OtherProcess {
    pub(super) fn connect(socket: &Path) -> Self {
        let place = tempfile::tempdir().unwrap();
        let control = place.path().join("control");
        let listener = UnixListener::bind(&control).unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "listener::tests::other_process::its_program", "--nocapture"])
            .env(VARIABLE, format!("{}:{}", socket.display(), control.display()))
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let (control, _) = listener.accept().unwrap();
        let connection = receive(&control);
        Self { child, control, connection: Some(connection) }
    }

    /// The connection, as a child that inherited it would hold it.
    pub(super) fn connection(&mut self) -> tokio::net::UnixStream {
        let stream = UnixStream::from(self.connection.take().unwrap());
        stream.set_nonblocking(true).unwrap();
        tokio::net::UnixStream::from_std(stream).unwrap()
    }

    /// Has it exec `sleep`, and waits until it has.
    pub(super) fn exec(&mut self) {
        self.control.write_all(b"x").unwrap();
        self.closed();
    }

    /// Has it end, and leaves it a zombie.
    pub(super) fn exit(&mut self) {
        self.control.write_all(b"q").unwrap();
        self.closed();
    }

    /// The control connection is closed by exec and by exit.
    fn closed(&mut self) {
        assert_eq!(self.control.read(&mut [0]).unwrap(), 0);
    }
}

impl Drop for OtherProcess {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn receive(control: &UnixStream) -> OwnedFd {
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
    let mut octet = [0];
    let mut parts = [IoSliceMut::new(&mut octet)];
    let message = recvmsg::<()>(control.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC).unwrap();
    let Some(ControlMessageOwned::ScmRights(descriptors)) = message.cmsgs().unwrap().next() else {
        panic!("no descriptor came")
    };
    #[expect(unsafe_code, reason = "nix gives received descriptors as numbers")]
    // SAFETY: the kernel made the descriptor for this message, and nobody else owns it.
    unsafe {
        OwnedFd::from_raw_fd(descriptors[0])
    }
}

/// Not a test of its own: what the other process runs.
#[test]
#[expect(clippy::disallowed_methods, reason = "how the test talks to its other process")]
fn its_program() {
    let Ok(paths) = std::env::var(VARIABLE) else { return };
    let (socket, control) = paths.split_once(':').unwrap();
    let connection = UnixStream::connect(socket).unwrap();
    let mut control = UnixStream::connect(control).unwrap();
    let descriptors = [connection.as_raw_fd()];
    sendmsg::<()>(
        control.as_raw_fd(),
        &[IoSlice::new(b"c")],
        &[ControlMessage::ScmRights(&descriptors)],
        MsgFlags::empty(),
        None,
    )
    .unwrap();
    let mut command = [0];
    control.read_exact(&mut command).unwrap();
    if command == *b"x" {
        // Not closed by the exec, so that the new program holds the connection too.
        let kept = File::from(OwnedFd::from(connection));
        let error = Command::new("sleep").arg("600").stdin(kept).exec();
        panic!("{error}");
    }
    std::process::exit(0);
}
