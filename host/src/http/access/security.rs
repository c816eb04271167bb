//! Who may call at all: by which host name, from which page, with which token.
//!
//! A browser sends requests to this host for any page that its user visits. Two checks stop them: a request that says it
//! comes from a page (`origin`, `sec-fetch-site`) must come from a page of this host or from an origin on the list, and
//! the name in `host` must be one of ours, so that no foreign name can be pointed at this address and then pass for ours.
//! Programs send no such headers and aren't bothered.
//!
//! **Not here:** who may do what (`rights`).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Uri, Version, header};
use granary_core::api::Code;

use super::rights::Rights;
use super::tokens::{Bearer, Changes, TokenFile, TokenFileError};
use crate::http::config::HttpConfig;
use crate::http::error::Refusal;
use crate::http::exchange::{Ends, Entrance};

/// Why a listener doesn't start.
#[derive(Debug)]
pub enum SecurityError {
    /// It can be reached from other machines, and neither tokens nor `insecure` are given.
    Open(SocketAddr),
    /// The token file can't be used.
    Tokens(TokenFileError),
    /// An allowed origin isn't one.
    Origin(String),
}

impl fmt::Display for SecurityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecurityError::Open(address) => write!(
                f,
                "{address} can be reached from other machines: name a file of tokens with --token-file, or listen on 127.0.0.1, \
                 or let anybody in with --insecure"
            ),
            SecurityError::Tokens(error) => error.fmt(f),
            SecurityError::Origin(origin) => write!(
                f,
                "`{origin}` is not an origin: it is a scheme and a host like https://app.example, without a path"
            ),
        }
    }
}

impl std::error::Error for SecurityError {}

/// The checks of one listener.
#[derive(Debug)]
pub(in crate::http) struct Security {
    hosts: Vec<String>,
    origins: Vec<String>,
    tokens: Option<TokenFile>,
}

/// What a request is for, where that makes a difference to who may send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Purpose {
    /// Whether the host is there, in this version of HTTP. Balancers ask that, and call the host whatever they like; they learn no more than
    /// that it answers.
    Probe(Version),
    /// A browser asks whether a page may ask.
    Preflight,
    /// Anything else.
    Use,
}

/// A request that passed.
#[derive(Debug)]
pub(in crate::http) struct Pass {
    pub(in crate::http) by: Principal,
    pub(in crate::http) rights: Rights,
    /// The allowed foreign origin of the page that asks; its browser wants to hear so in the reply.
    pub(in crate::http) origin: Option<HeaderValue>,
}

/// Who asks, as far as it's known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::http) enum Principal {
    /// The data folder's, by its socket.
    Owner,
    /// Who shows this token.
    Token(Arc<str>),
    /// Anybody: no tokens are asked for.
    Anybody,
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Principal::Owner => f.write_str("owner"),
            Principal::Token(name) => write!(f, "token {name}"),
            Principal::Anybody => f.write_str("anybody"),
        }
    }
}

impl Security {
    /// The checks for a listener at `address`.
    pub(in crate::http) fn open(config: &HttpConfig, address: SocketAddr) -> Result<Security, SecurityError> {
        let tokens = config
            .token_file
            .as_deref()
            .map(TokenFile::open)
            .transpose()
            .map_err(SecurityError::Tokens)?;
        if !address.ip().to_canonical().is_loopback() && tokens.is_none() && !config.insecure {
            return Err(SecurityError::Open(address));
        }
        if let Some(wrong) = config.allow_origins.iter().find(|origin| !is_origin(origin)) {
            return Err(SecurityError::Origin(wrong.clone()));
        }
        Ok(Security {
            hosts: config.allow_hosts.clone(),
            origins: config.allow_origins.clone(),
            tokens,
        })
    }

    /// Says in the log what is open at `address`.
    pub(in crate::http) fn warn(&self, address: SocketAddr) {
        if !address.ip().to_canonical().is_loopback() && self.tokens.is_none() {
            tracing::warn!(%address, "insecure: anybody who can reach this address can deploy, call and delete");
        }
    }

    /// Reads the token file again, if there is one. What's wrong with it leaves the tokens as they were.
    pub(in crate::http) fn read_again(&self) -> Option<Result<Changes, TokenFileError>> {
        self.tokens.as_ref().map(TokenFile::read_again)
    }

