//! The processes of the operator: how many there are, and each alive, frozen or dead.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::apiserver::LEASES;
use super::determinism::now;
use super::world::{SYSTEM, World, lock};

/// The Lease of the process that leads.
pub const LEADER: &str = "dci-operator";

/// How long nothing may be written at rest, usually.
const REST: u64 = 120_000;

/// Who the operators are, and how long they are watched.
#[derive(Clone, Copy, Debug)]
pub struct Staff {
    pub processes: usize,
    pub elect: bool,
    /// How long nothing may be written at rest, in milliseconds.
    pub rest: u64,
    /// How many changes the API server keeps for watches that are behind.
    pub kept: usize,
    /// The longest page of its lists; 0: as long as it is asked for.
    pub page: usize,
}

impl Default for Staff {
    fn default() -> Self {
        Self { processes: 1, elect: true, rest: REST, kept: super::apiserver::KEPT, page: 0 }
    }
}

/// One process; another one takes its place when it is dead.
#[derive(Default)]
pub struct Replica {
    /// What one process has read, another one does not know.
    pub name: String,
    dead: AtomicBool,
    frozen_until: AtomicU64,
}

impl Replica {
    pub fn new(name: String) -> Self {
        Self { name, ..Self::default() }
    }

    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Nothing of it goes on until then, as after SIGSTOP.
    pub fn freeze(&self, until: u64) {
        self.frozen_until.store(until, Ordering::SeqCst);
    }

    /// Never returns once the process is dead; returns when it is thawed, and how long that took.
    pub async fn alive(&self) -> u64 {
        let began = now();
        loop {
            if self.is_dead() {
                std::future::pending::<()>().await;
            }
            let until = self.frozen_until.load(Ordering::SeqCst);
            if now() >= until {
                return now() - began;
            }
            tokio::time::sleep(Duration::from_millis(until - now())).await;
        }
    }

    /// The process ends here.
    pub async fn die<T>(&self, world: &World) -> T {
        self.dead.store(true, Ordering::SeqCst);
        world.died.notify_one();
        std::future::pending().await
    }
}

impl World {
    /// The process that leads is frozen for so long; whether one does.
    pub fn freeze_leader(&self, span: u64) -> bool {
        self.disturb(span);
        let lease = self.server(|s| s.get(&(LEASES, SYSTEM.to_owned(), LEADER.to_owned())).ok());
        let holder = lease.and_then(|lease| lease["spec"]["holderIdentity"].as_str().map(str::to_owned));
        let replicas = lock(&self.replicas);
        let leader = replicas.iter().find(|replica| Some(&replica.name) == holder.as_ref() && !replica.is_dead());
        leader.inspect(|leader| leader.freeze(now() + span)).is_some()
    }
}
