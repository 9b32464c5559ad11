//! A reader of C declarations, as far as a header of ours goes.

use std::collections::BTreeMap;

/// Declarations by name, each in one spelling: single blanks, no attributes, no comments.
#[derive(Default)]
pub struct Declarations {
    /// `int32_t f ( const char * name )`
    pub functions: BTreeMap<String, String>,
    /// Structs with their fields, aliases, function types.
    pub types: BTreeMap<String, String>,
    /// Enumerators and macros with a number.
    pub constants: BTreeMap<String, String>,
}

/// Words that a header needs and a declaration does not.
const NOISE: &[&str] = &["FH_API", "FH_NOEXCEPT"];

impl Declarations {
    pub fn parse(text: &str) -> Declarations {
        let mut found = Declarations::default();
        let text = without_comments(text);
        let mut code = String::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if !line.trim_start().starts_with('#') {
                code.push_str(line);
                code.push('\n');
                continue;
            }
            let mut directive = line.trim().to_owned();
            while directive.ends_with('\\') {
                directive.pop();
                directive.push_str(lines.next().unwrap_or_default());
            }
            found.directive(&directive);
        }
        for declaration in split(&tokens(&code), ";") {
            found.declaration(&declaration);
        }
        found
    }

    /// `#define NAME 3`, `#define NAME (1 << 3)`
    fn directive(&mut self, line: &str) {
        let line = line.replace(['(', ')'], " ");
        let number = match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["#define", name, value] => value.parse().ok().map(|value: i64| (name, value)),
            ["#define", name, "1", "<<", by] => by.parse().ok().map(|by: u32| (name, 1 << by)),
            _ => None,
        };
        if let Some((name, value)) = number {
            self.constants.insert(name.to_owned(), value.to_string());
        }
    }

    fn declaration(&mut self, tokens: &[String]) {
        let tokens: Vec<String> = tokens.iter().filter(|t| !NOISE.contains(&t.as_str())).cloned().collect();
        let words = declared(&tokens);
        match &words[..] {
            [] | ["}"] => {}
            ["typedef", "struct", name, "{", body @ .., "}", alias] if name == alias => {
                self.types.insert((*name).to_owned(), fields(body));
            }
            ["typedef", "struct", "{", body @ .., "}", alias] => {
                self.types.insert((*alias).to_owned(), fields(body));
            }
            ["typedef", "struct", name, alias] if name == alias => {
                self.types.insert((*name).to_owned(), "opaque".to_owned());
            }
            ["enum", "{", body @ .., "}"] => self.enumerators(body),
            ["typedef", .., ")"] => {
                let name = words.iter().skip_while(|w| **w != "*").nth(1).expect("a function type has a name");
                self.types.insert((*name).to_owned(), words[1..].join(" "));
            }
            ["typedef", target @ .., name] => {
                self.types.insert((*name).to_owned(), target.join(" "));
            }
            [.., ")"] => {
                let open = words.iter().position(|w| *w == "(").expect("a function has arguments");
                let name = words[open - 1];
                // A definition in the other file would say `extern`; ours says nothing.
                let all: Vec<&str> = words.iter().copied().filter(|w| *w != "extern").collect();
                self.functions.insert(name.to_owned(), all.join(" "));
            }
            other => panic!("a declaration that the test does not read: {}", other.join(" ")),
        }
    }

    fn enumerators(&mut self, body: &[&str]) {
        for one in body.split(|t| *t == ",").filter(|one| !one.is_empty()) {
            let value = match one {
                [_, "=", value] => value.parse().expect("a number"),
                [_, "=", "-", value] => -value.parse::<i64>().expect("a number"),
                [_, "=", value, "<<", by] => {
                    value.parse::<i64>().expect("a number") << by.parse::<u32>().expect("a number")
                }
                other => panic!("an enumerator without a number of its own: {}", other.join(" ")),
            };
            let before: Option<String> = self.constants.insert(one[0].to_owned(), i64::to_string(&value));
            assert!(before.is_none(), "{} is declared twice", one[0]);
        }
    }
}

/// Without what has no semicolon after it: `extern "C" {` and its brace, which are inside #ifdef __cplusplus, and inline
/// functions, which the library does not have.
fn declared(tokens: &[String]) -> Vec<&str> {
    let mut words: Vec<&str> = tokens.iter().map(String::as_str).collect();
    loop {
        match &words[..] {
            ["}", rest @ ..] => words = rest.to_vec(),
            ["extern", quote, "{", rest @ ..] if quote.starts_with('"') => words = rest.to_vec(),
            ["static", "inline", ..] => {
                let end = words.iter().position(|w| *w == "}").expect("a short inline function");
                words.drain(..=end);
            }
            _ => return words,
        }
    }
}

/// `uint32_t a ; uint32_t b`, each declarator by itself.
fn fields(body: &[&str]) -> String {
    let mut out = Vec::new();
    for field in body.split(|t| *t == ";").filter(|field| !field.is_empty()) {
        if field.contains(&"(") {
            out.push(field.join(" "));
            continue;
        }
        // In `const char *a, *b` the type is what comes before the first star or name.
        let parts: Vec<&[&str]> = field.split(|t| *t == ",").collect();
        let first = parts[0];
        let declarator = first
            .iter()
            .position(|t| *t == "*")
            .unwrap_or_else(|| first.iter().position(|t| *t == "[").map_or(first.len() - 1, |bracket| bracket - 1));
        let (base, rest) = first.split_at(declarator);
        for part in std::iter::once(rest).chain(parts[1..].iter().copied()) {
            out.push(format!("{} {}", base.join(" "), part.join(" ")));
        }
    }
    out.join(" ; ")
}

fn without_comments(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("/*").into_iter().chain(rest.find("//")).min() {
        out.push_str(&rest[..at]);
        let end = if rest[at..].starts_with("/*") { "*/" } else { "\n" };
        let close = rest[at..].find(end).map_or(rest.len(), |close| at + close + end.len());
        out.push_str(if end == "\n" { "\n" } else { " " });
        rest = &rest[close..];
    }
    out + rest
}

fn tokens(code: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut chars = code.chars().peekable();
    while let Some(c) = chars.next() {
        let mut token = String::from(c);
        if c.is_whitespace() {
            continue;
        }
        let word = |c: char| c.is_alphanumeric() || c == '_';
        if word(c) {
            while let Some(next) = chars.next_if(|c| word(*c)) {
                token.push(next);
            }
        } else if c == '"' {
            for next in chars.by_ref() {
                token.push(next);
                if next == '"' {
                    break;
                }
            }
        } else if c == '<' && chars.peek() == Some(&'<') {
            token.extend(chars.next());
        }
        out.push(token);
    }
    out
}

/// Splits at a separator outside braces and parentheses.
fn split(tokens: &[String], separator: &str) -> Vec<Vec<String>> {
    let mut out = vec![Vec::new()];
    let mut depth = 0i32;
    for (i, token) in tokens.iter().enumerate() {
        // The brace of `extern "C" {` encloses the file.
        let encloses = i > 0 && token == "{" && tokens[i - 1].starts_with('"');
        match token.as_str() {
            "{" | "(" if !encloses => depth += 1,
            "}" | ")" if depth > 0 => depth -= 1,
            _ => {}
        }
        if depth == 0 && token == separator {
            out.push(Vec::new());
        } else {
            out.last_mut().expect("starts with one").push(token.clone());
        }
    }
    out
}
