//! A counter for each key: the smallest grain that is good for something.

use granary_sdk::prelude::*;

/// One counter for each key.
#[derive(Default, Serialize, Deserialize)]
pub struct Counter {
    value: i64,
}

#[grain]
impl Counter {
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

    /// Adds this counter's value to another counter and returns that one's new value.
    pub fn mirror(&mut self, ctx: &Context, to: String) -> Result<i64, CallError> {
        ctx.grain::<Counter>(&to).add(self.value)
    }
}

granary_sdk::export!(Counter);

#[cfg(test)]
mod tests {
    use granary_sdk::testing::Host;

    use super::*;

    #[test]
    fn a_key_counts_for_itself() {
        let host = Host::new().with::<Counter>();
        let alice = host.grain::<Counter>("alice");
        assert_eq!(alice.get(), Ok(0));
        assert_eq!(alice.add(5), Ok(5));
        assert_eq!(alice.add(-2), Ok(3));
        assert_eq!(host.grain::<Counter>("bob").get(), Ok(0));
    }

    #[test]
    fn mirror_adds_to_the_other_counter() {
        let host = Host::new().with::<Counter>();
        host.grain::<Counter>("alice").add(5).unwrap();
        host.grain::<Counter>("bob").add(1).unwrap();
        assert_eq!(host.grain::<Counter>("alice").mirror("bob".into()), Ok(6));
    }

    #[test]
    fn mirroring_oneself_is_a_deadlock() {
        let host = Host::new().with::<Counter>();
        let failure = host.grain::<Counter>("alice").mirror("alice".into());
        assert_eq!(failure.unwrap_err().code(), "deadlock");
    }
}