    /// Checks a request. Probes and a browser's question whether it may ask need no token.
    pub(in crate::http) fn check(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
        ends: Ends,
        purpose: Purpose,
    ) -> Result<Pass, Refusal> {
        let host = self.host(uri, headers, ends.local.ip(), purpose)?;
        let origin = self.origin(headers, host.as_ref())?;
        let (by, rights) = match (&self.tokens, ends.entrance) {
            (_, Entrance::OwnerSocket) => (Principal::Owner, Rights::All),
            (Some(tokens), Entrance::Port) if purpose == Purpose::Use => {
                let shown = bearer(headers).and_then(|token| tokens.bearer(token));
                let Some(Bearer { name, rights }) = shown else {
                    let detail =
                        "this host wants a token: send `authorization: Bearer TOKEN` with one from its token file";
                    return Err(Refusal::new(Code::Unauthenticated, detail));
                };
                (Principal::Token(name), rights)
            }
            _ => (Principal::Anybody, Rights::Callers),
        };
        Ok(Pass { by, rights, origin })
    }

    /// The name that the request calls this host by; none where it has none and needs none.
    fn host(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
        local: IpAddr,
        purpose: Purpose,
    ) -> Result<Option<Authority>, Refusal> {
        let wrong = |detail: &str| Refusal::new(Code::BadArguments, detail);
        let mut values = headers.get_all(header::HOST).iter();
        let value = match (values.next(), values.next()) {
            (Some(value), None) => value,
            // The version has no such header.
            (None, _) if purpose == Purpose::Probe(Version::HTTP_10) => return Ok(None),
            _ => return Err(wrong("a request has one header `host`")),
        };
        let host: Authority = value
            .as_bytes()
            .try_into()
            .ok()
            .filter(is_name_and_port)
            .ok_or_else(|| wrong("the header `host` is not a host's name, with a port or without"))?;
        if matches!(purpose, Purpose::Probe(_)) {
            return Ok(Some(host));
        }
        for name in std::iter::once(&host).chain(uri.authority()) {
            let name = name.host();
            if !self.is_known(name, local) {
                let shown: String = name.chars().take(80).collect();
                return Err(Refusal::new(
                    Code::Forbidden,
                    format!(
                        "this host doesn't answer to the name `{shown}`; start it with --allow-host {shown} if it should"
                    ),
                ));
            }
        }
        Ok(Some(host))
    }

    fn is_known(&self, name: &str, local: IpAddr) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        // A number can't be pointed elsewhere as a name can; those listed here are the ones that lead to this machine.
        let ours = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified() || ip == local.to_canonical();
        name.eq_ignore_ascii_case("localhost")
            || address.is_ok_and(|ip| ours(ip.to_canonical()))
            || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    /// The request's foreign origin if it is an allowed one.
    fn origin(&self, headers: &HeaderMap, host: Option<&Authority>) -> Result<Option<HeaderValue>, Refusal> {
        let refuse = |from: &str| {
            let from: String = from.chars().take(80).collect();
            let detail =
                format!("pages of {from} may not call this host; start it with --allow-origin {from} if they should");
            Refusal::new(Code::Forbidden, detail)
        };
        let mut values = headers.get_all(header::ORIGIN).iter();
        match (values.next(), values.next()) {
            (Some(_), Some(_)) => Err(refuse("several origins")),
            (Some(value), None) => {
                let text = value.to_str().map_err(|_| refuse("an unreadable origin"))?;
                let own = ["http://", "https://"].iter().any(|scheme| {
                    let from = text.strip_prefix(scheme);
                    from.zip(host)
                        .is_some_and(|(from, host)| from.eq_ignore_ascii_case(host.as_str()))
                });
                if own {
                    Ok(None)
                } else if self.origins.iter().any(|known| known.eq_ignore_ascii_case(text)) {
                    Ok(Some(value.clone()))
                } else {
                    Err(refuse(text))
                }
            }
            (None, _) => {
                // A page's image or script has no origin. Following a link has neither, and only shows a reply to its user.
                let is = |name: &str, word: &str| headers.get(name).is_some_and(|value| value == word);
                let foreign = is("sec-fetch-site", "cross-site") || is("sec-fetch-site", "same-site");
                if foreign && !is("sec-fetch-mode", "navigate") {
                    Err(refuse("another site"))
                } else {
                    Ok(None)
                }
            }
        }
    }
}

/// An authority may hold more: a user before the name, and anything for a port.
fn is_name_and_port(host: &Authority) -> bool {
    let port = host.as_str().strip_prefix(host.host());
    port.is_some_and(|port| port.is_empty() || port == ":" || host.port_u16().is_some())
}

