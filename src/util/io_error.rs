//! I/O errors in the words of the log.

use std::io;

/// The error in the words of the log: no "(os error 111)", lower case.
#[must_use]
pub fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "connection reset".to_owned(),
        io::ErrorKind::UnexpectedEof => "connection closed early".to_owned(),
        _ => {
            let text = error.to_string();
            let text = text.split(" (os error ").next().unwrap_or_default();
            let mut characters = text.chars();
            let mut follows = characters.clone().skip(1);
            match characters.next() {
                // An acronym keeps its capitals.
                Some(first) if follows.next().is_some_and(char::is_lowercase) => {
                    first.to_lowercase().chain(characters).collect()
                }
                _ => text.to_owned(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_errors_are_described_without_numbers() {
        let table = [
            (rustix::io::Errno::CONNREFUSED, "connection refused"),
            (rustix::io::Errno::CONNRESET, "connection reset"),
            (rustix::io::Errno::PIPE, "connection reset"),
            (rustix::io::Errno::HOSTUNREACH, "no route to host"),
            (rustix::io::Errno::NETUNREACH, "network is unreachable"),
        ];
        for (errno, text) in table {
            assert_eq!(describe(&errno.into()), text);
        }
    }
}
