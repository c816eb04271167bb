//! `#[derive(GrainError)]`: messages from doc comments, statuses, and failures that are passed on.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, Data, DataEnum, DeriveInput, Error, Fields, LitInt, Result, Type, Variant};

use crate::docs;

pub(crate) fn derive(item: TokenStream) -> TokenStream {
    let expanded = syn::parse2(item).and_then(|input: DeriveInput| expand(&input));
    expanded.unwrap_or_else(Error::into_compile_error)
}

fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let status = status(&input.attrs)?;
    match &input.data {
        Data::Struct(_) => {
            let message = sentence(&input.attrs, &input.ident.to_string());
            let status = option(status);
            Ok(implement(input, &quote!(#message), &status, None))
        }
        Data::Enum(data) => expand_enum(input, data, status),
        Data::Union(_) => Err(Error::new(input.ident.span(), "a grain's error is a struct or an enum")),
    }
}

fn expand_enum(input: &DeriveInput, data: &DataEnum, default: Option<u16>) -> Result<TokenStream> {
    let mut messages = Vec::new();
    let mut statuses = Vec::new();
    let mut passed_on = Vec::new();
    let mut froms = Vec::new();
    for variant in &data.variants {
        let ident = &variant.ident;
        let chosen = status(&variant.attrs)?;
        if let Some(inner) = from_type(variant)? {
            if chosen.is_some() {
                return Err(Error::new(
                    ident.span(),
                    "a `#[from]` variant is passed on as what it holds and has no status of its own",
                ));
            }
            messages.push(quote!(Self::#ident(inner) => ::granary_sdk::MethodError::fault(inner).message));
            statuses.push(quote!(Self::#ident(inner) => ::granary_sdk::MethodError::fault(inner).status));
            passed_on.push(quote!(Self::#ident(inner) => ::granary_sdk::__private::passed_on(self, inner)));
            froms.push(from(input, variant, inner));
            if is_untyped_call_error(inner) {
                froms.push(from_own(input, variant));
            }
        } else {
            let message = sentence(&variant.attrs, &ident.to_string());
            let status = option(chosen.or(default));
            messages.push(quote!(Self::#ident { .. } => #message));
            statuses.push(quote!(Self::#ident { .. } => #status));
        }
    }
    if data.variants.is_empty() {
        messages.push(quote!(_ => ::core::unreachable!("an error without variants")));
        statuses.push(quote!(_ => ::core::option::Option::None));
    }
    let own = (passed_on.len() < data.variants.len()).then(|| {
        quote! {
            own => ::granary_sdk::__private::guest_error(
                own,
                ::granary_sdk::GrainError::message(own),
                ::granary_sdk::GrainError::status(own),
            ),
        }
    });
    let fault = (!passed_on.is_empty()).then(|| {
        quote! {
            fn as_fault(&self) -> ::granary_sdk::Fault {
                match self {
                    #(#passed_on,)*
                    #own
                }
            }
        }
    });
    let implementation = implement(
        input,
        &quote!(match self { #(#messages),* }),
        &quote!(match self { #(#statuses),* }),
        fault,
    );
    Ok(quote!(#implementation #(#froms)*))
}

fn implement(
    input: &DeriveInput,
    message: &TokenStream,
    status: &TokenStream,
    fault: Option<TokenStream>,
) -> TokenStream {
    let ident = &input.ident;
    let (impl_generics, ty_generics, where_clause) = input.generics.split_for_impl();
    quote! {
        #[automatically_derived]
        impl #impl_generics ::granary_sdk::GrainError for #ident #ty_generics #where_clause {
            fn message(&self) -> ::std::string::String {
                #message
            }

            fn status(&self) -> ::core::option::Option<u16> {
                #status
            }

            #fault
        }
    }
}

fn from(input: &DeriveInput, variant: &Variant, inner: &Type) -> TokenStream {
    let ident = &input.ident;
    let variant = &variant.ident;
    let (impl_generics, ty_generics, where_clause) = input.generics.split_for_impl();
    quote! {
        #[automatically_derived]
        impl #impl_generics ::core::convert::From<#inner> for #ident #ty_generics #where_clause {
            fn from(inner: #inner) -> Self {
                Self::#variant(inner)
            }
        }
    }
}

/// A grain that calls its like gets its own error type back: a refusal stays the refusal that it was.
fn from_own(input: &DeriveInput, variant: &Variant) -> TokenStream {
    let ident = &input.ident;
    let variant = &variant.ident;
    let (impl_generics, ty_generics, where_clause) = input.generics.split_for_impl();
    quote! {
        #[automatically_derived]
        impl #impl_generics ::core::convert::From<::granary_sdk::CallError<Self>> for #ident #ty_generics
        #where_clause
        {
            fn from(failure: ::granary_sdk::CallError<Self>) -> Self {
                match failure {
                    ::granary_sdk::CallError::Guest(own) => own,
                    ::granary_sdk::CallError::Failed { code, message } => {
                        Self::#variant(::granary_sdk::CallError::Failed { code, message })
                    }
                }
            }
        }
    }
}

/// `CallError`, without a type for the callee's own error.
fn is_untyped_call_error(ty: &Type) -> bool {
    matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|last| {
        last.ident == "CallError" && last.arguments.is_none()
    }))
}

/// The type that a `#[from]` variant holds.
fn from_type(variant: &Variant) -> Result<Option<&Type>> {
    let marked = |attrs: &[Attribute]| attrs.iter().any(|attr| attr.path().is_ident("from"));
    let on_field = variant.fields.iter().any(|field| marked(&field.attrs));
    if !marked(&variant.attrs) && !on_field {
        return Ok(None);
    }
    match &variant.fields {
        Fields::Unnamed(fields) if fields.unnamed.len() == 1 => Ok(Some(&fields.unnamed[0].ty)),
        _ => Err(Error::new(
            variant.ident.span(),
            "`#[from]` belongs on a variant that holds one value: `Call(CallError)`",
        )),
    }
}

fn status(attrs: &[Attribute]) -> Result<Option<u16>> {
    let Some(attr) = attrs.iter().find(|attr| attr.path().is_ident("status")) else {
        return Ok(None);
    };
    let wrong = |span| Error::new(span, "`#[status(N)]` wants an HTTP status from 400 to 599");
    let literal: LitInt = attr.parse_args().map_err(|error| wrong(error.span()))?;
    match literal.base10_parse::<u16>() {
        Ok(status @ 400..=599) => Ok(Some(status)),
        _ => Err(wrong(literal.span())),
    }
}

/// The doc comment's first paragraph, else the name as words.
fn sentence(attrs: &[Attribute], name: &str) -> TokenStream {
    let doc = docs::first_paragraph(attrs);
    let sentence = if doc.is_empty() { words(name) } else { doc };
    quote!(::std::string::String::from(#sentence))
}

/// `OutOfStock` is `out of stock`.
fn words(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

fn option(status: Option<u16>) -> TokenStream {
    match status {
        Some(status) => quote!(::core::option::Option::Some(#status)),
        None => quote!(::core::option::Option::None),
    }
}
