//! One method for each host call and each way to go wrong: what the host's tests call.
//!
//! A method does one thing and says it in one line; the tests say what ought to come of it.

use std::cell::Cell;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::hint::black_box;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use granary_sdk::log::Level;
use granary_sdk::prelude::*;
use granary_sdk::serde_json::Value;

/// A number, and some bytes to fill memory with.
#[derive(Default, Serialize, Deserialize)]
pub struct Probe {
    value: i64,
    bytes: Vec<u8>,
    reads: Cell<u64>,
}

/// One call of `call_all`.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Target {
    grain_type: String,
    key: String,
    method: String,
    args: Value,
}

/// What a call came to.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Outcome {
    /// The callee's value; null when there is none.
    value: Value,
    /// `ok`, or the failure's code.
    code: String,
    /// The failure's message.
    message: String,
    /// The callee's own error.
    error: Value,
}

/// An error with a status of its own.
#[derive(Debug, Serialize, Deserialize, JsonSchema, GrainError)]
pub enum Refusal {
    /// The probe was told to refuse.
    #[status(409)]
    Conflict { value: i64 },
}

#[grain]
impl Probe {
    /// Adds `n` and returns the new value.
    pub fn add(&mut self, n: i64) -> i64 {
        self.value += n;
        self.value
    }

    /// The value.
    #[read]
    pub fn get(&self) -> i64 {
        self.value
    }

    /// Counts its own calls in a cell: a read that writes, and what a read writes is not committed.
    #[read]
    pub fn count_reads(&self) -> u64 {
        self.reads.set(self.reads.get() + 1);
        self.reads.get()
    }

    /// The key and the request id of this turn.
    #[read]
    pub fn whoami(&self, ctx: &Context) -> (String, String) {
        (ctx.key().to_owned(), ctx.request_id().to_owned())
    }

    /// Gives back what it got.
    #[read]
    pub fn echo(&self, value: Value) -> Value {
        value
    }

    /// Gives back a number that few readers of JSON know.
    #[read]
    pub fn echo_wide(&self, n: u128) -> u128 {
        n
    }

    /// Gives back a required and an optional argument.
    #[read]
    pub fn option(&self, a: i64, b: Option<String>) -> (i64, Option<String>) {
        (a, b)
    }

    /// A text of this many bytes.
    #[read]
    pub fn big_reply(&self, bytes: usize) -> String {
        "x".repeat(bytes)
    }

    /// Grows memory by `pages` of 64 KiB and returns how many there are then; -1 when the host refuses.
    pub fn grow(&mut self, pages: usize) -> i64 {
        memory::grow(pages)
    }

    /// How many pages of 64 KiB there are.
    #[read]
    pub fn memory_pages(&self) -> i64 {
        memory::pages()
    }

    /// Keeps this many bytes of one value.
    pub fn fill(&mut self, bytes: usize, value: u8) {
        self.bytes.clear();
        self.bytes.resize(bytes, value);
    }

    /// Changes one of the kept bytes.
    pub fn poke(&mut self, at: usize, value: u8) {
        self.bytes[at] = value;
    }

    /// Changes one kept byte of each of the first `pages` pages.
    pub fn scatter(&mut self, pages: usize, value: u8) {
        self.bytes
            .iter_mut()
            .step_by(4096)
            .take(pages)
            .for_each(|byte| *byte = value);
    }

    /// FNV-1a over the kept bytes, as text: JavaScript's numbers would not hold it.
    #[read]
    pub fn checksum(&self) -> String {
        let fnv = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        format!("{:016x}", self.bytes.iter().fold(0xcbf2_9ce4_8422_2325, fnv))
    }

    /// Allocates and touches this many bytes, then gives them back: a bomb if they're too many.
    pub fn allocate(&mut self, bytes: usize) -> usize {
        black_box(vec![1_u8; bytes]).len()
    }

    /// Traps.
    pub fn trap_now(&mut self) {
        std::process::abort();
    }

