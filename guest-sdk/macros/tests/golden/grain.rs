/// One counter for each key.
impl Counter {
    /// Adds `n` and returns the new value.
    pub fn add(&mut self, n: i64, note: Option<String>) -> i64 {
        self.value += n;
        self.value
    }
    pub fn get(&self) -> i64 {
        self.value
    }
    pub fn mirror(&mut self, ctx: &Context, to: String) -> Result<Self, CallError> {
        todo!()
    }
    fn helper(&self) {}
}
#[automatically_derived]
impl ::granary_sdk::Grain for Counter {
    const NAME: &'static str = "counter";
    const VERSION: u32 = 1u32;
    const DURABILITY: ::granary_sdk::Durability = ::granary_sdk::Durability::Committed;
    const PLACEMENT: ::granary_sdk::Placement = ::granary_sdk::Placement::Primary;
    type Client<'c> = __counter_a463ce9b::CounterClient<'c>;
    type Calls = __counter_a463ce9b::CounterCalls;
    fn client(
        ctx: &::granary_sdk::Context,
        key: ::std::string::String,
    ) -> __counter_a463ce9b::CounterClient<'_> {
        __counter_a463ce9b::CounterClient {
            ctx,
            calls: <Self as ::granary_sdk::Grain>::calls(key),
        }
    }
    fn calls(key: ::std::string::String) -> __counter_a463ce9b::CounterCalls {
        __counter_a463ce9b::CounterCalls {
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
        >("One counter for each key.", Self::GRANARY_DOC);
        description
            .methods
            .push(
                ::granary_sdk::__private::Method::write(
                        "add",
                        "Adds `n` and returns the new value.",
                        ::granary_sdk::__private::Typed::<i64>::new().schema_written(),
                    )
                    .param(
                        "n",
                        ::granary_sdk::__private::Typed::<i64>::new().schema_read(),
                        ::granary_sdk::__private::Typed::<i64>::new().is_required(),
                    )
                    .param(
                        "note",
                        ::granary_sdk::__private::Typed::<Option<String>>::new()
                            .schema_read(),
                        ::granary_sdk::__private::Typed::<Option<String>>::new()
                            .is_required(),
                    ),
            );
        description
            .methods
            .push(
                ::granary_sdk::__private::Method::read(
                    "get",
                    "",
                    ::granary_sdk::__private::Typed::<i64>::new().schema_written(),
                ),
            );
        description
            .methods
            .push(
                ::granary_sdk::__private::Method::write(
                        "mirror",
                        "",
                        ::granary_sdk::__private::Typed::<Counter>::new()
                            .schema_written(),
                    )
                    .param(
                        "to",
                        ::granary_sdk::__private::Typed::<String>::new().schema_read(),
                        ::granary_sdk::__private::Typed::<String>::new().is_required(),
                    )
                    .error::<<CallError as ::granary_sdk::MethodError>::Callee>(),
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
            "add" => {
                let mut args = ::granary_sdk::__private::Args::read(
                    "add",
                    [
                        ::granary_sdk::__private::Param::new(
                            "n",
                            ::granary_sdk::__private::Typed::<i64>::new().is_required(),
                        ),
                        ::granary_sdk::__private::Param::new(
                            "note",
                            ::granary_sdk::__private::Typed::<Option<String>>::new()
                                .is_required(),
                        ),
                    ],
                    args,
                )?;
                ::granary_sdk::__private::Typed::<i64>::new().is_value();
                ::granary_sdk::__private::Typed::<i64>::new()
                    .reply(
                        "add",
                        &Self::add(
                            self,
                            ::granary_sdk::__private::Typed::<i64>::new()
                                .take(&mut args)?,
                            ::granary_sdk::__private::Typed::<Option<String>>::new()
                                .take(&mut args)?,
                        ),
                    )
            }
            "get" => {
                let args = ::granary_sdk::__private::Args::read("get", [], args)?;
                ::granary_sdk::__private::Typed::<i64>::new().is_value();
                ::granary_sdk::__private::Typed::<i64>::new()
                    .reply("get", &Self::get(self))
            }
            "mirror" => {
                let mut args = ::granary_sdk::__private::Args::read(
                    "mirror",
                    [
                        ::granary_sdk::__private::Param::new(
                            "to",
                            ::granary_sdk::__private::Typed::<String>::new()
                                .is_required(),
                        ),
                    ],
                    args,
                )?;
                ::granary_sdk::__private::Typed::<
                    ::core::result::Result<Counter, CallError>,
                >::new()
                    .reply_result(
                        "mirror",
                        Self::mirror(
                            self,
                            ctx,
                            ::granary_sdk::__private::Typed::<String>::new()
                                .take(&mut args)?,
                        ),
                    )
            }
            _ => {
                ::core::result::Result::Err(
                    ::granary_sdk::Fault::unknown_method(
                        <Self as ::granary_sdk::Grain>::NAME,
                        method,
                        &["add", "get", "mirror"],
                    ),
                )
            }
        }
    }
}
mod __counter_a463ce9b {
    ///Calls one `counter` grain and waits for its reply; [`Context::grain`](::granary_sdk::Context::grain) makes it.
    #[derive(Debug, Clone)]
    pub struct CounterClient<'c> {
        pub(super) ctx: &'c ::granary_sdk::Context,
        pub(super) calls: CounterCalls,
    }
    ///Prepares calls of one `counter` grain; [`Context::prepare`](::granary_sdk::Context::prepare) makes it.
    #[derive(Debug, Clone)]
    pub struct CounterCalls {
        pub(super) to: ::granary_sdk::__private::CallTo,
    }
}
#[allow(unused_imports, reason = "few name these types: `Context` makes them")]
pub use __counter_a463ce9b::*;
#[allow(clippy::too_many_arguments, reason = "as many as the grain's own methods take")]
impl __counter_a463ce9b::CounterClient<'_> {
    /// Adds `n` and returns the new value.
    ///
    /// # Errors
    /// [`CallError`](::granary_sdk::CallError), when no value came back.
    #[allow(dead_code, reason = "a crate need not call every method of its own grain")]
    pub fn add(
        &self,
        n: i64,
        note: Option<String>,
    ) -> ::core::result::Result<i64, ::granary_sdk::CallError<::granary_sdk::AnyError>> {
        #[allow(unused_imports, reason = "only a mistake takes these")]
        use ::granary_sdk::__private::Mistaken as _;
        ::granary_sdk::__private::Typed::<i64>::new()
            .run(self.ctx, __counter_a463ce9b::CounterCalls::add(&self.calls, n, note))
    }
    ///
    /// # Errors
    /// [`CallError`](::granary_sdk::CallError), when no value came back.
    #[allow(dead_code, reason = "a crate need not call every method of its own grain")]
    pub fn get(
        &self,
    ) -> ::core::result::Result<i64, ::granary_sdk::CallError<::granary_sdk::AnyError>> {
        #[allow(unused_imports, reason = "only a mistake takes these")]
        use ::granary_sdk::__private::Mistaken as _;
        ::granary_sdk::__private::Typed::<i64>::new()
            .run(self.ctx, __counter_a463ce9b::CounterCalls::get(&self.calls))
    }
    ///
    /// # Errors
    /// [`CallError`](::granary_sdk::CallError), when no value came back.
    #[allow(dead_code, reason = "a crate need not call every method of its own grain")]
    pub fn mirror(
        &self,
        to: String,
    ) -> ::core::result::Result<
        Counter,
        ::granary_sdk::CallError<<CallError as ::granary_sdk::MethodError>::Callee>,
    > {
        #[allow(unused_imports, reason = "only a mistake takes these")]
        use ::granary_sdk::__private::Mistaken as _;
        ::granary_sdk::__private::Typed::<Counter>::new()
            .run(self.ctx, __counter_a463ce9b::CounterCalls::mirror(&self.calls, to))
    }
}
#[allow(clippy::too_many_arguments, reason = "as many as the grain's own methods take")]
impl __counter_a463ce9b::CounterCalls {
    /// Adds `n` and returns the new value.
    #[allow(dead_code, reason = "a crate need not call every method of its own grain")]
    pub fn add(
        &self,
        n: i64,
        note: Option<String>,
    ) -> ::granary_sdk::Call<i64, ::granary_sdk::AnyError> {
        #[allow(unused_imports, reason = "only a mistake takes these")]
        use ::granary_sdk::__private::Mistaken as _;
        ::granary_sdk::__private::Typed::<(i64, Option<String>)>::new()
            .call(&self.to, "add", &(n, note))
    }
    #[allow(dead_code, reason = "a crate need not call every method of its own grain")]
    pub fn get(&self) -> ::granary_sdk::Call<i64, ::granary_sdk::AnyError> {
        #[allow(unused_imports, reason = "only a mistake takes these")]
        use ::granary_sdk::__private::Mistaken as _;
        ::granary_sdk::__private::Typed::<[(); 0]>::new().call(&self.to, "get", &[(); 0])
    }
    #[allow(dead_code, reason = "a crate need not call every method of its own grain")]
    pub fn mirror(
        &self,
        to: String,
    ) -> ::granary_sdk::Call<
        Counter,
        <CallError as ::granary_sdk::MethodError>::Callee,
    > {
        #[allow(unused_imports, reason = "only a mistake takes these")]
        use ::granary_sdk::__private::Mistaken as _;
        ::granary_sdk::__private::Typed::<(String,)>::new()
            .call(&self.to, "mirror", &(to,))
    }
}
