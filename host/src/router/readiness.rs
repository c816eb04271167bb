//! Whether this host takes calls, asked of what every call depends on: the log that makes commits durable, and, in a cluster, the thread that
//! decides on its part there.

use std::time::Duration;

use super::Router;

/// How long either may take. Longer than the longest sync of a disk that works.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks at the log.
const LOOK: Duration = Duration::from_millis(10);

impl Router {
    /// Whether it does; otherwise what doesn't answer.
    pub async fn ready(&self) -> Result<(), &'static str> {
        let (log, cluster) = tokio::join!(self.log_goes_on(), self.cluster_answers());
        log.and(cluster)
    }

    async fn log_goes_on(&self) -> Result<(), &'static str> {
        let storage = &self.catalog.parts.storage;
        let before = storage.durable();
        let goes_on = async {
            while storage.is_writing() && storage.durable() == before {
                tokio::time::sleep(LOOK).await;
            }
        };
        let late = "the commit log doesn't get on: its disk doesn't answer";
        tokio::time::timeout(PATIENCE, goes_on).await.map_err(|_| late)
    }

    async fn cluster_answers(&self) -> Result<(), &'static str> {
        match self.catalog.parts.cluster() {
            Some(cluster) if !cluster.answers(PATIENCE).await => Err("the cluster's thread doesn't answer"),
            _ => Ok(()),
        }
    }
}
