//! What this version does not do yet is refused with a reason, and never ignored.

use serde_json::{Value, json};

use super::support::kstatus::condition;
use super::support::{Setup, World};

#[tokio::test]
async fn an_order_that_asks_for_more_than_its_panel_can_do_is_refused() {
    let mut world = World::start(Setup::default()).await;
    world.order("recipes", &json!({"recipes": ["ISPsystem__nginx.sh", "ISPsystem__other.sh"]})).await;
    let order = world.until_reason("DedicatedServerOrder", "recipes", "Stalled", "SeveralRecipes").await;
    let message = condition(&order, "Stalled").unwrap()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("runRecipe"), "{message}");
    assert_eq!(order["status"]["phase"], "Failed");
    world.polls(2).await;
    assert!(world.changes().iter().all(|change| change.contains("user.edit")), "{:?}", world.changes());
    // Corrected, it goes on; deleted, it goes.
    world.patch("DedicatedServerOrder", "recipes", &json!({"spec": {"recipes": []}})).await;
    world.until_active("recipes").await;
    world.delete("DedicatedServerOrder", "recipes").await;
    world.until_gone("recipes").await;
    world.end().await;
}

#[tokio::test]
async fn handlers_that_ask_for_more_are_refused() {
    let mut world = World::start(Setup::default()).await;
    let provider = world.provider.clone();
    let url = world.sim.url("dci").unwrap().to_owned();
    let handler = |name: &str, spec: Value| {
        let mut object = super::support::objects::handler(&url, &spec);
        object["metadata"]["name"] = name.into();
        object
    };
    world.create(&provider, handler("six", json!({"module": "DCImanager6"}))).await;
    world.until_reason("ProcessingHandler", "six", "Stalled", "NotSupportedYet").await;
    let mut pool = super::support::objects::ip_manager(world.sim.url("ipm").unwrap(), &json!({"flavor": "IPmanager6"}));
    pool["metadata"]["name"] = "six".into();
    world.create(&provider, pool).await;
    world.until_reason("IPManager", "six", "Stalled", "NotSupportedYet").await;
    // The good one beside them works.
    world.order("web-01", &json!({})).await;
    world.until_active("web-01").await;
    world.end().await;
}
