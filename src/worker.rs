//! One request from admission to its log line.
//!
//! A panic on the way costs its request a 500, and no worker.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use log::{error, info};
use tiny_http::Request;

use crate::body::{Body, read_body};
use crate::clients::{Clients, Flight, InFlight, Leftover, Stage};
use crate::config::OnExhausted;
use crate::dispatch::trail::Trail;
use crate::dispatch::{Dispatched, Dispatcher, Winner};
use crate::endpoint::Outgoing;
use crate::exchange::{self, Checked, Refusal, Sizes};
use crate::failure::{Failure, describe};
use crate::forward::{Framing, Persistence};
use crate::go_duration::GoDuration;
use crate::leniency::holds_unread_body;
use crate::logging::{canonical, escaped};
use crate::own_answer::{self, own_answer};
use crate::proxy_status::{self, PROXY_STATUS};
use crate::relay::{self, Relayed};

/// What all requests share.
#[derive(Debug)]
pub struct Proxy {
    /// Puts requests to the endpoints.
    pub dispatcher: Dispatcher,
    /// Every answer gets a `Proxy-Status`, with details.
    pub proxy_status: bool,
    /// How large requests may be.
    pub sizes: Sizes,
}

/// An admitted request.
pub struct Job {
    /// `tiny_http`'s request, its body still unread.
    pub request: Request,
    /// The client's address.
    pub client: SocketAddr,
    /// What the check of its head has found.
    pub checked: Result<Checked, Refusal>,
    /// When it was received.
    pub started: Instant,
    /// Counts as in flight until this is dropped.
    pub in_flight: InFlight,
}

/// Serves requests.
#[derive(Debug)]
pub struct Worker {
    proxy: Proxy,
    clients: Arc<Clients>,
}

impl Worker {
    /// A worker of this proxy.
    #[must_use]
    pub fn new(proxy: Proxy, clients: Arc<Clients>) -> Self {
        Self { proxy, clients }
    }

    /// Checks an admitted request's head. An unsound one condemns its connection.
    #[must_use]
    pub fn job(&self, request: Request, client: SocketAddr, in_flight: InFlight) -> Job {
        let checked = exchange::check(&request, client, self.proxy.sizes);
        if checked.is_err() {
            self.clients.condemn(client);
        }
        Job {
            request,
            client,
            checked,
            started: Instant::now(),
            in_flight,
        }
    }

    /// Serves a request, come what may, and those that wait behind it.
    pub fn work(&self, job: Job) {
        let client = job.client;
        self.serve_or_500(job);
        while let Some((request, in_flight)) = self.clients.next(client) {
            self.serve_or_500(self.job(request, client, in_flight));
        }
    }

    fn serve_or_500(&self, job: Job) {
        let client = job.client;
        let mut writer = None;
        let served = catch_unwind(AssertUnwindSafe(|| self.serve(job, &mut writer)));
        if served.is_err() {
            let client_address = canonical(client);
            error!("internal error while serving a request of {client_address}, returning 500");
            if let Some(writer) = writer.as_mut().filter(|writer| !writer.begun) {
                let answer = own_answer(500, "internal error", Persistence::Close, false);
                let _ = writer.write_all(&answer).and_then(|()| writer.flush());
            }
            self.clients.cut(client);
        }
    }

    fn serve(&self, job: Job, writer: &mut Option<ClientWriter>) {
        let Job {
            mut request,
            client,
            checked,
            started,
            in_flight,
        } = job;
        let checked = match checked {
            Ok(checked) => checked,
            Err(refusal) => return self.refuse(request, client, &refusal, in_flight),
        };
        let flight = Arc::clone(&in_flight.flight);
        flight.set_stage(Stage::Receiving);
        let traffic = || self.clients.socket(client)?.traffic();
        let body = read_body(&mut request, &checked, self.proxy.sizes.body, traffic);
        let body = match body {
            Ok(body) => body,
            Err(refusal) => {
                self.clients.condemn(client);
                return self.refuse(request, client, &refusal, in_flight);
            }
        };
        *writer = Some(ClientWriter {
            inner: request.into_writer(),
            begun: false,
            _in_flight: in_flight,
        });
        let usual = checked.usual_length_with(&body);
        self.clients.has_been_read(client, &flight, usual);
        flight.set_stage(Stage::Asking);
        let exchange = Exchange {
            worker: self,
            flight: &flight,
            checked: &checked,
            client,
            started,
        };
        exchange.run(&body, writer);
    }

    /// Answers a request that is not served, and cuts its connection: what follows on
    /// it is in doubt.
    fn refuse(&self, request: Request, client: SocketAddr, refusal: &Refusal, in_flight: InFlight) {
        info!(
            "refused a request of {}: {}",
            canonical(client),
            escaped(&refusal.to_string())
        );
        let is_head = request.method() == &tiny_http::Method::Head;
        let answer = own_answer(refusal.status, &refusal.reason, Persistence::Close, is_head);
        let (past_tiny_http, leftover) = if holds_unread_body(&request) {
            // tiny_http gives us its writer only after it has read the body. So the
            // answer goes past it; all earlier requests have been answered.
            (answer, Leftover::Request(request, in_flight))
        } else {
            let mut writer = request.into_writer();
            // Fails where the client has gone.
            let _ = writer.write_all(&answer).and_then(|()| writer.flush());
            (Vec::new(), Leftover::Writer(writer, in_flight))
        };
        self.clients
            .answer_and_cut(client, &past_tiny_http, leftover);
    }
}

