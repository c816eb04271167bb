//! Builds a host's parts, starts them in order, stops them in reverse.
//!
//! **Not here:** what any part does.

mod figures;
mod lag;
mod load;
mod membership;
mod revisions;
mod stopping;
#[cfg(test)]
mod upgrade_tests;

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{fmt, io};

use granary_core::reply_table::absent::{self, AbsentTables};
use granary_core::stopping::Sight;
use granary_core::waits::WaitGraph;
use tokio::net::TcpListener;
use tokio::sync::{Notify, RwLock, Semaphore};
use tokio::task::JoinSet;

use self::figures::{LOG_FIGURES, STORAGE_FIGURES, UPGRADE_FIGURES};
use self::membership::Membership;
use self::stopping::Leaver;
use crate::activation::{
    Backlog, BacklogLimits, Budget, BudgetLimits, Catalog, Growing, Keeper, Meter, Parts, Records, Release, Stall,
    default_budget, fix_threshold,
};
use crate::audit::{self, Audit};
use crate::clock::Clock;
use crate::cluster::{Station, StationError, channel_to_office};
use crate::config::{BUDGET_LEAST, HostConfig};
use crate::http::{self, HostFacts, HttpParts, OwnerSocket, Reloader, ServeError};
use crate::modules::Modules;
use crate::outlet;
use crate::router::Router;
use crate::snapshot::{Method, Tracking};
use crate::storage::{GAVE_UP, SledStorage, Storage, StorageError};
use crate::telemetry::Metrics;
use crate::threads;
use crate::wasm::{Engine, WasmConfig};

/// How long the token holds that a host prints when it starts.
const INVITATION: Duration = Duration::from_secs(60 * 60);

