//! Other people's SPIFFE clients and verifiers against Mayfly: `tests/clients.rs` runs them as workloads.
