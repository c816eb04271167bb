//! Requests that were made for another revision than the one that runs: a grain that could not be moved stays on an older one,
//! and a deploy may come between a request and its turn.
//!
//! Arguments come by position; what they mean is in the contract that they were made for. They are brought into the order of
//! the contract that runs by their names.

use std::sync::Arc;

use granary_core::api::{CallFailure, Code};
use granary_core::message::{Request, Work};
use serde_json::value::RawValue;

use super::driver::Driver;
use crate::description::{Method, MethodKind};
use crate::modules::Deployment;

impl Driver {
    /// The request as the revision that runs takes it, or why that has no way to do it. Nothing ran.
    pub(super) async fn translate(
        &self,
        mut request: Request,
        running: &Arc<Deployment>,
    ) -> Result<Request, CallFailure> {
        let Work::Call {
            method,
            args,
            read,
            revision,
        } = &mut request.work
        else {
            return Ok(request);
        };
        if *revision == running.revision {
            return Ok(request);
        }
        let meant = self.parts().modules.numbered(self.line(), *revision).await?;
        let wanted = (&**method, *read, &args[..]);
        *args = between(&meant, running, wanted)
            .map_err(|(code, what)| CallFailure::before(code, format!("{what}; {}", self.why_here(running))))?;
        Ok(request)
    }

    fn why_here(&self, running: &Deployment) -> String {
        let revision = running.revision.0;
        match self.line().stuck().find(self.id()) {
            Some(failure) => format!(
                "the grain is still on revision {revision}, as moving it failed: {}",
                failure.reason
            ),
            None => format!("the grain is on revision {revision}"),
        }
    }
}

/// A method's arguments made for `meant` as `running` takes them, or why it has no way to do that. `read`: the caller means a read.
pub(super) fn between(
    meant: &Deployment,
    running: &Deployment,
    (method, read, args): (&str, bool, &[u8]),
) -> Result<Vec<u8>, (Code, String)> {
    if meant.module == running.module {
        return Ok(args.to_vec());
    }
    let unknown = |what: String| (Code::UnknownMethod, what);
    let (_, asked) = meant
        .contract
        .method(method)
        .ok_or_else(|| unknown(format!("there is no method `{method}`")))?;
    let (_, found) = running
        .contract
        .method(method)
        .ok_or_else(|| unknown(format!("it has no method `{method}`")))?;
    if read && found.kind == MethodKind::Write {
        // Its turn would change the state without a commit.
        let what = format!(
            "`{method}` only reads in revision {} but writes in revision {}",
            meant.revision.0, running.revision.0
        );
        return Err((Code::UpgradeFailed, what));
    }
    reorder(args, asked, found).map_err(|what| (Code::BadArguments, what))
}

/// Arguments made for `meant`, in the order of `found`. What the one has and the other hasn't may only be null.
fn reorder(args: &[u8], meant: &Method, found: &Method) -> Result<Vec<u8>, String> {
    let given: Vec<&RawValue> = serde_json::from_slice(args).map_err(|error| error.to_string())?;
    let mut named: Vec<(&str, &str)> = Vec::with_capacity(given.len());
    for (param, value) in meant.params.iter().zip(&given) {
        named.push((&param.name, value.get()));
    }
    let mut ordered = Vec::with_capacity(found.params.len());
    for param in &found.params {
        let value = match named.iter().position(|(name, _)| *name == param.name) {
            Some(at) => named.swap_remove(at).1,
            None if !param.required => "null",
            None => return Err(format!("`{}` needs the argument `{}`", found.name, param.name)),
        };
        ordered.push(value);
    }
    if let Some((name, _)) = named.iter().find(|(_, value)| *value != "null") {
        return Err(format!("`{}` takes no argument `{name}`", found.name));
    }
    Ok(format!("[{}]", ordered.join(",")).into_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn method(params: &[(&str, bool)]) -> Method {
        let params: Vec<_> = params
            .iter()
            .map(|(name, required)| json!({ "name": name, "required": required }))
            .collect();
        serde_json::from_value(json!({ "name": "m", "kind": "write", "params": params })).unwrap()
    }

    fn reordered(args: &str, meant: &[(&str, bool)], found: &[(&str, bool)]) -> Result<String, String> {
        reorder(args.as_bytes(), &method(meant), &method(found)).map(|args| String::from_utf8(args).unwrap())
    }

    #[test]
    fn arguments_find_their_places_by_name() {
        let (ab, ba) = ([("a", true), ("b", true)], [("b", true), ("a", true)]);
        // Numbers keep their digits.
        let swapped = reordered("[1, 12345678901234567890123]", &ab, &ba);
        assert_eq!(swapped, Ok("[12345678901234567890123,1]".to_owned()));
    }

    #[test]
    fn what_only_one_side_knows_may_be_absent_but_not_lost() {
        let (a, ab) = ([("a", true)], [("a", true), ("b", false)]);
        assert_eq!(reordered("[1]", &a, &ab), Ok("[1,null]".to_owned()));
        assert_eq!(reordered("[1,null]", &ab, &a), Ok("[1]".to_owned()));
        assert!(reordered("[1,2]", &ab, &a).unwrap_err().contains("`b`"));
        assert!(reordered("[1]", &a, &[("c", true)]).unwrap_err().contains("`c`"));
    }
}
