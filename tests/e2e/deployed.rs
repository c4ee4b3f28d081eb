//! The container of the chart's Deployment, run as a process: the program is started with the arguments and the environment that the
//! chart gives it, over the files that its volumes hold. Only ports and paths are this machine's.

use std::path::{Path, PathBuf};

use dci_operator::sim::{Config, Options, Simulator};
use serde_json::{Value, json};

use super::chart::{CHART, Copied, documents};
use super::chart_current::CURRENT;
use super::support::operator::Launch;
use super::support::plane::{OwnPlane, plane};
use super::support::world::random;
use super::support::{Setup, World, objects, tls};

/// Where an image has the authorities that everybody trusts.
const ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// A container to be run here. Its files go with this.
struct Container {
    launch: Launch,
    spec: Value,
    folder: PathBuf,
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Container {
    /// What the chart makes with these values, for the account of `world`.
    fn new(world: &World, kubeconfig: &Path, release: &str, namespace: &str, values: &Value) -> Self {
        let id = random();
        let copy = Copied::new(&id);
        let file = copy.write("e2e-values.yaml", &values.to_string());
        let made = ["template", release, CHART, "--kube-version", CURRENT, "--namespace", namespace, "--values", &file];
        let made = documents(&plane().helm(&made));
        let pod = &made.iter().find(|object| object["kind"] == "Deployment").unwrap()["spec"]["template"]["spec"];
        let spec = pod["containers"][0].clone();
        let folder = std::env::temp_dir().join(format!("dci-operator-container-{id}"));
        let mut places = mounted(&made, pod, &folder);
        places.extend([("[::]:8080".into(), "127.0.0.1:0".into()), ("[::]:8081".into(), "127.0.0.1:0".into())]);
        // Authorities of an image, of which none is a panel's.
        let roots = folder.join("roots.crt");
        std::fs::write(&roots, tls::stranger()).unwrap();
        places.push((ROOTS.into(), roots.to_str().unwrap().into()));
        let here = |text: &Value| places.iter().fold(text.as_str().unwrap().to_owned(), |text, (there, here)| text.replace(there, here));
        let args: Vec<String> = spec["args"].as_array().unwrap().iter().map(here).collect();
        assert_eq!(args[0], "run");
        let env = spec["env"].as_array().unwrap().iter();
        let env: Vec<(String, String)> = env.map(|one| (one["name"].as_str().unwrap().to_owned(), here(&one["value"]))).collect();
        // Nothing is left that this machine may have by chance.
        assert!(args.iter().chain(env.iter().map(|(_, value)| value)).all(|text| !text.contains("/etc/")), "{args:?} {env:?}");
        let launch = Launch { kubeconfig: kubeconfig.to_owned(), args: args[1..].to_vec(), env, ..world.launch.clone() };
        Self { launch, spec, folder }
    }

    /// Takes the place of the world's operator, and is seen ready by the probes that the Deployment has.
    async fn start(&self, world: &mut World) {
        if let Some(before) = world.operator.take() {
            assert!(before.terminate().await.0.success());
        }
        let operator = self.launch.start().await;
        for probe in ["readinessProbe", "livenessProbe"] {
            let get = &self.spec[probe]["httpGet"];
            assert_eq!(get["port"], "health");
            let began = std::time::Instant::now();
            while operator.page(operator.health, get["path"].as_str().unwrap()).await.0 != 200 {
                assert!(began.elapsed().as_secs() < 60, "{probe} fails:\n{}", world.log.tail(40));
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
        let (code, text) = operator.page(operator.metrics, "/metrics").await;
        assert!(code == 200 && text.contains("dci_operator_reconciles"), "{text}");
        world.operator = Some(operator);
    }
}

/// Writes what the container's volumes hold into a folder: where each is mounted there, and where it is here.
fn mounted(made: &[Value], pod: &Value, folder: &Path) -> Vec<(String, String)> {
    let named = |list: &Value, name: &Value| list.as_array().unwrap().iter().find(|one| one["name"] == *name).unwrap().clone();
    let mut places = Vec::new();
    for mount in pod["containers"][0]["volumeMounts"].as_array().unwrap() {
        let volume = named(&pod["volumes"], &mount["name"]);
        let name = &volume["configMap"]["name"];
        let map = made.iter().find(|object| object["kind"] == "ConfigMap" && object["metadata"]["name"] == *name);
        let map = map.unwrap_or_else(|| panic!("the chart mounts what it does not make: {volume}"));
        let here = folder.join(mount["name"].as_str().unwrap());
        std::fs::create_dir_all(&here).unwrap();
        let chosen: Vec<(&str, &str)> = match volume["configMap"]["items"].as_array() {
            Some(items) => items.iter().map(|item| (item["key"].as_str().unwrap(), item["path"].as_str().unwrap())).collect(),
            None => map["data"].as_object().unwrap().keys().map(|key| (key.as_str(), key.as_str())).collect(),
        };
        for (key, path) in chosen {
            std::fs::write(here.join(path), map["data"][key].as_str().unwrap()).unwrap();
        }
        places.push((mount["mountPath"].as_str().unwrap().to_owned(), here.to_str().unwrap().to_owned()));
    }
    places
}

/// An IPManager and a handler at panels that are served with TLS, by a certificate that nobody knows.
async fn with_tls(world: &World) -> Simulator {
    let config = Config::from_yaml(&serde_yaml::to_string(&objects::panels()).unwrap()).unwrap();
    let options = Options { tls: true, ..Options::new(([127, 0, 0, 1], 0).into()) };
    let sim = Simulator::start_with(config, options).await.unwrap();
    let mut pool = objects::ip_manager(sim.url("ipm").unwrap(), &json!({}));
    pool["metadata"]["name"] = "tls".into();
    let mut handler = objects::handler(sim.url("dci").unwrap(), &json!({"ipManagement": {"ipManagerRef": {"name": "tls"}}}));
    handler["metadata"]["name"] = "tls".into();
    for object in [pool, handler] {
        world.create(&world.provider, object).await;
    }
    sim
}

#[tokio::test]
async fn the_container_that_watches_everything_does_what_its_values_say() {
    const SYSTEM: &str = "dci-system";
    let Some(own) = OwnPlane::start("deployed") else { return };
    let mut world = World::everywhere(own.plane, own.identity.clone(), Setup { run: false, ..Setup::default() }).await;
    let sim = with_tls(&world).await;
    let container = |world: &World, values: &Value| Container::new(world, &own.identity, "dci-operator", SYSTEM, values);

    // By the defaults it takes turns, reaches panels, and trusts nobody whom the image does not trust.
    let pod = container(&world, &json!({}));
    pod.start(&mut world).await;
    world.until_reason("ProcessingHandler", "msk-1", "Ready", "Reachable").await;
    world.until_reason("IPManager", "tls", "Ready", "CertificateRefused").await;
    world.until_reason("ProcessingHandler", "tls", "Ready", "CertificateRefused").await;
    let leases = own.plane.kubectl(&["get", "leases", "-n", SYSTEM, "-o", "name"], None);
    assert!(leases.lines().any(|lease| lease == "lease.coordination.k8s.io/dci-operator"), "{leases}");
    assert!(!world.said("what is logged changes"), "{}", world.log.tail(20));

    // Lines for programs, filtered by the file, and networks that are not its own.
    let values = json!({
        "logFormat": "json", "logLevel": "info,dci_operator=debug", "leaderElection": {"enabled": false}, "deniedNetworks": ["127.0.0.0/8"],
    });
    let pod = container(&world, &values);
    pod.start(&mut world).await;
    world.until_reason("ProcessingHandler", "msk-1", "Ready", "AddressDenied").await;
    let taken = r#""filter":"info,dci_operator=debug""#;
    world.until("it says that it has read the filter", |world| world.said(taken).then_some(())).await;

    // The authority stands beside those of the image, in the directory that SSL_CERT_DIR names.
    let values = json!({"deniedNetworks": [], "replicaCount": 2, "caBundle": {"pem": sim.certificate_pem().unwrap()}});
    let pod = container(&world, &values);
    pod.start(&mut world).await;
    world.until_reason("IPManager", "tls", "Ready", "Reachable").await;
    world.until_reason("ProcessingHandler", "tls", "Ready", "Reachable").await;
    world.order("web-01", &json!({"handlerRef": {"name": "tls"}})).await;
    let order = world.until_active("web-01").await;
    assert_eq!(order["status"]["server"]["handler"], format!("{}/tls", world.provider), "{}", order["status"]);
    world.delete("DedicatedServerOrder", "web-01").await;
    world.until_gone("web-01").await;
    world.end().await;
}

#[tokio::test]
async fn the_container_of_some_namespaces_serves_them() {
    let mut world = World::start(Setup { run: false, ..Setup::default() }).await;
    // Not less than that: where it listens is read from its lines.
    let values = json!({
        "watchNamespaces": [world.provider, world.shop], "clusterId": "e2e", "logLevel": "warn,dci_operator=info",
        "extraArgs": ["--task-retention=1h"], "extraEnv": [{"name": "DCI_OPERATOR_HANDLER_GRACE", "value": "1h"}],
    });
    let container = Container::new(&world, &world.launch.kubeconfig, "dci", &world.system, &values);
    container.start(&mut world).await;
    world.order("web-01", &json!({})).await;
    let order = world.until_active("web-01").await;
    let (server, id) = (&order["status"]["server"]["id"], &order["metadata"]["uid"]);
    let notes = world.server(server.as_str().unwrap().parse().unwrap())["notes"].clone();
    assert_eq!(notes, format!("k8s:e2e/{}/web-01/{}", world.shop, id.as_str().unwrap()));
    world.delete("DedicatedServerOrder", "web-01").await;
    world.until_gone("web-01").await;
    world.end().await;
}
