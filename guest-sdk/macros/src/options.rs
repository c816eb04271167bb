//! What stands in the brackets of `#[grain(...)]`.

use proc_macro2::TokenStream;
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{ExprPath, Ident, LitInt, LitStr, Result, Token, meta::ParseNestedMeta, parenthesized, token};

/// The options as written, with their defaults.
#[derive(Debug)]
pub(crate) struct Options {
    /// None: the type's name in kebab-case.
    pub(crate) name: Option<String>,
    /// The variant of `granary_sdk::Durability`.
    pub(crate) durability: &'static str,
    /// The variant of `granary_sdk::Placement`.
    pub(crate) placement: &'static str,
    pub(crate) version: u32,
    pub(crate) migrate: Option<Migrate>,
}

/// How states of other versions become ones of this version.
#[derive(Debug)]
pub(crate) enum Migrate {
    /// `migrate = path`: one function for older versions.
    Older(ExprPath),
    /// `migrate(1 => path, 2 => path)`: a function for each version.
    Each(Vec<Step>),
}

/// `1 => path`.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) version: u32,
    literal: LitInt,
    pub(crate) path: ExprPath,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: None,
            durability: "Committed",
            placement: "Primary",
            version: 1,
            migrate: None,
        }
    }
}

impl Options {
    pub(crate) fn parse(tokens: TokenStream) -> Result<Self> {
        let mut options = Self::default();
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
        if let Some(migrate) = seen.iter().find(|option| *option == "migrate") {
            let has_version = seen.iter().any(|option| option == "version");
            options.check_migrate(migrate, has_version)?;
        }
        Ok(options)
    }

    fn check_migrate(&self, option: &Ident, has_version: bool) -> Result<()> {
        if !has_version {
            return Err(syn::Error::new(
                option.span(),
                "`migrate` wants `version = N`, too: a number above that of the states that are to be migrated",
            ));
        }
        let Some(Migrate::Each(steps)) = &self.migrate else {
            return Ok(());
        };
        for (place, step) in steps.iter().enumerate() {
            let mistake = if step.version == self.version {
                "a state of the current version is read as it is and needs no migration"
            } else if steps[..place].iter().any(|before| before.version == step.version) {
                "this version has a migration already"
            } else {
                continue;
            };
            return Err(syn::Error::new(step.literal.span(), mistake));
        }
        Ok(())
    }

    fn set(&mut self, option: &str, meta: &ParseNestedMeta<'_>) -> Result<()> {
        match option {
            "name" => self.name = Some(name(&meta.value()?.parse()?)?),
            "durability" => self.durability = durability(&meta.value()?.parse()?)?,
            "placement" => self.placement = placement(&meta.value()?.parse()?)?,
            "version" => self.version = version(&meta.value()?.parse()?)?,
            "migrate" => self.migrate = Some(migrate(meta)?),
            _ => return Err(meta.error(UNKNOWN)),
        }
        Ok(())
    }
}

const UNKNOWN: &str = "`#[grain]` knows `name = \"...\"`, `durability = \"...\"`, `placement = \"...\"`, `version = N` and \
     `migrate = path`";

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

fn placement(literal: &LitStr) -> Result<&'static str> {
    match literal.value().as_str() {
        "primary" => Ok("Primary"),
        "prefer-local" => Ok("PreferLocal"),
        "random" => Ok("Random"),
        "balanced" => Ok("Balanced"),
        _ => Err(syn::Error::new(
            literal.span(),
            "placement is \"primary\" (the first host that keeps the grain's copies), \"prefer-local\" (where the first call comes \
             in), \"random\" or \"balanced\" (the less loaded of two)",
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

const MIGRATE: &str = "write `migrate = Self::migrate` for a function that takes an older state, or \
     `migrate(1 => from_v1, 2 => from_v2)` for one a version";

fn migrate(meta: &ParseNestedMeta<'_>) -> Result<Migrate> {
    if !meta.input.peek(token::Paren) {
        let path = meta.value().and_then(|value| value.parse::<ExprPath>());
        return path
            .map(Migrate::Older)
            .map_err(|error| syn::Error::new(error.span(), MIGRATE));
    }
    let content;
    parenthesized!(content in meta.input);
    let steps = Punctuated::<Step, Token![,]>::parse_terminated(&content)?;
    if steps.is_empty() {
        return Err(meta.error(MIGRATE));
    }
    Ok(Migrate::Each(steps.into_iter().collect()))
}

impl Parse for Step {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let explain = |error: syn::Error| syn::Error::new(error.span(), MIGRATE);
        let literal: LitInt = input.parse().map_err(explain)?;
        input.parse::<Token![=>]>().map_err(explain)?;
        let path = input.parse().map_err(explain)?;
        let version = version(&literal)?;
        Ok(Self { version, literal, path })
    }
}
