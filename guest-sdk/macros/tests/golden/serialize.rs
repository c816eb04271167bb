#[doc(hidden)]
#[allow(
    dead_code,
    non_local_definitions,
    clippy::all,
    clippy::pedantic,
    reason = "a copy for serde's derive"
)]
const _: () = {
    #[derive(::granary_sdk::serde::Serialize)]
    #[serde(crate = "::granary_sdk::serde", remote = "Pair", rename = "Pair")]
    #[serde(default)]
    struct __Pair<'a, T: Copy = u8> {
        #[serde(rename = "l")]
        left: &'a str,
        right: T,
    }
    #[automatically_derived]
    impl<'a, T: Copy + ::granary_sdk::serde::Serialize> ::granary_sdk::serde::Serialize
    for Pair<'a, T> {
        fn serialize<__S: ::granary_sdk::serde::Serializer>(
            &self,
            serializer: __S,
        ) -> ::core::result::Result<__S::Ok, __S::Error> {
            __Pair::<'a, T>::serialize(self, serializer)
        }
    }
    #[automatically_derived]
    impl<'a, T: Copy + ::granary_sdk::serde::Serialize> Pair<'a, T> {
        #[doc(hidden)]
        pub const GRANARY_DOC: &'static str = "A pair.";
    }
};
