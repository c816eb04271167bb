//! Writes the typed client: one type that calls and waits, one that prepares calls.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::Ident;

use crate::parse::GrainBlock;
use crate::signature::Method;

/// The client's and the prepared calls' type.
pub(crate) fn names(grain: &Ident) -> (Ident, Ident) {
    (format_ident!("{grain}Client"), format_ident!("{grain}Calls"))
}

pub(crate) fn expand(grain: &GrainBlock) -> TokenStream {
    let (client, calls) = names(&grain.ident);
    let client_doc = format!(
        "Calls one `{}` grain and waits for its reply; [`Context::grain`](::granary_sdk::Context::grain) makes it.",
        grain.name
    );
    let calls_doc = format!(
        "Prepares calls of one `{}` grain; [`Context::prepare`](::granary_sdk::Context::prepare) makes it.",
        grain.name
    );
    let call_methods = grain.methods.iter().map(call_method);
    let prepare_methods = grain.methods.iter().map(prepare_method);
    quote! {
        #[doc = #client_doc]
        #[derive(Debug, Clone)]
        pub struct #client<'c> {
            ctx: &'c ::granary_sdk::Context,
            calls: #calls,
        }

        #[allow(clippy::too_many_arguments, reason = "as many as the grain's own methods take")]
        impl #client<'_> {
            #(#call_methods)*
        }

        #[doc = #calls_doc]
        #[derive(Debug, Clone)]
        pub struct #calls {
            to: ::granary_sdk::__private::CallTo,
        }

        #[allow(clippy::too_many_arguments, reason = "as many as the grain's own methods take")]
        impl #calls {
            #(#prepare_methods)*
        }
    }
}

fn call_method(method: &Method) -> TokenStream {
    let Method {
        ident, attrs, value, ..
    } = method;
    let error = error(method);
    let params = params(method);
    let args = method.params.iter().map(|param| &param.ident);
    quote! {
        #(#attrs)*
        ///
        /// # Errors
        /// [`CallError`](::granary_sdk::CallError), when no value came back.
        #[allow(dead_code, reason = "a crate need not call every method of its own grain")]
        pub fn #ident(&self, #(#params),*) -> ::core::result::Result<#value, ::granary_sdk::CallError<#error>> {
            self.ctx.run(self.calls.#ident(#(#args),*))
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
    let args = method.params.iter().map(|param| &param.ident);
    let args = if method.params.is_empty() {
        // A unit is `null` in JSON.
        quote!(&[(); 0])
    } else {
        quote!(&(#(#args,)*))
    };
    quote! {
        #(#attrs)*
        #[allow(dead_code, reason = "a crate need not call every method of its own grain")]
        pub fn #ident(&self, #(#params),*) -> ::granary_sdk::Call<#value, #error> {
            self.to.call(#name, #args)
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
