impl Room {
    fn activate(ctx: &Context) -> Result<Self, RoomError> {
        Ok(Self)
    }
    fn is_sound(&self) -> Result<(), String> {
        Ok(())
    }
    #[cfg(feature = "chat")]
    pub fn say(&mut self) {}
}
#[automatically_derived]
impl ::granary_sdk::Grain for Room {
    const NAME: &'static str = "chat-room";
    const VERSION: u32 = 7u32;
    const DURABILITY: ::granary_sdk::Durability = ::granary_sdk::Durability::Volatile;
    const PLACEMENT: ::granary_sdk::Placement = ::granary_sdk::Placement::Balanced;
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
        #[cfg(feature = "chat")]
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
        ctx: &::granary_sdk::Context,
    ) -> ::core::result::Result<Self, ::granary_sdk::Fault> {
        Self::activate(ctx).map_err(|error| ::granary_sdk::MethodError::fault(&error))
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
            #[cfg(feature = "chat")]
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
                        &[#[cfg(feature = "chat")] "say"],
                    ),
                )
            }
        }
    }
    fn check_loaded(&self) -> ::core::result::Result<(), ::granary_sdk::Fault> {
        ::granary_sdk::__private::Checked::checked(Self::is_sound(self))
    }
}
mod __room_c91c7e60 {
    ///Calls one `chat-room` grain and waits for its reply; [`Context::grain`](::granary_sdk::Context::grain) makes it.
    #[derive(Debug, Clone)]
    pub struct RoomClient<'c> {
        pub(super) ctx: &'c ::granary_sdk::Context,
        pub(super) calls: RoomCalls,
    }
    ///Prepares calls of one `chat-room` grain; [`Context::prepare`](::granary_sdk::Context::prepare) makes it.
    #[derive(Debug, Clone)]
    pub struct RoomCalls {
        pub(super) to: ::granary_sdk::__private::CallTo,
    }
}
#[allow(unused_imports, reason = "few name these types: `Context` makes them")]
pub use __room_c91c7e60::*;
#[allow(clippy::too_many_arguments, reason = "as many as the grain's own methods take")]
impl __room_c91c7e60::RoomClient<'_> {
    #[cfg(feature = "chat")]
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
    #[cfg(feature = "chat")]
    #[allow(dead_code, reason = "a crate need not call every method of its own grain")]
    pub fn say(&self) -> ::granary_sdk::Call<(), ::granary_sdk::AnyError> {
        #[allow(unused_imports, reason = "only a mistake takes these")]
        use ::granary_sdk::__private::Mistaken as _;
        ::granary_sdk::__private::Typed::<[(); 0]>::new().call(&self.to, "say", &[(); 0])
    }
}
