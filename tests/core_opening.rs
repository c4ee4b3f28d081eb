//! Opening, as tables of scenarios: what is asked of the panels, in which order, and where an order ends up.

#[path = "core_support/mod.rs"]
mod support;

use support::world::World;

#[test]
fn opening_asks_for_each_change_once_and_in_order() {
    let mut world = World::simple(2, 4);
    world.until_phase("web", "Active");
    let names: Vec<&str> = world.asked.iter().map(|(_, c)| c.name()).collect();
    assert_eq!(names, ["createUser", "claim", "powerOn", "takeAddress", "replaceMainAddress", "giveBackAddress", "install", "handOver"]);
    world.assert_quiet();
    world.delete("web");
    world.until_phase("web", "gone");
    world.assert_clean();
}
