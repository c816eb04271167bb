//! `granary repair`: what is damaged in a data folder, what a repair would lose, and the repair.
//!
//! It works on the folder itself, with no host running. Without `--yes` it asks, and where nobody can be asked it only reports.

use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;

use clap::Args;
use granary_host::host::is_member;
use granary_host::storage::{Repair as Repairing, RepairReport, StorageConfig, StorageError, Whose};
use serde_json::json;

use crate::Failure;
use crate::logging::{self, Form};
use crate::output::{out, out_part};

/// Examines a data folder and repairs it; no host may run on it
#[derive(Args, Debug)]
pub(crate) struct Repair {
    /// The host's data folder
    #[arg(long, env = "GRANARY_DATA", value_name = "DIR", default_value = "granary-data")]
    data: PathBuf,
    /// Repairs without asking, whatever it loses
    #[arg(long)]
    yes: bool,
    /// Makes of a folder of a cluster's member a new host, outside of any cluster, with what is left in it
    #[arg(long)]
    as_new: bool,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

impl Repair {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = logging::start(Form::PLAIN)?;
        let refused = |error: StorageError| Failure::Refused(error.to_string());
        let repairing = Repairing::examine(&self.data).map_err(refused)?;
        let report = repairing.report().clone();
        output.flush();
        if !self.json {
            out_part!("{report}");
        }
        if report.is_sound() && !self.as_new {
            self.tell(&report, None);
            return Ok(());
        }
        if !self.agreed() {
            self.tell(&report, None);
            let what = "nothing was changed: `granary repair --yes` repairs the folder".to_owned();
            return Err(Failure::Refused(what));
        }
        let whose = match is_member(&self.data) {
            _ if self.as_new => Whose::New,
            true => Whose::Members,
            false => Whose::Alone,
        };
        let quarantine = repairing.mend(StorageConfig::default(), whose).map_err(refused)?;
        self.tell(&report, Some((&quarantine, whose)));
        Ok(())
    }

    /// Whether the repair is wanted.
    fn agreed(&self) -> bool {
        if self.yes {
            return true;
        }
        if self.json || !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return false;
        }
        out_part!("Repair? Damaged files are kept in a folder `quarantine`. [y/N] ");
        // A terminal that fails says no.
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
    }

    fn tell(&self, report: &RepairReport, done: Option<(&PathBuf, Whose)>) {
        let quarantine = done.map(|(quarantine, _)| quarantine);
        let has_lost_its_vote = report.loses() && done.is_some_and(|(_, whose)| whose == Whose::Members);
        if self.json {
            let value = json!({ "report": report, "loses": report.loses(), "repaired": quarantine.is_some(), "quarantine": quarantine });
            out!("{value:#}");
        } else if let Some(quarantine) = quarantine {
            let what = if has_lost_its_vote {
                "its host mustn't vote in its cluster any more: start a new one on an empty folder with a token of another host, which has \
                 copies, and delete this one then (if none has: `granary repair --as-new`)"
            } else {
                "a host starts on the folder"
            };
            out!("repaired: {what}; what was damaged is in {}", quarantine.display());
        }
    }
}
