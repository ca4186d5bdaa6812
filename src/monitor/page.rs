//! The status page: a template that is part of the program, filled with the view. Pure.
//!
//! In the template `{{name}}` is a value and `[[name]]` a value that the page's script finds again:
//! an element of that name. What stands between the row marks is written for each endpoint, with
//! `#` for `eN-`. The script replaces texts and paths by those of `/status.json?page`, which come
//! from the same view; without it the page is whole, and stays as it is.

use super::snapshot::Snapshot;
use super::view::View;

const TEMPLATE: &str = include_str!("page.html");

/// The policy that belongs to a page with this nonce: its own script and style, and no request to
/// anywhere else.
pub(super) fn policy(nonce: &str) -> String {
    format!(
        "Content-Security-Policy: default-src 'none'; script-src 'nonce-{nonce}'; style-src \
         'nonce-{nonce}'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'\r\n"
    )
}

/// The page.
pub(super) fn page(snapshot: &Snapshot, view: &View, nonce: &str) -> String {
    let (begin, rest) = TEMPLATE.split_once("<!--row-->").unwrap_or((TEMPLATE, ""));
    let (row, end) = rest.split_once("<!--/row-->").unwrap_or(("", rest));
    let mut template = begin.to_owned();
    let mut values = view.clone();
    for endpoint in &snapshot.endpoints {
        let number = endpoint.number;
        template.push_str(&row.replace('#', &format!("e{number}-")));
        values.insert(format!("e{number}-number"), number.to_string());
        values.insert(format!("e{number}-upstream"), endpoint.upstream.clone());
    }
    template.push_str(end);
    let upstreams: Vec<_> = snapshot.endpoints.iter().map(|e| &*e.upstream).collect();
    for (name, value) in [
        ("nonce", nonce),
        ("version", env!("CARGO_PKG_VERSION")),
        ("upstreams", &upstreams.join(",")),
    ] {
        values.insert(name.to_owned(), value.to_owned());
    }
    fill(&template, &values)
}

fn fill(template: &str, values: &View) -> String {
    let mut page = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some(at) = rest.find(['{', '[']) {
        let (text, marked) = rest.split_at(at);
        page.push_str(text);
        let mark = [("{{", "}}", false), ("[[", "]]", true)]
            .into_iter()
            .find_map(|(begin, end, is_element)| {
                let (name, rest) = marked.strip_prefix(begin)?.split_once(end)?;
                Some((name, rest, is_element))
            });
        let Some((name, behind, is_element)) = mark else {
            let next = marked
                .char_indices()
                .nth(1)
                .map_or(marked.len(), |(next, _)| next);
            let (bracket, behind) = marked.split_at(next);
            page.push_str(bracket);
            rest = behind;
            continue;
        };
        let value = escaped(values.get(name).map_or("", String::as_str));
        if is_element {
            page.extend(["<span id=\"", name, "\">", &value, "</span>"]);
        } else {
            page.push_str(&value);
        }
        rest = behind;
    }
    page.push_str(rest);
    page
}

/// For text and for values of attributes in quotation marks.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_small() {
        assert!(TEMPLATE.len() <= 16 << 10, "{} bytes", TEMPLATE.len());
    }

    #[test]
    fn values_are_filled_in_and_escaped() {
        let values = View::from([
            ("a".to_owned(), "<script>\"'&".to_owned()),
            ("b".to_owned(), "1".to_owned()),
        ]);
        assert_eq!(
            fill("{ [x] {{a}} [[b]]{{none}}{{b", &values),
            "{ [x] &lt;script&gt;&quot;&#39;&amp; <span id=\"b\">1</span>{{b"
        );
    }
}
