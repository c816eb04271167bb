//! Bearer tokens from a file: a name, a token and what it may do a line, `#` starts a comment.
//!
//! Tokens are held and compared as hashes, so that neither a core dump nor the time that a comparison takes tells one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use serde::Serialize;

use super::rights::Rights;

/// The shortest token: shorter ones could be guessed.
const SHORTEST: usize = 16;

/// A file of tokens, and those of it that are in force.
#[derive(Debug)]
pub(super) struct TokenFile {
    path: PathBuf,
    tokens: RwLock<Tokens>,
}

/// Whose tokens, or whose rights, are others than before.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(in crate::http) struct Changes {
    added: Vec<Arc<str>>,
    changed: Vec<Arc<str>>,
    removed: Vec<Arc<str>>,
}

/// Who may call.
#[derive(Debug)]
struct Tokens(Vec<(blake3::Hash, Bearer)>);

/// Who shows a token.
#[derive(Clone, Debug)]
pub(in crate::http) struct Bearer {
    pub(in crate::http) name: Arc<str>,
    pub(in crate::http) rights: Rights,
}

/// Why a token file can't be used. A host that starts doesn't; one that runs goes on with the tokens that it has.
#[derive(Debug)]
pub enum TokenFileError {
    /// The file can't be read.
    Unreadable(PathBuf, std::io::Error),
    /// A line isn't a name, a token and its scopes; counted from 1.
    Line(PathBuf, usize, String),
    /// There is no token in it, so nobody could call.
    Empty(PathBuf),
}

impl fmt::Display for TokenFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenFileError::Unreadable(path, error) => {
                write!(f, "can't read the token file {}: {error}", path.display())
            }
            TokenFileError::Line(path, line, what) => write!(
                f,
                "line {line} of the token file {} {what}; a line is NAME TOKEN [SCOPE[:PREFIX]...], the token at least {SHORTEST} visible ASCII characters",
                path.display()
            ),
            TokenFileError::Empty(path) => write!(
                f,
                "the token file {} holds no token; a line is NAME TOKEN [SCOPE[:PREFIX]...]",
                path.display()
            ),
        }
    }
}

impl std::error::Error for TokenFileError {}

const UNPOISONED: &str = "no panic under this lock";

impl TokenFile {
    /// Reads a file.
    pub(super) fn open(path: &Path) -> Result<TokenFile, TokenFileError> {
        Ok(TokenFile {
            path: path.to_owned(),
            tokens: RwLock::new(Tokens::read(path)?),
        })
    }

    /// Reads it again. What's wrong with it leaves the tokens as they were.
    pub(super) fn read_again(&self) -> Result<Changes, TokenFileError> {
        let read = Tokens::read(&self.path)?;
        let mut tokens = self.tokens.write().expect(UNPOISONED);
        let changes = read.changes_from(&tokens);
        *tokens = read;
        Ok(changes)
    }

    /// Whose token it is.
    pub(super) fn bearer(&self, token: &str) -> Option<Bearer> {
        self.tokens.read().expect(UNPOISONED).bearer(token)
    }
}

impl Tokens {
    fn read(path: &Path) -> Result<Tokens, TokenFileError> {
        let text = std::fs::read_to_string(path).map_err(|error| TokenFileError::Unreadable(path.into(), error))?;
        Tokens::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Tokens, TokenFileError> {
        let mut tokens: Vec<(blake3::Hash, Bearer)> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let wrong = |what: &str| TokenFileError::Line(path.into(), index + 1, what.to_owned());
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.split_whitespace();
            let (Some(name), Some(token)) = (words.next(), words.next()) else {
                return Err(wrong("is one word"));
            };
            if token.len() < SHORTEST || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(wrong("has a token that is too short or has other characters"));
            }
            if tokens.iter().any(|(_, known)| *known.name == *name) {
                return Err(wrong("repeats a name"));
            }
            let hash = blake3::hash(token.as_bytes());
            if tokens.iter().any(|(known, _)| *known == hash) {
                return Err(wrong("repeats a token"));
            }
            let rights = Rights::parse(words).map_err(|what| wrong(&what))?;
            let bearer = Bearer {
                name: name.into(),
                rights,
            };
            tokens.push((hash, bearer));
        }
        if tokens.is_empty() {
            return Err(TokenFileError::Empty(path.into()));
        }
        Ok(Tokens(tokens))
    }

    fn changes_from(&self, before: &Tokens) -> Changes {
        let find = |tokens: &Tokens, name: &str| {
            let mut all = tokens.0.iter();
            all.find(|(_, bearer)| *bearer.name == *name)
                .map(|(hash, bearer)| (*hash, bearer.rights.clone()))
        };
        let mut changes = Changes::default();
        for (hash, Bearer { name, rights }) in &self.0 {
            match find(before, name) {
                None => changes.added.push(name.clone()),
                Some((was, could)) if was != *hash || could != *rights => changes.changed.push(name.clone()),
                Some(_) => {}
            }
        }
        let gone = before.0.iter().filter(|(_, bearer)| find(self, &bearer.name).is_none());
        changes.removed = gone.map(|(_, bearer)| bearer.name.clone()).collect();
        changes
    }

    /// Whose token it is. Takes the same time for every token of the same length.
    fn bearer(&self, token: &str) -> Option<Bearer> {
        let hash = blake3::hash(token.as_bytes());
        let mut found = None;
        for (known, bearer) in &self.0 {
            // `blake3::Hash` compares in constant time.
            if *known == hash {
                found = Some(bearer);
            }
        }
        found.cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Tokens, String> {
        Tokens::parse(Path::new("tokens"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_token_belongs_to_a_name_and_has_rights() {
        let text = "# who may call\n\nci  0123456789abcdef\n  ops\tfedcba9876543210  admin\n";
        let tokens = parse(text).unwrap();
        let found = |token: &str| {
            let bearer = tokens.bearer(token)?;
            Some((bearer.name.to_string(), bearer.rights))
        };
        assert_eq!(found("0123456789abcdef"), Some(("ci".to_owned(), Rights::Callers)));
        assert_eq!(found("fedcba9876543210"), Some(("ops".to_owned(), Rights::All)));
        assert_eq!(found("0123456789abcdeF"), None);
        assert_eq!(found(""), None);
    }

    #[test]
    fn a_wrong_line_is_named() {
        let check = |text: &str, expect: &str| {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expect), "{error}");
        };
        check("ci", "line 1 of the token file tokens is one word");
        check(
            "\nci 0123456789abcdef x",
            "line 2 of the token file tokens has `x` for a scope: it is call, read, deploy or admin",
        );
        check(
            "ci short",
            "line 1 of the token file tokens has a token that is too short",
        );
        check(
            "ci 0123456789abcdefü",
            "has a token that is too short or has other characters",
        );
        check(
            "a 0123456789abcdef\na fedcba9876543210",
            "line 2 of the token file tokens repeats a name",
        );
        check(
            "a 0123456789abcdef\nb 0123456789abcdef",
            "line 2 of the token file tokens repeats a token",
        );
        check("# nobody\n", "holds no token");
    }
}
