//! Reads a `#[grain]` block: which of its functions are what, and what's wrong with them.
//!
//! All mistakes are reported at once, each at its place. A function with a mistake is left out of what is understood.

use syn::spanned::Spanned;
use syn::{Attribute, Error, Ident, ImplItem, ImplItemFn, ItemImpl, Result, Type, Visibility};

use crate::docs;
use crate::options::{NAME_RULE, Options, is_type_name};
use crate::signature::{Activate, Method, parse_activate, parse_check, parse_method, plain};

/// A `#[grain]` block, understood.
#[derive(Debug)]
pub(crate) struct GrainBlock {
    pub(crate) name: String,
    pub(crate) options: Options,
    /// The struct's own name.
    pub(crate) ident: Ident,
    pub(crate) doc: String,
    pub(crate) methods: Vec<Method>,
    pub(crate) activate: Option<Activate>,
    pub(crate) check: Option<Ident>,
    /// The block as it was written, without this macro's own attributes.
    pub(crate) block: ItemImpl,
}

/// Collects mistakes, to report them together.
#[derive(Default)]
pub(crate) struct Mistakes(Option<Error>);

impl Mistakes {
    pub(crate) fn all(self) -> Option<Error> {
        self.0
    }

    fn add(&mut self, mistake: Error) {
        match &mut self.0 {
            Some(first) => first.combine(mistake),
            none => *none = Some(mistake),
        }
    }

    pub(crate) fn keep<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|mistake| self.add(mistake)).ok()
    }
}

impl GrainBlock {
    /// What of the block is understood; an error if it's none of a type's.
    pub(crate) fn parse(options: Options, mut block: ItemImpl, mistakes: &mut Mistakes) -> Result<Self> {
        let ident = self_type(&block)?;
        let name = options.name.clone().unwrap_or_else(|| kebab(&plain(&ident)));
        if !is_type_name(&name) {
            mistakes.add(Error::new(
                ident.span(),
                format!("`{name}` is no grain type's name: {NAME_RULE}. Say `#[grain(name = \"...\")]`"),
            ));
        }
        let mut methods: Vec<Method> = Vec::new();
        let mut activate = None;
        let mut check = None;
        for item in &mut block.items {
            let ImplItem::Fn(function) = item else {
                continue;
            };
            let marks = Marks::take(&mut function.attrs);
            match role(function, &marks) {
                Role::Activate => activate = mistakes.keep(parse_activate(function)),
                Role::Check if check.is_some() => {
                    mistakes.add(Error::new(function.sig.ident.span(), "a grain has one `#[check]`"))
                }
                Role::Check => check = mistakes.keep(parse_check(function)),
                Role::Method => {
                    methods.extend(mistakes.keep(parse_method(function, marks.read.is_some(), &ident)));
                }
                Role::Plain => {
                    if let Some(read) = marks.read {
                        mistakes.add(Error::new(
                            read.span(),
                            "`#[read]` belongs on a `pub fn` that takes `&self`: only those are methods of a grain",
                        ));
                    }
                }
            }
        }
        if methods.is_empty() && mistakes.0.is_none() {
            mistakes.add(Error::new(
                ident.span(),
                "nobody can call this grain: its methods are the block's functions that are `pub` and take `self`",
            ));
        }
        Ok(Self {
            name,
            options,
            ident,
            doc: docs::text(&block.attrs),
            methods,
            activate,
            check,
            block,
        })
    }
}

/// This macro's own attributes on a function.
struct Marks {
    read: Option<Attribute>,
    check: Option<Attribute>,
}

impl Marks {
    fn take(attrs: &mut Vec<Attribute>) -> Self {
        let mut take = |name: &str| {
            let place = attrs.iter().position(|attr| attr.path().is_ident(name))?;
            Some(attrs.remove(place))
        };
        Self {
            read: take("read"),
            check: take("check"),
        }
    }
}

enum Role {
    Method,
    Activate,
    Check,
    Plain,
}

fn role(function: &ImplItemFn, marks: &Marks) -> Role {
    let has_self = function.sig.receiver().is_some();
    if marks.check.is_some() {
        Role::Check
    } else if !has_self && function.sig.ident == "activate" {
        Role::Activate
    } else if has_self && matches!(function.vis, Visibility::Public(_)) {
        Role::Method
    } else {
        Role::Plain
    }
}

fn self_type(block: &ItemImpl) -> Result<Ident> {
    if let Some((_, path, _)) = &block.trait_ {
        return Err(Error::new(
            path.span(),
            "`#[grain]` belongs on the type's own `impl` block, not on a trait's",
        ));
    }
    if !block.generics.params.is_empty() {
        return Err(Error::new(
            block.generics.span(),
            "a grain type has no type parameters: a module holds one type, fully known",
        ));
    }
    match &*block.self_ty {
        Type::Path(path) if path.qself.is_none() => match path.path.get_ident() {
            Some(ident) => Ok(ident.clone()),
            None => Err(Error::new(
                path.span(),
                "`#[grain]` belongs into the type's own module: `impl Counter`, without a path or parameters",
            )),
        },
        other => Err(Error::new(
            other.span(),
            "`#[grain]` wants a struct or enum of this module",
        )),
    }
}

/// `ChatRoom` is `chat-room`, `HTTPLog2` is `http-log2`.
fn kebab(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut kebab = String::new();
    for (place, &letter) in letters.iter().enumerate() {
        let before = place.checked_sub(1).map(|before| letters[before]);
        let after = letters.get(place + 1);
        let starts_word = letter.is_uppercase()
            && before.is_some_and(|before| {
                before.is_lowercase()
                    || before.is_ascii_digit()
                    || (before.is_uppercase() && after.is_some_and(|after| after.is_lowercase()))
            });
        if starts_word {
            kebab.push('-');
        }
        if letter == '_' {
            kebab.push('-');
        } else {
            kebab.extend(letter.to_lowercase());
        }
    }
    kebab
}

#[cfg(test)]
mod tests {
    use super::kebab;

    #[test]
    fn a_type_is_named_after_its_struct() {
        for (name, expect) in [
            ("Counter", "counter"),
            ("ChatRoom", "chat-room"),
            ("HTTPLog2", "http-log2"),
            ("A", "a"),
            ("Level3Cache", "level3-cache"),
        ] {
            assert_eq!(kebab(name), expect);
        }
    }
}
