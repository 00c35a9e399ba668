//! The puppet is a copy of this very test program, run as a process of its own. It connects to the Workload API, hands
//! the connection to the test, and then ends or becomes another program, as it is told.

use std::{
    fs,
    io::{IoSlice, IoSliceMut, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, RawFd},
        unix::{net::UnixStream, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use hyper_util::rt::TokioIo;
use mayfly_proto::workload::{X509svidRequest, X509svidResponse, spiffe_workload_api_client::SpiffeWorkloadApiClient};
use mayfly_rig::Rig;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use tonic::{Request, Status, Streaming, transport::Channel};

const SOCKET: &str = "MAYFLY_TEST_PUPPET";

/// A process, and the connection that it made.
pub(super) struct Puppet {
    process: Child,
    strings: UnixStream,
    connection: Option<UnixStream>,
}

/// A copy of this test program at a path of its own.
pub(super) fn copy(rig: &Rig, name: &str) -> PathBuf {
    let path = rig.dir().join(name);
    mayfly_rig::install(&std::env::current_exe().unwrap(), &path);
    path
}

impl Puppet {
    /// Starts `program`, a [`copy`], which connects to the agent `a`.
    pub(super) fn connected(program: &Path, rig: &Rig) -> Self {
        let (strings, theirs) = UnixStream::pair().unwrap();
        let process = Command::new(program)
            .args(["--exact", "attacks::puppet::dances", "--ignored", "--nocapture"])
            .env(SOCKET, rig.socket("a"))
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let connection = Some(receive(&strings));
        Self { process, strings, connection }
    }

    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// The process becomes `/bin/sleep`, and lives on.
    pub(super) fn exec(&mut self) {
        self.strings.write_all(b"x").unwrap();
        let exe = format!("/proc/{}/exe", self.id());
        mayfly_rig::eventually("the puppet is another program", 10, || {
            fs::read_link(&exe).unwrap().ends_with("sleep").then_some(())
        });
    }

    /// The process ends, and its id is free again.
    pub(super) fn end(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// A client over the connection that the process made; within a runtime.
    pub(super) fn client(&mut self) -> Api {
        let stream = self.connection.take().expect("one client a connection");
        stream.set_nonblocking(true).unwrap();
        let mut stream = Some(tokio::net::UnixStream::from_std(stream).unwrap());
        let once = tower::service_fn(move |_| {
            let stream = stream.take().ok_or_else(|| std::io::Error::other("it was cut"));
            async move { stream.map(TokioIo::new) }
        });
        let channel = tonic::transport::Endpoint::from_static("http://localhost").connect_with_connector_lazy(once);
        Api(SpiffeWorkloadApiClient::new(channel))
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// The Workload API over a puppet's connection.
#[derive(Clone)]
pub(super) struct Api(SpiffeWorkloadApiClient<Channel>);

impl Api {
    /// Opens the stream of X.509-SVIDs.
    pub(super) async fn x509(&mut self) -> Result<Streaming<X509svidResponse>, Status> {
        let mut request = Request::new(X509svidRequest {});
        request.metadata_mut().insert("workload.spiffe.io", "true".parse().unwrap());
        self.0.fetch_x509svid(request).await.map(tonic::Response::into_inner)
    }

    /// The SPIFFE IDs of a new stream's first message.
    pub(super) async fn identities(&mut self) -> Result<Vec<String>, Status> {
        match self.x509().await?.message().await? {
            Some(message) => Ok(message.svids.into_iter().map(|svid| svid.spiffe_id).collect()),
            None => Ok(Vec::new()),
        }
    }
}

#[test]
#[ignore = "a process that other tests start"]
fn dances() {
    let socket = std::env::var_os(SOCKET).expect("only other tests start this");
    let connection = UnixStream::connect(socket).unwrap();
    // SAFETY: standard input is the socket that the test gave.
    #[expect(unsafe_code, reason = "the only way to have a descriptor that was inherited")]
    let mut strings = unsafe { UnixStream::from_raw_fd(0) };
    let descriptors = [connection.as_raw_fd()];
    let messages = [ControlMessage::ScmRights(&descriptors)];
    sendmsg::<()>(0, &[IoSlice::new(b".")], &messages, MsgFlags::empty(), None).unwrap();
    if strings.read(&mut [0]).unwrap() == 1 {
        let error = Command::new("/bin/sleep").arg("60").exec();
        panic!("{error}");
    }
}

fn receive(strings: &UnixStream) -> UnixStream {
    let (mut byte, mut space) = ([0], nix::cmsg_space!(RawFd));
    let mut bytes = [IoSliceMut::new(&mut byte)];
    let message = recvmsg::<()>(strings.as_raw_fd(), &mut bytes, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC).unwrap();
    let received = message.cmsgs().unwrap().find_map(|message| match message {
        ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
        _ => None,
    });
    let received = received.expect("the puppet hands its connection over");
    // SAFETY: the kernel has just made this descriptor for this process, and nobody else knows it.
    #[expect(unsafe_code, reason = "descriptors arrive as numbers")]
    unsafe {
        UnixStream::from_raw_fd(received)
    }
}
