//! Requests from a generator, most of them sound, and some with a few things done to them.

/// A generator of the same numbers every time (xorshift64).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }

    fn one_in(&mut self, number: usize) -> bool {
        self.roll(number) == 0
    }

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.roll(items.len())]
    }

    /// Mostly the first part of the items, which is sound, and seldom the rest.
    fn pick_sound<T: Copy>(&mut self, sound: &[T], odd: &[T]) -> T {
        if self.one_in(100) {
            self.pick(odd)
        } else {
            self.pick(sound)
        }
    }
}

pub(super) const METHODS: [&str; 8] = [
    "GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH",
];

/// One or more requests, most of them sound, and some with a few things done to them.
pub(super) fn input(dice: &mut Dice) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..=dice.roll(3) {
        request(dice, &mut bytes);
    }
    if dice.one_in(2) {
        for _ in 0..=dice.roll(3) {
            mutate(dice, &mut bytes);
        }
    }
    // What follows must never be taken for a part of what is in front of it.
    bytes.extend_from_slice(b"GET /last HTTP/1.1\r\nHost: last\r\n\r\n");
    bytes
}

fn request(dice: &mut Dice, bytes: &mut Vec<u8>) {
    request_line(dice, bytes);
    let mut lines = usual_lines(dice);
    let framing = dice.roll(4);
    let length = dice.roll(40);
    lines.extend(framing_line(dice, framing, length));
    if dice.one_in(40) {
        let line = dice.pick(&["Content-Length: 5", "Transfer-Encoding: chunked"]);
        lines.push(line.to_owned());
    }
    let shift = dice.roll(lines.len());
    lines.rotate_left(shift);
    for line in lines {
        bytes.extend_from_slice(line.as_bytes());
        end_of_line(dice, bytes);
    }
    end_of_line(dice, bytes);
    match framing {
        0 => {}
        1 => data(dice, length, bytes),
        _ => chunks(dice, bytes),
    }
}

