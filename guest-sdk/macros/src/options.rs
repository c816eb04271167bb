//! What stands in the brackets of `#[grain(...)]`.

use proc_macro2::TokenStream;
use syn::parse::Parser;
use syn::{Ident, LitInt, LitStr, Result, meta::ParseNestedMeta};

/// The options as written, with their defaults.
#[derive(Debug)]
pub(crate) struct Options {
    /// None: the type's name in kebab-case.
    pub(crate) name: Option<String>,
    /// The variant of `granary_sdk::Durability`.
    pub(crate) durability: &'static str,
    pub(crate) version: u32,
}

impl Options {
    pub(crate) fn parse(tokens: TokenStream) -> Result<Self> {
        let mut options = Self {
            name: None,
            durability: "Committed",
            version: 1,
        };
        let mut seen: Vec<Ident> = Vec::new();
        let parser = syn::meta::parser(|meta| {
            let Some(option) = meta.path.get_ident() else {
                return Err(meta.error(UNKNOWN));
            };
            if seen.contains(option) {
                return Err(meta.error(format!("`{option}` is given twice")));
            }
            seen.push(option.clone());
            options.set(&option.to_string(), &meta)
        });
        parser.parse2(tokens)?;
        Ok(options)
    }

    fn set(&mut self, option: &str, meta: &ParseNestedMeta<'_>) -> Result<()> {
        match option {
            "name" => self.name = Some(name(&meta.value()?.parse()?)?),
            "durability" => self.durability = durability(&meta.value()?.parse()?)?,
            "version" => self.version = version(&meta.value()?.parse()?)?,
            _ => return Err(meta.error(UNKNOWN)),
        }
        Ok(())
    }
}

const UNKNOWN: &str = "`#[grain]` knows `name = \"...\"`, `durability = \"...\"` and `version = N`";

fn name(literal: &LitStr) -> Result<String> {
    let name = literal.value();
    if is_type_name(&name) {
        return Ok(name);
    }
    Err(syn::Error::new(literal.span(), NAME_RULE))
}

pub(crate) const NAME_RULE: &str = "a grain type's name starts with a letter a-z, goes on with letters a-z, digits and `-`, \
     and has at most 63 of them";

pub(crate) fn is_type_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_lowercase())
        && name.len() <= 63
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn durability(literal: &LitStr) -> Result<&'static str> {
    match literal.value().as_str() {
        "committed" => Ok("Committed"),
        "relaxed" => Ok("Relaxed"),
        "volatile" => Ok("Volatile"),
        _ => Err(syn::Error::new(
            literal.span(),
            "durability is \"committed\" (a reply is durable), \"relaxed\" (durable within 100 ms) or \
             \"volatile\" (memory only)",
        )),
    }
}

fn version(literal: &LitInt) -> Result<u32> {
    literal.base10_parse().map_err(|_| {
        syn::Error::new(
            literal.span(),
            "a state's version is a whole number from 0 to 4294967295",
        )
    })
}