    /// Adds `n`, then traps: nothing of it may be seen later.
    pub fn trap_after_write(&mut self, n: i64) {
        self.value += n;
        std::process::abort();
    }

    /// Panics with this message.
    pub fn panic(&mut self, message: String) {
        panic!("{message}");
    }

    /// Never ends.
    pub fn spin(&mut self) {
        loop {
            black_box(());
        }
    }

    /// Adds `n`, then never ends.
    pub fn spin_after_write(&mut self, n: i64) {
        self.value += n;
        self.spin();
    }

    /// Recurses this deep on the stack, 256 bytes of it in linear memory each time.
    pub fn recurse(&mut self, depth: u64) -> u64 {
        recurse(depth)
    }

    /// Ends the program, as `main` would.
    pub fn exit(&mut self, code: i32) {
        std::process::exit(code);
    }

    /// Returns an error.
    pub fn fail(&mut self, message: String) -> Result<(), String> {
        Err(message)
    }

    /// Adds `n`, then returns an error: the addition stands.
    pub fn fail_after_write(&mut self, n: i64) -> Result<(), String> {
        self.value += n;
        Err(format!("the value is {} now", self.value))
    }

    /// Returns an error that chose HTTP status 409.
    pub fn fail_status(&mut self) -> Result<(), Refusal> {
        Err(Refusal::Conflict { value: self.value })
    }

    /// Calls any method of any grain and says what came of it.
    pub fn call(&mut self, ctx: &Context, grain_type: String, key: String, method: String, args: Value) -> Outcome {
        ctx.run(Call::new(&grain_type, &key, &method, &args)).into()
    }

    /// Makes calls at the same time and says what came of each.
    pub fn call_all(&mut self, ctx: &Context, calls: Vec<Target>) -> Vec<Outcome> {
        let prepare = |to: &Target| Call::new(&to.grain_type, &to.key, &to.method, &to.args);
        let calls: Vec<Call<Value>> = calls.iter().map(prepare).collect();
        ctx.all(calls).into_iter().map(Outcome::from).collect()
    }

    /// Adds 1 to each of these grains, in an order that differs from turn to turn, and traps then.
    pub fn add_in_any_order_then_trap(&mut self, ctx: &Context, keys: Vec<String>) {
        for key in keys.into_iter().collect::<HashSet<String>>() {
            let _: Result<Value, CallError> = ctx.run(Call::new("probe", &key, "add", &[1]));
        }
        std::process::abort();
    }

    /// Adds `n`, calls, and passes a failure on as its own.
    pub fn pass_on(
        &mut self,
        ctx: &Context,
        n: i64,
        grain_type: String,
        key: String,
        method: String,
        args: Value,
    ) -> Result<Value, CallError> {
        self.value += n;
        ctx.run(Call::new(&grain_type, &key, &method, &args))
    }

    /// Adds `n`, calls, and traps when the reply is there: the call stands, the addition does not.
    pub fn call_then_trap(
        &mut self,
        ctx: &Context,
        n: i64,
        grain_type: String,
        key: String,
        method: String,
        args: Value,
    ) {
        self.value += n;
        let _: Result<Value, CallError> = ctx.run(Call::new(&grain_type, &key, &method, &args));
        std::process::abort();
    }

    /// Calls itself under another key, which does the same with one less; returns how deep it came.
    pub fn chain(&mut self, ctx: &Context, depth: u64) -> Result<u64, CallError> {
        match depth {
            0 => Ok(0),
            depth => {
                let next = format!("{}+", ctx.key());
                Ok(1 + ctx.grain::<Self>(next).chain(depth - 1)?)
            }
        }
    }

