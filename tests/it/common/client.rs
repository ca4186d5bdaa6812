//! A client that says exactly what it is told to and sees exactly what comes back.

use super::{
    DEADLINE, Pattern,
    backend::{chunk_of, find, values},
    text, uninterrupted, unread,
};
use socket2::{Domain, SockRef, Socket, Type};
use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By its own framing; a close-delimited one by a FIN.
    Complete,
    /// The connection was closed before the framing's end.
    Truncated,
    /// The connection was reset.
    Reset,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    Fin,
    Reset,
}

/// A response's head.
#[derive(Clone, Debug)]
pub struct Head {
    pub raw: Vec<u8>,
    pub version: String,
    pub status: u16,
    pub reason: String,
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// All values of a header, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        values(&self.headers, name)
    }

    /// The value of a header that must not be there twice.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} is there {} times", all.len());
        all.first().copied()
    }
}

/// A response.
#[derive(Clone, Debug)]
pub struct Response {
    pub head: Head,
    /// Statuses of the interim responses before it.
    pub interim: Vec<u16>,
    pub bytes: Vec<u8>,
    pub length: u64,
    /// Whether the body is a [`Pattern`].
    pub patterned: bool,
    pub end: End,
    /// From the call to the last byte.
    pub took: Duration,
}

impl Response {
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// The body, which must have come whole.
    #[track_caller]
    pub fn body(&self) -> String {
        assert_eq!(self.end, End::Complete, "of {:?}", self.head);
        text(&self.bytes)
    }

    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }
}

pub struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
    /// For Host.
    address: SocketAddr,
}

