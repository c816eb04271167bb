//! Writes the typed client: one type that calls and waits, one that prepares calls.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Ident, parse_quote};

use crate::expand::typed;
use crate::parse::GrainBlock;
use crate::signature::{Method, plain};

/// The client's and the prepared calls' type.
pub(crate) fn names(grain: &Ident) -> (Ident, Ident) {
    (format_ident!("{grain}Client"), format_ident!("{grain}Calls"))
}

pub(crate) fn expand(grain: &GrainBlock) -> TokenStream {
    let (client, calls) = names(&grain.ident);
    let home = home(grain);
    let client_doc = format!(
        "Calls one `{}` grain and waits for its reply; [`Context::grain`](::granary_sdk::Context::grain) makes it.",
        grain.name
    );
    let calls_doc = format!(
        "Prepares calls of one `{}` grain; [`Context::prepare`](::granary_sdk::Context::prepare) makes it.",
        grain.name
    );
    let call_methods = grain
        .methods
        .iter()
        .map(|method| call_method(method, &quote!(#home::#calls)));
    let prepare_methods = grain.methods.iter().map(prepare_method);
    quote! {
        mod #home {
            #[doc = #client_doc]
            #[derive(Debug, Clone)]
            pub struct #client<'c> {
                pub(super) ctx: &'c ::granary_sdk::Context,
                pub(super) calls: #calls,
            }

            #[doc = #calls_doc]
            #[derive(Debug, Clone)]
            pub struct #calls {
                pub(super) to: ::granary_sdk::__private::CallTo,
            }
        }

        #[allow(unused_imports, reason = "few name these types: `Context` makes them")]
        pub use #home::*;

        #[allow(clippy::too_many_arguments, reason = "as many as the grain's own methods take")]
        impl #home::#client<'_> {
            #(#call_methods)*
        }

        #[allow(clippy::too_many_arguments, reason = "as many as the grain's own methods take")]
        impl #home::#calls {
            #(#prepare_methods)*
        }
    }
}

/// A module of a name that only this block has: a second `#[grain]` block of the type is one error, that of two implementations, instead of one
/// for each name that both would make.
pub(crate) fn home(grain: &GrainBlock) -> Ident {
    let names: Vec<String> = grain.methods.iter().map(Method::name).collect();
    let name = format!(
        "__{}_{:08x}",
        plain(&grain.ident).to_lowercase(),
        hash(&names.join(","))
    );
    Ident::new(&name, grain.ident.span())
}

/// FNV-1a in 32 bits: the same in every build.
fn hash(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// What every type has by the prelude's traits, taken by value: one that takes `&self` would never be found behind these.
const BY_VALUE: [&str; 2] = ["into", "try_into"];

fn receiver(method: &Method) -> TokenStream {
    if BY_VALUE.contains(&method.name().as_str()) {
        quote!(self)
    } else {
        quote!(&self)
    }
}

fn call_method(method: &Method, calls: &TokenStream) -> TokenStream {
    let Method {
        ident, attrs, value, ..
    } = method;
    let error = error(method);
    let params = params(method);
    let args = method.params.iter().map(|param| &param.ident);
    let receiver = receiver(method);
    let typed = typed(value);
    let to = if BY_VALUE.contains(&method.name().as_str()) {
        quote!(self.calls)
    } else {
        quote!(&self.calls)
    };
    quote! {
        #(#attrs)*
        ///
        /// # Errors
        /// [`CallError`](::granary_sdk::CallError), when no value came back.
        #[allow(dead_code, reason = "a crate need not call every method of its own grain")]
        pub fn #ident(#receiver, #(#params),*) -> ::core::result::Result<#value, ::granary_sdk::CallError<#error>> {
            #[allow(unused_imports, reason = "only a mistake takes these")]
            use ::granary_sdk::__private::Mistaken as _;
            #typed.run(self.ctx, #calls::#ident(#to, #(#args),*))
        }
    }
}

fn prepare_method(method: &Method) -> TokenStream {
    let Method {
        ident, attrs, value, ..
    } = method;
    let name = method.name();
    let error = error(method);
    let params = params(method);
    let receiver = receiver(method);
    let args = method.params.iter().map(|param| &param.ident);
    let types = method.params.iter().map(|param| &param.ty);
    let (typed, args) = if method.params.is_empty() {
        // A unit is `null` in JSON.
        (typed(&parse_quote!([(); 0])), quote!(&[(); 0]))
    } else {
        (typed(&parse_quote!((#(#types,)*))), quote!(&(#(#args,)*)))
    };
    quote! {
        #(#attrs)*
        #[allow(dead_code, reason = "a crate need not call every method of its own grain")]
        pub fn #ident(#receiver, #(#params),*) -> ::granary_sdk::Call<#value, #error> {
            #[allow(unused_imports, reason = "only a mistake takes these")]
            use ::granary_sdk::__private::Mistaken as _;
            #typed.call(&self.to, #name, #args)
        }
    }
}

fn params(method: &Method) -> Vec<TokenStream> {
    let typed = method.params.iter().map(|param| {
        let (ident, ty) = (&param.ident, &param.ty);
        quote!(#ident: #ty)
    });
    typed.collect()
}

/// What a caller finds in `CallError::Guest`.
fn error(method: &Method) -> TokenStream {
    match &method.error {
        None => quote!(::granary_sdk::AnyError),
        Some(error) => quote!(<#error as ::granary_sdk::MethodError>::Callee),
    }
}
