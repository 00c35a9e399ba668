//! Wire messages and services of Mayfly, and of the SPIFFE Workload API.
//!
//! Messages only, unless the features `client` or `server` are on. The `.proto` files in `proto/` are the contract; `wire.lock` beside them
//! is the list of every message, field and method ever released, and `tests/wire.rs` fails when one is renumbered, retyped or removed.
//!
//! ```text
//! workload  <-- SPIFFE Workload API, mayfly.task.v1 --> node agent <-- mayfly.node.v1 --> issuer <-- mayfly.admin.v1 --> mayfly command
//! sds       <-- Envoy secret discovery v3 --> node agent
//! ```

#[cfg(any(feature = "client", feature = "server"))]
mod codec;
mod secret;

/// The SPIFFE Workload API: no package, so that its path is `/SpiffeWorkloadAPI/<Method>`.
pub mod workload {
    pub use super::generated::workload::*;
}

/// Node agent and issuer (`mayfly.node.v1`).
pub mod node {
    pub use super::generated::mayfly::node::v1::*;
}

/// Tasks of workloads, on the Workload API socket (`mayfly.task.v1`).
pub mod task {
    pub use super::generated::mayfly::task::v1::*;
}

/// Administration of an issuer (`mayfly.admin.v1`).
pub mod admin {
    pub use super::generated::admin::*;
}

/// Envoy's secret discovery service (SDS v3), as far as a node agent serves it.
pub mod sds {
    pub use super::generated::envoy::config::core::v3::*;
    pub use super::generated::envoy::extensions::transport_sockets::tls::v3::*;
    pub use super::generated::envoy::service::discovery::v3::*;
    #[cfg(any(feature = "client", feature = "server"))]
    pub use super::generated::envoy::service::secret::v3::*;
    pub use super::generated::google::rpc::Status;
}

/// Encoded `google.protobuf.FileDescriptorSet` of every service here, for gRPC server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, clippy::indexing_slicing,
    clippy::allow_attributes_without_reason, reason = "generated code")]
#[rustfmt::skip]
mod generated {
    pub mod workload {
        include!(concat!(env!("OUT_DIR"), "/_.rs"));
    }
    pub mod admin {
        include!(concat!(env!("OUT_DIR"), "/mayfly.admin.v1.rs"));
    }
    // Nested as their packages are: the generated code refers to its neighbours by relative paths.
    pub mod mayfly {
        pub mod node {
            pub mod v1 {
                include!(concat!(env!("OUT_DIR"), "/mayfly.node.v1.rs"));
            }
        }
        pub mod task {
            pub mod v1 {
                include!(concat!(env!("OUT_DIR"), "/mayfly.task.v1.rs"));
            }
        }
    }
    pub mod envoy {
        pub mod config {
            pub mod core {
                pub mod v3 {
                    include!(concat!(env!("OUT_DIR"), "/envoy.config.core.v3.rs"));
                }
            }
        }
        pub mod extensions {
            pub mod transport_sockets {
                pub mod tls {
                    pub mod v3 {
                        include!(concat!(env!("OUT_DIR"), "/envoy.extensions.transport_sockets.tls.v3.rs"));
                    }
                }
            }
        }
        pub mod service {
            pub mod discovery {
                pub mod v3 {
                    include!(concat!(env!("OUT_DIR"), "/envoy.service.discovery.v3.rs"));
                }
            }
            // A service and no messages.
            #[cfg(any(feature = "client", feature = "server"))]
            pub mod secret {
                pub mod v3 {
                    include!(concat!(env!("OUT_DIR"), "/envoy.service.secret.v3.rs"));
                }
            }
        }
    }
    pub mod google {
        pub mod rpc {
            include!(concat!(env!("OUT_DIR"), "/google.rpc.rs"));
        }
    }
}
