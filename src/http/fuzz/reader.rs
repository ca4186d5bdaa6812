//! Requests read one after the other, as a connection reads them.

use std::net::{IpAddr, Ipv4Addr};

use super::super::chunked::{ChunkedDecoder, Decoded};
use super::super::request::{Framing, Rejection, RequestLimits, ValidatedRequest};
use super::super::request_parser::RequestParser;

const LIMITS: RequestLimits = RequestLimits {
    head: 2048,
    body: 4096,
};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A request that was accepted whole.
pub(super) struct Accepted {
    pub(super) request: ValidatedRequest,
    /// The data of the body in pieces: the chunks, if all of it came at once.
    pub(super) pieces: Vec<Vec<u8>>,
    /// Where it lies in the input, and where its body begins.
    pub(super) start: usize,
    pub(super) body: usize,
    pub(super) end: usize,
}

impl Accepted {
    pub(super) fn data(&self) -> Vec<u8> {
        self.pieces.concat()
    }
}

/// Reads requests one after the other, as a connection does.
#[derive(Default)]
struct Reader {
    parser: RequestParser,
    /// The number of bytes that have been used.
    at: usize,
    /// The request whose body is being read.
    under_way: Option<(Accepted, Option<ChunkedDecoder>)>,
    accepted: Vec<Accepted>,
}

impl Reader {
    /// Takes the next step with all bytes that have come; whether there may be another one.
    fn step(&mut self, bytes: &[u8]) -> Result<bool, Rejection> {
        let mut input = &bytes[self.at..];
        let Some((mut request, mut decoder)) = self.under_way.take() else {
            let Some((request, length)) = self.parser.parse(input, CLIENT, &LIMITS)? else {
                return Ok(false);
            };
            let chunked = request.framing == Framing::Chunked;
            let (start, body) = (self.at, self.at + length);
            let request = Accepted {
                request,
                pieces: Vec::new(),
                start,
                body,
                end: body,
            };
            self.at = body;
            self.under_way = Some((request, chunked.then(|| ChunkedDecoder::new(&LIMITS))));
            return Ok(true);
        };
        let (mut is_whole, mut goes_on) = (false, true);
        match (&mut decoder, request.request.framing) {
            (Some(decoder), _) => match decoder.decode(&mut input)? {
                Decoded::Data(data) => request.pieces.push(data.to_vec()),
                Decoded::NeedsMore => goes_on = false,
                Decoded::End => is_whole = true,
            },
            (None, Framing::Length(length)) => {
                match input.split_at_checked(usize::try_from(length).unwrap()) {
                    Some((data, rest)) => {
                        request.pieces.push(data.to_vec());
                        input = rest;
                        is_whole = true;
                    }
                    None => goes_on = false,
                }
            }
            (None, _) => is_whole = true,
        }
        self.at = bytes.len() - input.len();
        if is_whole {
            request.end = self.at;
            self.accepted.push(request);
        } else {
            self.under_way = Some((request, decoder));
        }
        Ok(goes_on)
    }
}

/// What a connection makes of bytes that come in pieces that end there.
pub(super) fn read(bytes: &[u8], ends: &[usize]) -> (Vec<Accepted>, Option<Rejection>) {
    let mut reader = Reader::default();
    for &end in ends {
        loop {
            match reader.step(&bytes[..end]) {
                Ok(true) => {}
                Ok(false) => break,
                Err(rejection) => return (reader.accepted, Some(rejection)),
            }
        }
    }
    (reader.accepted, None)
}
