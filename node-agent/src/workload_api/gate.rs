use mayfly_sdk::{Reason, Refusal};
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// The metadata that every call of the Workload API carries, so that no browser or proxy makes one by accident (Workload Endpoint 6).
const HEADER: &str = "workload.spiffe.io";

/// Lets through what carries the security header, and looks at nothing else before it (row WE-5).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gate;

impl Interceptor for Gate {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let mut values = request.metadata().get_all(HEADER).iter();
        // Exactly one value, and exactly this one.
        let single = values.next().filter(|_| values.next().is_none());
        if single.is_some_and(|value| value.as_bytes() == b"true") {
            return Ok(request);
        }
        Err(Refusal::new(Reason::InvalidArgument, "the metadata `workload.spiffe.io: true` is missing").into())
    }
}

#[cfg(test)]
mod tests {
    use tonic::metadata::MetadataValue;

    use super::*;

    fn answer(values: &[&'static str]) -> Result<(), tonic::Code> {
        let mut request = Request::new(());
        for value in values {
            request.metadata_mut().append(HEADER, MetadataValue::from_static(value));
        }
        Gate.call(request).map(drop).map_err(|status| status.code())
    }

    /// Rows: WE-5.
    #[test]
    fn only_the_exact_header_passes() {
        assert_eq!(answer(&["true"]), Ok(()));
        for values in [&[][..], &["True"], &["TRUE"], &["1"], &[""], &[" true"], &["true", "false"], &["true", "true"]]
        {
            assert_eq!(answer(values), Err(tonic::Code::InvalidArgument), "{values:?}");
        }
    }
}
