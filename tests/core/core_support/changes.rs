//! What a client changes of an Active order, and what a suspended one looks like.

use dci_operator::api::condition::{ConditionType, is_true};

use super::look::reason;
use super::seconds;
use super::sweep::{Kind, reach};
use super::world::World;

/// An order that has been Active for a while.
pub fn settled() -> World {
    let mut world = Kind::Plain.world();
    reach(&mut world, "Active", Kind::Plain);
    world.run_for(seconds(90));
    world
}

/// The service is stopped, or goes on.
pub fn suspend(world: &mut World, suspended: bool) {
    world.edit("web", |raw| raw.spec.suspended = suspended);
}

/// The system is asked for again, by another token.
pub fn reinstall(world: &mut World, token: &str) {
    world.edit("web", |raw| raw.spec.reinstall = token.into());
}

/// Panel and order say that the service is stopped, and that the server is the client's all the same.
pub fn assert_suspended(world: &World) {
    let server = &world.panel.servers["1"];
    assert!(server.disabled && !server.port && !server.on, "{}", world.describe());
    assert_eq!((world.phase("web"), reason(world.status("web"))), ("Suspended", "Suspended"), "{}", world.describe());
    assert!(is_true(&world.status("web").conditions, ConditionType::Suspended));
    assert_eq!(server.owner, world.panel.user("acme").map(|u| u.id.clone()), "the client's all the same");
}
