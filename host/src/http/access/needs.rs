//! What each path asks of its caller: the one table that every request but those of grains' own paths passes, before its handler runs. A grain's
//! path is taken apart by its handler, which asks the same question there.

use std::borrow::Cow;

use axum::http::Method;
use granary_core::id::GrainType;

use super::rights::Act;
use crate::http::percent;

/// What a request needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::http) enum Need {
    /// Nothing that a caller may lack, or what its handler alone can tell.
    Nothing,
    /// To see the host.
    Watch,
    /// To see a type.
    Describe(GrainType),
    /// To change a type's code.
    Deploy(GrainType),
    /// To change the cluster.
    Administer,
}

impl Need {
    /// Of a path that isn't a grain's.
    pub(in crate::http) fn of(verb: &Method, path: &str) -> Need {
        let sees = matches!(*verb, Method::GET | Method::HEAD);
        match path {
            "/healthz" | "/readyz" | "/" | "/v1/openapi.json" => return Need::Nothing,
            // What is shown depends on the caller's rights: types that it has one on.
            "/v1/modules" | "/v1/logs" => return Need::Nothing,
            _ => {}
        }
        if path.starts_with("/v1/cluster/") && !sees {
            return Need::Administer;
        }
        match path.strip_prefix("/v1/modules/").and_then(type_of) {
            Some(kind) if sees => Need::Describe(kind),
            Some(kind) => Need::Deploy(kind),
            None => Need::Watch,
        }
    }

    /// The act that a caller has to have a right to.
    pub(in crate::http) fn act(&self) -> Option<Act<'_>> {
        match self {
            Need::Nothing => None,
            Need::Watch => Some(Act::Watch),
            Need::Describe(kind) => Some(Act::Describe(kind)),
            Need::Deploy(kind) => Some(Act::Deploy(kind)),
            Need::Administer => Some(Act::Administer),
        }
    }

    /// Whether the audit log has a line about it.
    pub(in crate::http) fn is_audited(&self) -> bool {
        matches!(self, Need::Deploy(_) | Need::Administer)
    }
}

/// The type in a module's path; none when it's no type's name, which the handler says.
fn type_of(rest: &str) -> Option<GrainType> {
    let segment = rest.split('/').next().unwrap_or_default();
    let name: Cow<'_, str> = percent::decode(segment).ok()?;
    GrainType::new(&name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_its_need() {
        let cart = || GrainType::new("cart").unwrap();
        for (verb, path, expect) in [
            ("GET", "/healthz", Need::Nothing),
            ("GET", "/v1/modules", Need::Nothing),
            ("GET", "/metrics", Need::Watch),
            ("GET", "/v1/cluster", Need::Watch),
            ("GET", "/v1/cluster/drain", Need::Watch),
            ("POST", "/v1/cluster/drain", Need::Administer),
            ("POST", "/v1/cluster/token", Need::Administer),
            ("POST", "/v1/cluster/move", Need::Administer),
            ("DELETE", "/v1/cluster/what-comes-later", Need::Administer),
            ("GET", "/v1/modules/cart", Need::Describe(cart())),
            ("HEAD", "/v1/modules/cart/upgrade", Need::Describe(cart())),
            ("PUT", "/v1/modules/cart", Need::Deploy(cart())),
            ("PUT", "/v1/modules/c%61rt", Need::Deploy(cart())),
            ("POST", "/v1/modules/cart/rollback", Need::Deploy(cart())),
            ("POST", "/v1/modules/cart/upgrade", Need::Deploy(cart())),
            ("PUT", "/v1/modules/Cart", Need::Watch),
            ("POST", "/v2", Need::Watch),
        ] {
            assert_eq!(Need::of(&verb.parse().unwrap(), path), expect, "{verb} {path}");
        }
    }
}
