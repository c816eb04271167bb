//! Accounts that transfer money to one another: a grain that calls its like, and what it does when the call fails.
//!
//! Amounts are in cents.

use granary_sdk::prelude::*;

/// One account for each key.
#[derive(Default, Serialize, Deserialize)]
pub struct Account {
    balance: u64,
    /// What left for accounts that may or may not have got it.
    in_doubt: u64,
}

/// Why an account refuses.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema, GrainError)]
pub enum BankError {
    /// The account holds less than that.
    #[status(409)]
    InsufficientFunds { balance: u64 },
    /// An amount is more than nothing and not more than an account can hold.
    InvalidAmount,
    /// Money moves between two different accounts.
    SameAccount,
    /// The other account could not be asked.
    #[from]
    Call(CallError),
}

#[grain(name = "bank")]
impl Account {
    /// Adds to the balance and returns the new one.
    pub fn deposit(&mut self, amount: u64) -> Result<u64, BankError> {
        if amount == 0 {
            return Err(BankError::InvalidAmount);
        }
        let sum = self.balance.checked_add(amount);
        self.balance = sum.ok_or(BankError::InvalidAmount)?;
        Ok(self.balance)
    }

    /// Takes from the balance and returns the new one.
    pub fn withdraw(&mut self, amount: u64) -> Result<u64, BankError> {
        if amount == 0 {
            return Err(BankError::InvalidAmount);
        }
        let balance = self.balance;
        let left = balance.checked_sub(amount);
        self.balance = left.ok_or(BankError::InsufficientFunds { balance })?;
        Ok(self.balance)
    }

    /// The balance.
    #[read]
    pub fn balance(&self) -> u64 {
        self.balance
    }

    /// What left in transfers whose end is not known.
    #[read]
    pub fn in_doubt(&self) -> u64 {
        self.in_doubt
    }

    /// Moves money to another account and returns what's left here.
    pub fn transfer(&mut self, ctx: &Context, to: String, amount: u64) -> Result<u64, BankError> {
        if to == ctx.key() {
            return Err(BankError::SameAccount);
        }
        // The money leaves first: this account answers to nobody until its turn ends, and can put it back.
        self.withdraw(amount)?;
        if let Err(failure) = ctx.grain::<Account>(&to).deposit(amount) {
            if failure.is_in_doubt() {
                // It may have arrived: put back, it would be there twice.
                self.in_doubt = self.in_doubt.saturating_add(amount);
            } else {
                self.balance += amount;
            }
            return Err(failure.into());
        }
        // From here to the commit of this turn a crash loses the withdrawal, not the deposit. Its client repeats the
        // transfer with the same `idempotency-key`: the deposit is not made again.
        Ok(self.balance)
    }
}

granary_sdk::export!(Account);

#[cfg(test)]
mod tests;