/// Why a host doesn't start. Nothing was served; what is stored is as it was.
#[derive(Debug)]
pub enum StartError {
    /// Its settings or its data folder don't allow it, as the text says: for one, the address would be open to others than this machine's
    /// users, and nothing says that this is meant.
    Refused(String),
    /// The address can't be listened on.
    Listen(SocketAddr, io::Error),
    /// Storage doesn't open.
    Storage(StorageError),
    /// A file or a socket of the data folder can't be made.
    Folder(PathBuf, io::Error),
    /// Guests can't run here.
    Wasm(String),
    /// Dirty pages can't be found the way that was asked for.
    DirtyTracking(String),
    /// It can't take part in its cluster.
    Cluster(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Refused(why)
            | StartError::Wasm(why)
            | StartError::DirtyTracking(why)
            | StartError::Cluster(why) => f.write_str(why),
            StartError::Listen(address, error) => {
                write!(
                    f,
                    "can't listen for HTTP on {address}: {error}; --listen names another address"
                )
            }
            StartError::Storage(error) => error.fmt(f),
            // The system's own words for what is in the way of a folder or a file.
            StartError::Folder(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for StartError {}

/// What a host's program awaits. Boxed here, so that all behind it is compiled with this crate, and not anew with each program.
pub type HostFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A running host.
pub struct Host {
    address: SocketAddr,
    listener: TcpListener,
    http: HttpParts,
    reloader: Reloader,
    catalog: Arc<Catalog>,
    storage: Arc<dyn Storage>,
    tasks: JoinSet<()>,
    keeper: Keeper,
    station: Option<Arc<Station>>,
    membership: Option<Arc<Membership>>,
}

impl Host {
    /// Opens storage, prepares guests and takes the address. Requests are served by [`Host::run_until`].
    pub fn start(config: HostConfig) -> HostFuture<Result<Host, StartError>> {
        Box::pin(Host::open(config))
    }

    async fn open(config: HostConfig) -> Result<Host, StartError> {
        config
            .http
            .check(config.listen)
            .map_err(|error| StartError::Refused(error.to_string()))?;
        let memory_bytes = config.memory.budget.unwrap_or_else(default_budget);
        if memory_bytes < BUDGET_LEAST {
            let detail = format!("a memory budget of {memory_bytes} bytes is too small: a host needs {BUDGET_LEAST}");
            return Err(StartError::Refused(detail));
        }
        let config = config.fitted(memory_bytes);
        fix_threshold();
        check_member(&config)?;
        let parts = open_parts(&config, memory_bytes).await?;
        // Storage has the folder for itself now.
        let at = |name: &str, error| StartError::Folder(config.data.join(name), error);
        let audit = Arc::new(Audit::open(&config.data).map_err(|error| at(audit::NAME, error))?);
        let owner = OwnerSocket::open(&config.data).map_err(|error| at(OwnerSocket::NAME, error))?;
        let catalog = Catalog::new(parts.clone());
        catalog.show_figures();
        parts.engine.set_gate(Arc::new(Growing::new(&catalog)));
        let keeper = Keeper::start(&catalog)
            .map_err(|error| StartError::Wasm(format!("the thread of the memory budget can't start: {error}")))?;
        let mut tasks = JoinSet::new();
        tasks.spawn(threads::task("replies", parts.release.clone().run()));
        tasks.spawn(threads::task("idle", catalog.clone().evict_idle(config.idle_timeout)));
        tasks.spawn(threads::task("vacancies", catalog.clone().end_vacancies()));
        let (station, membership) = enter(&config, &catalog, &audit).await?.unzip();

        let taken = |error| StartError::Listen(config.listen, error);
        let listener = TcpListener::bind(config.listen).await.map_err(taken)?;
        let address = listener.local_addr().map_err(taken)?;
        let facts = facts(&parts, address);
        tracing::info!(%address, host = %facts.host, dirty_tracking = facts.dirty_tracking, "started");
        let (reloader, reloads) = http::reloader();
        let http = HttpParts {
            router: Router::new(catalog.clone(), station.clone()),
            modules: parts.modules.clone(),
            facts: Arc::new(facts),
            metrics: parts.metrics.registry().clone(),
            config: config.http,
            owner,
            audit,
            reloads,
        };
        Ok(Host {
            address,
            listener,
            http,
            reloader,
            catalog,
            storage: parts.storage.clone(),
            tasks,
            keeper,
            station,
            membership,
        })
    }

    /// Where it listens, as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Tells the host, while it serves, to read again what it was given in files.
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    /// A token with which one more host may join, or why none can.
    pub fn invitation(&self) -> HostFuture<Result<String, String>> {
        let station = self.station.clone();
        Box::pin(async move {
            let station = station.ok_or("this host is alone: there is no token with which others could join")?;
            station.token(INVITATION).await
        })
    }

    /// Serves until `shutdown`, then stops: no new requests, running turns to their end, grains to other hosts if there are any, all that
    /// they hold into storage.
    pub fn run_until(self, shutdown: HostFuture<()>) -> HostFuture<Result<(), ServeError>> {
        Box::pin(self.serve(shutdown))
    }

    async fn serve(mut self, shutdown: HostFuture<()>) -> Result<(), ServeError> {
        let begun = Notify::new();
        let told = async {
            shutdown.await;
            begun.notify_one();
        };
        let mut serving = Box::pin(http::serve(self.listener, self.http, told));
        let ended = tokio::select! {
            ended = &mut serving => Some(ended),
            () = begun.notified() => None,
        };
        tracing::info!("stopping");
        let began = Instant::now();
        self.catalog.stop_sweeps().await;
        let requests = async {
            match ended {
                Some(ended) => ended,
                None => serving.await,
            }
        };
        let leaver = Leaver::new(&self.catalog, self.station.as_ref());
        let (report, served) = leaver.leave(requests).await;
        self.catalog.parts.engine.stop_compiling();
        self.tasks.shutdown().await;
        if let Some(membership) = self.membership {
            membership.stop().await;
        }
        drop(self.keeper);
        if let Some(station) = self.station {
            let stop = tokio::task::spawn_blocking(move || station.stop(report.is_answered));
            stop.await.expect("no panic in a stop");
        }
        let storage = self.storage;
        let close = tokio::task::spawn_blocking(move || storage.close());
        close.await.expect("storage doesn't panic");
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let Sight {
            requests,
            grains,
            questions,
            ..
        } = report.left;
        if report.is_peaceful {
            tracing::info!(took_ms, "stopped");
        } else {
            // Each of them a number, so that whoever looks for lost calls finds where.
            tracing::warn!(
                took_ms,
                grains,
                requests,
                questions,
                "stopped before everything had ended: turns were cut off, and callers may not know what came of their calls"
            );
        }
        served.unwrap_or(Ok(()))
    }
}

/// Whether a data folder is of a host that is in a cluster.
pub fn is_member(data: &Path) -> bool {
    crate::cluster::was_in_one(data)
}

/// A host that is in a cluster isn't started alone: its grains would be changed behind the others' backs. And not when a repair has given
/// up a part of what it acknowledged: others count on its vote.
fn check_member(config: &HostConfig) -> Result<(), StartError> {
    if !is_member(&config.data) {
        return Ok(());
    }
    let data = config.data.display();
    let detail = if config.data.join(GAVE_UP).exists() {
        format!(
            "a repair of {data} has given up a part of what this host had acknowledged in its cluster ({GAVE_UP} says what): its vote would \
             make others lose it, too. Other hosts have copies: start a new host on an empty folder with a token of one of them \
             (`granary token`, `granary up --data NEW --join TOKEN`). If none has, `granary repair --as-new` makes of this folder a host of \
             its own with what is left"
        )
    } else if config.cluster.is_none() {
        format!(
            "{data} is of a host in a cluster: start it without --alone, as before (with --cluster-advertise, if it listens on all addresses)"
        )
    } else {
        return Ok(());
    };
    Err(StartError::Cluster(detail))
}

/// Gets into the cluster, or ready for the first host that joins; nothing for a host that is to be alone.
async fn enter(
    config: &HostConfig,
    catalog: &Arc<Catalog>,
    audit: &Arc<Audit>,
) -> Result<Option<(Arc<Station>, Arc<Membership>)>, StartError> {
    let Some(cluster) = &config.cluster else {
        tracing::info!(
            "this host is alone, by --alone or for lack of an address that others could reach: nobody can join"
        );
        return Ok(None);
    };
    let failed = |error: StationError| StartError::Cluster(error.to_string());
    let (handle, inbox) = channel_to_office();
    let opened = membership::open(config, cluster, &catalog.parts, (handle.clone(), inbox)).await;
    let station = Arc::new(opened.map_err(failed)?);
    tracing::info!(address = %station.address(), "other hosts reach this one here");
    let membership = Membership::new(catalog, &station, handle, audit);
    membership.begin().await.map_err(failed)?;
    Ok(Some((station, membership)))
}

/// Opens storage, prepares guests, and measures.
async fn open_parts(config: &HostConfig, memory_bytes: u64) -> Result<Arc<Parts>, StartError> {
    let storage = open_storage(config).await?;
    let metrics = Arc::new(Metrics::new());
    let backlog = open_backlog(config, memory_bytes, &metrics);
    let release = Arc::new(Release::new(storage.durable(), backlog.clone()));
    let cluster = Arc::default();
    storage.set_sink(Arc::new(membership::Sinks {
        release: release.clone(),
        cluster: Arc::clone(&cluster),
    }));

    let wasm = WasmConfig {
        cache: Some(config.data.join("compiled")),
        ..config.wasm.clone()
    };
    let engine = Engine::new(&wasm).map_err(|error| StartError::Wasm(error.to_string()))?;
    let tracking = Tracking::new(&config.snapshot, engine.slab().range())
        .map_err(|error| StartError::DirtyTracking(error.to_string()))?;
    let modules = Modules::open(engine.clone(), storage.clone())
        .await
        .map_err(StartError::Storage)?;

    let watched = storage.clone();
    metrics.watch(&STORAGE_FIGURES, move || watched.stats());
    metrics.watch(&LOG_FIGURES, outlet::dropped);
    let watched = modules.clone();
    metrics.watch(&UPGRADE_FIGURES, move || watched.stuck());
    let budget = open_budget(config, memory_bytes, &engine, &metrics)?;
    Ok(Arc::new(Parts {
        storage,
        engine,
        tracking,
        modules,
        release,
        budget,
        backlog,
        stall: Stall::default(),
        restores: Semaphore::new(parallel_restores(config, memory_bytes)),
        waits: Arc::new(Mutex::new(WaitGraph::new())),
        clock: Clock::start(),
        limits: config.limits,
        move_timeout: config.move_timeout,
        cluster,
        alone: RwLock::default(),
        draining: AtomicBool::new(false),
        records: Arc::new(Records::new()),
        metrics,
        tokens: AtomicU64::new(1),
        absent: Mutex::new(AbsentTables::new(absent::LIMIT)),
    }))
}

/// The ledger of the host's memory.
fn open_budget(
    config: &HostConfig,
    bytes: u64,
    engine: &Engine,
    metrics: &Arc<Metrics>,
) -> Result<Arc<Budget>, StartError> {
    let meter = Meter::new(engine.slab().file())
        .map_err(|error| StartError::Wasm(format!("the process' memory can't be measured: {error}")))?;
    let limits = BudgetLimits {
        bytes,
        wait: config.memory.wait,
        waiters: config.memory.waiters,
        large: (bytes / 16).min(config.wasm.memory_limit as u64 / 4),
    };
    let budget = Budget::new(limits, meter, metrics.clone());
    tracing::info!(bytes, taken = budget.used(), "memory budget");
    Ok(budget)
}

fn open_backlog(config: &HostConfig, bytes: u64, metrics: &Arc<Metrics>) -> Arc<Backlog> {
    let limits = BacklogLimits {
        requests: config.memory.waiting_requests,
        bytes: config.memory.waiting_bytes.unwrap_or(bytes / 8),
    };
    Backlog::new(limits, metrics.clone())
}

/// How many grains may come into memory at a time: what one reads isn't charged before it's read, so all of them together have to
/// fit into what is left above the high-water mark.
fn parallel_restores(config: &HostConfig, bytes: u64) -> usize {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let fit = (bytes / 8) as usize / config.wasm.memory_limit;
    fit.clamp(2, threads.max(2))
}

/// Opens the data folder, on a thread that may wait for the disk.
async fn open_storage(config: &HostConfig) -> Result<Arc<dyn Storage>, StartError> {
    let (data, storage) = (config.data.clone(), config.storage.clone());
    let open = tokio::task::spawn_blocking(move || {
        let storage = SledStorage::open(&data, storage)?;
        // In a cluster a deletion is forgotten when all replicas know of it.
        if !crate::cluster::was_in_one(&data) {
            storage.forget_deleted()?;
        }
        Ok(storage)
    });
    let opened = open.await.expect("storage catches its panics");
    opened
        .map(|storage| storage as Arc<dyn Storage>)
        .map_err(|error| in_folder(&config.data, error))
}

/// Why storage doesn't open: a bare error of the system's says at least where that was.
fn in_folder(data: &Path, error: StorageError) -> StartError {
    match error {
        StorageError::Io(error) if error.to_string().contains(&*data.to_string_lossy()) => {
            StartError::Refused(error.to_string())
        }
        StorageError::Io(error) => StartError::Folder(data.to_owned(), error),
        other => StartError::Storage(other),
    }
}

/// What the host says of itself.
fn facts(parts: &Parts, address: SocketAddr) -> HostFacts {
    HostFacts {
        host: parts.storage.host(),
        address,
        dirty_tracking: match parts.tracking.method() {
            Method::Userfaultfd => "userfaultfd",
            Method::Compare => "compare",
        },
        dirty_tracking_reason: parts.tracking.reason().map(str::to_owned),
        started: Instant::now(),
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
