#[automatically_derived]
impl ::granary_sdk::GrainError for BankError {
    fn message(&self) -> ::std::string::String {
        match self {
            Self::InsufficientFunds { .. } => {
                ::std::string::String::from("The account holds less than that.")
            }
            Self::InvalidAmount { .. } => ::std::string::String::from("invalid amount"),
            Self::Call(inner) => ::granary_sdk::MethodError::fault(inner).message,
        }
    }
    fn status(&self) -> ::core::option::Option<u16> {
        match self {
            Self::InsufficientFunds { .. } => ::core::option::Option::Some(409u16),
            Self::InvalidAmount { .. } => ::core::option::Option::Some(400u16),
            Self::Call(inner) => ::granary_sdk::MethodError::fault(inner).status,
        }
    }
    fn as_fault(&self) -> ::granary_sdk::Fault {
        match self {
            Self::Call(inner) => ::granary_sdk::__private::passed_on(self, inner),
            own => {
                ::granary_sdk::__private::guest_error(
                    own,
                    ::granary_sdk::GrainError::message(own),
                    ::granary_sdk::GrainError::status(own),
                )
            }
        }
    }
}
#[automatically_derived]
impl ::core::convert::From<CallError> for BankError {
    fn from(inner: CallError) -> Self {
        Self::Call(inner)
    }
}
#[automatically_derived]
impl ::core::convert::From<::granary_sdk::CallError<Self>> for BankError {
    fn from(failure: ::granary_sdk::CallError<Self>) -> Self {
        match failure {
            ::granary_sdk::CallError::Guest(own) => own,
            ::granary_sdk::CallError::Failed { code, message } => {
                Self::Call(::granary_sdk::CallError::Failed {
                    code,
                    message,
                })
            }
        }
    }
}
