//! Reads one function of a `#[grain]` block: what it takes and gives, as far as callers see it.

use proc_macro2::{Group, TokenStream, TokenTree};
use quote::ToTokens;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{
    Attribute, Error, FnArg, GenericArgument, Ident, ImplItemFn, Pat, PathArguments, Receiver, Result, ReturnType,
    Signature, Token, Type, parse_quote,
};

use crate::docs;

/// serde writes tuples of up to sixteen parts, and a client writes its arguments as one.
const MAX_PARAMS: usize = 16;

#[derive(Debug)]
pub(crate) struct Method {
    pub(crate) ident: Ident,
    pub(crate) doc: String,
    /// Doc comments, `#[cfg]` and `#[deprecated]`, for the client.
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) cfgs: Vec<Attribute>,
    pub(crate) read: bool,
    pub(crate) takes_context: bool,
    pub(crate) params: Vec<Param>,
    pub(crate) value: Type,
    pub(crate) error: Option<Type>,
}

#[derive(Debug)]
pub(crate) struct Param {
    pub(crate) ident: Ident,
    pub(crate) ty: Type,
    /// An `Option`: absent is `None`.
    pub(crate) optional: bool,
}

impl Method {
    /// The name on the wire.
    pub(crate) fn name(&self) -> String {
        plain(&self.ident)
    }
}

impl Param {
    /// The name on the wire: without the underscore of a parameter that isn't used.
    pub(crate) fn name(&self) -> String {
        let name = plain(&self.ident);
        name.trim_start_matches('_').to_owned()
    }
}

/// `fn activate(ctx: &Context)`.
#[derive(Debug)]
pub(crate) struct Activate {
    pub(crate) fallible: bool,
}

pub(crate) fn parse_method(function: &ImplItemFn, read: bool, grain: &Ident) -> Result<Method> {
    let signature = &function.sig;
    plain_function(signature)?;
    let mut inputs = signature.inputs.iter().peekable();
    if let Some(FnArg::Receiver(receiver)) = inputs.next() {
        check_receiver(receiver, read)?;
    }
    let takes_context = inputs
        .next_if(|input| matches!(input, FnArg::Typed(typed) if is_context(&typed.ty)))
        .is_some();
    let params = inputs
        .map(|input| parse_param(input, grain))
        .collect::<Result<Vec<Param>>>()?;
    if let Some(param) = params.get(MAX_PARAMS) {
        return Err(Error::new(
            param.ident.span(),
            format!("a method takes at most {MAX_PARAMS} arguments: put them into a struct"),
        ));
    }
    let (value, error) = parse_output(&signature.output, grain)?;
    let named = |names: &[&str]| {
        let kept = |attr: &&Attribute| names.iter().any(|name| attr.path().is_ident(name));
        function.attrs.iter().filter(kept).cloned().collect()
    };
    Ok(Method {
        ident: signature.ident.clone(),
        doc: docs::text(&function.attrs),
        attrs: named(&["doc", "cfg", "deprecated"]),
        cfgs: named(&["cfg"]),
        read,
        takes_context,
        params,
        value,
        error,
    })
}

fn plain_function(signature: &Signature) -> Result<()> {
    if let Some(keyword) = &signature.asyncness {
        return Err(Error::new(
            keyword.span(),
            "a grain's method is no `async fn`: a call of another grain suspends the whole turn by itself",
        ));
    }
    if !signature.generics.params.is_empty() {
        return Err(Error::new(
            signature.generics.span(),
            "a grain's method has no type or lifetime parameters: its arguments come as JSON",
        ));
    }
    if let Some(keyword) = &signature.unsafety {
        return Err(Error::new(
            keyword.span(),
            "a grain's method is safe to call: anybody may",
        ));
    }
    Ok(())
}

fn check_receiver(receiver: &Receiver, read: bool) -> Result<()> {
    if receiver.reference.is_none() {
        return Err(Error::new(
            receiver.span(),
            "a grain's method takes `&mut self` or, with `#[read]`, `&self`: the grain lives on after the call",
        ));
    }
    if read && receiver.mutability.is_some() {
        return Err(Error::new(
            receiver.span(),
            "a `#[read]` method takes `&self`: what it changed would not be committed. Take `&self`, or drop `#[read]`",
        ));
    }
    Ok(())
}

