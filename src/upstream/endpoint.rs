//! One endpoint: its ureq agent, and the attempt to get an answer from it.
//!
//! A [`Response`] is a complete head with the body still to be read. ureq knows only whether the
//! request is a HEAD: the real request goes out in place of its own (see `transport`).

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use ureq::Agent;
use ureq::http::Uri;

use super::authentication;
use super::call::{self, Call, CallTrace, Route};
use super::connection::Connection;
use super::connector::EndpointConnector;
use super::control::AttemptControl;
use super::failure::Failure;
use super::pool::IdleMonitor;
pub use super::pool::MAX_IDLE;
use super::resolver::Resolver;
use super::response::{Response, with_head};
use super::stream::Tls;
use super::transport::{NoResolver, Pool};
use crate::http::endpoint_config::{EndpointConfig, HeaderLines};
use crate::http::endpoint_url::EndpointUrl;
use crate::http::forward::{self, ForwardRules};
use crate::http::request::RequestHead;
use crate::metrics::EndpointCounters;
use crate::util::body::Body;
use crate::util::client_session::ClientSession;

/// An endpoint as the configuration has it, ready to be asked.
#[derive(Debug)]
pub struct Endpoint {
    /// Its place in the list that it belongs to, from 0.
    pub index: usize,
    /// Where it is.
    pub url: EndpointUrl,
    /// What is counted of it.
    pub counters: Arc<EndpointCounters>,
    /// What its requests have in place of the client's lines.
    lines: HeaderLines,
    agent: Agent,
    /// The agent's.
    pool: Arc<Pool>,
    /// What ureq calls: the same for every request.
    origin: Uri,
    rules: Arc<ForwardRules>,
}

/// How endpoints are connected to.
#[derive(Clone, Copy, Debug, Default)]
pub struct EndpointPolicy {
    /// Name look-up, TCP and TLS handshake together.
    pub connect_timeout: Duration,
    /// How long a connection is used at most.
    pub renew_after: Option<Duration>,
}

/// What all endpoints share.
#[derive(Debug)]
pub struct Settings {
    /// For https endpoints.
    pub tls: Arc<ClientConfig>,
    /// As the flags say.
    pub policy: EndpointPolicy,
    /// What is changed in heads.
    pub rules: Arc<ForwardRules>,
    /// How many idle connections are kept for each endpoint.
    pub idle_connections: usize,
    /// Closes idle connections that expire; the caller waits for it.
    pub idle_monitor: Arc<ConnectionMonitor>,
}

#[cfg(test)]
impl Settings {
    /// Without roots of its own, header rules and renewal.
    pub(crate) fn for_tests(connect_timeout: Duration) -> Self {
        Self {
            tls: super::tls::client_config([], None).expect("no roots are added"),
            policy: EndpointPolicy {
                connect_timeout,
                renew_after: None,
            },
            rules: Arc::default(),
            idle_connections: 8,
            idle_monitor: Arc::new(ConnectionMonitor::new(MAX_IDLE)),
        }
    }
}

/// The monitor of the idle connections to all endpoints.
pub type ConnectionMonitor = IdleMonitor<Box<Connection>>;

/// A request as it is put to endpoints.
#[derive(Clone, Copy)]
pub struct UpstreamRequest<'a> {
    /// The client's head.
    pub head: &'a RequestHead,
    /// The client's body, whole.
    pub body: &'a Body,
    /// Holds what is private to the client's connection.
    pub session: &'a Arc<ClientSession>,
    /// Asked before what may have reached the endpoint is sent again: whether it may be.
    pub again: &'a dyn Fn() -> bool,
}

impl Endpoint {
    /// The endpoint that is configured so.
    ///
    /// # Errors
    /// A host that is neither a name nor an address, in words for the user.
    pub fn new(index: usize, config: EndpointConfig, settings: &Settings) -> Result<Self, String> {
        let resolver = Resolver::new(config.url.host(), config.url.port());
        Self::with_resolver(index, config, settings, resolver)
    }

