impl Room {
    pub fn say(&mut self) {}
}
#[automatically_derived]
impl ::granary_sdk::Grain for Room {
    const NAME: &'static str = "room";
    const VERSION: u32 = 2u32;
    const DURABILITY: ::granary_sdk::Durability = ::granary_sdk::Durability::Committed;
    const PLACEMENT: ::granary_sdk::Placement = ::granary_sdk::Placement::Primary;
    type Client<'c> = RoomClient<'c>;
    type Calls = RoomCalls;
    fn client(
        ctx: &::granary_sdk::Context,
        key: ::std::string::String,
    ) -> RoomClient<'_> {
        RoomClient {
            ctx,
            calls: <Self as ::granary_sdk::Grain>::calls(key),
        }
    }
    fn calls(key: ::std::string::String) -> RoomCalls {
        RoomCalls {
            to: ::granary_sdk::__private::CallTo::new::<Self>(key),
        }
    }
    fn describe() -> ::granary_sdk::__private::Description {
        #[allow(
            unused_imports,
            reason = "a type that derives the prelude's `Serialize` has its own text"
        )]
        use ::granary_sdk::__private::Undocumented as _;
        let mut description = ::granary_sdk::__private::Description::new::<
            Self,
        >("", Self::GRANARY_DOC);
        description
            .methods
            .push(::granary_sdk::__private::Method::write::<()>("say", ""));
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
        match method {
            "say" => {
                let args = ::granary_sdk::__private::Args::read("say", [], args)?;
                ::granary_sdk::__private::reply("say", &Self::say(self))
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
        ::granary_sdk::__private::migrate_older(Self::migrate, saved)
    }
}
///Calls one `room` grain and waits for its reply; [`Context::grain`](::granary_sdk::Context::grain) makes it.
#[derive(Debug, Clone)]
pub struct RoomClient<'c> {
    ctx: &'c ::granary_sdk::Context,
    calls: RoomCalls,
}
#[allow(clippy::too_many_arguments, reason = "as many as the grain's own methods take")]
impl RoomClient<'_> {
    ///
    /// # Errors
    /// [`CallError`](::granary_sdk::CallError), when no value came back.
    #[allow(dead_code, reason = "a crate need not call every method of its own grain")]
    pub fn say(
        &self,
    ) -> ::core::result::Result<(), ::granary_sdk::CallError<::granary_sdk::AnyError>> {
        self.ctx.run(self.calls.say())
    }
}
///Prepares calls of one `room` grain; [`Context::prepare`](::granary_sdk::Context::prepare) makes it.
#[derive(Debug, Clone)]
pub struct RoomCalls {
    to: ::granary_sdk::__private::CallTo,
}
#[allow(clippy::too_many_arguments, reason = "as many as the grain's own methods take")]
impl RoomCalls {
    #[allow(dead_code, reason = "a crate need not call every method of its own grain")]
    pub fn say(&self) -> ::granary_sdk::Call<(), ::granary_sdk::AnyError> {
        self.to.call("say", &[(); 0])
    }
}
