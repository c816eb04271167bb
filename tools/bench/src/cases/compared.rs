//! Two things measured in turns, A B B A, and what comes of a few such rounds.

use crate::Outcome;
use crate::cases::Effort;
use crate::load::Measured;
use crate::table::{median, thousands};

/// Medians over the rounds; a round's figure is that of its two runs together.
#[derive(Debug)]
pub(crate) struct Compared {
    pub(crate) ours: Figures,
    pub(crate) other: Figures,
    /// The median of the rounds' ratios of rates.
    pub(crate) ratio: f64,
}

/// Of one side.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) rate: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
}

impl Compared {
    /// Runs each side twice a round.
    pub(crate) fn measure(
        effort: Effort,
        mut ours: impl FnMut() -> Outcome<Measured>,
        mut other: impl FnMut() -> Outcome<Measured>,
    ) -> Outcome<Compared> {
        let mut rounds = Vec::new();
        for _ in 0..effort.rounds() {
            let first = ours()?;
            let others = other()?.and(other()?);
            rounds.push((first.and(ours()?), others));
        }
        let (ours, others): (Vec<Measured>, Vec<Measured>) = rounds.into_iter().unzip();
        let ratios = ours.iter().zip(&others).map(|(ours, other)| ours.rate() / other.rate());
        Ok(Compared {
            ratio: median(ratios.collect()),
            ours: Figures::of(&ours),
            other: Figures::of(&others),
        })
    }

    /// The ratio for the table.
    pub(crate) fn percent(&self) -> String {
        format!("{:.0} %", self.ratio * 100.0)
    }
}

impl Figures {
    fn of(rounds: &[Measured]) -> Figures {
        let of = |figure: &dyn Fn(&Measured) -> f64| median(rounds.iter().map(figure).collect());
        Figures {
            rate: of(&Measured::rate),
            p50_ms: of(&|round| round.quantile_ms(0.5)),
            p99_ms: of(&|round| round.quantile_ms(0.99)),
            p999_ms: of(&|round| round.quantile_ms(0.999)),
        }
    }

    /// For the table.
    pub(crate) fn text(&self) -> String {
        format!(
            "{}/s, p50 {:.2} p99 {:.2} ms",
            thousands(self.rate),
            self.p50_ms,
            self.p99_ms
        )
    }
}
