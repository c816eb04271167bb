//! On whose behalf a turn runs, and the way from there to other grains.

use crate::call::Failure;
use crate::{AnyError, Call, CallError, CallList, CalleeError, Grain, RawCall};
use serde::de::DeserializeOwned;

#[cfg(target_arch = "wasm32")]
use crate::bindings as outside;
#[cfg(not(target_arch = "wasm32"))]
use crate::testing as outside;

/// On whose behalf a turn runs. A method may take `&Context` as its first parameter; it's no argument on the wire.
#[derive(Debug)]
pub struct Context {
    key: String,
    request_id: String,
    link: outside::Link,
}

impl Context {
    pub(crate) fn new(key: String, request_id: String, link: outside::Link) -> Self {
        Self { key, request_id, link }
    }

    /// This grain's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The request's id, the same in the logs, replies and errors of every grain that the request reaches.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// The grain of type `G` with this key: `ctx.grain::<Counter>("alice").add(5)` calls it and waits for its reply.
    ///
    /// A call is its own commit: what it did stands even if this turn fails later. A call that could never be answered,
    /// because its callee waits for this grain, fails at once with the code `deadlock`.
    pub fn grain<G: Grain>(&self, key: impl Into<String>) -> G::Client<'_> {
        G::client(self, key.into())
    }

    /// A call to be made with others at the same time, by [`Context::all`].
    pub fn prepare<G: Grain>(&self, key: impl Into<String>) -> G::Calls {
        G::calls(key.into())
    }

    /// Makes many calls at the same time and waits for all replies, which come in the order of the calls.
    ///
    /// Takes an array, a `Vec`, or a tuple of calls of different types, and gives back the same shape:
    ///
    /// ```
    /// # use granary_sdk::prelude::*;
    /// # #[derive(Default, Serialize, Deserialize)]
    /// # pub struct Counter { value: i64 }
    /// # #[grain]
    /// # impl Counter {
    /// #     pub fn add(&mut self, n: i64) -> i64 { self.value += n; self.value }
    /// # }
    /// # #[derive(Default, Serialize, Deserialize)]
    /// # pub struct Name(String);
    /// # #[grain]
    /// # impl Name {
    /// #     #[read]
    /// #     pub fn get(&self) -> String { self.0.clone() }
    /// # }
    /// # fn total(ctx: &Context) -> Result<(i64, String), CallError> {
    /// let [a, b] = ctx.all(["a", "b"].map(|key| ctx.prepare::<Counter>(key).add(1)));
    /// let (c, name) = ctx.all((ctx.prepare::<Counter>("c").add(1), ctx.prepare::<Name>("c").get()));
    /// # Ok((a? + b? + c?, name?))
    /// # }
    /// # let host = granary_sdk::testing::Host::new().with::<Counter>().with::<Name>();
    /// # assert_eq!(total(host.outside()), Ok((3, String::new())));
    /// ```
    pub fn all<L: CallList>(&self, calls: L) -> L::Replies {
        calls.run(self)
    }

    /// Makes one prepared call.
    ///
    /// # Errors
    /// As the typed client's methods.
    pub fn run<T: DeserializeOwned, E: CalleeError>(&self, call: Call<T, E>) -> Result<T, CallError<E>> {
        call.run(self)
    }

    /// Calls a grain whose type this crate does not know. `args` is a JSON array by position; so is the reply JSON.
    ///
    /// # Errors
    /// As the typed client's methods; the callee's own error is untyped.
    pub fn call_raw(
        &self,
        grain_type: &str,
        key: &str,
        method: &str,
        args: &[u8],
    ) -> Result<Vec<u8>, CallError<AnyError>> {
        self.invoke(RawCall {
            grain_type: grain_type.to_owned(),
            key: key.to_owned(),
            method: method.to_owned(),
            args: args.to_vec(),
        })
        .map_err(|failure| failure.read())
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn link(&self) -> &outside::Link {
        &self.link
    }

    pub(crate) fn invoke(&self, call: RawCall) -> Result<Vec<u8>, Failure> {
        self.link.invoke(&self.request_id, call)
    }

    pub(crate) fn invoke_all(&self, calls: Vec<RawCall>) -> Vec<Result<Vec<u8>, Failure>> {
        self.link.invoke_all(&self.request_id, calls)
    }
}
