//! Writes what `#[grain]` stands for: the block itself, the `Grain` implementation, and the client's types.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, ItemImpl, Result, Type, parse_quote};

use crate::client;
use crate::options::{Migrate, Options, Step};
use crate::parse::{GrainBlock, Mistakes};
use crate::signature::{Method, Param};

/// `#[grain(options)] block`.
pub(crate) fn grain(options: TokenStream, block: TokenStream) -> TokenStream {
    let expanded = expand(options, block.clone());
    expanded.unwrap_or_else(|mistakes| {
        // The block stays, so that a mistake about it does not make every use of its functions one.
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
    let block: ItemImpl =
        syn::parse2(block).map_err(|error| Error::new(error.span(), "`#[grain]` belongs on an `impl` block"))?;
    let mut mistakes = Mistakes::default();
    let options = mistakes.keep(Options::parse(options)).unwrap_or_default();
    let grain = GrainBlock::parse(options, block, &mut mistakes)?;
    let mistakes = mistakes.all().map(Error::into_compile_error);
    let block = &grain.block;
    let implementation = implementation(&grain, mistakes.is_some());
    let client = client::expand(&grain);
    Ok(quote! {
        #block
        #implementation
        #client
        #mistakes
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

/// The grain's implementation; of a block with a mistake one that does nothing, so that the type is a grain for whoever uses it and the
/// mistake is the only error.
fn implementation(grain: &GrainBlock, is_mistaken: bool) -> TokenStream {
    let GrainBlock { name, ident, .. } = grain;
    let durability = format_ident!("{}", grain.options.durability);
    let placement = format_ident!("{}", grain.options.placement);
    let version = grain.options.version;
    let (client, calls) = client::names(ident);
    let home = client::home(grain);
    let (client, calls) = (quote!(#home::#client), quote!(#home::#calls));
    let acts = if is_mistaken { nothing() } else { acts(grain) };
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

            #acts
        }
    }
}

fn acts(grain: &GrainBlock) -> TokenStream {
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
        #describe
        #activate
        #dispatch
        #migrate
        #check
    }
}

/// For a block that isn't compiled.
fn nothing() -> TokenStream {
    quote! {
        fn describe() -> ::granary_sdk::__private::Description {
            ::core::unreachable!()
        }

        fn activate_first(_: &::granary_sdk::Context) -> ::core::result::Result<Self, ::granary_sdk::Fault> {
            ::core::unreachable!()
        }

        fn dispatch(
            &mut self,
            _: &::granary_sdk::Context,
            _: &str,
            _: &[u8],
        ) -> ::core::result::Result<::std::vec::Vec<u8>, ::granary_sdk::Fault> {
            ::core::unreachable!()
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
            let typed = typed(&param.ty);
            quote_spanned!(param.ty.span()=> .param(#name, #typed.schema_read(), #typed.is_required()))
        });
        let error = error
            .iter()
            .map(|error| quote_spanned!(error.span()=> .error::<<#error as ::granary_sdk::MethodError>::Callee>()));
        let typed = typed(value);
        let made = quote_spanned!(value.span()=>
            ::granary_sdk::__private::Method::#kind(#name, #doc, #typed.schema_written()));
        quote! {
            #(#cfgs)*
            description.methods.push(#made #(#params)* #(#error)*);
        }
    });
    // Without a method nothing is pushed.
    let mutable = (!grain.methods.is_empty()).then(|| quote!(mut));
    quote! {
        fn describe() -> ::granary_sdk::__private::Description {
            #[allow(unused_imports, reason = "most types have of their own what these give to all")]
            use ::granary_sdk::__private::{NotSent as _, Required as _, Undocumented as _};
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
            #[allow(unused_imports, reason = "not every grain type has methods with arguments or values")]
            use ::granary_sdk::__private::{Mistaken as _, Required as _, Value as _};
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
        let typed = typed(&param.ty);
        quote_spanned!(param.ty.span()=> ::granary_sdk::__private::Param::new(#name, #typed.is_required()))
    });
    let ctx = method.takes_context.then(|| quote!(ctx,));
    let args = method.params.iter().map(|Param { ty, .. }| {
        let typed = typed(ty);
        quote_spanned!(ty.span()=> #typed.take(&mut args)?)
    });
    let mutable = (!method.params.is_empty()).then(|| quote!(mut));
    let call = quote!(Self::#ident(self, #ctx #(#args),*));
    let value = &method.value;
    let reply = if let Some(error) = &method.error {
        let typed = typed(&parse_quote!(::core::result::Result<#value, #error>));
        quote!(#typed.reply_result(#name, #call))
    } else {
        let typed = typed(value);
        let is_value = quote_spanned!(value.span()=> #typed.is_value(););
        quote! {
            #is_value
            #typed.reply(#name, &#call)
        }
    };
    quote! {
        #(#cfgs)*
        #name => {
            let #mutable args = ::granary_sdk::__private::Args::read(#name, [#(#params),*], args)?;
            #reply
        }
    }
}

/// Asks a type what it is.
pub(crate) fn typed(ty: &Type) -> TokenStream {
    quote_spanned!(ty.span()=> ::granary_sdk::__private::Typed::<#ty>::new())
}
