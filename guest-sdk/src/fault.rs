//! Why a turn did not end with a value: the SDK's form of `types.fault` in `wit/`.

/// Which kind of failure a turn ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// An argument is missing, unknown or of a wrong type. The method did not run.
    BadArguments,
    /// The grain type has no such method.
    UnknownMethod,
    /// The method returned its own error. What it changed before stands.
    GuestError,
    /// The method passed on the failure of a call that it had made. What it changed before stands.
    CallFailed,
}

/// Why a turn did not end with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which kind of failure.
    pub kind: FaultKind,
    /// For a person: what would have been right.
    pub message: String,
    /// The grain's own error value, or the callee's where it's passed on: UTF-8 JSON.
    pub error: Option<Vec<u8>>,
    /// The HTTP status that the error's type chose: 400 to 599.
    pub status: Option<u16>,
    /// [`FaultKind::CallFailed`]: the code of the failed call.
    pub code: Option<String>,
}

impl Fault {
    pub(crate) fn bad_arguments(message: String) -> Self {
        Self::plain(FaultKind::BadArguments, message)
    }

    /// For the `#[grain]` dispatcher: no method has this name.
    #[doc(hidden)]
    pub fn unknown_method(grain_type: &str, method: &str, methods: &[&str]) -> Self {
        let known = match methods {
            [] => "it has none".to_owned(),
            methods => format!("it has: {}", methods.join(", ")),
        };
        Self::plain(
            FaultKind::UnknownMethod,
            format!("`{grain_type}` has no method `{method}`; {known}"),
        )
    }

    pub(crate) fn guest_error(message: String, error: Vec<u8>, status: Option<u16>) -> Self {
        Self {
            error: Some(error),
            status,
            ..Self::plain(FaultKind::GuestError, message)
        }
    }

    pub(crate) fn call_failed(code: &str, message: String) -> Self {
        Self {
            code: Some(code.to_owned()),
            ..Self::plain(FaultKind::CallFailed, message)
        }
    }

    fn plain(kind: FaultKind, message: String) -> Self {
        Self {
            kind,
            message,
            error: None,
            status: None,
            code: None,
        }
    }
}
