//! Sockets under our connections: small messages leave at once, and the kernel notices a peer that has vanished. It asks
//! for signs of life without waking either process, so that thousands of idle connections cost no CPU time.

use std::{io, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// After this long without a segment the kernel asks the peer's kernel for a sign of life,
const IDLE: Duration = Duration::from_secs(20);
/// this often,
const AGAIN: Duration = Duration::from_secs(5);
/// this many times, before the connection breaks.
const TIMES: u32 = 3;
/// What was sent and is not acknowledged for this long breaks the connection.
const UNACKNOWLEDGED: Duration = Duration::from_secs(35);

/// Sets the options of a connection that lasts.
///
/// # Errors
/// What the kernel answers, where it does not know them.
pub fn keep(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let socket = SockRef::from(tcp);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(IDLE).with_interval(AGAIN).with_retries(TIMES))?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))
}