/// A sound request with its body, being served.
struct Exchange<'a> {
    worker: &'a Worker,
    flight: &'a Flight,
    checked: &'a Checked,
    client: SocketAddr,
    started: Instant,
}

impl Exchange<'_> {
    /// Leaves nothing in `writer`: its end lets the next request of the connection be
    /// answered, and must not wait for the losers of this one.
    fn run(&self, body: &Body, writer: &mut Option<ClientWriter>) {
        let proxy = &self.worker.proxy;
        let outgoing = Outgoing {
            head: &self.checked.head,
            body,
            once: false,
        };
        let answer = |Dispatched { answer, trail }: Dispatched<'_>| {
            let Some(client) = writer else { return };
            self.flight.set_stage(Stage::Sending);
            match answer {
                Some(winner) => self.relay(winner, &trail, client),
                None => self.exhausted(&trail, client),
            }
            *writer = None;
        };
        let attempts = &self.flight.attempts;
        proxy.dispatcher.dispatch(outgoing, attempts, answer);
    }

    fn relay(&self, winner: Winner<'_>, trail: &Trail, writer: &mut ClientWriter) {
        let Winner {
            endpoint,
            mut answer,
            hedged,
            usable,
        } = winner;
        let status = answer.head.status;
        if self.worker.proxy.proxy_status {
            let proxy_status = proxy_status::relayed(endpoint, hedged, trail);
            let line = (PROXY_STATUS.to_owned(), proxy_status.into_bytes());
            answer.head.added.push(line);
        }
        let framing = relay::framing(answer.length, self.checked.head.version);
        let persistence = match framing {
            Framing::Close => Persistence::Close,
            _ => self.persistence(),
        };
        let relayed = relay::relay(writer, answer, framing, persistence);
        let clients = &self.worker.clients;
        match relayed {
            Relayed::Whole if persistence == Persistence::Close => self.close(),
            Relayed::Whole => {}
            // The end of the connection would pass for the end of the body.
            Relayed::Truncated(_) if framing == Framing::Close => clients.reset(self.client),
            Relayed::Truncated(_) | Relayed::ClientGone(_) => clients.cut(self.client),
        }
        let note = match relayed {
            Relayed::Whole => String::new(),
            Relayed::Truncated(Failure::Cancelled) => ", but the client went away".to_owned(),
            Relayed::Truncated(failure) => format!(", but the answer broke off: {failure}"),
            Relayed::ClientGone(error) => {
                format!(", but the client broke off: {}", describe(&error))
            }
        };
        if usable {
            info!(
                "request {} served in {} by {}{}",
                escaped(&self.checked.head.target),
                GoDuration::from(self.started.elapsed()),
                escaped(&trail.winner(endpoint.index, hedged)),
                escaped(&note)
            );
        } else {
            info!(
                "endpoints failed to return a valid answer, returning {status} of endpoint {}{}",
                endpoint.index,
                escaped(&note)
            );
        }
    }

    fn exhausted(&self, trail: &Trail, writer: &mut ClientWriter) {
        if self.flight.attempts.are_cancelled() {
            self.worker.clients.cut(self.client);
            info!(
                "request {} given up after {}: the client went away",
                escaped(&self.checked.head.target),
                GoDuration::from(self.started.elapsed())
            );
            return;
        }
        let proxy = &self.worker.proxy;
        let status = match proxy.dispatcher.policy().on_exhausted {
            OnExhausted::Status500 => 500,
            OnExhausted::Gateway | OnExhausted::Best => trail.gateway_status(),
        };
        let persistence = self.persistence();
        let is_head = self.checked.head.method == "HEAD";
        let proxy_status = proxy_status::exhausted(trail, proxy.proxy_status);
        let answer = own_answer::exhausted(status, persistence, is_head, &proxy_status);
        // Fails where the client has gone.
        let _ = writer.write_all(&answer).and_then(|()| writer.flush());
        if persistence == Persistence::Close {
            self.close();
        }
        info!("endpoints failed to return a valid answer, returning {status}");
    }

    /// What the client is told of its connection: that it ends, once we are stopping.
    fn persistence(&self) -> Persistence {
        let clients = &self.worker.clients;
        if clients.is_closing() && !clients.has_waiting(self.client) {
            Persistence::Close
        } else {
            self.checked.persistence
        }
    }

    /// `tiny_http` closes most connections itself; those that it does not, we do.
    fn close(&self) {
        if !self.checked.closes_by_itself {
            self.worker.clients.cut(self.client);
        }
    }
}

/// The way to the client, and whether anything has gone there.
struct ClientWriter {
    inner: Box<dyn Write + Send>,
    begun: bool,
    _in_flight: InFlight,
}

impl Write for ClientWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.begun = true;
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
