//! A response: its head, and the body that is read from the endpoint or is here already.

use std::io::{self, Read};
use std::mem;
use std::time::{Duration, Instant, SystemTime};

use httpdate::HttpDate;

use super::call::CallTrace;
use super::control::{AttemptControl, Limit};
use super::failure::{ExchangeFault, Failure, Timeout};
use crate::http::response::{BodyLength, ResponseHead};

/// A complete response head; the body is still to be read.
pub struct Response {
    /// Status, reason, headers as the endpoint wrote them.
    pub head: ResponseHead,
    /// How long the body is.
    pub length: BodyLength,
    /// The beginning of the body is here: it came together with the head, or was read.
    pub body_begun: bool,
    body: Source,
}

/// Where the rest of a body comes from.
enum Source {
    Endpoint(ureq::BodyReader<'static>),
    /// It has been read whole; its connection is back in the pool.
    Memory(io::Cursor<Vec<u8>>),
    /// Its beginning has been read.
    Begun(Box<io::Chain<io::Cursor<Vec<u8>>, ureq::BodyReader<'static>>>),
}

/// The most that is read of a body at once, in bytes.
const AT_ONCE: usize = 64 * 1024;

/// The least room that is made for a read of a body whose length is not known, in bytes.
const FIRST_ROOM: usize = 4 * 1024;

impl Response {
    /// The next piece of the body; 0 bytes at its end.
    ///
    /// # Errors
    /// The body broke off, or nothing came for too long.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        loop {
            let result = match &mut self.body {
                Source::Endpoint(body) => body.read(buffer),
                Source::Memory(body) => body.read(buffer),
                Source::Begun(body) => body.read(buffer),
            };
            match result {
                Ok(amount) => return Ok(amount),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(match error.kind() {
                        io::ErrorKind::UnexpectedEof => Failure::Broken(ExchangeFault::BodyCut),
                        _ => Failure::from_io(&error),
                    });
                }
            }
        }
    }

    /// Whether the whole body is here; then it cannot break off any more.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        matches!(self.body, Source::Memory(_))
    }

    /// What is left of a body that is here as a whole.
    #[must_use]
    pub fn in_memory(&self) -> Option<&[u8]> {
        let Source::Memory(body) = &self.body else {
            return None;
        };
        let at = usize::try_from(body.position()).unwrap_or(usize::MAX);
        Some(body.get_ref().get(at..).unwrap_or_default())
    }

    /// Reads the whole body now, if it is known to be no longer than `most` bytes. Its
    /// connection can be used again then.
    ///
    /// # Errors
    /// The body broke off, or did not come in time.
    pub fn read_whole(&mut self, most: u64) -> Result<(), Failure> {
        let BodyLength::Known(length) = self.length else {
            return Ok(());
        };
        let Some(length) = usize::try_from(length)
            .ok()
            .filter(|_| length <= most && most > 0 && !self.is_whole())
        else {
            return Ok(());
        };
        let mut body = Vec::new();
        loop {
            // One byte more shows the end. Room for what comes, not for what was promised.
            let room = length.saturating_sub(body.len()).min(AT_ONCE) + 1;
            if self.read_more(&mut body, room)? == 0 {
                break;
            }
        }
        self.body_begun = true;
        self.body = Source::Memory(io::Cursor::new(body));
        Ok(())
    }

    /// Reads the beginning of the body now, at most `most` bytes, and returns it: to the end of a
    /// body that is known to be no longer, or else until the end, until nothing has come for
    /// `quiet`, until `longest` is over where the length is not known, or until `control`'s limit.
    /// What has been read is read again with the rest.
    ///
    /// # Errors
    /// The body broke off, or one that is known to be short did not come in time.
    pub fn read_beginning(
        &mut self,
        most: u64,
        quiet: Duration,
        longest: Duration,
        control: &AttemptControl,
    ) -> Result<&[u8], Failure> {
        self.read_whole(most)?;
        if matches!(self.body, Source::Endpoint(_)) {
            self.begin(most, quiet, longest, control)?;
        }
        Ok(match &self.body {
            Source::Endpoint(_) => &[],
            Source::Memory(body) => body.get_ref(),
            Source::Begun(body) => body.get_ref().0.get_ref(),
        })
    }

    fn begin(
        &mut self,
        most: u64,
        quiet: Duration,
        longest: Duration,
        control: &AttemptControl,
    ) -> Result<(), Failure> {
        let longest = Some(Instant::now() + longest).filter(|_| self.length == BodyLength::Unknown);
        let end = match control.limit() {
            Limit::Until(at, _) => Some(longest.map_or(at, |longest| at.min(longest))),
            Limit::Each(_) => longest,
        };
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let mut begun = Vec::new();
        let is_whole = loop {
            let room = begun.len().clamp(FIRST_ROOM, AT_ONCE);
            let room = room.min(most.saturating_sub(begun.len()));
            if room == 0 {
                break false;
            }
            let at = Instant::now() + quiet;
            let at = end.map_or(at, |end| at.min(end));
            control.set_limit(Limit::Until(at, Timeout::Read(quiet)));
            match self.read_more(&mut begun, room) {
                Ok(0) => break true,
                Ok(_) => {}
                Err(Failure::Timeout(_)) => break false,
                Err(failure) => return Err(failure),
            }
        };
        self.body_begun |= is_whole || !begun.is_empty();
        let begun = io::Cursor::new(begun);
        let before = mem::replace(&mut self.body, Source::Memory(io::Cursor::default()));
        self.body = match before {
            Source::Endpoint(rest) if !is_whole => Source::Begun(Box::new(begun.chain(rest))),
            _ => Source::Memory(begun),
        };
        Ok(())
    }

    /// Reads what is left of a body of unknown length or without one, if it comes until `end` and is
    /// no longer than `most` bytes. Whether the whole body is here. If not, only a part of it can
    /// still be read.
    #[must_use]
    pub fn complete(&mut self, most: u64, end: Instant, control: &AttemptControl) -> bool {
        let left = end.saturating_duration_since(Instant::now());
        let is_long = matches!(self.length, BodyLength::Known(1..));
        if matches!(self.body, Source::Endpoint(_)) && !is_long {
            // What breaks off is not whole. One byte more, or no body, shows the end.
            let _ = self.begin(most.saturating_add(1), left, left, control);
        }
        self.is_whole()
    }

    /// Reads at most `room` bytes and appends them to `body`; 0: the end.
    fn read_more(&mut self, body: &mut Vec<u8>, room: usize) -> Result<usize, Failure> {
        let filled = body.len();
        body.try_reserve_exact(room).map_err(|_| {
            Failure::Internal("no memory for the answer (-commit-after)".to_owned())
        })?;
        body.resize(filled + room, 0);
        let result = self.read(body.get_mut(filled..).unwrap_or_default());
        body.truncate(filled + result.as_ref().copied().unwrap_or_default());
        result
    }

    /// Reads a short body that is not wanted to its end, so that its connection can
    /// be used again; gives up where that would cost more than a connection does. What has been
    /// read of it costs nothing more.
    pub fn discard(mut self, control: &AttemptControl) {
        const WORTH_READING: usize = 64 * 1024;
        const WORTH_WAITING: Duration = Duration::from_millis(5);
        self.body = match self.body {
            Source::Memory(_) => return,
            Source::Endpoint(rest) => Source::Endpoint(rest),
            Source::Begun(body) => Source::Endpoint(body.into_inner().1),
        };
        let timeout = Timeout::Read(WORTH_WAITING);
        control.set_limit(Limit::Until(Instant::now() + WORTH_WAITING, timeout));
        let mut buffer = [0; 8 * 1024];
        let mut left = WORTH_READING;
        while let Ok(amount @ 1..) = self.read(&mut buffer) {
            left = left.saturating_sub(amount);
            if left == 0 {
                return;
            }
        }
    }
}

/// The response as the endpoint wrote it, with the body as ureq understood it.
pub(super) fn with_head(
    response: ureq::http::Response<ureq::Body>,
    trace: CallTrace,
) -> Result<Response, Failure> {
    let (mut head, length) = trace
        .head
        .ok_or_else(|| Failure::Internal("the answer's head was lost".to_owned()))?;
    if head.headers.get("Date").is_none() {
        // RFC 9110 6.6.1: when it was received.
        let now = HttpDate::from(SystemTime::now()).to_string();
        head.added.push(b"Date", now.as_bytes());
    }
    Ok(Response {
        head,
        length,
        body_begun: trace.body_begun,
        body: Source::Endpoint(response.into_body().into_reader()),
    })
}
