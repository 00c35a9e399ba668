//! Compiles the `.proto` files with protox, so that no protoc is needed.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const FILES: [&str; 6] = [
    "spiffe/workload.proto",
    "mayfly/node/v1/node.proto",
    "mayfly/admin/v1/admin.proto",
    "mayfly/task/v1/task.proto",
    "envoy/extensions/transport_sockets/tls/v3/secret.proto",
    "envoy/service/secret/v3/sds.proto",
];

/// Messages that hold a key or a bearer token: `src/secret.rs` says what they show of themselves.
const SECRET: [&str; 12] = [
    ".X509SVID",
    ".JWTSVID",
    ".WITSVID",
    ".mayfly.node.v1.JwtIssue",
    ".mayfly.node.v1.TaskIssue",
    ".mayfly.node.v1.BeginTaskRequest",
    ".mayfly.node.v1.CheckTaskRequest",
    ".mayfly.task.v1.TaskToken",
    ".mayfly.task.v1.BeginRequest",
    ".mayfly.task.v1.DelegateRequest",
    ".mayfly.task.v1.ValidateRequest",
    ".envoy.extensions.transport_sockets.tls.v3.TlsCertificate",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_transport(false)
        .build_client(env::var_os("CARGO_FEATURE_CLIENT").is_some())
        .build_server(env::var_os("CARGO_FEATURE_SERVER").is_some())
        .bytes(".")
        .skip_debug(SECRET)
        .codec_path("crate::codec::SmallBuffers")
        .compile_fds(descriptors)?;
    Ok(())
}