    fn with_resolver(
        index: usize,
        config: EndpointConfig,
        settings: &Settings,
        resolver: Arc<Resolver>,
    ) -> Result<Self, String> {
        let EndpointConfig { url, lines } = config;
        let origin = url
            .origin()
            .parse()
            .map_err(|error| format!("{url}: {error}"))?;
        let tls = if url.is_https() {
            let name = ServerName::try_from(url.host().to_owned())
                .map_err(|error| format!("{url}: {error}"))?;
            Some(Tls {
                config: Arc::clone(&settings.tls),
                name,
            })
        } else {
            None
        };
        let pool = settings.idle_monitor.pool(settings.idle_connections);
        let connector = EndpointConnector {
            pool: Arc::clone(&pool),
            resolver,
            tls,
            connect_timeout: settings.policy.connect_timeout,
            renew_after: settings.policy.renew_after,
        };
        let config = Agent::config_builder()
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent("")
            .accept("")
            .accept_encoding("")
            .max_idle_connections(0)
            .build();
        Ok(Self {
            index,
            url,
            counters: Arc::default(),
            lines,
            agent: Agent::with_parts(config, connector, NoResolver),
            pool,
            origin,
            rules: Arc::clone(&settings.rules),
        })
    }

    /// The same endpoint at another place of the list, with header lines that may be others: it
    /// has the connections, addresses and counters of this one.
    #[must_use]
    pub fn renewed(&self, index: usize, lines: HeaderLines) -> Self {
        Self {
            index,
            url: self.url.clone(),
            lines,
            counters: Arc::clone(&self.counters),
            agent: self.agent.clone(),
            pool: Arc::clone(&self.pool),
            origin: self.origin.clone(),
            rules: Arc::clone(&self.rules),
        }
    }

    /// Whether it is configured so: URL and header lines.
    #[must_use]
    pub fn is(&self, config: &EndpointConfig) -> bool {
        self.url == config.url && self.lines == config.lines
    }

    /// Closes its idle connections, and from now on each one when its answer has ended.
    pub fn close_connections(&self) {
        self.pool.close();
    }

    /// Puts the request to the endpoint and waits for the head of its answer, at
    /// most until `control`'s limit.
    ///
    /// A kept connection that turns out to be stale, nothing having been received
    /// on it, is replaced by a fresh one, once: the endpoint had closed it, which is
    /// not a failure (RFC 9112 9.3.1). A fresh connection that breaks before the answer begins
    /// is followed by one to the next address of the endpoint's name. The endpoint may
    /// have carried out the request all the same, so `request` is asked before it is sent again.
    pub fn attempt(
        &self,
        request: UpstreamRequest<'_>,
        control: &Arc<AttemptControl>,
    ) -> Result<Response, Failure> {
        let mut route = Route::Any;
        // Of an address that could be reached.
        let mut reached = None;
        loop {
            let (result, trace) = self.call(request, control, route);
            let again = || !trace.received && (!trace.sent || (request.again)());
            match result {
                Err(Failure::Broken(_)) if trace.pooled && again() => route = Route::Fresh,
                Err(failure @ (Failure::Broken(_) | Failure::Tls(_)))
                    if !trace.left.is_empty() && again() =>
                {
                    reached.get_or_insert(failure);
                    route = Route::Addresses(trace.left);
                }
                Err(failure @ Failure::Connect(_)) => return Err(reached.unwrap_or(failure)),
                result => return result.and_then(|response| with_head(response, trace)),
            }
        }
    }

    fn call(
        &self,
        request: UpstreamRequest<'_>,
        control: &Arc<AttemptControl>,
        route: Route,
    ) -> (Result<ureq::http::Response<ureq::Body>, Failure>, CallTrace) {
        let call = Call {
            control: Arc::clone(control),
            head: forward::request_head(
                request.head,
                &self.url,
                &self.lines,
                &self.rules,
                request.body.length(),
            ),
            body: request.body.clone(),
            is_head: request.head.is_head(),
            authenticates: authentication::is_of_connection(
                request.head.headers(),
                "Authorization",
            ),
            session: Arc::clone(request.session),
            route,
            trace: CallTrace::default(),
        };
        let (result, trace) = call::run(call, || self.agent.get(self.origin.clone()).call());
        let trace = trace.unwrap_or_default();
        let result = result.map_err(|error| match control.check() {
            Err(cancelled) => cancelled,
            Ok(()) => failure(error),
        });
        (result, trace)
    }
}

