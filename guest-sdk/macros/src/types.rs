//! Looks at types as they are written: whether values of them can travel, and what a few of them are called.

use proc_macro2::{Group, TokenStream, TokenTree};
use quote::ToTokens;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, GenericArgument, Ident, PathArguments, Result, Token, Type};

/// The type without `Self`, which means another type in the client; an error if it borrows or can't be named.
pub(crate) fn owned(ty: &Type, grain: &Ident, what: &str) -> Result<Type> {
    match obstacle(ty) {
        None => Ok(with_self_named(ty, grain)),
        Some(Obstacle::Borrows(error)) => Err(Error::new(
            error.span(),
            format!("{what} is owned, because it travels: `String` instead of `&str`, `Vec<T>` instead of `&[T]`"),
        )),
        Some(Obstacle::HasNoName(error)) => Err(Error::new(
            error.span(),
            format!("{what} has a type that callers can name"),
        )),
    }
}

/// Why values of a type can't travel; the error is at the place.
enum Obstacle {
    Borrows(Error),
    HasNoName(Error),
}

/// The first one, however deep inside.
fn obstacle(ty: &Type) -> Option<Obstacle> {
    let at = |place: &dyn ToTokens| Error::new_spanned(place, "");
    match ty {
        Type::Reference(reference) => Some(Obstacle::Borrows(at(reference))),
        Type::ImplTrait(_) | Type::TraitObject(_) | Type::Infer(_) => Some(Obstacle::HasNoName(at(ty))),
        Type::Array(array) => obstacle(&array.elem),
        Type::Slice(slice) => obstacle(&slice.elem),
        Type::Group(group) => obstacle(&group.elem),
        Type::Paren(paren) => obstacle(&paren.elem),
        Type::Tuple(tuple) => tuple.elems.iter().find_map(obstacle),
        Type::Path(path) => path.path.segments.iter().find_map(|segment| {
            arguments(&segment.arguments).find_map(|argument| match argument {
                GenericArgument::Type(ty) => obstacle(ty),
                GenericArgument::Lifetime(lifetime) if lifetime.ident != "static" => Some(Obstacle::Borrows(at(ty))),
                _ => None,
            })
        }),
        _ => None,
    }
}

fn arguments(of: &PathArguments) -> impl Iterator<Item = &GenericArgument> {
    let arguments: Option<&Punctuated<GenericArgument, Token![,]>> = match of {
        PathArguments::AngleBracketed(arguments) => Some(&arguments.args),
        _ => None,
    };
    arguments.into_iter().flatten()
}

/// The type of a method's own error: owned, or the one reference that lives for ever.
pub(crate) fn error(ty: &Type, grain: &Ident) -> Result<Type> {
    let is_text = |ty: &Type| is_named(ty, "str");
    match ty {
        Type::Reference(reference) if is_text(&reference.elem) => match &reference.lifetime {
            Some(lifetime) if lifetime.ident == "static" => Ok(ty.clone()),
            _ => Err(Error::new(
                ty.span(),
                "a method's error is owned, because it travels: `String`, or `&'static str`",
            )),
        },
        other => owned(other, grain, "a method's error"),
    }
}

fn with_self_named(ty: &Type, grain: &Ident) -> Type {
    let tokens = name_self(ty.to_token_stream(), grain);
    // Another name in the place of `Self` leaves a type a type.
    syn::parse2(tokens).unwrap_or_else(|_| ty.clone())
}

fn name_self(tokens: TokenStream, grain: &Ident) -> TokenStream {
    let renamed = tokens.into_iter().map(|token| match token {
        TokenTree::Ident(ident) if ident == "Self" => TokenTree::Ident(Ident::new(&grain.to_string(), ident.span())),
        TokenTree::Group(group) => {
            let mut renamed = Group::new(group.delimiter(), name_self(group.stream(), grain));
            renamed.set_span(group.span());
            TokenTree::Group(renamed)
        }
        other => other,
    });
    renamed.collect()
}

/// `&Context`.
pub(crate) fn is_context(ty: &Type) -> bool {
    matches!(ty, Type::Reference(reference) if reference.mutability.is_none() && is_named(&reference.elem, "Context"))
}

/// `Context`, and a reference to it of whatever kind.
pub(crate) fn speaks_of_context(ty: &Type) -> bool {
    match ty {
        Type::Reference(reference) => is_named(&reference.elem, "Context"),
        other => is_named(other, "Context"),
    }
}

/// Whether the type's path ends with this name.
pub(crate) fn is_named(ty: &Type, name: &str) -> bool {
    matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == name))
}

/// The type arguments if the type's path ends with `Result`.
pub(crate) fn result_parts(ty: &Type) -> Option<impl Iterator<Item = &Type>> {
    let Type::Path(path) = ty else {
        return None;
    };
    let last = path.path.segments.last().filter(|last| last.ident == "Result")?;
    Some(arguments(&last.arguments).filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    }))
}
