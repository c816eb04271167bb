//! serde's and schemars' derives, for crates that depend on `granary-sdk` alone.
//!
//! Those derives name their crate by its own name, which a guest need not have among its dependencies, unless an
//! attribute on the type says otherwise. A derive can't add an attribute to its type, so this one makes a copy of the
//! type that has it, derives on the copy by serde's *remote* rule (a copy that reads and writes the original), and
//! implements the trait by the copy. Everything that serde's attributes mean stays serde's work.
//!
//! Type parameters get the trait as a bound, each of them. A type that wants other bounds takes serde's own derive.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{
    Attribute, Data, DeriveInput, Fields, Generics, Lifetime, Member, Meta, Path, Token, parse_quote,
    punctuated::Punctuated,
};

use crate::docs;

pub(crate) fn derive(item: TokenStream, write: fn(&DeriveInput) -> TokenStream) -> TokenStream {
    match syn::parse2(item) {
        Ok(input) => write(&input),
        Err(error) => error.into_compile_error(),
    }
}

pub(crate) fn serialize(input: &DeriveInput) -> TokenStream {
    let copy = serde_copy(input, &parse_quote!(::granary_sdk::serde::Serialize));
    let bound = parse_quote!(::granary_sdk::serde::Serialize);
    let generics = bounded(&input.generics, &bound);
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    let (_, ty_generics, _) = input.generics.split_for_impl();
    let turbofish = ty_generics.as_turbofish();
    let (ident, copy_ident) = (&input.ident, &copy.ident);
    let doc = docs::text(&input.attrs);
    quote! {
        #[doc(hidden)]
        #[allow(dead_code, non_local_definitions, clippy::all, clippy::pedantic, reason = "a copy for serde's derive")]
        const _: () = {
            #copy

            #[automatically_derived]
            impl #impl_generics ::granary_sdk::serde::Serialize for #ident #ty_generics #where_clause {
                fn serialize<__S: ::granary_sdk::serde::Serializer>(
                    &self,
                    serializer: __S,
                ) -> ::core::result::Result<__S::Ok, __S::Error> {
                    #copy_ident #turbofish::serialize(self, serializer)
                }
            }

            #[automatically_derived]
            impl #impl_generics #ident #ty_generics #where_clause {
                // What `#[grain]` on an `impl` block cannot see: the doc comment on the type.
                #[doc(hidden)]
                pub const GRANARY_DOC: &'static str = #doc;
            }
        };
    }
}