fn request_line(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let odd_targets: [&[u8]; 7] = [b"*", b"", b"a", b"/a b", b"/#", b"http:///", b"http://u@h/"];
    let targets: [&[u8]; 8] = [
        b"/",
        b"/a?b=c",
        b"//x/../%2F?",
        b"/\xe9\xff",
        b"/\xc3\xa9",
        b"http://t/p",
        b"HTTPS://t:1?q",
        b"/\"<>{|}",
    ];
    let odd_versions: [&[u8]; 5] = [
        b"HTTP/2.0",
        b"HTTP/0.9",
        b"HTTP/1.1 x",
        b"http/1.1",
        b"HTTP/1",
    ];
    if dice.one_in(10) {
        bytes.extend_from_slice(dice.pick_sound(&[b"\r\n", b"\n"], &[b"\r", b" "]));
    }
    let methods = [&METHODS[..], &["M-SEARCH", "get", "!#$%&'*+-.^_`|~9"]].concat();
    let method = dice.pick_sound(&methods, &["CONNECT", "", "G T", "PRI"]);
    bytes.extend_from_slice(method.as_bytes());
    bytes.extend_from_slice(dice.pick_sound(&[b" "], &[b"  ", b"\t"]));
    bytes.extend_from_slice(dice.pick_sound(&targets, &odd_targets));
    bytes.extend_from_slice(dice.pick_sound(&[b" "], &[b"  ", b"\t"]));
    let version = dice.pick_sound(
        &[&b"HTTP/1.1"[..], b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.7"],
        &odd_versions,
    );
    bytes.extend_from_slice(version);
    end_of_line(dice, bytes);
}

/// A `Host` and some other lines.
fn usual_lines(dice: &mut Dice) -> Vec<String> {
    let mut lines =
        vec![dice.pick_sound(&["Host: h", "host:h:80", "HOST: [::1]"], &["X: no host"])];
    for _ in 0..dice.roll(4) {
        lines.push(dice.pick_sound(
            &[
                "X-A: b",
                "x-a:\t c \t",
                "X-Empty:",
                "X-Blank:   ",
                "Connection: keep-alive",
                "Connection: X-A, close",
                "Connection: Upgrade",
                "Upgrade: h2c",
                "Expect: 100-continue",
                "TE: trailers",
                "Cookie: a=1; b=\"2\"",
                "X-Forwarded-For: 1.1.1.1",
            ],
            &[
                "X : y",
                " folded",
                "\tfolded",
                "no colon",
                ": y",
                "Host: i",
                "Expect: x",
                "X: \u{b}",
            ],
        ));
    }
    lines.into_iter().map(str::to_owned).collect()
}

/// The line that marks the end of the body, if there is one.
fn framing_line(dice: &mut Dice, framing: usize, length: usize) -> Option<String> {
    let length_line = format!(
        "{}{}{length}",
        dice.pick(&["Content-Length:", "content-length: ", "CONTENT-LENGTH:\t"]),
        dice.pick_sound(&["", "0", "00"], &["+", "-", "0x", "1, ", "\u{b}", "1 "]),
    );
    let line = match framing {
        0 => return None,
        1 => return Some(length_line),
        _ => dice.pick_sound(
            &["Transfer-Encoding: chunked", "transfer-encoding:CHUNKED\t"],
            &[
                "Transfer-Encoding: gzip, chunked",
                "Transfer-Encoding: identity",
                "Transfer-Encoding : chunked",
                "Transfer-Encoding: \u{b}chunked",
                "Transfer-Encoding:\r\n chunked",
            ],
        ),
    };
    Some(line.to_owned())
}

fn end_of_line(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let end: &[u8] = if dice.one_in(500) {
        dice.pick(&[&b"\n"[..], b"\r", b"\r\r\n", b"\n\r\n", b" \r\n", b""])
    } else {
        b"\r\n"
    };
    bytes.extend_from_slice(end);
}

fn data(dice: &mut Dice, length: usize, bytes: &mut Vec<u8>) {
    let part = dice.pick(&[
        &b"\r\n0\r\n\r\nGET / HTTP/1.1\r\n"[..],
        b"abc",
        b"\xff\0",
        b"5\r\n",
    ]);
    bytes.extend(part.iter().cycle().take(length));
}

fn chunks(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let odd_extensions = [";\n", ";\0", " x", ",", "\u{b}", ";\r", "h", "_"];
    let extensions = ["", "", "", ";", ";a=b", " ;a=\"b;c\"", "\t", "; \u{e9}\t"];
    for _ in 0..dice.roll(4) {
        let length = 1 + dice.roll(20);
        let sign = dice.pick_sound(
            &["", "0", "000"],
            &["+", "-", "0x", " ", "0000000000000000"],
        );
        let extension = dice.pick_sound(&extensions, &odd_extensions);
        let size = if dice.one_in(2) {
            format!("{sign}{length:x}{extension}")
        } else {
            format!("{sign}{length:X}{extension}")
        };
        bytes.extend_from_slice(size.as_bytes());
        end_of_line(dice, bytes);
        let wrong = usize::from(dice.one_in(100));
        data(dice, length + wrong, bytes);
        end_of_line(dice, bytes);
    }
    bytes.extend_from_slice(dice.pick(&[&b"0"[..], b"0", b"00000", b"0;x"]));
    end_of_line(dice, bytes);
    if dice.one_in(5) {
        let trailer = dice.pick_sound(
            &["X-T: y", "Content-Length: 7", "X-T:"],
            &["X-T : y", " folded", "X-T", "X-T: \0"],
        );
        bytes.extend_from_slice(trailer.as_bytes());
        end_of_line(dice, bytes);
    }
    end_of_line(dice, bytes);
}

fn mutate(dice: &mut Dice, bytes: &mut Vec<u8>) {
    const SPICE: [&[u8]; 24] = [
        b"\r",
        b"\n",
        b"\0",
        b" ",
        b"\t",
        b":",
        b",",
        b";",
        b"\x0b",
        b"\x0c",
        b"\x7f",
        b"\x80",
        b"\xff",
        b"\r\n",
        b"\n\n",
        b"\r\n\r\n",
        b"\r\n ",
        b"+",
        b"-",
        b"0",
        b"0x",
        b"Content-Length: 1\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Host: i\r\n",
    ];
    if bytes.is_empty() {
        return;
    }
    let at = dice.roll(bytes.len());
    match dice.roll(5) {
        0 => {
            bytes.remove(at);
        }
        1 => bytes[at] = u8::try_from(dice.roll(256)).unwrap(),
        2 => {
            bytes.splice(at..at, dice.pick(&SPICE).iter().copied());
        }
        3 => {
            let end = (at + dice.roll(30)).min(bytes.len());
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        _ => bytes.truncate(at),
    }
}