impl Client {
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect_timeout(&address, DEADLINE).unwrap())
    }

    /// A client for which the kernel keeps only so much, in bytes and roughly.
    #[track_caller]
    pub fn connect_with_buffer(address: SocketAddr, bytes: usize) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        // Before it connects: the window that is announced then is never taken back.
        socket.set_recv_buffer_size(bytes).unwrap();
        socket.connect_timeout(&address.into(), DEADLINE).unwrap();
        Self::over(socket.into())
    }

    /// A client on a connection that there is already.
    #[track_caller]
    pub fn over(stream: TcpStream) -> Self {
        let address = stream.peer_addr().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            unread: Vec::new(),
            address,
        }
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends as much as the other side takes: it may have had enough.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// A request line and Host, and the header lines given, each with its `\r\n`.
    #[track_caller]
    pub fn request(&mut self, line: &str, headers: &str) {
        let host = self.address;
        self.send(format!("{line} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n"));
    }

    #[track_caller]
    pub fn get(&mut self, target: &str) -> Response {
        self.request(&format!("GET {target}"), "");
        self.response()
    }

    #[track_caller]
    pub fn post(&mut self, target: &str, body: impl AsRef<[u8]>) -> Response {
        self.send_body("POST", target, body.as_ref());
        self.response()
    }

    /// A request with a body and its Content-Length.
    #[track_caller]
    pub fn send_body(&mut self, method: &str, target: &str, body: &[u8]) {
        let length = format!("Content-Length: {}\r\n", body.len());
        self.request(&format!("{method} {target}"), &length);
        self.send(body);
    }

    /// A request with a chunked body.
    #[track_caller]
    pub fn send_chunked(&mut self, method: &str, target: &str, chunks: &[&[u8]]) {
        self.request(
            &format!("{method} {target}"),
            "Transfer-Encoding: chunked\r\n",
        );
        let mut wire = Vec::new();
        for chunk in chunks {
            wire.extend(chunk_of(chunk));
        }
        wire.extend_from_slice(b"0\r\n\r\n");
        self.send(wire);
    }

    /// Sends this many bytes of [`Pattern`].
    #[track_caller]
    pub fn send_pattern(&mut self, mut left: u64) {
        let mut pattern = Pattern::default();
        while left > 0 {
            let piece = pattern.next(left);
            self.send(piece);
            left -= piece.len() as u64;
        }
    }

    /// The answer to a request that was not a HEAD.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        self.response_to("GET")
    }

    #[track_caller]
    pub fn response_to(&mut self, method: &str) -> Response {
        match self.try_response_to(method) {
            Ok(response) => response,
            Err(closed) => panic!("no response, but {closed:?}"),
        }
    }

    /// A response or the end of the connection.
    #[track_caller]
    pub fn try_response_to(&mut self, method: &str) -> Result<Response, Closed> {
        self.read_response(method, true)
    }

    /// A response whose body is counted and checked, but not kept.
    #[track_caller]
    pub fn counted_response(&mut self) -> Response {
        self.read_response("GET", false).unwrap()
    }

    #[track_caller]
    fn read_response(&mut self, method: &str, keep: bool) -> Result<Response, Closed> {
        let begun = Instant::now();
        let mut interim = Vec::new();
        let head = loop {
            let head = self.try_head()?;
            if head.status >= 200 {
                break head;
            }
            interim.push(head.status);
        };
        let mut response = Response {
            interim,
            bytes: Vec::new(),
            length: 0,
            patterned: true,
            end: End::Complete,
            took: Duration::ZERO,
            head,
        };
        let mut body = Body {
            pattern: Pattern::default(),
            keep,
            response: &mut response,
        };
        if let Err(closed) = self.read_body(method, &mut body) {
            response.end = match closed {
                Closed::Fin => End::Truncated,
                Closed::Reset => End::Reset,
            };
        }
        response.took = begun.elapsed();
        Ok(response)
    }

    #[track_caller]
    fn read_body(&mut self, method: &str, body: &mut Body) -> Result<(), Closed> {
        let head = body.response.head.clone();
        if method == "HEAD" || matches!(head.status, 204 | 304) {
            return Ok(());
        }
        let coding = head.header("Transfer-Encoding");
        let length = head.header("Content-Length");
        assert!(
            coding.is_none() || length.is_none(),
            "both framings: {head:?}"
        );
        if let Some(coding) = coding {
            assert_eq!(coding, "chunked");
            loop {
                let line = text(&self.read_to(b"\r\n")?);
                let size = u64::from_str_radix(line.trim_end(), 16)
                    .unwrap_or_else(|_| panic!("{line:?} is no chunk size"));
                self.read_exactly(size, body)?;
                let end = self.read_to(b"\r\n")?;
                assert_eq!(text(&end), "\r\n", "after a chunk of {size} bytes");
                if size == 0 {
                    return Ok(());
                }
            }
        }
        if let Some(length) = length {
            return self.read_exactly(length.parse().unwrap(), body);
        }
        loop {
            body.take(&std::mem::take(&mut self.unread));
            match self.fill() {
                Ok(()) => {}
                Err(Closed::Fin) => return Ok(()),
                Err(Closed::Reset) => return Err(Closed::Reset),
            }
        }
    }

    /// The next head.
    #[track_caller]
    pub fn head(&mut self) -> Head {
        self.try_head()
            .unwrap_or_else(|closed| panic!("no head, but {closed:?}: {:?}", text(&self.unread)))
    }

    #[track_caller]
    fn try_head(&mut self) -> Result<Head, Closed> {
        let raw = self.read_to(b"\r\n\r\n")?;
        let head = text(&raw);
        let mut lines = head.trim_end_matches("\r\n").split("\r\n");
        let first = lines.next().unwrap_or_default();
        let mut words = first.splitn(3, ' ');
        let version = words.next().unwrap_or_default().to_owned();
        assert!(
            version.starts_with("HTTP/1."),
            "{first:?} is no status line"
        );
        let status = words.next().and_then(|status| status.parse().ok());
        Ok(Head {
            version,
            status: status.unwrap_or_else(|| panic!("{first:?} has no status")),
            reason: words.next().unwrap_or_default().to_owned(),
            headers: lines
                .map(|line| {
                    let (name, value) = line.split_once(':').unwrap();
                    (name.to_owned(), value.trim_matches([' ', '\t']).to_owned())
                })
                .collect(),
            raw,
        })
    }

    /// Reads until these bytes have come, and returns everything up to their end.
    #[track_caller]
    pub fn until(&mut self, mark: &str) -> String {
        match self.read_to(mark.as_bytes()) {
            Ok(bytes) => text(&bytes),
            Err(closed) => panic!(
                "{closed:?} instead of {mark:?} after {:?}",
                text(&self.unread)
            ),
        }
    }

    /// Whatever comes next.
    #[track_caller]
    pub fn some(&mut self) -> Vec<u8> {
        if self.unread.is_empty()
            && let Err(closed) = self.fill()
        {
            panic!("{closed:?} instead of more");
        }
        std::mem::take(&mut self.unread)
    }

    /// The client's own address.
    pub fn local_address(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    /// Sends until the other side takes no more for so long. Returns how many bytes it took;
    /// an error if it has closed the connection.
    pub fn send_until_stuck(
        &mut self,
        piece: &[u8],
        most: u64,
        patience: Duration,
    ) -> io::Result<u64> {
        self.stream.set_write_timeout(Some(patience))?;
        let mut sent = 0;
        let result = loop {
            if sent >= most {
                break Ok(sent);
            }
            match self.stream.write(piece) {
                Ok(length) => sent += length as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(sent),
                Err(error) => break Err(error),
            }
        };
        self.stream.set_write_timeout(Some(DEADLINE))?;
        result
    }

    /// Reads at most so many bytes of what comes next, without keeping them.
    #[track_caller]
    pub fn sip(&mut self, most: usize) -> usize {
        self.try_sip(most).unwrap()
    }

    /// The same; an error is a reset. What has been read and not looked at yet is dropped.
    pub fn try_sip(&mut self, most: usize) -> io::Result<usize> {
        self.unread.clear();
        let mut buffer = vec![0; most];
        uninterrupted(|| self.stream.read(&mut buffer))
    }

    /// Whether nothing comes for so long.
    pub fn hears_nothing_for(&mut self, span: Duration) -> bool {
        self.stream.set_read_timeout(Some(span)).unwrap();
        let read = uninterrupted(|| self.stream.peek(&mut [0]));
        self.stream.set_read_timeout(Some(DEADLINE)).unwrap();
        read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Waits for the end of the connection; nothing more may come before it.
    #[track_caller]
    pub fn closed(&mut self) -> Closed {
        loop {
            assert_eq!(text(&self.unread), "", "more came before the end");
            if let Err(closed) = self.fill() {
                return closed;
            }
        }
    }

    /// All that comes until the end of the connection.
    #[track_caller]
    pub fn rest(&mut self) -> String {
        while self.fill().is_ok() {}
        text(&std::mem::take(&mut self.unread))
    }

    /// Waits until the proxy has read all that was sent.
    #[track_caller]
    pub fn wait_until_read(&self) {
        Self::wait_until_all_read(std::slice::from_ref(self));
    }

    /// Waits until the proxy has read all that these clients have sent.
    #[track_caller]
    pub fn wait_until_all_read(clients: &[Self]) {
        // Seen from the proxy's ends.
        let ends = |client: &Self| (client.address, client.local_address());
        let connections: Vec<_> = clients.iter().map(ends).collect();
        unread::wait_until_read(&connections, DEADLINE);
    }

    /// Sends a FIN and can still read.
    pub fn finish_sending(&mut self) {
        // Fails where the proxy has reset the connection: the next read tells.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Breaks the connection off with a RST.
    pub fn reset(self) {
        SockRef::from(&self.stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }

    #[track_caller]
    fn fill(&mut self) -> Result<(), Closed> {
        let mut buffer = vec![0; 65536];
        match uninterrupted(|| self.stream.read(&mut buffer)) {
            Ok(0) => Err(Closed::Fin),
            Ok(length) => {
                self.unread.extend_from_slice(&buffer[..length]);
                Ok(())
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    panic!("nothing came in time, after {:?}", text(&self.unread))
                }
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Err(Closed::Reset),
                _ => panic!("{error} after {:?}", text(&self.unread)),
            },
        }
    }

    #[track_caller]
    fn read_to(&mut self, mark: &[u8]) -> Result<Vec<u8>, Closed> {
        loop {
            if let Some(at) = find(&self.unread, mark) {
                let rest = self.unread.split_off(at + mark.len());
                return Ok(std::mem::replace(&mut self.unread, rest));
            }
            self.fill()?;
        }
    }

    #[track_caller]
    fn read_exactly(&mut self, mut left: u64, body: &mut Body) -> Result<(), Closed> {
        while left > 0 {
            if self.unread.is_empty() {
                self.fill()?;
            }
            let length =
                usize::try_from(left).map_or(self.unread.len(), |left| left.min(self.unread.len()));
            body.take(&self.unread[..length]);
            self.unread.drain(..length);
            left -= length as u64;
        }
        Ok(())
    }
}

struct Body<'a> {
    pattern: Pattern,
    keep: bool,
    response: &'a mut Response,
}

impl Body<'_> {
    fn take(&mut self, bytes: &[u8]) {
        self.response.length += bytes.len() as u64;
        self.response.patterned &= self.pattern.continues_with(bytes);
        if self.keep {
            self.response.bytes.extend_from_slice(bytes);
        }
    }
}
