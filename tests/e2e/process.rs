//! The process: its pages, its ports, its permissions, and what it costs when there is nothing to do.

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use super::support::operator::Launch;
use super::support::{Setup, World};

#[tokio::test]
async fn pages_tell_health_and_metrics() {
    let mut world = World::start(Setup::default()).await;
    world.order("web-01", &json!({})).await;
    world.until_active("web-01").await;
    let operator = world.operator.as_ref().unwrap();
    for path in ["/livez", "/readyz"] {
        assert_eq!(operator.page(operator.health, path).await, (200, "ok\n".to_owned()), "{path}");
    }
    let (code, text) = operator.page(operator.metrics, "/metrics").await;
    assert_eq!(code, 200);
    for name in ["dci_operator_reconciles", "dci_operator_panel_requests", "# EOF"] {
        assert!(text.contains(name), "{name} is not in\n{text}");
    }
    world.end().await;
}

#[tokio::test]
async fn an_unchanged_world_costs_one_list_per_poll() {
    let mut world = World::start(Setup::default()).await;
    for (name, type_) in [("web-01", "E3-16G"), ("web-02", "E3-16G"), ("big-01", "E5-64G")] {
        world.order(name, &json!({"configuration": {"serverType": type_}})).await;
    }
    for name in ["web-01", "web-02", "big-01"] {
        world.until_active(name).await;
    }
    world
        .until("the handler counts them", |world| {
            (world.record.get("ProcessingHandler", "msk-1")?["status"]["orders"]["ready"] == 3).then_some(())
        })
        .await;
    world.polls(2).await;
    let versions = |world: &World| {
        let all = ["DedicatedServerOrder", "ProcessingHandler", "IPManager"].into_iter().flat_map(|kind| world.record.all(kind));
        all.map(|o| (o["metadata"]["name"].to_string(), o["metadata"]["resourceVersion"].to_string())).collect::<Vec<_>>()
    };
    let (before, requests, changes) = (versions(&world), world.request_counts("dci"), world.changes().len());
    world.polls(6).await;
    assert_eq!(versions(&world), before, "something was written");
    assert_eq!(world.changes().len(), changes);
    let mut asked = world.request_counts("dci");
    for (func, count) in requests {
        *asked.get_mut(&func).unwrap() -= count;
    }
    let lists = asked.remove("server").unwrap();
    assert!((6..=7).contains(&lists), "{lists} lists");
    assert!(asked.values().all(|count| *count == 0), "nothing else is asked for: {asked:?}");
    world.end().await;
}

#[tokio::test]
async fn without_permissions_it_says_so_and_ends() {
    let world = World::start(Setup { run: false, ..Setup::default() }).await;
    let accounts: Api<ServiceAccount> = Api::namespaced(world.kube.clone(), &world.system);
    accounts.create(&PostParams::default(), &serde_json::from_value(json!({"metadata": {"name": "nobody"}})).unwrap()).await.unwrap();
    let kubeconfig = world.identity_of("nobody").await;
    let args: Vec<&str> = world.launch.args.iter().map(String::as_str).collect();
    let status = Launch::exactly(&kubeconfig, &args, &world.log).start_and_end().await;
    assert_eq!(status.code(), Some(1));
    assert!(world.said("forbids list on dedicatedserverorders.dci-operator.dev"), "{}", world.log.text());
    assert!(world.said("RBAC"), "{}", world.log.text());
    let _ = std::fs::remove_file(kubeconfig);
    // Half of the permissions are not enough either: those in one of two namespaces.
    accounts.create(&PostParams::default(), &serde_json::from_value(json!({"metadata": {"name": "half"}})).unwrap()).await.unwrap();
    let (_, role) = world.kubectl(&["get", "roles", "-n", &world.provider, "-o", "jsonpath={.items[0].metadata.name}"]).await;
    let (role, account) = (format!("--role={role}"), format!("{}:half", world.system));
    let bind = ["create", "rolebinding", "half", "-n", &world.provider, &role, &format!("--serviceaccount={account}")];
    let (code, text) = world.kubectl(&bind).await;
    assert_eq!(code, 0, "{text}");
    let as_half = format!("--as=system:serviceaccount:{account}");
    let began = std::time::Instant::now();
    while world.kubectl(&["auth", "can-i", "list", "manualtasks.dci-operator.dev", "-n", &world.provider, &as_half]).await.0 != 0 {
        assert!(began.elapsed().as_secs() < 60, "the binding does not work");
    }
    let kubeconfig = world.identity_of("half").await;
    let status = Launch::exactly(&kubeconfig, &args, &world.log).start_and_end().await;
    assert_eq!(status.code(), Some(1));
    let missing = format!("forbids list on dedicatedserverorders.dci-operator.dev in namespace {}:", world.shop);
    assert!(world.said(&missing), "{}", world.log.text());
    let _ = std::fs::remove_file(kubeconfig);
    world.end().await;
}

#[tokio::test]
async fn a_busy_port_is_told() {
    let world = World::start(Setup { run: false, ..Setup::default() }).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    for (flag, other) in [("--health-addr", "--metrics-addr"), ("--metrics-addr", "--health-addr")] {
        let watch = format!("--watch-namespace={},{}", world.provider, world.shop);
        let (busy, free) = (format!("{flag}={addr}"), format!("{other}=127.0.0.1:0"));
        let launch = Launch::exactly(&world.launch.kubeconfig, &[&watch, "--cluster-id=e2e", &busy, &free], &world.log);
        let status = launch.start_and_end().await;
        assert_eq!(status.code(), Some(1));
        assert!(
            world.said(&format!("cannot listen on {addr}")) && world.said(&format!("choose another with {flag}")),
            "{}",
            world.log.text()
        );
    }
    world.end().await;
}

#[tokio::test]
async fn namespaced_mode_needs_a_cluster_id() {
    let world = World::start(Setup { run: false, ..Setup::default() }).await;
    let watch = format!("--watch-namespace={},{}", world.provider, world.shop);
    let launch = Launch::new(&world.launch.kubeconfig, &[&watch], &world.log);
    assert_eq!(launch.start_and_end().await.code(), Some(1));
    assert!(world.said("--cluster-id"), "{}", world.log.text());
    world.end().await;
}