    /// Ends when the probe at `gate` has the value 0: whoever deletes that one opens the gate.
    pub fn wait_at(&mut self, ctx: &Context, gate: String) {
        // A host that refuses calls for the moment doesn't open it.
        while ctx.grain::<Self>(&gate).get() != Ok(0) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Writes a log record; `level` is the level's name.
    pub fn log(&mut self, level: String, message: String) -> Result<(), String> {
        let level = match level.as_str() {
            "trace" => Level::Trace,
            "debug" => Level::Debug,
            "info" => Level::Info,
            "warn" => Level::Warn,
            "error" => Level::Error,
            other => return Err(format!("`{other}` is no level")),
        };
        log::log!(level, "{message}");
        Ok(())
    }

    /// Writes a line to stdout.
    #[allow(clippy::print_stdout, reason = "that's what is tested")]
    pub fn print(&mut self, message: String) {
        println!("{message}");
    }

    /// Writes a line to stderr.
    pub fn eprint(&mut self, message: String) {
        eprintln!("{message}");
    }

    /// Computes for some time, then adds 1.
    pub fn spin_ms(&mut self, duration_ms: u64) {
        let end = std::time::Instant::now() + Duration::from_millis(duration_ms);
        while std::time::Instant::now() < end {}
        self.value += 1;
    }

    /// Sleeps: no guest CPU, but time.
    pub fn sleep_ms(&mut self, duration_ms: u64) {
        std::thread::sleep(Duration::from_millis(duration_ms));
    }

    /// Milliseconds since 1970.
    #[read]
    pub fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_secs() * 1000 + u64::from(since.subsec_millis()))
    }

    /// A number from this grain's hash seed, as text: another one for each grain and call.
    pub fn random(&mut self) -> String {
        format!("{:016x}", RandomState::new().hash_one(()))
    }
}

impl From<Result<Value, CallError>> for Outcome {
    fn from(result: Result<Value, CallError>) -> Self {
        let (code, message) = match &result {
            Ok(_) => ("ok".to_owned(), String::new()),
            Err(failure) => (failure.code().to_owned(), failure.to_string()),
        };
        let (value, error) = match result {
            Ok(value) => (value, Value::Null),
            Err(CallError::Guest(error)) => (Value::Null, error.value),
            Err(CallError::Failed { .. }) => (Value::Null, Value::Null),
        };
        Self {
            value,
            code,
            message,
            error,
        }
    }
}

#[inline(never)]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 32]);
    match depth {
        0 => frame[0],
        _ => 1 + recurse(depth - 1) + (frame[31] - depth),
    }
}

#[cfg(target_arch = "wasm32")]
mod memory {
    use std::arch::wasm32::{memory_grow, memory_size};

    pub(super) fn grow(pages: usize) -> i64 {
        match memory_grow::<0>(pages) {
            usize::MAX => -1,
            _ => self::pages(),
        }
    }

    pub(super) fn pages() -> i64 {
        i64::try_from(memory_size::<0>()).unwrap_or(-1)
    }
}

/// Natively there is no linear memory.
#[cfg(not(target_arch = "wasm32"))]
mod memory {
    pub(super) fn grow(_: usize) -> i64 {
        -1
    }

    pub(super) fn pages() -> i64 {
        -1
    }
}

granary_sdk::export!(Probe);

#[cfg(test)]
mod tests {
    use granary_sdk::testing::Host;

    use super::*;

    #[test]
    fn an_outcome_says_value_or_code() {
        let host = Host::new().with::<Probe>();
        let probe = host.grain::<Probe>("a");
        let call = |method: &str, args: Value| {
            let (grain_type, key) = ("probe".to_owned(), "b".to_owned());
            probe.call(grain_type, key, method.to_owned(), args).unwrap()
        };
        assert_eq!(call("add", Value::from(vec![5])).value, Value::from(5));
        let refused = call("fail_status", Value::Array(Vec::new()));
        assert_eq!(refused.code, "guest_error");
        assert_eq!(refused.error["Conflict"]["value"], 5);
        assert_eq!(call("add", Value::Array(Vec::new())).code, "bad_arguments");
        assert_eq!(call("no", Value::Array(Vec::new())).code, "unknown_method");
    }

    #[test]
    fn a_chain_is_as_deep_as_it_is_told() {
        let host = Host::new().with::<Probe>();
        assert_eq!(host.grain::<Probe>("a").chain(5), Ok(5));
    }
}
