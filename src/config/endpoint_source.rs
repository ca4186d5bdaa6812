//! Where endpoints are listed: on the command line, or in a file.
//!
//! A file has one URL a line. Lines below it that begin with a blank are header lines of that
//! endpoint; `#` begins a comment, on a line of its own or behind a URL and a blank: the value of a
//! header may have it. Blanks around a URL are ignored: an indented `name://` is a URL and no header
//! line.
//!
//! Always: a message names the file and the line, and nothing that stands there but what may be
//! printed of a URL.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::cli::Problem;
use crate::http::endpoint_config::EndpointConfig;
use crate::http::endpoint_url::{EndpointUrl, Place, parse_list, shown_path};
use crate::util::io_error::describe;

/// A file that is larger is no list of endpoints.
const LIMIT: u64 = 1 << 20;

/// All others may read the file (`S_IROTH`).
const READABLE_BY_OTHERS: u32 = 0o004;

/// Where endpoints are listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointSource {
    /// On the command line.
    List(Vec<EndpointUrl>),
    /// In a file, which is read anew on SIGHUP.
    File(PathBuf),
}

/// Nowhere.
impl Default for EndpointSource {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

/// Where all endpoints are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSources {
    /// `-endpoints`
    pub endpoints: EndpointSource,
    /// `-backups`
    pub backups: EndpointSource,
}

/// What the sources list.
#[derive(Debug, Default)]
pub struct Listed {
    /// The endpoints in their order, the backups behind all others.
    pub endpoints: Vec<EndpointConfig>,
    /// How many of them are backups.
    pub backups: usize,
    /// Files with keys in them that others may read, fit to be printed.
    pub exposed: Vec<String>,
}

impl EndpointSources {
    /// Whether a file is among them.
    #[must_use]
    pub fn has_file(&self) -> bool {
        let is_file = |source| matches!(source, &EndpointSource::File(_));
        [&self.endpoints, &self.backups].into_iter().any(is_file)
    }

    /// Reads and checks everything that is listed.
    ///
    /// # Errors
    /// The first thing that is wrong with a file, in one line that names the flag and the file.
    pub fn read(&self) -> Result<Listed, String> {
        let mut listed = Listed::default();
        listed.read(&self.endpoints, "-endpoints")?;
        let others = listed.endpoints.len();
        listed.read(&self.backups, "-backups")?;
        listed.backups = listed.endpoints.len() - others;
        Ok(listed)
    }
}

impl Listed {
    /// Stands behind the endpoint of that number where it is configured.
    #[must_use]
    pub fn mark(&self, number: usize) -> &'static str {
        if number + self.backups < self.endpoints.len() {
            ""
        } else {
            " (backup)"
        }
    }

    /// Appends what one source lists.
    fn read(&mut self, source: &EndpointSource, flag: &str) -> Result<(), String> {
        let path = match source {
            EndpointSource::List(urls) => {
                let urls = urls.iter().cloned().map(EndpointConfig::from);
                self.endpoints.extend(urls);
                return Ok(());
            }
            EndpointSource::File(path) => path,
        };
        let named = |reason| format!("{flag}: {:?} {reason}", shown_path(path));
        let (endpoints, is_exposed) = read(path).map_err(named)?;
        if is_exposed {
            self.exposed.push(shown_path(path));
        }
        self.endpoints.extend(endpoints);
        Ok(())
    }
}

impl EndpointSource {
    /// The value of a flag: URLs with commas between them, or `@FILE`.
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        match text.trim().strip_prefix('@') {
            Some("") => Err(Problem::part("\"@\" names no file (write @FILE)")),
            Some(path) => Ok(Self::File(path.into())),
            None => parse_list(text).map(Self::List).map_err(Problem::part),
        }
    }
}

/// The endpoints in a file, and whether it has keys in it that others may read.
///
/// # Errors
/// Ends a sentence that begins with the file's name.
fn read(path: &Path) -> Result<(Vec<EndpointConfig>, bool), String> {
    let mut text = Vec::new();
    let mode = File::open(path)
        .and_then(|file| {
            let mode = file.metadata()?.permissions().mode();
            file.take(LIMIT + 1).read_to_end(&mut text)?;
            Ok(mode)
        })
        .map_err(|error| format!("cannot be read: {}", describe(&error)))?;
    if text.len() as u64 > LIMIT {
        return Err("is larger than 1 MiB, too much for a list of endpoints".to_owned());
    }
    let endpoints = parse(&text)?;
    let holds_keys = endpoints.iter().any(EndpointConfig::holds_keys);
    Ok((endpoints, holds_keys && mode & READABLE_BY_OTHERS != 0))
}

fn parse(text: &[u8]) -> Result<Vec<EndpointConfig>, String> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut endpoints = Vec::new();
    for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        add(line, &mut endpoints).map_err(|fault| format!("line {number}: {fault}"))?;
    }
    if endpoints.is_empty() {
        return Err("names no endpoint (write one URL a line)".to_owned());
    }
    Ok(endpoints)
}

