//! Doc comments as text.

use syn::{Attribute, Expr, ExprLit, Lit, Meta};

/// The lines of the doc comment, without the space after `///`.
pub(crate) fn text(attrs: &[Attribute]) -> String {
    let lines: Vec<String> = attrs.iter().filter_map(line).collect();
    lines.join("\n").trim().to_owned()
}

/// The first paragraph on one line: a sentence for people.
pub(crate) fn first_paragraph(attrs: &[Attribute]) -> String {
    let text = text(attrs);
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    paragraph.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn line(attr: &Attribute) -> Option<String> {
    let Meta::NameValue(doc) = &attr.meta else {
        return None;
    };
    let Expr::Lit(ExprLit {
        lit: Lit::Str(line), ..
    }) = &doc.value
    else {
        return None;
    };
    let line = line.value();
    doc.path
        .is_ident("doc")
        .then(|| line.strip_prefix(' ').unwrap_or(&line).to_owned())
}
