//! Back ends with a script, down to the byte.
//!
//! A back end reads a request whole (unless the step is `early`), records it, and does what the
//! step says. Steps that were never used and requests that no step was left for fail the test
//! when the back end is dropped.
//!
//! Heads are bytes: as text each byte is one character ([`text`], [`latin1`]), so that
//! nothing is lost or changed in either direction.

use super::{
    DEADLINE, Gate, Pattern, certificates::Identity, latin1, lock, text, uninterrupted, wait_until,
};
use rustls::{ServerConnection, StreamOwned};
use socket2::{Domain, SockRef, Socket, Type};
use std::{
    collections::{HashMap, VecDeque},
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

/// Something that can stand in `-endpoints`.
pub trait Endpoint {
    fn url(&self) -> String;
}

impl Endpoint for String {
    fn url(&self) -> String {
        self.clone()
    }
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Received {
    /// Which of the back end's connections it came on, from 0.
    pub connection: usize,
    /// The head, byte for byte, with the empty line.
    pub raw_head: Vec<u8>,
    pub method: String,
    pub target: String,
    pub version: String,
    /// In order, with their case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The body's length, also where the back end does not keep bodies.
    pub length: u64,
    /// Whether the body is a [`Pattern`].
    pub patterned: bool,
}

impl Received {
    /// All values of a header, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        values(&self.headers, name)
    }

    /// The value of a header that must not be there twice.
    pub fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} is there {} times", all.len());
        all.first().copied()
    }

    /// Whether the head has this line, byte for byte.
    pub fn has_line(&self, line: &[u8]) -> bool {
        let line = [b"\r\n", line, b"\r\n"].concat();
        find(&self.raw_head, &line).is_some()
    }

    /// The request line, byte for byte, without its end.
    pub fn request_line(&self) -> &[u8] {
        let end = find(&self.raw_head, b"\r\n").unwrap_or(self.raw_head.len());
        &self.raw_head[..end]
    }
}

/// All values of a header, in order.
pub fn values<'a>(headers: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    headers
        .iter()
        .filter(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, v)| v.as_str())
        .collect()
}

/// What a back end does on the wire.
#[derive(Clone)]
pub enum Act {
    Send(Vec<u8>),
    /// Sends this many bytes of [`Pattern`], made as they go.
    Generate(u64),
    /// The same as chunks.
    GenerateChunked(u64),
    /// Sends the bytes again and again, with a pause after each time, until the peer is gone.
    Trickle(&'static [u8], Duration),
    Wait(Gate),
    Open(Gate),
    Pause(Duration),
    /// Does nothing until the peer is gone.
    Hang,
    /// Closes in good order (FIN). TLS: without `close_notify`.
    Close,
    /// TLS: says that the stream ends here, as it should be, and closes.
    CloseNotify,
    /// Closes with a reset (RST).
    Reset,
}

#[derive(Clone)]
enum Framing {
    Length,
    Chunked,
    Close,
    None,
}

#[derive(Clone)]
struct Reply {
    version: &'static str,
    status: u16,
    reason: String,
    headers: Vec<(String, String)>,
    framing: Framing,
    body: Vec<Vec<u8>>,
    cut: Option<(usize, Act)>,
}

/// What becomes of one request.
#[derive(Clone, Default)]
pub struct Step {
    early: bool,
    before: Vec<Act>,
    reply: Option<Reply>,
    then: Vec<Act>,
}

/// An answer with this status.
pub fn status(status: u16) -> Step {
    let reason = match status {
        200 => "OK",
        404 => "Not Found",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Whatever",
    };
    Step {
        reply: Some(Reply {
            version: "1.1",
            status,
            reason: reason.into(),
            headers: Vec::new(),
            framing: if matches!(status, 204 | 304) {
                Framing::None
            } else {
                Framing::Length
            },
            body: Vec::new(),
            cut: None,
        }),
        ..Step::default()
    }
}

/// The acts, and nothing else.
pub fn script(acts: impl IntoIterator<Item = Act>) -> Step {
    Step {
        before: acts.into_iter().collect(),
        ..Step::default()
    }
}

/// The bytes; the connection stays open.
pub fn raw(bytes: impl AsRef<[u8]>) -> Step {
    script([send(bytes)])
}

/// Accepts, reads and never answers.
pub fn never() -> Step {
    script([Act::Hang])
}

/// Closes without an answer.
pub fn hangup() -> Step {
    script([Act::Close])
}

/// Resets the connection without an answer.
pub fn reset() -> Step {
    script([Act::Reset])
}

pub fn send(bytes: impl AsRef<[u8]>) -> Act {
    Act::Send(bytes.as_ref().to_vec())
}

pub fn wait(gate: &Gate) -> Act {
    Act::Wait(gate.clone())
}

impl Step {
    fn reply(mut self, change: impl FnOnce(&mut Reply)) -> Self {
        change(self.reply.as_mut().expect("a step with a reply"));
        self
    }