pub(crate) fn deserialize(input: &DeriveInput) -> TokenStream {
    let copy = serde_copy(input, &parse_quote!(::granary_sdk::serde::Deserialize));
    let default = default_of_copy(input, &copy);
    let de = Lifetime::new("'de", proc_macro2::Span::call_site());
    let mut generics = bounded(&input.generics, &parse_quote!(::granary_sdk::serde::Deserialize<#de>));
    let lifetimes: Vec<Lifetime> = input.generics.lifetimes().map(|param| param.lifetime.clone()).collect();
    generics.params.insert(0, parse_quote!(#de #(: #lifetimes +)*));
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    let (_, ty_generics, _) = input.generics.split_for_impl();
    let turbofish = ty_generics.as_turbofish();
    let (ident, copy_ident) = (&input.ident, &copy.ident);
    quote! {
        #[doc(hidden)]
        #[allow(dead_code, non_local_definitions, clippy::all, clippy::pedantic, reason = "a copy for serde's derive")]
        const _: () = {
            #copy
            #default

            #[automatically_derived]
            impl #impl_generics ::granary_sdk::serde::Deserialize<#de> for #ident #ty_generics #where_clause {
                fn deserialize<__D: ::granary_sdk::serde::Deserializer<#de>>(
                    deserializer: __D,
                ) -> ::core::result::Result<Self, __D::Error> {
                    #copy_ident #turbofish::deserialize(deserializer)
                }
            }
        };
    }
}

pub(crate) fn json_schema(input: &DeriveInput) -> TokenStream {
    let mut copy = copy(input, &["serde", "schemars", "doc"]);
    let renamed = has(input, "schemars", "rename") || has(input, "serde", "rename");
    let name = (!renamed).then(|| input.ident.to_string());
    let name = name.iter();
    copy.attrs.insert(
        0,
        parse_quote!(#[schemars(crate = "::granary_sdk::schemars" #(, rename = #name)*)]),
    );
    copy.attrs
        .insert(0, parse_quote!(#[derive(::granary_sdk::schemars::JsonSchema)]));
    let default = default_of_copy(input, &copy);
    let generics = bounded(&input.generics, &parse_quote!(::granary_sdk::schemars::JsonSchema));
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    let (_, ty_generics, _) = input.generics.split_for_impl();
    let (ident, copy_ident) = (&input.ident, &copy.ident);
    quote! {
        #[doc(hidden)]
        #[allow(dead_code, non_local_definitions, clippy::all, clippy::pedantic, reason = "a copy for schemars' derive")]
        const _: () = {
            #copy
            #default

            #[automatically_derived]
            impl #impl_generics ::granary_sdk::schemars::JsonSchema for #ident #ty_generics #where_clause {
                fn schema_name() -> ::std::borrow::Cow<'static, str> {
                    <#copy_ident #ty_generics as ::granary_sdk::schemars::JsonSchema>::schema_name()
                }

                fn schema_id() -> ::std::borrow::Cow<'static, str> {
                    <#copy_ident #ty_generics as ::granary_sdk::schemars::JsonSchema>::schema_id()
                }

                fn inline_schema() -> bool {
                    <#copy_ident #ty_generics as ::granary_sdk::schemars::JsonSchema>::inline_schema()
                }

                fn json_schema(
                    generator: &mut ::granary_sdk::schemars::SchemaGenerator,
                ) -> ::granary_sdk::schemars::Schema {
                    <#copy_ident #ty_generics as ::granary_sdk::schemars::JsonSchema>::json_schema(generator)
                }
            }
        };
    }
}

/// The copy that serde's derive reads and writes the original by.
fn serde_copy(input: &DeriveInput, derive: &Path) -> DeriveInput {
    let mut copy = copy(input, &["serde"]);
    let ident = &input.ident;
    let remote = ident.to_string();
    // Internally tagged structs write their name.
    let name = (!has(input, "serde", "rename")).then(|| ident.to_string());
    let name = name.iter();
    copy.attrs.insert(
        0,
        parse_quote!(#[serde(crate = "::granary_sdk::serde", remote = #remote #(, rename = #name)*)]),
    );
    copy.attrs.insert(0, parse_quote!(#[derive(#derive)]));
    copy
}

/// The type under another name, with only the attributes that the derive understands.
fn copy(input: &DeriveInput, keep: &[&str]) -> DeriveInput {
    let mut copy = input.clone();
    copy.ident = format_ident!("__{}", input.ident);
    copy.vis = syn::Visibility::Inherited;
    let retain = |attrs: &mut Vec<Attribute>| {
        attrs.retain(|attr| keep.iter().any(|name| attr.path().is_ident(name)));
    };
    retain(&mut copy.attrs);
    for_each_fields(&mut copy.data, |fields| {
        for field in fields {
            retain(&mut field.attrs);
        }
    });
    if let Data::Enum(data) = &mut copy.data {
        for variant in &mut data.variants {
            retain(&mut variant.attrs);
        }
    }
    copy
}

fn for_each_fields(data: &mut Data, mut visit: impl FnMut(&mut Fields)) {
    match data {
        Data::Struct(data) => visit(&mut data.fields),
        Data::Enum(data) => {
            for variant in &mut data.variants {
                visit(&mut variant.fields);
            }
        }
        Data::Union(_) => {}
    }
}

/// `#[serde(default)]` on a struct asks the copy for its default, too: the original's.
fn default_of_copy(input: &DeriveInput, copy: &DeriveInput) -> Option<TokenStream> {
    let Data::Struct(data) = &input.data else {
        return None;
    };
    if !has(input, "serde", "default") && !has(input, "schemars", "default") {
        return None;
    }
    let (ident, copy_ident) = (&input.ident, &copy.ident);
    let members: Vec<Member> = data.fields.members().collect();
    let values: Vec<_> = (0..members.len()).map(|place| format_ident!("value_{place}")).collect();
    let generics = bounded(&input.generics, &parse_quote!(::core::default::Default));
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    let (_, ty_generics, _) = input.generics.split_for_impl();
    Some(quote! {
        #[automatically_derived]
        impl #impl_generics ::core::default::Default for #copy_ident #ty_generics #where_clause {
            fn default() -> Self {
                let #ident { #(#members: #values),* } = ::core::default::Default::default();
                Self { #(#members: #values),* }
            }
        }
    })
}

/// Whether the type's attributes of this name have this option.
fn has(input: &DeriveInput, attribute: &str, option: &str) -> bool {
    let attrs = input.attrs.iter().filter(|attr| attr.path().is_ident(attribute));
    let options = attrs.filter_map(|attr| {
        attr.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)
            .ok()
    });
    options.flatten().any(|meta| meta.path().is_ident(option))
}

fn bounded(generics: &Generics, bound: &syn::TypeParamBound) -> Generics {
    let mut generics = generics.clone();
    for param in generics.type_params_mut() {
        param.default = None;
        param.bounds.push(bound.clone());
    }
    generics
}
