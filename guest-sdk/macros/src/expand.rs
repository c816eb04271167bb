//! Writes what `#[grain]` stands for: the block itself, the `Grain` implementation, and the client's types.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, ItemImpl, Result};

use crate::client;
use crate::options::{Migrate, Options, Step};
use crate::parse::GrainBlock;
use crate::signature::{Method, Param};

/// `#[grain(options)] block`.
pub(crate) fn grain(options: TokenStream, block: TokenStream) -> TokenStream {
    let expanded = expand(options, block.clone());
    expanded.unwrap_or_else(|mistakes| {
        // The block stays, so that a mistake in one method does not make every use of the others one.
        let mistakes = mistakes.into_compile_error();
        let block = without_marks(block);
        quote!(#block #mistakes)
    })
}

/// `#[read]` outside of a `#[grain]` block.
pub(crate) fn stray_read(item: TokenStream) -> TokenStream {
    let mistake =
        Error::new(item.span(), "`#[read]` belongs on a method inside a `#[grain]` block").into_compile_error();
    quote!(#mistake #item)
}

fn expand(options: TokenStream, block: TokenStream) -> Result<TokenStream> {
    let options = Options::parse(options)?;
    let block: ItemImpl =
        syn::parse2(block).map_err(|error| Error::new(error.span(), "`#[grain]` belongs on an `impl` block"))?;
    let grain = GrainBlock::parse(options, block)?;
    let block = &grain.block;
    let implementation = implementation(&grain);
    let client = client::expand(&grain);
    Ok(quote! {
        #block
        #implementation
        #client
    })
}

fn without_marks(block: TokenStream) -> TokenStream {
    let Ok(mut parsed) = syn::parse2::<ItemImpl>(block.clone()) else {
        return block;
    };
    for item in &mut parsed.items {
        if let syn::ImplItem::Fn(function) = item {
            function
                .attrs
                .retain(|attr| !attr.path().is_ident("read") && !attr.path().is_ident("check"));
        }
    }
    quote!(#parsed)
}

fn implementation(grain: &GrainBlock) -> TokenStream {
    let GrainBlock { name, ident, .. } = grain;
    let durability = format_ident!("{}", grain.options.durability);
    let placement = format_ident!("{}", grain.options.placement);
    let version = grain.options.version;
    let (client, calls) = client::names(ident);
    let describe = describe(grain);
    let activate = activate(grain);
    let dispatch = dispatch(grain);
    let check = grain.check.as_ref().map(|check| {
        quote! {
            fn check_loaded(&self) -> ::core::result::Result<(), ::granary_sdk::Fault> {
                ::granary_sdk::__private::Checked::checked(Self::#check(self))
            }
        }
    });
    let migrate = grain.options.migrate.as_ref().map(migrate);
    quote! {
        #[automatically_derived]
        impl ::granary_sdk::Grain for #ident {
            const NAME: &'static str = #name;
            const VERSION: u32 = #version;
            const DURABILITY: ::granary_sdk::Durability = ::granary_sdk::Durability::#durability;
            const PLACEMENT: ::granary_sdk::Placement = ::granary_sdk::Placement::#placement;

            type Client<'c> = #client<'c>;
            type Calls = #calls;

            fn client(ctx: &::granary_sdk::Context, key: ::std::string::String) -> #client<'_> {
                #client { ctx, calls: <Self as ::granary_sdk::Grain>::calls(key) }
            }

            fn calls(key: ::std::string::String) -> #calls {
                #calls { to: ::granary_sdk::__private::CallTo::new::<Self>(key) }
            }

            #describe
            #activate
            #dispatch
            #migrate
            #check
        }
    }
}

fn describe(grain: &GrainBlock) -> TokenStream {
    let doc = &grain.doc;
    let methods = grain.methods.iter().map(|method| {
        let name = method.name();
        let Method {
            doc,
            cfgs,
            value,
            error,
            ..
        } = method;
        let kind = if method.read { quote!(read) } else { quote!(write) };
        let params = method.params.iter().map(|param| {
            let name = param.name();
            let required = !param.optional;
            let ty = &param.ty;
            quote_spanned!(ty.span()=> .param::<#ty>(#name, #required))
        });
        let error = error
            .iter()
            .map(|error| quote_spanned!(error.span()=> .error::<<#error as ::granary_sdk::MethodError>::Callee>()));
        let made = quote_spanned!(value.span()=> ::granary_sdk::__private::Method::#kind::<#value>(#name, #doc));
        quote! {
            #(#cfgs)*
            description.methods.push(#made #(#params)* #(#error)*);
        }
    });
    // Without a method nothing is pushed.
    let mutable = (!grain.methods.is_empty()).then(|| quote!(mut));
    quote! {
        fn describe() -> ::granary_sdk::__private::Description {
            #[allow(unused_imports, reason = "a type that derives the prelude's `Serialize` has its own text")]
            use ::granary_sdk::__private::Undocumented as _;
            let #mutable description =
                ::granary_sdk::__private::Description::new::<Self>(#doc, Self::GRANARY_DOC);
            #(#methods)*
            description
        }
    }
}

fn activate(grain: &GrainBlock) -> TokenStream {
    let ident = &grain.ident;
    let (ctx, state) = match &grain.activate {
        None => (
            quote!(_),
            quote_spanned!(ident.span()=>
                ::core::result::Result::Ok(<Self as ::core::default::Default>::default())),
        ),
        Some(activate) if activate.fallible => (
            quote!(ctx),
            quote!(Self::activate(ctx).map_err(|error| ::granary_sdk::MethodError::fault(&error))),
        ),
        Some(_) => (quote!(ctx), quote!(::core::result::Result::Ok(Self::activate(ctx)))),
    };
    quote! {
        fn activate_first(
            #ctx: &::granary_sdk::Context,
        ) -> ::core::result::Result<Self, ::granary_sdk::Fault> {
            #state
        }
    }
}

fn migrate(migrate: &Migrate) -> TokenStream {
    let state = match migrate {
        Migrate::Older(path) => {
            quote_spanned!(path.span()=> ::granary_sdk::__private::migrate_older(#path, saved))
        }
        Migrate::Each(steps) => {
            let arms = steps.iter().map(|Step { version, path, .. }| {
                quote_spanned!(path.span()=> #version => ::granary_sdk::__private::migrate_one(#path, saved),)
            });
            let versions = steps.iter().map(|step| step.version);
            quote! {
                match saved.version() {
                    #(#arms)*
                    _ => ::granary_sdk::__private::migrate_other(&saved, &[#(#versions),*]),
                }
            }
        }
    };
    quote! {
        fn migrate_saved(
            saved: ::granary_sdk::SavedState,
        ) -> ::core::result::Result<Self, ::granary_sdk::Fault> {
            #state
        }
    }
}

fn dispatch(grain: &GrainBlock) -> TokenStream {
    let arms = grain.methods.iter().map(arm);
    let names = grain.methods.iter().map(|method| {
        let name = method.name();
        let cfgs = &method.cfgs;
        quote!(#(#cfgs)* #name)
    });
    quote! {
        #[allow(unused_variables, reason = "not every grain type has methods with arguments or a context")]
        fn dispatch(
            &mut self,
            ctx: &::granary_sdk::Context,
            method: &str,
            args: &[u8],
        ) -> ::core::result::Result<::std::vec::Vec<u8>, ::granary_sdk::Fault> {
            match method {
                #(#arms)*
                _ => ::core::result::Result::Err(::granary_sdk::Fault::unknown_method(
                    <Self as ::granary_sdk::Grain>::NAME,
                    method,
                    &[#(#names),*],
                )),
            }
        }
    }
}

/// One method of the dispatcher: reads the arguments, calls, writes the value.
fn arm(method: &Method) -> TokenStream {
    let name = method.name();
    let Method { ident, cfgs, .. } = method;
    let params = method.params.iter().map(|param| {
        let name = param.name();
        let kind = if param.optional {
            quote!(optional)
        } else {
            quote!(required)
        };
        quote!(::granary_sdk::__private::Param::#kind(#name))
    });
    let ctx = method.takes_context.then(|| quote!(ctx,));
    let args = method
        .params
        .iter()
        .map(|Param { ty, .. }| quote_spanned!(ty.span()=> args.take::<#ty>()?));
    let mutable = (!method.params.is_empty()).then(|| quote!(mut));
    let reply = if method.error.is_some() {
        quote!(reply_result)
    } else {
        quote!(reply)
    };
    let value = if method.error.is_some() {
        quote!(Self::#ident(self, #ctx #(#args),*))
    } else {
        quote!(&Self::#ident(self, #ctx #(#args),*))
    };
    quote! {
        #(#cfgs)*
        #name => {
            let #mutable args = ::granary_sdk::__private::Args::read(#name, [#(#params),*], args)?;
            ::granary_sdk::__private::#reply(#name, #value)
        }
    }
}
