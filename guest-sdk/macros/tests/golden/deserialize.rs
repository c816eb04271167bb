#[doc(hidden)]
#[allow(
    dead_code,
    non_local_definitions,
    clippy::all,
    clippy::pedantic,
    reason = "a copy for serde's derive"
)]
const _: () = {
    #[derive(::granary_sdk::serde::Deserialize)]
    #[serde(crate = "::granary_sdk::serde", remote = "Pair", rename = "Pair")]
    #[serde(default)]
    struct __Pair<'a, T: Copy = u8> {
        #[serde(rename = "l")]
        left: &'a str,
        right: T,
    }
    #[automatically_derived]
    impl<'a, T: Copy + ::core::default::Default> ::core::default::Default
    for __Pair<'a, T> {
        fn default() -> Self {
            let Pair { left: value_0, right: value_1 } = ::core::default::Default::default();
            Self {
                left: value_0,
                right: value_1,
            }
        }
    }
    #[automatically_derived]
    impl<
        'de: 'a,
        'a,
        T: Copy + ::granary_sdk::serde::Deserialize<'de>,
    > ::granary_sdk::serde::Deserialize<'de> for Pair<'a, T> {
        fn deserialize<__D: ::granary_sdk::serde::Deserializer<'de>>(
            deserializer: __D,
        ) -> ::core::result::Result<Self, __D::Error> {
            __Pair::<'a, T>::deserialize(deserializer)
        }
    }
};
