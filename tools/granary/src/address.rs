//! `TYPE/KEY` on the command line, and the path that it becomes.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What a path segment may hold as it is.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~');

/// A grain as it's named on the command line: all behind the first `/` is the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    kind: String,
    key: String,
}

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        match text.split_once('/') {
            Some((kind, key)) if !kind.is_empty() && !key.is_empty() => Ok(Address {
                kind: kind.to_owned(),
                key: key.to_owned(),
            }),
            _ => Err(format!(
                "`{text}` names no grain: write TYPE/KEY, for example counter/alice"
            )),
        }
    }
}

impl Address {
    /// Its type and its key.
    pub(crate) fn parts(&self) -> (&str, &str) {
        (&self.kind, &self.key)
    }

    /// The grain's path.
    pub(crate) fn path(&self) -> String {
        format!("/v1/grains/{}/{}", segment(&self.kind), segment(&self.key))
    }

    /// The path of one of its methods.
    pub(crate) fn method_path(&self, method: &str) -> String {
        format!("{}/{}", self.path(), segment(method))
    }
}

/// A text as one path segment.
pub(crate) fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_all_behind_the_first_slash() {
        let path = |text: &str| text.parse::<Address>().map(|address| address.path());
        assert_eq!(path("counter/alice"), Ok("/v1/grains/counter/alice".into()));
        assert_eq!(path("counter/a/b c?"), Ok("/v1/grains/counter/a%2Fb%20c%3F".into()));
        // Dots alone would be taken for a step in the path.
        assert_eq!(path("counter/.."), Ok("/v1/grains/counter/%2E%2E".into()));
        for bad in ["counter", "counter/", "/alice", ""] {
            assert!(path(bad).is_err(), "{bad}");
        }
    }
}
