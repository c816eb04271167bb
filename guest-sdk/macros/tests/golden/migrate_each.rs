impl Room {
    pub fn say(&mut self) {}
}
#[automatically_derived]
impl ::granary_sdk::Grain for Room {
    const NAME: &'static str = "room";
    const VERSION: u32 = 3u32;
    const DURABILITY: ::granary_sdk::Durability = ::granary_sdk::Durability::Committed;
    const PLACEMENT: ::granary_sdk::Placement = ::granary_sdk::Placement::Primary;
    type Client<'c> = __room_c91c7e60::RoomClient<'c>;
    type Calls = __room_c91c7e60::RoomCalls;
    fn client(
        ctx: &::granary_sdk::Context,
        key: ::std::string::String,
    ) -> __room_c91c7e60::RoomClient<'_> {
        __room_c91c7e60::RoomClient {
            ctx,
            calls: <Self as ::granary_sdk::Grain>::calls(key),
        }
    }
    fn calls(key: ::std::string::String) -> __room_c91c7e60::RoomCalls {
        __room_c91c7e60::RoomCalls {
            to: ::granary_sdk::__private::CallTo::new::<Self>(key),
        }
    }
    fn describe() -> ::granary_sdk::__private::Description {
        #[allow(
            unused_imports,
            reason = "most types have of their own what these give to all"
        )]
        use ::granary_sdk::__private::{NotSent as _, Required as _, Undocumented as _};
        let mut description = ::granary_sdk::__private::Description::new::<
            Self,
        >("", Self::GRANARY_DOC);
        description
            .methods
            .push(
                ::granary_sdk::__private::Method::write(
                    "say",
                    "",
                    ::granary_sdk::__private::Typed::<()>::new().schema_written(),
                ),
            );
        description
    }
    fn activate_first(
        _: &::granary_sdk::Context,
    ) -> ::core::result::Result<Self, ::granary_sdk::Fault> {
        ::core::result::Result::Ok(<Self as ::core::default::Default>::default())
    }
    #[allow(
        unused_variables,
        reason = "not every grain type has methods with arguments or a context"
    )]
    fn dispatch(
        &mut self,
        ctx: &::granary_sdk::Context,
        method: &str,
        args: &[u8],
    ) -> ::core::result::Result<::std::vec::Vec<u8>, ::granary_sdk::Fault> {
        #[allow(
            unused_imports,
            reason = "not every grain type has methods with arguments or values"
        )]
        use ::granary_sdk::__private::{Mistaken as _, Required as _, Value as _};
        match method {
            "say" => {
                let args = ::granary_sdk::__private::Args::read("say", [], args)?;
                ::granary_sdk::__private::Typed::<()>::new().is_value();
                ::granary_sdk::__private::Typed::<()>::new()
                    .reply("say", &Self::say(self))
            }
            _ => {
                ::core::result::Result::Err(
                    ::granary_sdk::Fault::unknown_method(
                        <Self as ::granary_sdk::Grain>::NAME,
                        method,
                        &["say"],
                    ),
                )
            }
        }
    }
    fn migrate_saved(
        saved: ::granary_sdk::SavedState,
    ) -> ::core::result::Result<Self, ::granary_sdk::Fault> {
        match saved.version() {
            1u32 => ::granary_sdk::__private::migrate_one(from_v1, saved),
            2u32 => ::granary_sdk::__private::migrate_one(v2::Room::upgrade, saved),
            _ => ::granary_sdk::__private::migrate_other(&saved, &[1u32, 2u32]),
        }
    }
}
mod __room_c91c7e60 {
    ///Calls one `room` grain and waits for its reply; [`Context::grain`](::granary_sdk::Context::grain) makes it.
    #[derive(Debug, Clone)]
    pub struct RoomClient<'c> {
        pub(super) ctx: &'c ::granary_sdk::Context,
        pub(super) calls: RoomCalls,
    }
    ///Prepares calls of one `room` grain; [`Context::prepare`](::granary_sdk::Context::prepare) makes it.
    #[derive(Debug, Clone)]
    pub struct RoomCalls {
        pub(super) to: ::granary_sdk::__private::CallTo,
    }
}
#[allow(unused_imports, reason = "few name these types: `Context` makes them")]
pub use __room_c91c7e60::*;
#[allow(clippy::too_many_arguments, reason = "as many as the grain's own methods take")]
impl __room_c91c7e60::RoomClient<'_> {
    ///
    /// # Errors
    /// [`CallError`](::granary_sdk::CallError), when no value came back.
    #[allow(dead_code, reason = "a crate need not call every method of its own grain")]
    pub fn say(
        &self,
    ) -> ::core::result::Result<(), ::granary_sdk::CallError<::granary_sdk::AnyError>> {
        #[allow(unused_imports, reason = "only a mistake takes these")]
        use ::granary_sdk::__private::Mistaken as _;
        ::granary_sdk::__private::Typed::<()>::new()
            .run(self.ctx, __room_c91c7e60::RoomCalls::say(&self.calls))
    }
}
#[allow(clippy::too_many_arguments, reason = "as many as the grain's own methods take")]
impl __room_c91c7e60::RoomCalls {
    #[allow(dead_code, reason = "a crate need not call every method of its own grain")]
    pub fn say(&self) -> ::granary_sdk::Call<(), ::granary_sdk::AnyError> {
        #[allow(unused_imports, reason = "only a mistake takes these")]
        use ::granary_sdk::__private::Mistaken as _;
        ::granary_sdk::__private::Typed::<[(); 0]>::new().call(&self.to, "say", &[(); 0])
    }
}
