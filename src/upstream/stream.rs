//! A socket to an endpoint, with or without TLS on it.
//!
//! Nothing here waits but the handshake: what can't be done at once is
//! [`io::ErrorKind::WouldBlock`]. Only an orderly end is one: TLS that ends without
//! `close_notify` is an error (RFC 8446 6.1).

use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustix::event::PollFlags;
use rustix::net::{RecvFlags, recv};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::control::AttemptControl;
use super::failure::{ExchangeFault, Failure, TlsFault};
use super::tls;

/// What is handed to TLS at once, in bytes.
const TLS_BUFFER: usize = 64 * 1024;

/// TLS towards an endpoint: the shared settings and the name to verify.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Roots, client certificate, ALPN.
    pub config: Arc<ClientConfig>,
    /// The endpoint's name as it must stand in its certificate.
    pub name: ServerName<'static>,
}

/// Reads from a socket without libc's `recv`: no look whether it is a client's (see
/// [`crate::downstream::seam`]).
struct Receiving<'a>(&'a TcpStream);

impl Read for Receiving<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self.0, buffer, RecvFlags::empty())?.0)
    }
}

/// The socket, with or without TLS on it. Nothing here waits: what can't be done at
/// once is [`io::ErrorKind::WouldBlock`].
pub(super) struct Stream {
    socket: Arc<TcpStream>,
    tls: Option<Box<ClientConnection>>,
}

impl Stream {
    /// A socket without TLS, non-blocking.
    pub(super) fn new(socket: Arc<TcpStream>) -> Self {
        Self { socket, tls: None }
    }

    pub(super) fn socket(&self) -> &Arc<TcpStream> {
        &self.socket
    }

    pub(super) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    pub(super) fn handshake(&mut self, tls: &Tls, control: &AttemptControl) -> Result<(), Failure> {
        let mut session = ClientConnection::new(Arc::clone(&tls.config), tls.name.clone())
            .map_err(|error| tls::failure(&error))?;
        session.set_buffer_limit(Some(TLS_BUFFER));
        let session = self.tls.insert(Box::new(session));
        while session.is_handshaking() || session.wants_write() {
            let (result, wanted) = if session.wants_write() {
                (session.write_tls(&mut &*self.socket), PollFlags::OUT)
            } else {
                (
                    session.read_tls(&mut Receiving(&self.socket)),
                    PollFlags::IN,
                )
            };
            match result {
                Ok(0) if wanted == PollFlags::IN => {
                    control.check()?;
                    return Err(Failure::Tls(TlsFault::Closed));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    control.wait(&self.socket, wanted)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    control.check()?;
                    return Err(Failure::Tls(TlsFault::Io((&error).into())));
                }
            }
            if let Err(error) = session.process_new_packets() {
                // Best effort: an alert with the reason.
                let _ = session.write_tls(&mut &*self.socket);
                return Err(tls::failure(&error));
            }
        }
        Ok(())
    }

    /// Takes as much of the two pieces as goes without waiting.
    pub(super) fn write(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        let pieces = [IoSlice::new(first), IoSlice::new(second)];
        let Some(session) = &mut self.tls else {
            return match (&*self.socket).write_vectored(&pieces) {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                result => result,
            };
        };
        loop {
            match session.writer().write_vectored(&pieces)? {
                // The session's buffer is full: it has to get rid of some first.
                0 => {
                    session.write_tls(&mut &*self.socket)?;
                }
                taken => return Ok(taken),
            }
        }
    }

    /// Hands everything that was pushed to the kernel.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if let Some(session) = &mut self.tls {
            while session.wants_write() {
                session.write_tls(&mut &*self.socket)?;
            }
        }
        Ok(())
    }

    pub(super) fn wants_write(&self) -> bool {
        self.tls
            .as_ref()
            .is_some_and(|session| session.wants_write())
    }

    /// Reads what is there; 0 bytes at an orderly end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(session) = &mut self.tls else {
            return Receiving(&self.socket).read(buffer);
        };
        loop {
            match session.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(Failure::Broken(ExchangeFault::NoCloseNotify).into_io());
                }
                result => return result,
            }
            // A session may owe the peer an answer: a key update, an alert. Where the peer
            // takes nothing more, what it said last is still to be read.
            if session.wants_write() {
                let _ = session.write_tls(&mut &*self.socket);
            }
            session.read_tls(&mut Receiving(&self.socket))?;
            session
                .process_new_packets()
                .map_err(|error| tls::failure(&error).into_io())?;
        }
    }

    /// Whether nothing at all has happened since the last exchange. TLS 1.3 sends
    /// its session tickets when it likes: they are taken in.
    pub(super) fn is_idle(&mut self) -> bool {
        let mut byte = [0];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        match recv(&*self.socket, &mut byte, flags) {
            Err(rustix::io::Errno::WOULDBLOCK) => true,
            Ok((1.., _)) if self.tls.is_some() => {
                matches!(self.read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
            _ => false,
        }
    }
}

/// Acknowledges at once what has come so far. An endpoint that writes head and body
/// separately, with Nagle's algorithm on, sends the body only when the head has been
/// acknowledged, which the kernel would put off for 40 ms.
pub(super) fn acknowledge(socket: &TcpStream) {
    // Where it does not work, it is just slower.
    let _ = rustix::net::sockopt::set_tcp_quickack(socket, true);
}
