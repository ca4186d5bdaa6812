//! A source file as the rules see it. Not a parser of Rust: the sources are formatted, so a line
//! or a word is enough.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// One file of `src`.
pub struct Source {
    /// Below `src`: `http/mod.rs`.
    pub file: String,
    /// `http`, `http/header`
    pub module: String,
    text: String,
    /// Without tests, comments and strings, in words and punctuation; paths are one word.
    words: Vec<String>,
    /// How many lines of `text` come before the tests.
    before_tests: usize,
}

/// All files below `src`. The files of test modules have no words and no lines of code.
pub fn sources(src: &Path) -> Vec<Source> {
    let mut files = Vec::new();
    collect(src, src, &mut files);
    let is_test = |file: &str| {
        files.iter().any(|(parent, text)| {
            let directory = parent.trim_end_matches(".rs").trim_end_matches("/mod");
            let mut lines = text.lines().skip_while(|line| *line != "#[cfg(test)]");
            let declared = lines.nth(1).and_then(|line| line.strip_prefix("mod "));
            declared.is_some_and(|name| {
                let tests = format!("{directory}/{}", name.trim_end_matches(';'));
                file == format!("{tests}.rs") || file.starts_with(&format!("{tests}/"))
            })
        })
    };
    let sources = files.iter().map(|(file, text)| {
        let mut source = Source::new(file, text);
        if is_test(file) {
            source.words.clear();
            source.before_tests = 0;
        }
        source
    });
    sources.collect()
}

fn collect(src: &Path, directory: &Path, files: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(src, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let file = path.strip_prefix(src).unwrap().to_str().unwrap();
            files.push((file.to_owned(), fs::read_to_string(&path).unwrap()));
        }
    }
}

impl Source {
    pub fn new(file: &str, text: &str) -> Self {
        let tests = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
        let module = file.trim_end_matches(".rs").trim_end_matches("/mod");
        Self {
            file: file.to_owned(),
            module: module.to_owned(),
            text: text.to_owned(),
            words: words(&text[..tests]),
            before_tests: text[..tests].lines().count(),
        }
    }

    /// The folder that the file is in, or its own name.
    pub fn folder(&self) -> &str {
        self.module.split('/').next().unwrap()
    }

    pub fn lines(&self) -> usize {
        self.text.lines().count()
    }

    /// Without comments, empty lines and tests.
    pub fn code_lines(&self) -> usize {
        let lines = self.text.lines().take(self.before_tests).map(str::trim);
        lines
            .filter(|line| !line.is_empty() && !line.starts_with("//"))
            .count()
    }

    /// The functions that are longer than one line, and their lengths in lines.
    pub fn functions(&self) -> Vec<(String, usize)> {
        let lines: Vec<_> = self.text.lines().collect();
        let mut functions = Vec::new();
        for (start, line) in lines.iter().enumerate() {
            let code = line.trim_start();
            let indent = &line[..line.len() - code.len()];
            let Some((before, rest)) = code.split_once("fn ") else {
                continue;
            };
            let is_qualifier = |word: &str| {
                let known = ["const", "unsafe", "extern", "\"C\"", "async"];
                word.starts_with("pub") || known.contains(&word)
            };
            if !before.split_whitespace().all(is_qualifier) || line.ends_with(['}', ';']) {
                continue;
            }
            let name = rest.split(['(', '<']).next().unwrap_or_default();
            let end = format!("{indent}}}");
            let length = lines[start..].iter().position(|line| *line == end);
            functions.extend(length.map(|length| (name.to_owned(), length + 1)));
        }
        functions
    }

    /// Whether a path begins with this name.
    pub fn names(&self, library: &str) -> bool {
        let path = format!("{library}::");
        self.paths().iter().any(|word| word.starts_with(&path))
    }

    /// Whether the name, of one or two parts, is in a path, or the `.method` is called.
    pub fn mentions(&self, name: &str) -> bool {
        if let Some(method) = name.strip_prefix('.') {
            return self.words.windows(2).any(|pair| pair == [".", method]);
        }
        let name = format!("::{name}::");
        let paths = self.paths();
        let mut paths = paths.iter().map(|path| format!("::{path}::"));
        paths.any(|path| path.contains(&name))
    }