    pub fn header(self, name: &str, value: &str) -> Self {
        self.reply(|r| r.headers.push((name.into(), value.into())))
    }

    /// With a Content-Length.
    pub fn body(self, body: impl AsRef<[u8]>) -> Self {
        self.reply(|r| r.body = vec![body.as_ref().to_vec()])
    }

    pub fn chunked(self, chunks: &[&[u8]]) -> Self {
        self.reply(|r| {
            r.framing = Framing::Chunked;
            r.body = chunks.iter().map(|chunk| chunk.to_vec()).collect();
        })
    }

    /// The end of the connection is the end of the body.
    pub fn until_close(self, body: impl AsRef<[u8]>) -> Self {
        self.body(body)
            .reply(|r| r.framing = Framing::Close)
            .then([Act::Close])
    }

    /// No framing header and no body: the headers given are all there are.
    pub fn head_only(self) -> Self {
        self.reply(|r| r.framing = Framing::None)
    }

    pub fn http_1_0(self) -> Self {
        self.reply(|r| r.version = "1.0")
    }

    /// Breaks off when this many bytes of the body, framing included, have been sent.
    pub fn cut(self, after: usize, how: Act) -> Self {
        self.reply(|r| r.cut = Some((after, how)))
    }

    /// Holds the answer until the gate is open.
    pub fn after(mut self, gate: &Gate) -> Self {
        self.before.push(wait(gate));
        self
    }

    /// Answers as slowly as that.
    pub fn delayed(mut self, delay: Duration) -> Self {
        self.before.push(Act::Pause(delay));
        self
    }

    /// Sends bytes before the answer: interim responses, say.
    pub fn preceded_by(mut self, bytes: &str) -> Self {
        self.before.push(send(bytes));
        self
    }

    /// Answers as soon as the head is there, without reading the body.
    pub fn early(mut self) -> Self {
        self.early = true;
        self
    }

    pub fn then(mut self, acts: impl IntoIterator<Item = Act>) -> Self {
        self.then.extend(acts);
        self
    }