fn parse_param(input: &FnArg, grain: &Ident) -> Result<Param> {
    let FnArg::Typed(typed) = input else {
        return Err(Error::new(input.span(), "`self` comes first"));
    };
    if is_context(&typed.ty) {
        return Err(Error::new(
            typed.span(),
            "the context comes first, right after `self`, and once",
        ));
    }
    let Pat::Ident(name) = &*typed.pat else {
        return Err(Error::new(
            typed.pat.span(),
            "an argument wants a plain name: it's its name for callers",
        ));
    };
    if plain(&name.ident).trim_start_matches('_').is_empty() {
        return Err(Error::new(
            name.span(),
            "an argument wants a name: it's its name for callers",
        ));
    }
    let ty = owned(&typed.ty, grain, "an argument")?;
    Ok(Param {
        ident: name.ident.clone(),
        optional: is_named(&ty, "Option"),
        ty,
    })
}

fn parse_output(output: &ReturnType, grain: &Ident) -> Result<(Type, Option<Type>)> {
    let ReturnType::Type(_, ty) = output else {
        return Ok((parse_quote!(()), None));
    };
    let Some(parts) = result_parts(ty) else {
        return Ok((owned(ty, grain, "a method's value")?, None));
    };
    let parts: Vec<&Type> = parts.collect();
    let [value, error] = parts.as_slice() else {
        return Err(Error::new(
            ty.span(),
            "write both types of `Result<T, E>`: callers want to know the error's",
        ));
    };
    let value = owned(value, grain, "a method's value")?;
    // `&'static str` is the one reference that may be an error.
    Ok((value, Some(with_self_named(error, grain))))
}

pub(crate) fn parse_activate(function: &ImplItemFn) -> Result<Activate> {
    let signature = &function.sig;
    plain_function(signature)?;
    let inputs: Vec<&FnArg> = signature.inputs.iter().collect();
    let takes_context = matches!(inputs.as_slice(), [FnArg::Typed(ctx)] if is_context(&ctx.ty));
    let fallible = match &signature.output {
        ReturnType::Type(_, ty) if is_named(ty, "Self") => Some(false),
        ReturnType::Type(_, ty) if result_parts(ty).is_some() => Some(true),
        _ => None,
    };
    match fallible {
        Some(fallible) if takes_context => Ok(Activate { fallible }),
        _ => Err(Error::new(
            signature.span(),
            "the first state is made by `fn activate(ctx: &Context) -> Self`, or `-> Result<Self, E>`",
        )),
    }
}

pub(crate) fn parse_check(function: &ImplItemFn) -> Result<Ident> {
    let signature = &function.sig;
    plain_function(signature)?;
    let reads_self = signature
        .receiver()
        .is_some_and(|receiver| receiver.reference.is_some() && receiver.mutability.is_none());
    let fallible = matches!(&signature.output, ReturnType::Type(_, ty) if result_parts(ty).is_some());
    if !reads_self || signature.inputs.len() != 1 || !fallible {
        return Err(Error::new(
            signature.span(),
            "`#[check]` belongs on `fn(&self) -> Result<(), E>`",
        ));
    }
    Ok(signature.ident.clone())
}

/// The type without `Self`, which means another type in the client; an error if it borrows.
fn owned(ty: &Type, grain: &Ident, what: &str) -> Result<Type> {
    match ty {
        Type::Reference(reference) => Err(Error::new(
            reference.span(),
            format!("{what} is owned, because it travels: `String` instead of `&str`, `Vec<T>` instead of `&[T]`"),
        )),
        Type::ImplTrait(_) => Err(Error::new(
            ty.span(),
            format!("{what} has a type that callers can name"),
        )),
        other => Ok(with_self_named(other, grain)),
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

fn is_context(ty: &Type) -> bool {
    matches!(ty, Type::Reference(reference) if is_named(&reference.elem, "Context"))
}

/// Whether the type's path ends with this name.
fn is_named(ty: &Type, name: &str) -> bool {
    matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == name))
}

/// The type arguments if the type's path ends with `Result`.
fn result_parts(ty: &Type) -> Option<impl Iterator<Item = &Type>> {
    let Type::Path(path) = ty else {
        return None;
    };
    let last = path.path.segments.last().filter(|last| last.ident == "Result")?;
    let args: Option<&Punctuated<GenericArgument, Token![,]>> = match &last.arguments {
        PathArguments::AngleBracketed(args) => Some(&args.args),
        _ => None,
    };
    Some(args.into_iter().flatten().filter_map(|arg| match arg {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    }))
}

/// The name without the `r#` of a keyword.
pub(crate) fn plain(ident: &Ident) -> String {
    let name = ident.to_string();
    name.strip_prefix("r#").unwrap_or(&name).to_owned()
}
