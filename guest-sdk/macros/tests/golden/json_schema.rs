#[doc(hidden)]
#[allow(
    dead_code,
    non_local_definitions,
    clippy::all,
    clippy::pedantic,
    reason = "a copy for schemars' derive"
)]
const _: () = {
    #[derive(::granary_sdk::schemars::JsonSchema)]
    #[schemars(crate = "::granary_sdk::schemars", rename = "Pair")]
    /// A pair.
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
        'a,
        T: Copy + ::granary_sdk::schemars::JsonSchema,
    > ::granary_sdk::schemars::JsonSchema for Pair<'a, T> {
        fn schema_name() -> ::std::borrow::Cow<'static, str> {
            <__Pair<'a, T> as ::granary_sdk::schemars::JsonSchema>::schema_name()
        }
        fn schema_id() -> ::std::borrow::Cow<'static, str> {
            <__Pair<'a, T> as ::granary_sdk::schemars::JsonSchema>::schema_id()
        }
        fn inline_schema() -> bool {
            <__Pair<'a, T> as ::granary_sdk::schemars::JsonSchema>::inline_schema()
        }
        fn json_schema(
            generator: &mut ::granary_sdk::schemars::SchemaGenerator,
        ) -> ::granary_sdk::schemars::Schema {
            <__Pair<
                'a,
                T,
            > as ::granary_sdk::schemars::JsonSchema>::json_schema(generator)
        }
    }
};