/// Takes a line in.
///
/// # Errors
/// What is wrong with it.
fn add(line: &[u8], endpoints: &mut Vec<EndpointConfig>) -> Result<(), String> {
    let text = line.trim_ascii();
    if text.is_empty() || text.starts_with(b"#") {
        return Ok(());
    }
    let is_indented = line.starts_with(b" ") || line.starts_with(b"\t");
    if is_indented && !is_url(text) {
        let endpoint = endpoints.last_mut().ok_or(
            "a line that begins with a blank is a header line of the URL above it, and there \
             is none",
        )?;
        return endpoint.lines.add(line);
    }
    let comment = text
        .windows(2)
        .position(|pair| matches!(pair, b" #" | b"\t#"));
    let text = text
        .get(..comment.unwrap_or(text.len()))
        .unwrap_or_default();
    let text = str::from_utf8(text.trim_ascii_end()).map_err(|_| "the URL is not UTF-8")?;
    if text.contains(": ") && !is_url(text.as_bytes()) {
        return Err("a header line must begin with a blank".to_owned());
    }
    let url = text.parse::<EndpointUrl>();
    let url = url.map_err(|error| error.at(Place::Line).to_string())?;
    endpoints.push(url.into());
    Ok(())
}

/// Whether the first colon is followed by two slashes. A header line has a blank between.
fn is_url(text: &[u8]) -> bool {
    let colon = text.iter().position(|byte| *byte == b':');
    let rest = colon.and_then(|colon| text.get(colon..));
    rest.is_some_and(|rest| rest.starts_with(b"://"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// URLs and header lines as `Debug` shows them, or the message.
    fn parsed(text: impl AsRef<[u8]>) -> Result<Vec<String>, String> {
        let endpoints = parse(text.as_ref())?;
        let shown = |EndpointConfig { url, lines }: &EndpointConfig| format!("{url} {lines:?}");
        Ok(endpoints.iter().map(shown).collect())
    }

    #[test]
    fn urls_header_lines_and_comments_are_distinguished() {
        let one = "http://one.example";
        let table = [
            (one.to_owned(), &[r"http://one.example []"][..]),
            (
                format!(
                    "\u{feff}# a comment\r\n{one} \t\r\n\r\n\t# one\r\n  A: b\r\n\tC: d # e\r\n"
                ),
                &[r#"http://one.example ["A", "C"]"#],
            ),
            (
                format!("{one}\n  A: b\n{one}\n\n\n A: b\n#\n A: c\n"),
                &[
                    r#"http://one.example ["A"]"#,
                    r#"http://one.example ["A", "A"]"#,
                ],
            ),
            (
                format!("  {one}\n    A: //b\n  https://two.example\n"),
                &[r#"http://one.example ["A"]"#, "https://two.example []"],
            ),
            ("http://a/?x=1,2\n".to_owned(), &["http://a/… []"]),
            (
                format!("{one} # mine: b\n  https://two.example/KEY \t#\u{fc}\n"),
                &["http://one.example []", "https://two.example/… []"],
            ),
        ];
        for (text, wanted) in table {
            assert_eq!(parsed(&text).unwrap(), wanted, "{text:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_without_keys() {
        for (text, message) in [
            ("", "names no endpoint (write one URL a line)"),
            (
                "# http://a\n \n",
                "names no endpoint (write one URL a line)",
            ),
            (
                "http://a\nb/KEY\n",
                "line 2: the URL has no scheme (write \"http://host:port\")",
            ),
            (
                "\n\nhttp://a,http://b/KEY",
                "line 3: \"http://a,http:/…\" has ',' in its host (one URL a line)",
            ),
            (
                "http://a/KEY b # mine",
                "line 1: \"http://a/…\" has a blank in it (one URL a line; inside a URL a blank is \
                 written %20)",
            ),
            (
                "  X-Api-Key: KEY\nhttp://a",
                "line 1: a line that begins with a blank is a header line of the URL above it, and \
                 there is none",
            ),
            (
                "http://a\n  KEY\n",
                "line 2: a line that begins with a blank is a header line, and has no colon (write \
                 Name: value)",
            ),
            (
                "http://a\n  Via: KEY\n",
                "line 2: Via cannot be set: the proxy writes it itself",
            ),
            (
                "http://a\nX-Api-Key: KEY\n",
                "line 2: a header line must begin with a blank",
            ),
            (
                "http://a\r  X-Api-Key: KEY\r",
                "line 1: \"http://a …\" has a blank in it (one URL a line; inside a URL a blank is \
                 written %20)",
            ),
        ] {
            assert_eq!(parsed(text).unwrap_err(), message, "{text:?}");
        }
        let utf16 = b"\xff\xfeh\0t\0t\0p\0";
        assert_eq!(parsed(utf16).unwrap_err(), "line 1: the URL is not UTF-8");
    }

    #[test]
    fn a_file_is_exposed_if_it_holds_keys_and_others_may_read_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let sources = EndpointSources {
            endpoints: EndpointSource::File(file.path().to_owned()),
            ..EndpointSources::default()
        };
        for (text, mode, is_exposed) in [
            ("http://a/x\n", 0o644, false),
            ("http://a\n X: y\n", 0o640, false),
            ("http://a\n X: y\n", 0o644, true),
            ("http://me:pw@a\n", 0o604, true),
        ] {
            fs::write(file.path(), text).unwrap();
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            let listed = sources.read().unwrap();
            let exposed = listed.exposed.len();
            assert_eq!(exposed, usize::from(is_exposed), "{text:?} {mode:o}");
            assert_eq!(listed.endpoints.len(), 1);
        }
    }
}