    /// The other files of the crate that this one names.
    pub fn imports(&self, sources: &[Self]) -> BTreeSet<String> {
        let mut imports = BTreeSet::new();
        for path in self.paths() {
            let parts: Vec<_> = path.split("::").collect();
            // Neither `pub(super)` nor `mod name` is an import.
            if parts.len() == 1 {
                continue;
            }
            let is_child = |part: &str| {
                let child = format!("{}/{part}", self.module);
                sources.iter().any(|source| source.module == child)
            };
            let up = parts.iter().take_while(|part| **part == "super").count();
            let own = self.module.split('/').count();
            let own = self.module.split('/').take(own.saturating_sub(up));
            let full: Vec<_> = match parts[0] {
                "crate" | "balancing_reverse_proxy" => parts[1..].to_vec(),
                "self" => own.chain(parts[1..].iter().copied()).collect(),
                "super" => own.chain(parts[up..].iter().copied()).collect(),
                part if is_child(part) => own.chain(parts.iter().copied()).collect(),
                _ => continue,
            };
            let known = (1..=full.len()).rev().find_map(|length| {
                let module = full[..length].join("/");
                let mut modules = sources.iter().map(|source| &source.module);
                modules.any(|known| *known == module).then_some(module)
            });
            imports.extend(known.filter(|module| *module != self.module));
        }
        imports
    }

    /// All paths, those of `use` in full.
    fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        let mut words = self.words.iter();
        while let Some(word) = words.next() {
            if word == "use" {
                let tree: Vec<_> = words.by_ref().take_while(|word| *word != ";").collect();
                expand(&tree, &mut paths);
            } else if word.starts_with(|c: char| c.is_alphabetic()) {
                paths.push(word.clone());
            }
        }
        paths
    }
}

/// The paths of a `use` tree.
fn expand(tree: &[&String], paths: &mut Vec<String>) {
    let mut prefixes = vec![String::new()];
    let mut last = String::new();
    let mut renamed = false;
    for word in tree {
        match word.as_str() {
            "{" => prefixes.push(std::mem::take(&mut last)),
            "}" | "," => {
                if !last.is_empty() {
                    paths.push(std::mem::take(&mut last));
                }
                if word.as_str() == "}" {
                    prefixes.pop();
                }
            }
            "as" => renamed = true,
            _ if renamed => renamed = false,
            word => last = format!("{}{word}", prefixes.last().unwrap()),
        }
    }
    if !last.is_empty() {
        paths.push(last);
    }
}

/// Words and punctuation; `a::b` is one word, comments and strings are none.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let is_part = c.is_alphanumeric() || c == '_' || c == ':' || c == '*';
        if is_part {
            word.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let raw = word == "r" || word == "br";
        if !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\'") {
            3
        } else if raw && rest.starts_with("#\"") {
            let end = rest[2..].find("\"#");
            end.map_or(rest.len(), |end| 2 + end + 2)
        } else if c == '"' {
            1 + end_of_string(&rest[1..], raw)
        } else {
            if !c.is_whitespace() {
                words.push(c.to_string());
            }
            c.len_utf8()
        };
        rest = &rest[length..];
    }
    words
}

/// The number of bytes up to and with the quote that ends a string.
fn end_of_string(text: &str, raw: bool) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' if !escaped => return at + 1,
            b'\\' if !raw => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

/// A way from a node back to itself, if there is one.
pub fn circle(graph: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    /// Whether the node at the end of `path` leads back into it; `done` ones do not.
    fn visit(
        graph: &BTreeMap<String, BTreeSet<String>>,
        path: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> bool {
        let node = path.last().cloned().unwrap_or_default();
        for next in graph.get(&node).into_iter().flatten() {
            if let Some(start) = path.iter().position(|known| known == next) {
                path.drain(..start);
                path.push(next.clone());
                return true;
            }
            if !done.contains(next) {
                path.push(next.clone());
                if visit(graph, path, done) {
                    return true;
                }
                path.pop();
            }
        }
        done.insert(node);
        false
    }
    let mut done = BTreeSet::new();
    graph.keys().find_map(|node| {
        let mut path = vec![node.clone()];
        (!done.contains(node) && visit(graph, &mut path, &mut done)).then_some(path)
    })
}
