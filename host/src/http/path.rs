//! Paths of grains: `/v1/grains/{type}[/{key}[/{method}]]`, taken apart by hand, since a key is one segment of any
//! characters: `%2F` and `%00` belong to it, and `..` is a key like others.

use std::borrow::Cow;

use granary_core::api::{CallFailure, Code};
use granary_core::id::{GrainKey, GrainName, GrainType, NameError};

use super::percent;

/// What every path of a grain begins with.
pub(super) const PREFIX: &str = "/v1/grains/";

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    /// All grains of a type.
    Type(GrainType),
    /// One grain.
    Grain(GrainName),
    /// A method of a grain.
    Method(GrainName, Cow<'a, str>),
}

/// Reads what follows [`PREFIX`].
pub(super) fn parse(rest: &str) -> Result<Target<'_>, CallFailure> {
    let mut segments = rest.split('/');
    let kind = segments.next().unwrap_or_default();
    let (key, method, more) = (segments.next(), segments.next(), segments.next());
    if kind.is_empty() {
        return Err(not_found("a grain's path is /v1/grains/{type}/{key}/{method}"));
    }
    if more.is_some() {
        return Err(not_found(
            "a grain's path is /v1/grains/{type}/{key}/{method}; a `/` within a key is written %2F",
        ));
    }
    let kind = GrainType::new(&decode(kind, "type")?).map_err(wrong_name)?;
    let Some(key) = key else {
        return Ok(Target::Type(kind));
    };
    let key = GrainKey::new(&decode(key, "key")?).map_err(wrong_name)?;
    let name = GrainName::new(kind, key);
    match method {
        None => Ok(Target::Grain(name)),
        Some("") => Err(not_found("the path ends in `/`: a method's name belongs there")),
        Some(method) => Ok(Target::Method(name, decode(method, "method")?)),
    }
}

fn decode<'a>(segment: &'a str, what: &str) -> Result<Cow<'a, str>, CallFailure> {
    percent::decode(segment)
        .map_err(|wrong| CallFailure::before(Code::BadArguments, format!("the {what} in the path {wrong}")))
}

fn wrong_name(error: NameError) -> CallFailure {
    CallFailure::before(Code::BadArguments, error.to_string())
}

fn not_found(detail: &str) -> CallFailure {
    CallFailure::before(Code::NotFound, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> Result<(String, Option<String>, Option<String>), Code> {
        match parse(path) {
            Ok(Target::Type(kind)) => Ok((kind.to_string(), None, None)),
            Ok(Target::Grain(name)) => Ok((name.kind.to_string(), Some(name.key.to_string()), None)),
            Ok(Target::Method(name, method)) => Ok((
                name.kind.to_string(),
                Some(name.key.to_string()),
                Some(method.into_owned()),
            )),
            Err(failure) => Err(failure.code),
        }
    }

    #[track_caller]
    fn check(path: &str, kind: &str, key: Option<&str>, method: Option<&str>) {
        let expect = (kind.to_owned(), key.map(str::to_owned), method.map(str::to_owned));
        assert_eq!(read(path), Ok(expect), "{path}");
    }

    #[test]
    fn a_path_names_a_type_a_grain_or_a_method() {
        check("counter", "counter", None, None);
        check("counter/alice", "counter", Some("alice"), None);
        check("counter/alice/add", "counter", Some("alice"), Some("add"));
    }

    #[test]
    fn a_key_is_one_decoded_segment_of_any_characters() {
        for (segment, key) in [
            ("a%2Fb", "a/b"),
            ("a%2fb", "a/b"),
            ("%00", "\0"),
            ("..", ".."),
            (".", "."),
            ("%2E%2E", ".."),
            ("%2e%2e%2f%2e%2e", "../.."),
            ("a+b", "a+b"),
            ("a%20b", "a b"),
            ("%C3%BC", "ü"),
            ("100%25", "100%"),
            ("%25zz", "%zz"),
            ("u%CC%88", "u\u{308}"),
            ("%EF%BB%BF", "\u{feff}"),
            ("%3F%23", "?#"),
            ("a;b=c", "a;b=c"),
            ("@:!$&'()*,=", "@:!$&'()*,="),
        ] {
            check(&format!("counter/{segment}"), "counter", Some(key), None);
            check(&format!("counter/{segment}/get"), "counter", Some(key), Some("get"));
        }
    }

    #[test]
    fn a_keys_length_is_that_of_its_decoded_bytes() {
        let longest = "%41".repeat(1024);
        check(&format!("c/{longest}"), "c", Some(&"A".repeat(1024)), None);
        assert_eq!(read(&format!("c/{longest}A")), Err(Code::BadArguments));
        assert_eq!(read("c/"), Err(Code::BadArguments));
        assert_eq!(read("c//get"), Err(Code::BadArguments));
    }

    #[test]
    fn what_is_not_utf8_or_no_type_is_a_bad_argument() {
        for path in [
            "c/%ff",
            "c/100%",
            "c/%zz",
            "c/%2",
            "c/%u00fc",
            "c/%ED%A0%80",
            "c/%C0%AF",
            "c/%c3",
            "c/%c3/get",
            "c/k/%ff",
            "Counter/a",
            "a_b/c",
            "..",
            "../x/y",
            "1/a",
            "%ff/a",
        ] {
            assert_eq!(read(path), Err(Code::BadArguments), "{path}");
        }
    }

    #[test]
    fn other_shapes_are_not_found() {
        for path in ["", "/", "c/k/m/", "c/k/m/n", "c/k/"] {
            assert_eq!(read(path), Err(Code::NotFound), "{path}");
        }
    }
}