    fn acts(&self, method: &str) -> Vec<Act> {
        let mut acts = self.before.clone();
        if let Some(reply) = &self.reply {
            acts.extend(reply.acts(method == "HEAD"));
        }
        acts.extend(self.then.clone());
        acts
    }
}

impl Reply {
    fn acts(&self, head_request: bool) -> Vec<Act> {
        use std::fmt::Write as _;

        let mut head = format!("HTTP/{} {}", self.version, self.status);
        if !self.reason.is_empty() {
            let _ = write!(head, " {}", self.reason);
        }
        head += "\r\n";
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let mut wire = Vec::new();
        match self.framing {
            Framing::Length => {
                let length: usize = self.body.iter().map(Vec::len).sum();
                let _ = write!(head, "Content-Length: {length}\r\n");
                wire = self.body.concat();
            }
            Framing::Chunked => {
                head += "Transfer-Encoding: chunked\r\n";
                for chunk in &self.body {
                    wire.extend_from_slice(&chunk_of(chunk));
                }
                wire.extend_from_slice(b"0\r\n\r\n");
            }
            Framing::Close => wire = self.body.concat(),
            Framing::None => {}
        }
        head += "\r\n";
        if head_request {
            wire.clear();
        }
        if let Some((after, how)) = &self.cut {
            assert!(*after < wire.len(), "nothing left to cut off");
            wire.truncate(*after);
            return vec![send(latin1(&head)), Act::Send(wire), how.clone()];
        }
        let mut bytes = latin1(&head);
        bytes.extend(wire);
        vec![Act::Send(bytes)]
    }
}

/// One chunk of the chunked coding.
pub fn chunk_of(bytes: &[u8]) -> Vec<u8> {
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

type Choice = Box<dyn Fn(&Received) -> Step + Send>;

enum Plan {
    Each(VecDeque<Step>),
    Always(Step),
    Choose(Arc<Mutex<Choice>>),
}

struct State {
    plan: Plan,
    keep_bodies: bool,
    /// Heads that have come, of requests whole or not.
    heads: usize,
    /// Requests that have come whole.
    requests: Vec<Received>,
    /// Gates that did not open, requests that were not expected.
    trouble: Vec<String>,
    connections: usize,
    /// For shutting down what is still open at the end.
    open: HashMap<usize, TcpStream>,
    /// When a connection was last seen to have ended.
    last_left: Option<Instant>,
    stopping: bool,
}

impl State {
    /// How many steps are still to be used.
    fn unused(&self) -> usize {
        match &self.plan {
            Plan::Each(steps) => steps.len(),
            _ => 0,
        }
    }
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// A scripted HTTP server on a port of its own.
pub struct Backend {
    address: SocketAddr,
    shared: Arc<Shared>,
    tls: Option<Arc<rustls::ServerConfig>>,
    host: String,
}

impl Endpoint for Backend {
    fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }
}

impl Backend {
    fn new(plan: Plan, identity: Option<&Identity>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let backend = Self {
            address: listener.local_addr().unwrap(),
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    plan,
                    keep_bodies: true,
                    heads: 0,
                    requests: Vec::new(),
                    trouble: Vec::new(),
                    connections: 0,
                    open: HashMap::new(),
                    last_left: None,
                    stopping: false,
                }),
                changed: Condvar::new(),
            }),
            tls: identity.map(Identity::server_config),
            host: "127.0.0.1".into(),
        };
        let (shared, tls) = (Arc::clone(&backend.shared), backend.tls.clone());
        thread::spawn(move || accept(&listener, &shared, tls.as_ref()));
        backend
    }

    /// One step for each request that is to come, in the order of arrival.
    pub fn replies(steps: impl IntoIterator<Item = Step>) -> Self {
        Self::new(Plan::Each(steps.into_iter().collect()), None)
    }

    /// The same step for any number of requests.
    pub fn always(step: Step) -> Self {
        Self::new(Plan::Always(step), None)
    }

    /// The step depends on the request.
    pub fn choosing(choose: impl Fn(&Received) -> Step + Send + 'static) -> Self {
        Self::new(Plan::Choose(Arc::new(Mutex::new(Box::new(choose)))), None)
    }

    /// Must not be called at all.
    pub fn untouched() -> Self {
        Self::replies([])
    }

    pub fn tls(identity: &Identity, steps: impl IntoIterator<Item = Step>) -> Self {
        Self::new(Plan::Each(steps.into_iter().collect()), Some(identity))
    }

    /// Counts and checks bodies instead of keeping them.
    pub fn counting_bodies(self) -> Self {
        lock(&self.shared.state).keep_bodies = false;
        self
    }

    /// Another name for the loopback address, for the URL.
    pub fn called(mut self, host: &str) -> Self {
        self.host = host.into();
        self
    }

    /// What stands in Host.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.address.port())
    }

    /// Method and target of each request so far.
    pub fn seen(&self) -> Vec<String> {
        self.requests()
            .iter()
            .map(|r| format!("{} {}", r.method, r.target))
            .collect()
    }

    pub fn requests(&self) -> Vec<Received> {
        lock(&self.shared.state).requests.clone()
    }

    /// The one request there was.
    pub fn request(&self) -> Received {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "requests: {:?}", self.seen());
        requests.remove(0)
    }

    /// Heads that have come, of requests whole or not.
    pub fn calls(&self) -> usize {
        lock(&self.shared.state).heads
    }

    pub fn connections(&self) -> usize {
        lock(&self.shared.state).connections
    }

    /// Connections that are open now, used or not.
    pub fn open_connections(&self) -> usize {
        lock(&self.shared.state).open.len()
    }

    /// Waits until that many requests have come, in all.
    pub fn wait_for_calls(&self, number: usize) {
        self.wait(&format!("{number} requests"), |state| {
            state.requests.len() >= number
        });
    }

    /// Waits until the proxy has closed every connection.
    pub fn wait_until_left(&self) {
        self.wait("all connections to be closed", |state| {
            state.connections > 0 && state.open.is_empty()
        });
    }

    /// Waits until the proxy has closed every connection, and returns when it was seen here.
    pub fn left_at(&self) -> Instant {
        self.wait_until_left();
        lock(&self.shared.state)
            .last_left
            .unwrap_or_else(Instant::now)
    }

    fn wait(&self, what: &str, good: impl Fn(&State) -> bool) {
        let found = wait_until(&self.shared.state, &self.shared.changed, |state| {
            good(state).then_some(())
        });
        assert!(
            found.is_some(),
            "no {what} at {}; seen {:?}",
            self.url(),
            self.seen()
        );
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        if !thread::panicking() {
            // A request that a loser has sent may not have been read yet.
            wait_until(&self.shared.state, &self.shared.changed, |state| {
                (state.unused() == 0).then_some(())
            });
        }
        let mut state = lock(&self.shared.state);
        state.stopping = true;
        for stream in state.open.values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let unused = state.unused();
        let trouble = std::mem::take(&mut state.trouble);
        drop(state);
        // Wakes the accept loop, which then sees that it is to stop.
        let _ = TcpStream::connect(self.address);
        if !thread::panicking() {
            assert!(trouble.is_empty(), "{}: {trouble:?}", self.url());
            assert_eq!(
                unused,
                0,
                "steps never used at {}; seen {:?}",
                self.url(),
                self.seen()
            );
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, tls: Option<&Arc<rustls::ServerConfig>>) {
    while let Ok((tcp, _)) = listener.accept() {
        let mut state = lock(&shared.state);
        if state.stopping {
            return;
        }
        let id = state.connections;
        state.connections += 1;
        let Ok(duplicate) = tcp.try_clone() else {
            return;
        };
        state.open.insert(id, duplicate);
        drop(state);
        shared.changed.notify_all();

        let _ = tcp.set_nodelay(true);
        let _ = tcp.set_write_timeout(Some(DEADLINE));
        let (shared, tls) = (Arc::clone(shared), tls.cloned());
        thread::spawn(move || {
            let wire = match tls {
                None => Wire::Plain(tcp),
                Some(config) => match ServerConnection::new(config) {
                    Ok(session) => Wire::Tls(Box::new(StreamOwned::new(session, tcp))),
                    Err(_) => return,
                },
            };
            let mut connection = Connection {
                id,
                wire,
                unread: Vec::new(),
                shared: Arc::clone(&shared),
            };
            // An error is the peer's way of leaving, which is what `open` tells.
            let _ = connection.serve();
            // Closed before it is said to be closed: the duplicate is the last handle.
            drop(connection);
            let mut state = lock(&shared.state);
            state.open.remove(&id);
            state.last_left = Some(Instant::now());
            drop(state);
            shared.changed.notify_all();
        });
    }
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Wire {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(stream) => &stream.sock,
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => uninterrupted(|| tcp.read(buffer)),
            Self::Tls(stream) => uninterrupted(|| stream.read(buffer)),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

struct Connection {
    id: usize,
    wire: Wire,
    unread: Vec<u8>,
    shared: Arc<Shared>,
}

impl Connection {
    fn serve(&mut self) -> io::Result<()> {
        while let Some(mut request) = self.read_head()? {
            let (step, keep) = {
                let mut state = lock(&self.shared.state);
                state.heads += 1;
                let step = match &mut state.plan {
                    Plan::Each(steps) => {
                        let next = steps.pop_front();
                        if next.is_none() {
                            let what = format!("unexpected {} {}", request.method, request.target);
                            state.trouble.push(what);
                        }
                        Some(next.unwrap_or_else(|| status(500)))
                    }
                    Plan::Always(step) => Some(step.clone()),
                    Plan::Choose(_) => None,
                };
                (step, state.keep_bodies)
            };
            self.shared.changed.notify_all();
            let early = step.as_ref().is_some_and(|step| step.early);
            if !early {
                self.read_body(&mut request, keep)?;
            }
            let chooser = {
                let mut state = lock(&self.shared.state);
                state.requests.push(request.clone());
                match &state.plan {
                    Plan::Choose(choose) => Some(Arc::clone(choose)),
                    _ => None,
                }
            };
            self.shared.changed.notify_all();
            let step = step
                .or_else(|| chooser.map(|choose| lock(&choose)(&request)))
                .unwrap_or_default();
            for act in step.acts(&request.method) {
                if !self.perform(act)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Does it; false if the connection is done.
    fn perform(&mut self, act: Act) -> io::Result<bool> {
        match act {
            Act::Send(bytes) => self.wire.write_all(&bytes)?,
            Act::Generate(mut left) => {
                let mut pattern = Pattern::default();
                while left > 0 {
                    let piece = pattern.next(left);
                    self.wire.write_all(piece)?;
                    left -= piece.len() as u64;
                }
            }
            Act::GenerateChunked(mut left) => {
                let mut pattern = Pattern::default();
                while left > 0 {
                    let piece = pattern.next(left);
                    self.wire.write_all(&chunk_of(piece))?;
                    left -= piece.len() as u64;
                }
                self.wire.write_all(b"0\r\n\r\n")?;
            }
            Act::Trickle(bytes, pause) => loop {
                self.wire.write_all(bytes)?;
                thread::sleep(pause);
            },
            Act::Wait(gate) => {
                if !gate.wait() {
                    let mut state = lock(&self.shared.state);
                    if !state.stopping {
                        state.trouble.push("a gate was never opened".into());
                    }
                    return Ok(false);
                }
            }
            Act::Open(gate) => gate.open(),
            Act::Pause(span) => thread::sleep(span),
            Act::Hang => {
                while self.wire.read(&mut [0; 4096])? > 0 {}
                return Ok(false);
            }
            Act::Close => {
                // `shutdown` and not just a drop: the duplicate for the end is still open.
                self.wire.tcp().shutdown(Shutdown::Both)?;
                return Ok(false);
            }
            Act::CloseNotify => {
                if let Wire::Tls(stream) = &mut self.wire {
                    stream.conn.send_close_notify();
                    stream.flush()?;
                }
                self.wire.tcp().shutdown(Shutdown::Both)?;
                return Ok(false);
            }
            Act::Reset => {
                SockRef::from(self.wire.tcp()).set_linger(Some(Duration::ZERO))?;
                // The reset goes out when the last handle is closed.
                lock(&self.shared.state).open.remove(&self.id);
                return Ok(false);
            }
        }
        self.wire.flush()?;
        Ok(true)
    }

    /// Reads more; false at the end of the stream.
    fn fill(&mut self) -> io::Result<bool> {
        let mut buffer = vec![0; 65536];
        let length = self.wire.read(&mut buffer)?;
        self.unread.extend_from_slice(&buffer[..length]);
        Ok(length > 0)
    }

    /// Reads up to and with the end mark; `None` at the end of the stream.
    fn read_to(&mut self, mark: &[u8]) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(at) = find(&self.unread, mark) {
                let rest = self.unread.split_off(at + mark.len());
                return Ok(Some(std::mem::replace(&mut self.unread, rest)));
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    fn read_head(&mut self) -> io::Result<Option<Received>> {
        let Some(raw_head) = self.read_to(b"\r\n\r\n")? else {
            return Ok(None);
        };
        let head = text(&raw_head);
        let mut lines = head.trim_end_matches("\r\n").split("\r\n");
        let mut words = lines.next().unwrap_or_default().splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        let (method, target, version) = (word(), word(), word());
        let headers = lines
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap_or((line, "<no colon>"));
                (name.to_owned(), value.trim_matches([' ', '\t']).to_owned())
            })
            .collect();
        Ok(Some(Received {
            connection: self.id,
            raw_head,
            method,
            target,
            version,
            headers,
            body: Vec::new(),
            length: 0,
            patterned: true,
        }))
    }

    fn read_body(&mut self, request: &mut Received, keep: bool) -> io::Result<()> {
        let mut sink = Sink {
            pattern: Pattern::default(),
            keep,
            request,
        };
        let chunked = sink.request.header("Transfer-Encoding").is_some();
        if chunked {
            loop {
                let line = self.read_to(b"\r\n")?.ok_or(io::ErrorKind::UnexpectedEof)?;
                let size = u64::from_str_radix(text(&line).trim(), 16)
                    .map_err(|_| io::ErrorKind::InvalidData)?;
                self.read_exactly(size, &mut sink)?;
                self.read_to(b"\r\n")?.ok_or(io::ErrorKind::UnexpectedEof)?;
                if size == 0 {
                    return Ok(());
                }
            }
        }
        let length = sink.request.header("Content-Length").map_or(0, |length| {
            length.parse().expect("a Content-Length that is a number")
        });
        self.read_exactly(length, &mut sink)
    }

    fn read_exactly(&mut self, mut left: u64, sink: &mut Sink) -> io::Result<()> {
        while left > 0 {
            if self.unread.is_empty() && !self.fill()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let length =
                usize::try_from(left).map_or(self.unread.len(), |left| left.min(self.unread.len()));
            sink.take(&self.unread[..length]);
            self.unread.drain(..length);
            left -= length as u64;
        }
        Ok(())
    }
}

struct Sink<'a> {
    pattern: Pattern,
    keep: bool,
    request: &'a mut Received,
}

impl Sink<'_> {
    fn take(&mut self, bytes: &[u8]) {
        self.request.length += bytes.len() as u64;
        self.request.patterned &= self.pattern.continues_with(bytes);
        if self.keep {
            self.request.body.extend_from_slice(bytes);
        }
    }
}

/// Where `needle` begins.
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

/// An address that refuses connections: bound, so that nobody else gets the port, and never
/// listened on.
pub struct Refused {
    socket: Socket,
}

impl Refused {
    pub fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket
            .bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
            .unwrap();
        Self { socket }
    }
}

impl Endpoint for Refused {
    fn url(&self) -> String {
        format!("http://{}", address_of(&self.socket))
    }
}

/// An address where connecting takes for ever: a listener whose backlog is full.
pub struct Unroutable {
    socket: Socket,
    _fillers: Vec<Socket>,
}

impl Unroutable {
    pub fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket
            .bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
            .unwrap();
        socket.listen(0).unwrap();
        let fillers = (0..4)
            .map(|_| {
                let filler = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                filler.set_nonblocking(true).unwrap();
                let _ = filler.connect(&address_of(&socket).into());
                filler
            })
            .collect();
        Self {
            socket,
            _fillers: fillers,
        }
    }
}

impl Endpoint for Unroutable {
    fn url(&self) -> String {
        format!("http://{}", address_of(&self.socket))
    }
}

fn address_of(socket: &Socket) -> SocketAddr {
    socket.local_addr().unwrap().as_socket().unwrap()
}
