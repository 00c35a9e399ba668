//! The settings that bound what one client can cost.

use tonic::transport::Server;

/// Requests in progress at a time on one connection.
const STREAMS: u32 = 100;
/// Octets of header fields of one request; gRPC's own default is 8 KiB.
const HEADER_LIST: u32 = 16 * 1024;
/// Octets of one frame: the smallest that HTTP/2 allows.
const FRAME: u32 = 16 * 1024;
/// Octets that a client may send before we have read them. A request here holds a JWT at most.
const WINDOW: u32 = 64 * 1024 - 1;
/// Streams reset by the client before they were accepted, at a time (CVE-2023-44487).
const PENDING_RESETS: usize = 20;
/// Resets that the client's own errors caused, over the connection's life (CVE-2025-8671).
const ERROR_RESETS: usize = 100;

/// Sets what bounds the memory and time that one client of the local socket can take, and leaves the rest as it is.
///
/// | attack | bounded by |
/// |---|---|
/// | many streams | `max_concurrent_streams` 100; tonic's default is none |
/// | rapid reset (CVE-2023-44487) | `max_pending_accept_reset_streams` 20, then GOAWAY |
/// | resets provoked by errors (CVE-2025-8671) | `max_local_error_reset_streams` 100, then GOAWAY |
/// | CONTINUATION flood (CVE-2024-27316) | h2: five frames for this list size, then GOAWAY |
/// | large or many header fields | `max_header_list_size` 16 KiB, then the stream is refused; four times as much: GOAWAY |
/// | unread data | a window of 64 KiB a connection, not one a stream |
/// | many connections, slow greeting | [`Limits`](super::Limits) |
///
/// Idle clients are not asked for signs of life: the connection ends when its process does.
#[must_use]
pub fn configure(server: Server) -> Server {
    server
        .max_concurrent_streams(STREAMS)
        .concurrency_limit_per_connection(STREAMS as usize)
        .http2_max_header_list_size(HEADER_LIST)
        .max_frame_size(FRAME)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .http2_adaptive_window(Some(false))
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS))
        .http2_max_local_error_reset_streams(Some(ERROR_RESETS))
        .http2_keepalive_interval(None)
        .accept_http1(false)
}
