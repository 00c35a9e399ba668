//! Serving: HTTP/1.1 on each connection, bounded in size and time.

use std::{convert::Infallible, sync::Arc, time::Duration};

use hyper::{
    body::Incoming as Body,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use mayfly_sdk::tls::{Incoming, TlsConnection};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Site, Web, certificate, oauth::OAuth};

/// How long the head of a request may take. The connection as a whole ends after 30 s.
const HEAD: Duration = Duration::from_secs(5);
/// Bytes of a request's head.
const HEAD_BYTES: usize = 16 * 1024;
/// Fields of a request's head.
const HEAD_FIELDS: usize = 64;

impl Web {
    /// Serves until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut connections = JoinSet::new();
        let mut look = tokio::time::interval(certificate::LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(ended) = connections.join_next() => {
                    if ended.is_err_and(|error| error.is_panic()) {
                        tracing::error!("a web connection's task panicked");
                    }
                }
                _ = look.tick(), if self.files.is_some() => {
                    if let Some(files) = &mut self.files {
                        files.refresh().await;
                    }
                }
                accepted = accept(self.incoming.as_mut()) => match accepted {
                    Some(connection) => {
                        connections.spawn(serve_site(connection, Arc::clone(&self.site), Arc::clone(&self.oauth)));
                    }
                    None => return,
                },
                accepted = accept(self.workloads.as_mut()) => match accepted {
                    Some(connection) => {
                        let info = connection.info().clone();
                        let service = self.oauth.service(info);
                        connections.spawn(serve(connection, TowerToHyperService::new(service)));
                    }
                    None => return,
                },
            }
        }
    }
}

/// The next connection of a listener; for ever none of one that there is not.
async fn accept(incoming: Option<&mut Incoming>) -> Option<TlsConnection> {
    match incoming {
        Some(incoming) => incoming.accept().await,
        None => std::future::pending().await,
    }
}

async fn serve_site(connection: TlsConnection, site: Arc<Site>, oauth: Arc<OAuth>) {
    let tokens = TowerToHyperService::new(oauth.public_service());
    let answer = service_fn(move |request: http::Request<Body>| {
        let (site, tokens) = (Arc::clone(&site), oauth.is_public(request.uri().path()).then(|| tokens.clone()));
        async move {
            match tokens {
                Some(tokens) => tokens.call(request).await,
                None => Ok::<_, Infallible>(site.answer(request).await),
            }
        }
    });
    serve(connection, answer).await;
}

async fn serve<S>(connection: TlsConnection, answer: S)
where
    S: Service<http::Request<Body>, Response = http::Response<axum::body::Body>, Error = Infallible>,
{
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEAD_FIELDS)
        .serve_connection(TokioIo::new(connection), answer)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a web connection ended badly");
    }
}