/// What an error of ureq means here.
fn failure(error: ureq::Error) -> Failure {
    match error {
        ureq::Error::Io(error) => Failure::from_io(&error),
        other => Failure::Internal(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::control::Limit;
    use super::*;
    use crate::http::header::Headers;
    use crate::http::request::Version;
    use std::io::{self, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Instant;

    fn request(method: &str) -> RequestHead {
        let client = "127.0.0.1".parse().unwrap();
        RequestHead::new(method, b"/", Version::Http11, None, Headers::new(), client)
    }

    const PATIENCE: Duration = Duration::from_secs(10);

    fn settings() -> Settings {
        Settings::for_tests(PATIENCE)
    }

    /// A back end, and an endpoint that stands for it.
    fn endpoint() -> (TcpListener, Endpoint) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let endpoint =
            Endpoint::new(0, url.parse::<EndpointUrl>().unwrap().into(), &settings()).unwrap();
        (listener, endpoint)
    }

    /// Accepts a connection, reads a request's head from it, and sends `bytes`.
    fn accept(listener: &TcpListener, bytes: &str) -> TcpStream {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.extend_from_slice(&byte);
        }
        stream.write_all(bytes.as_bytes()).unwrap();
        stream
    }

    /// Puts a GET to the endpoint, whose back end answers with `bytes` on a new connection.
    fn get(
        (listener, endpoint): &(TcpListener, Endpoint),
        control: &Arc<AttemptControl>,
        bytes: &str,
    ) -> (Response, TcpStream) {
        let request = UpstreamRequest {
            head: &request("GET"),
            body: &Body::None,
            session: &Arc::default(),
            again: &|| true,
        };
        thread::scope(|scope| {
            let stream = scope.spawn(|| accept(listener, bytes));
            let result = endpoint.attempt(request, control);
            (result.unwrap(), stream.join().unwrap())
        })
    }

    fn control() -> Arc<AttemptControl> {
        AttemptControl::new(&Arc::default(), Limit::Each(PATIENCE))
    }

    const BEGUN: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no";
    const WHOLE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

    #[test]
    fn an_idle_connection_is_closed_when_it_expires_and_one_in_use_is_not() {
        let asked = endpoint();
        let endpoint = &asked.1;
        let control = control();
        let (mut answer, mut stream) = get(&asked, &control, BEGUN);
        let mut body = [0; 8];
        assert_eq!(answer.read(&mut body).unwrap(), 1);
        assert_eq!(endpoint.pool.next_expiry(), None);
        assert_eq!(
            endpoint.pool.close_expired(Instant::now() + 2 * MAX_IDLE),
            0
        );
        stream.write_all(b"k").unwrap();
        assert_eq!(answer.read(&mut body).unwrap(), 1);
        let before = Instant::now();
        assert_eq!(answer.read(&mut body).unwrap(), 0);
        // The answer still exists; its connection is free all the same.
        let expiry = endpoint.pool.next_expiry().unwrap();
        assert!(before + MAX_IDLE <= expiry && expiry <= Instant::now() + MAX_IDLE);
        let just_before = expiry.checked_sub(Duration::from_nanos(1)).unwrap();
        assert_eq!(endpoint.pool.close_expired(just_before), 0);
        assert_eq!(endpoint.pool.close_expired(expiry), 1);
        assert_eq!(endpoint.pool.next_expiry(), None);
        assert_eq!(stream.read(&mut body).unwrap(), 0);
    }

    #[test]
    fn an_answer_without_a_body_frees_its_connection_at_once() {
        for head in [
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ] {
            let asked = endpoint();
            let (answer, _stream) = get(&asked, &control(), head);
            assert!(asked.1.pool.next_expiry().is_some(), "{head:?}");
            drop(answer);
        }
    }

    #[test]
    fn an_answer_that_is_dropped_half_read_costs_its_connection() {
        let asked = endpoint();
        let control = control();
        for read in [0, 1] {
            let (mut answer, mut stream) = get(&asked, &control, BEGUN);
            let mut body = [0; 8];
            if read > 0 {
                assert_eq!(answer.read(&mut body).unwrap(), read);
            }
            drop(answer);
            assert_eq!(asked.1.pool.next_expiry(), None);
            assert_eq!(stream.read(&mut body).unwrap(), 0);
        }
    }

    #[test]
    fn a_cancelled_attempt_returns_no_connection_though_its_answer_has_come_whole() {
        let asked = endpoint();
        let control = control();
        let (mut answer, mut stream) = get(&asked, &control, WHOLE);
        control.cancel();
        let mut body = [0; 8];
        assert_eq!(answer.read(&mut body).unwrap(), 2);
        assert_eq!(answer.read(&mut body).unwrap(), 0);
        assert_eq!(asked.1.pool.next_expiry(), None);
        assert_eq!(stream.read(&mut body).unwrap(), 0);
    }

    #[test]
    fn a_cancel_after_the_return_leaves_the_connection_alone() {
        let asked = endpoint();
        let control = control();
        let (mut answer, stream) = get(&asked, &control, WHOLE);
        let mut body = [0; 8];
        while answer.read(&mut body).unwrap() > 0 {}
        control.cancel();
        assert!(asked.1.pool.next_expiry().is_some());
        stream.set_nonblocking(true).unwrap();
        let error = (&stream).read(&mut body).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    /// What comes of a request to a name with two addresses, the first of which does `first`
    /// with its connection; and how many connections the second one gets.
    fn with_two_addresses(
        scheme: &str,
        once: bool,
        first: impl Fn(TcpStream) + Sync,
    ) -> (Result<Response, Failure>, u32, usize) {
        let sick = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = sick.local_addr().unwrap().port();
        let well = TcpListener::bind(("127.0.0.2", port)).unwrap();
        let addresses = [sick.local_addr().unwrap(), well.local_addr().unwrap()];
        let url: EndpointUrl = format!("{scheme}://name.test:{port}").parse().unwrap();
        let resolver = Resolver::of(&addresses);
        let endpoint = Endpoint::with_resolver(0, url.into(), &settings(), resolver).unwrap();
        let request = UpstreamRequest {
            head: &request("POST"),
            body: &Body::Memory(Arc::new([b"body".to_vec()])),
            session: &Arc::default(),
            again: &|| !once,
        };
        well.set_nonblocking(true).unwrap();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let second = scope.spawn(|| {
                let mut accepted = 0;
                while !over.load(Ordering::Acquire) {
                    let Ok((mut stream, _)) = well.accept() else {
                        thread::yield_now();
                        continue;
                    };
                    accepted += 1;
                    stream.set_nonblocking(false).unwrap();
                    stream.write_all(WHOLE.as_bytes()).unwrap();
                }
                accepted
            });
            scope.spawn(|| first(sick.accept().unwrap().0));
            let control = control();
            let result = endpoint.attempt(request, &control);
            over.store(true, Ordering::Release);
            (result, control.sendings(), second.join().unwrap())
        })
    }

    #[test]
    fn an_address_that_closes_without_an_answer_is_followed_by_the_next() {
        let (outcome, sent, accepted) = with_two_addresses("http", false, drop);
        assert_eq!((outcome.unwrap().head.status, sent, accepted), (200, 2, 1));
    }

    #[test]
    fn an_answer_that_breaks_off_is_not_followed_by_the_next_address() {
        let (outcome, _, accepted) = with_two_addresses("http", false, |mut stream| {
            stream.write_all(b"HTTP/1.1 2").unwrap();
            // What has been sent must have been read, or the close is a reset.
            let mut buffer = [0; 8 * 1024];
            let _ = stream.read(&mut buffer);
        });
        assert!(matches!(outcome, Err(Failure::Broken(_))));
        assert_eq!(accepted, 0);
    }

    #[test]
    fn what_must_be_sent_once_is_not_sent_to_the_next_address() {
        let (outcome, sent, accepted) = with_two_addresses("http", true, drop);
        assert!(matches!(outcome, Err(Failure::Broken(_))));
        assert_eq!((sent, accepted), (1, 0));
    }

    #[test]
    fn a_failed_tls_handshake_is_followed_by_the_next_address_whatever_the_request() {
        let (outcome, sent, accepted) = with_two_addresses("https", true, drop);
        // The second one speaks no TLS either.
        assert!(matches!(outcome, Err(Failure::Tls(_))));
        assert_eq!((sent, accepted), (0, 1));
    }
}
