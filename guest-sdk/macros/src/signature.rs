//! Reads one function of a `#[grain]` block: what it takes and gives, as far as callers see it.

use syn::spanned::Spanned;
use syn::{
    Attribute, Error, FnArg, Ident, ImplItemFn, Pat, Receiver, Result, ReturnType, Signature, Type, parse_quote,
};

use crate::docs;
use crate::types::{self, is_context, is_named, owned, result_parts, speaks_of_context};

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
    distinct(&params)?;
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
    // `self: &mut Self` is `&mut self`.
    let reference = match &*receiver.ty {
        Type::Reference(reference) if is_named(&reference.elem, "Self") && reference.lifetime.is_none() => reference,
        _ => {
            return Err(Error::new(
                receiver.span(),
                "a grain's method takes `&mut self` or, with `#[read]`, `&self`: the grain lives on after the call",
            ));
        }
    };
    if read && reference.mutability.is_some() {
        return Err(Error::new(
            receiver.span(),
            "a `#[read]` method takes `&self`: what it changed would not be committed. Take `&self`, or drop `#[read]`",
        ));
    }
    Ok(())
}

/// Callers name arguments, and see no difference between `n` and `_n`.
fn distinct(params: &[Param]) -> Result<()> {
    for (place, param) in params.iter().enumerate() {
        let name = param.name();
        if params[..place].iter().any(|before| before.name() == name) {
            return Err(Error::new(
                param.ident.span(),
                format!("two arguments are `{name}` for callers, who see no leading `_`: give one another name"),
            ));
        }
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
    if speaks_of_context(&typed.ty) {
        return Err(Error::new(
            typed.ty.span(),
            "the context is taken as `ctx: &Context`, right after `self`",
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
    Ok((value, Some(types::error(error, grain)?)))
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
    let reads_self = signature.receiver().is_some_and(
        |receiver| matches!(&*receiver.ty, Type::Reference(reference) if reference.mutability.is_none() && is_named(&reference.elem, "Self")),
    );
    let fallible = matches!(&signature.output, ReturnType::Type(_, ty) if result_parts(ty).is_some());
    if !reads_self || signature.inputs.len() != 1 || !fallible {
        return Err(Error::new(
            signature.span(),
            "`#[check]` belongs on `fn(&self) -> Result<(), E>`",
        ));
    }
    Ok(signature.ident.clone())
}

/// The name without the `r#` of a keyword.
pub(crate) fn plain(ident: &Ident) -> String {
    let name = ident.to_string();
    name.strip_prefix("r#").unwrap_or(&name).to_owned()
}