fn is_origin(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|host| host.parse::<Authority>().is_ok() && !host.contains('@'))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_start_matches(' '))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const LOCAL: &str = "127.0.0.1:7777";

    fn security(config: &HttpConfig) -> Security {
        Security::open(config, LOCAL.parse().unwrap()).unwrap()
    }

    /// A connection that came in there.
    fn at(local: &str) -> Ends {
        Ends {
            local: SocketAddr::new(local.parse().unwrap(), 7777),
            peer: "127.0.0.1:50000".parse().unwrap(),
            entrance: Entrance::Port,
        }
    }

    fn ask(security: &Security, headers: &[(&'static str, &str)]) -> Result<Pass, Code> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        security
            .check(&Uri::from_static("/"), &map, at("127.0.0.1"), Purpose::Use)
            .map_err(|refusal| refusal.code())
    }

    #[test]
    fn only_our_own_names_are_answered() {
        let plain = security(&HttpConfig::default());
        let named = security(&HttpConfig {
            allow_hosts: vec!["granary.example".into()],
            ..HttpConfig::default()
        });
        for host in [
            "localhost",
            "localhost:7777",
            "localhost:",
            "LOCALHOST",
            "localhost.",
            "127.0.0.1:7777",
            "[::1]:7777",
            "[::1]",
            "127.0.0.2",
            "0.0.0.0:7777",
            "[::]",
        ] {
            assert!(ask(&plain, &[("host", host)]).is_ok(), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "evil-localhost",
            "10.0.0.1",
            "[2001:db8::1]",
            "granary.example",
            "1.localhost",
        ] {
            assert_eq!(ask(&plain, &[("host", host)]).unwrap_err(), Code::Forbidden, "{host}");
        }
        assert!(ask(&named, &[("host", "granary.example:80")]).is_ok());
        assert!(ask(&named, &[("host", "Granary.Example")]).is_ok());
        for wrong in [
            &[][..],
            &[("host", "")],
            &[("host", "a b")],
            &[("host", "localhost:port")],
            &[("host", "localhost:99999")],
            &[("host", "localhost@localhost")],
            &[("host", "user@localhost")],
            &[("host", "localhost"), ("host", "localhost")],
        ] {
            assert_eq!(ask(&plain, wrong).unwrap_err(), Code::BadArguments, "{wrong:?}");
        }
    }

    #[test]
    fn a_probe_may_call_the_host_whatever_it_likes() {
        let security = security(&HttpConfig::default());
        let probe = |version, headers: &[(&'static str, &str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, value.parse().unwrap());
            }
            let uri = Uri::from_static("/healthz");
            let checked = security.check(&uri, &map, at("127.0.0.1"), Purpose::Probe(version));
            checked.map(|pass| pass.rights).map_err(|refusal| refusal.code())
        };
        let passed = Ok(Rights::Callers);
        assert_eq!(probe(Version::HTTP_10, &[]), passed);
        assert_eq!(probe(Version::HTTP_11, &[("host", "balancer.example:80")]), passed);
        assert_eq!(probe(Version::HTTP_10, &[("host", "10.9.9.9")]), passed);
        // What isn't HTTP isn't a probe, and neither is a page.
        assert_eq!(probe(Version::HTTP_11, &[]), Err(Code::BadArguments));
        let page = [("host", "localhost"), ("origin", "https://evil.example")];
        assert_eq!(probe(Version::HTTP_11, &page), Err(Code::Forbidden));
        assert_eq!(probe(Version::HTTP_10, &page[1..]), Err(Code::Forbidden));
    }

    #[test]
    fn the_name_in_an_absolute_target_counts_too() {
        let mut headers = HeaderMap::new();
        headers.insert("host", "localhost".parse().unwrap());
        let ask = |uri: &'static str| {
            let security = security(&HttpConfig::default());
            security.check(&Uri::from_static(uri), &headers, at("127.0.0.1"), Purpose::Use)
        };
        assert!(ask("http://localhost/x").is_ok());
        assert_eq!(ask("http://evil.example/x").unwrap_err().code(), Code::Forbidden);
    }

    #[test]
    fn the_address_that_a_connection_came_in_at_is_a_known_name() {
        let mut headers = HeaderMap::new();
        headers.insert("host", "10.0.0.5:7777".parse().unwrap());
        let ask = |local: &str| {
            security(&HttpConfig::default()).check(&Uri::from_static("/"), &headers, at(local), Purpose::Use)
        };
        assert!(ask("10.0.0.5").is_ok());
        assert!(ask("::ffff:10.0.0.5").is_ok());
        assert!(ask("10.0.0.6").is_err());
    }

    #[test]
    fn foreign_pages_may_not_call() {
        let security = security(&HttpConfig {
            allow_origins: vec!["https://app.example".into(), "http://localhost:3000".into()],
            ..HttpConfig::default()
        });
        let from = |origin: &str| ask(&security, &[("host", "localhost:7777"), ("origin", origin)]);
        assert!(from("http://localhost:7777").unwrap().origin.is_none());
        assert!(from("https://localhost:7777").unwrap().origin.is_none());
        assert_eq!(
            from("https://app.example").unwrap().origin.unwrap(),
            "https://app.example"
        );
        assert!(from("http://localhost:3000").unwrap().origin.is_some());
        for foreign in [
            "null",
            "",
            "http://localhost",
            "http://localhost:8080",
            "http://app.example",
            "https://app.example:8443",
            "https://app.example.evil.example",
            "https://evil.example/https://app.example",
            "localhost:7777",
            "http://127.0.0.1:7777",
        ] {
            assert_eq!(from(foreign).unwrap_err(), Code::Forbidden, "{foreign}");
        }
        let two = [
            ("host", "localhost:7777"),
            ("origin", "http://localhost:7777"),
            ("origin", "https://evil.example"),
        ];
        assert_eq!(ask(&security, &two).unwrap_err(), Code::Forbidden);
    }

    #[test]
    fn what_a_foreign_page_embeds_is_refused_and_a_link_is_not() {
        let security = security(&HttpConfig::default());
        let fetch = |site: &str, mode: &str| {
            ask(
                &security,
                &[
                    ("host", "localhost"),
                    ("sec-fetch-site", site),
                    ("sec-fetch-mode", mode),
                ],
            )
            .map(|_| ())
        };
        assert_eq!(fetch("cross-site", "no-cors"), Err(Code::Forbidden));
        assert_eq!(fetch("same-site", "no-cors"), Err(Code::Forbidden));
        assert_eq!(fetch("cross-site", "navigate"), Ok(()));
        assert_eq!(fetch("same-origin", "cors"), Ok(()));
        assert_eq!(fetch("none", "navigate"), Ok(()));
    }

    #[test]
    fn tokens_are_asked_for_when_there_is_a_file() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "ci 0123456789abcdef").unwrap();
        let security = security(&HttpConfig {
            token_file: Some(file.path().into()),
            ..HttpConfig::default()
        });
        let with = |value: &str| ask(&security, &[("host", "localhost"), ("authorization", value)]);
        let ci = Principal::Token("ci".into());
        assert_eq!(with("Bearer 0123456789abcdef").unwrap().by, ci);
        assert_eq!(with("bearer  0123456789abcdef").unwrap().by, ci);
        for wrong in [
            "Bearer 0123456789abcdeg",
            "Bearer",
            "Bearer ",
            "Basic 0123456789abcdef",
            "0123456789abcdef",
        ] {
            assert_eq!(with(wrong).unwrap_err(), Code::Unauthenticated, "{wrong}");
        }
        assert_eq!(
            ask(&security, &[("host", "localhost")]).unwrap_err(),
            Code::Unauthenticated
        );
        let mut headers = HeaderMap::new();
        headers.insert("host", "localhost".parse().unwrap());
        let probe = Uri::from_static("/healthz");
        for purpose in [Purpose::Probe(Version::HTTP_11), Purpose::Preflight] {
            assert!(security.check(&probe, &headers, at("127.0.0.1"), purpose).is_ok());
        }
        let owner = Ends {
            entrance: Entrance::OwnerSocket,
            ..at("127.0.0.1")
        };
        let pass = security
            .check(&Uri::from_static("/"), &headers, owner, Purpose::Use)
            .unwrap();
        assert_eq!((pass.by, pass.rights), (Principal::Owner, Rights::All));
    }

    #[test]
    fn a_listener_for_other_machines_wants_tokens_or_an_explicit_word() {
        let open = |address: &str, insecure| {
            let config = HttpConfig {
                insecure,
                ..HttpConfig::default()
            };
            Security::open(&config, address.parse().unwrap()).map(|_| ())
        };
        for address in ["127.0.0.1:1", "[::1]:1", "127.1.2.3:1", "[::ffff:127.0.0.1]:1"] {
            assert!(open(address, false).is_ok(), "{address}");
        }
        for address in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1"] {
            let error = open(address, false).unwrap_err().to_string();
            assert!(error.contains("--token-file"), "{error}");
            assert!(open(address, true).is_ok(), "{address}");
        }
        let config = HttpConfig {
            allow_origins: vec!["app.example".into()],
            ..HttpConfig::default()
        };
        assert!(Security::open(&config, LOCAL.parse().unwrap()).is_err());
    }
}
