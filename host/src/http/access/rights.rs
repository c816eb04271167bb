//! Who may do what: a caller's rights, and what each request needs.
//!
//! A right is a scope, for all types or for those whose names begin with a prefix:
//!
//! | scope | lets |
//! |---|---|
//! | `call` | call methods, delete grains; all that `read` lets |
//! | `read` | call `#[read]` methods, see grains' status, keys and log records; without a prefix also the cluster and the metrics |
//! | `deploy` | deploy, roll back, upgrade |
//! | `admin` | everything: also let hosts in, drain, migrate |
//!
//! Whoever has any right on a type sees its methods and revisions.

use std::fmt;
use std::sync::Arc;

use granary_core::id::GrainType;

/// A kind of acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Scope {
    Call,
    Read,
    Deploy,
    Admin,
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Act<'a> {
    /// May change a grain of the type.
    Call(&'a GrainType),
    /// Sees state of the type's grains.
    Read(&'a GrainType),
    /// Sees what a type offers.
    Describe(&'a GrainType),
    /// Changes which code a type runs.
    Deploy(&'a GrainType),
    /// Sees the host and its cluster, or grains of all types.
    Watch,
    /// Changes the cluster.
    Administer,
}

/// What a caller may do. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::http) enum Rights {
    /// Everything: the owner of the data folder, and `admin` tokens.
    All,
    /// Everything but administration: anybody, where no tokens are asked for, and tokens whose line names no scope.
    Callers,
    /// What a token's line says.
    Listed(Arc<[Right]>),
}

/// A scope on the types that begin with a prefix, which is empty for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::http) struct Right {
    scope: Scope,
    prefix: String,
}

impl Scope {
    const ALL: [(&'static str, Scope); 4] = [
        ("call", Scope::Call),
        ("read", Scope::Read),
        ("deploy", Scope::Deploy),
        ("admin", Scope::Admin),
    ];
}

impl Rights {
    /// Reads the words behind a token: `call`, `read:cart-`, ...
    pub(super) fn parse<'a>(words: impl Iterator<Item = &'a str>) -> Result<Rights, String> {
        let listed = words.map(Right::parse).collect::<Result<Vec<_>, _>>()?;
        Ok(if listed.is_empty() {
            Rights::Callers
        } else if listed.iter().any(|right| right.scope == Scope::Admin) {
            Rights::All
        } else {
            Rights::Listed(listed.into())
        })
    }

    /// Whether they cover an act.
    pub(in crate::http) fn allow(&self, act: Act<'_>) -> bool {
        match self {
            Rights::All => true,
            Rights::Callers => act != Act::Administer,
            Rights::Listed(rights) => rights.iter().any(|right| right.allows(act)),
        }
    }
}

impl Right {
    fn parse(word: &str) -> Result<Right, String> {
        let (name, prefix) = match word.split_once(':') {
            Some((name, prefix)) => (name, Some(prefix)),
            None => (word, None),
        };
        let scope = Scope::ALL.iter().find(|(known, _)| *known == name);
        let Some(&(_, scope)) = scope else {
            return Err(format!(
                "has `{word}` for a scope: it is call, read, deploy or admin, and but for admin may end in `:PREFIX` of types' names"
            ));
        };
        match prefix {
            Some("") => Err(format!(
                "has `{word}`: a prefix of types' names belongs behind the colon"
            )),
            Some(_) if scope == Scope::Admin => Err(format!(
                "has `{word}`: administration is of the whole cluster, and takes no prefix"
            )),
            // A type's name may end where the prefix does.
            Some(prefix) if GrainType::new(prefix).is_err() => {
                Err(format!("has `{word}`: no type's name begins with `{prefix}`"))
            }
            _ => Ok(Right {
                scope,
                prefix: prefix.unwrap_or_default().to_owned(),
            }),
        }
    }

    fn allows(&self, act: Act<'_>) -> bool {
        let covers = |kind: &GrainType| kind.as_str().starts_with(&self.prefix);
        match act {
            Act::Call(kind) => self.scope == Scope::Call && covers(kind),
            Act::Read(kind) => matches!(self.scope, Scope::Call | Scope::Read) && covers(kind),
            Act::Describe(kind) => covers(kind),
            Act::Deploy(kind) => self.scope == Scope::Deploy && covers(kind),
            Act::Watch => self.scope == Scope::Read && self.prefix.is_empty(),
            Act::Administer => false,
        }
    }
}

/// What a token's line has to say for the act, to complete "may not".
impl fmt::Display for Act<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Act::Call(kind) => write!(f, "call or delete grains of `{kind}`: that takes the scope `call`"),
            Act::Read(kind) => write!(f, "read grains of `{kind}`: that takes the scope `read` or `call`"),
            Act::Describe(kind) => write!(f, "see the type `{kind}`: that takes a scope of that type"),
            Act::Deploy(kind) => write!(f, "change the code of `{kind}`: that takes the scope `deploy`"),
            Act::Watch => {
                f.write_str("see the host or all types' grains: that takes the scope `read` without a prefix")
            }
            Act::Administer => f.write_str("administer the cluster: that takes the scope `admin`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights(words: &str) -> Result<Rights, String> {
        Rights::parse(words.split_whitespace())
    }

    #[test]
    fn each_scope_lets_what_the_table_says() {
        let (cart, user) = (GrainType::new("cart-eu").unwrap(), GrainType::new("user").unwrap());
        let acts = [
            Act::Call(&cart),
            Act::Read(&cart),
            Act::Describe(&cart),
            Act::Deploy(&cart),
            Act::Call(&user),
            Act::Read(&user),
            Act::Describe(&user),
            Act::Deploy(&user),
            Act::Watch,
            Act::Administer,
        ];
        for (words, expect) in [
            ("", "yyyyyyyyyn"),
            ("admin", "yyyyyyyyyy"),
            ("call", "yyynyyynnn"),
            ("read", "nyynnyynyn"),
            ("deploy", "nnyynnyynn"),
            ("call:cart-", "yyynnnnnnn"),
            ("read:cart-", "nyynnnnnnn"),
            ("deploy:cart-eu", "nnyynnnnnn"),
            ("call:cart read:u", "yyynnyynnn"),
            ("read:x admin", "yyyyyyyyyy"),
        ] {
            let rights = rights(words).unwrap();
            let found: String = acts
                .iter()
                .map(|act| if rights.allow(*act) { 'y' } else { 'n' })
                .collect();
            assert_eq!(found, expect, "{words}");
        }
    }

    #[test]
    fn a_word_that_is_no_scope_is_named() {
        for (word, says) in [
            ("write", "call, read, deploy or admin"),
            ("Call", "call, read, deploy or admin"),
            ("call:", "a prefix"),
            ("admin:cart", "takes no prefix"),
            ("read:Cart", "no type's name begins"),
        ] {
            let error = rights(word).unwrap_err();
            assert!(error.contains(says), "{word}: {error}");
        }
    }
}
