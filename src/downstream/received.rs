//! What has been received of a client's connection and not used yet, and why receiving ends.

use std::net::TcpStream;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::http::request::Rejection;

/// Bytes of a head that are read at once. A usual one fits.
pub(super) const HEAD_READ: usize = 4 * 1024;

/// A receiving side that this process has shut down has no way to wait: how often it is read.
pub(super) const SHUT_PAUSE: Duration = Duration::from_millis(1);

/// Bytes that have been received and not used yet.
#[derive(Debug, Default)]
pub(super) struct Received {
    bytes: Vec<u8>,
    used: usize,
}

impl Received {
    pub(super) fn unused(&self) -> &[u8] {
        self.bytes.get(self.used..).unwrap_or_default()
    }

    pub(super) fn consume(&mut self, amount: usize) {
        self.used += amount;
        if self.used >= self.bytes.len() {
            self.bytes.clear();
            self.used = 0;
        }
    }

    /// Frees what a large head or body has needed: an idle connection is to be cheap.
    pub(super) fn rest(&mut self) {
        if self.bytes.is_empty() && self.bytes.capacity() > HEAD_READ {
            self.bytes = Vec::new();
        }
    }

    /// Receives up to `most` bytes more, or some more; 0 at the client's end.
    pub(super) fn receive(
        &mut self,
        socket: &TcpStream,
        most: usize,
        flags: RecvFlags,
    ) -> Result<usize, Errno> {
        if self.used > 0 {
            self.bytes.drain(..self.used);
            self.used = 0;
        }
        self.bytes.reserve(most);
        loop {
            match rustix::net::recv(socket, spare_capacity(&mut self.bytes), flags) {
                Ok((_, amount)) => return Ok(amount),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// Why a connection ends.
#[derive(Debug)]
pub(super) enum CloseReason {
    /// There is nothing to answer.
    Silent,
    /// With a refusal.
    Rejected(Rejection),
}

impl From<Rejection> for CloseReason {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}
