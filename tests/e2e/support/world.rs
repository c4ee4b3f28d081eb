//! The world of one test: namespaces, panels, permissions, and an operator.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dci_operator::sim::{Config, Simulator};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use serde::Deserialize;
use serde_json::{Value, json};

use super::objects::{self, PANEL_PASSWORD, POOL_PASSWORD, merged};
use super::operator::{Launch, Log, Operator};
use super::plane::{PLACEHOLDERS, Plane, chart, plane};
use super::record::{Record, Watches, resource};

/// How long a condition is waited for. The machine may have two slow cores and run several tests.
const PATIENCE: Duration = Duration::from_secs(90);

/// What differs from one test to another.
pub struct Setup {
    /// Patch of the simulated panels.
    pub panels: Value,
    /// Patch of the handler's spec.
    pub handler: Value,
    /// Patch of the IPManager's spec.
    pub ip_manager: Value,
    /// Credentials of the handler; null: no Secret.
    pub credentials: Value,
    /// Whether the operator runs from the start.
    pub run: bool,
    /// More arguments for it.
    pub args: Vec<String>,
    /// Whether there is another client's namespace, whose name begins with the first one's.
    pub neighbour: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            panels: json!({}),
            handler: json!({}),
            ip_manager: json!({}),
            credentials: json!({"username": "operator", "password": PANEL_PASSWORD}),
            run: true,
            args: Vec::new(),
            neighbour: false,
        }
    }
}

impl Setup {
    /// Other panels: a patch of `dcimanager5[0]`.
    pub fn dci(patch: &Value) -> Self {
        let mut panels = objects::panels();
        panels["dcimanager5"][0] = merged(panels["dcimanager5"][0].clone(), patch);
        Self { panels, ..Self::default() }
    }

    /// A patch of the handler's spec.
    #[must_use]
    pub fn handler(mut self, patch: &Value) -> Self {
        self.handler = merged(self.handler, patch);
        self
    }
}

/// The world of one test. What it has started ends with it.
pub struct World {
    pub plane: &'static Plane,
    pub kube: Client,
    pub sim: Arc<Simulator>,
    /// The provider's namespace, with handler and IPManager.
    pub provider: String,
    /// The client's namespace, with the orders.
    pub shop: String,
    /// Another client's namespace, where the setup asks for one: its name is the first one's with `-a` behind it.
    pub neighbour: String,
    /// The operator's own namespace.
    pub system: String,
    pub record: Record,
    pub log: Log,
    pub launch: Launch,
    pub operator: Option<Operator>,
    pub secrets: Vec<String>,
    /// How long a condition is waited for.
    pub patience: Duration,
    kubeconfig: PathBuf,
    _watches: Watches,
    done: bool,
}

/// Characters that make names of namespaces different.
pub fn random() -> String {
    let mut bytes = [0u8; 5];
    getrandom::fill(&mut bytes).unwrap();
    bytes.iter().map(|b| char::from(b'a' + b % 26)).collect()
}

/// A client for the plane's administrator. Clients are not shared: each test has a runtime of its own.
pub async fn admin(plane: &Plane) -> Client {
    let kubeconfig = Kubeconfig::read_from(&plane.kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

impl World {
    /// Two namespaces, two panels, a handler that is served by an operator of the test's own.
    pub async fn start(setup: Setup) -> Self {
        Self::populated(Self::empty(plane(), &setup, None).await, setup).await
    }

    /// The same on a control plane of the test's own, for an operator with this identity that watches all namespaces.
    pub async fn everywhere(plane: &'static Plane, identity: PathBuf, setup: Setup) -> Self {
        Self::populated(Self::empty(plane, &setup, Some(identity)).await, setup).await
    }

    /// The same for an operator that watches the test's own namespaces only.
    pub async fn own_namespaces(plane: &'static Plane, setup: Setup) -> Self {
        Self::populated(Self::empty(plane, &setup, None).await, setup).await
    }

    /// Another cluster with namespaces of the same names in front of the same panels, as after a restore: handler and IPManager are there,
    /// and no orders.
    pub async fn moved(&self, plane: &'static Plane, cluster_id: &str, setup: Setup) -> Self {
        let id = self.shop.strip_prefix("c-").unwrap();
        let flag = format!("--cluster-id={cluster_id}");
        Self::populated(Self::at(plane, &setup, None, id, self.sim.clone(), &flag).await, setup).await
    }

    async fn populated(mut world: Self, setup: Setup) -> Self {
        let secrets = [("dci-admin", setup.credentials.clone()), ("ipm-user", json!({"username": "dci", "password": POOL_PASSWORD}))];
        for (name, data) in secrets.into_iter().filter(|(_, data)| !data.is_null()) {
            world.create(&world.provider, objects::secret(name, &data)).await;
        }
        let url = |name: &str| world.sim.url(name).unwrap().to_owned();
        world.create(&world.provider, objects::ip_manager(&url("ipm"), &setup.ip_manager)).await;
        world.create(&world.provider, objects::handler(&url("dci"), &setup.handler)).await;
        if setup.run {
            world.operator = Some(world.launch.start().await);
        }
        world
    }

    /// Namespaces, panels, permissions and watches; no objects.
    async fn empty(plane: &'static Plane, setup: &Setup, everywhere: Option<PathBuf>) -> Self {
        let config = serde_yaml::to_string(&merged(objects::panels(), &setup.panels)).unwrap();
        let sim = Simulator::start(Config::from_yaml(&config).unwrap(), ([127, 0, 0, 1], 0).into()).await.unwrap();
        Self::at(plane, setup, everywhere, &random(), Arc::new(sim), "--cluster-id=e2e").await
    }

    async fn at(
        plane: &'static Plane,
        setup: &Setup,
        everywhere: Option<PathBuf>,
        id: &str,
        sim: Arc<Simulator>,
        cluster_id: &str,
    ) -> Self {
        let kube = admin(plane).await;
        let (system, provider, shop) = (format!("o-{id}"), format!("h-{id}"), format!("c-{id}"));
        let neighbour = format!("{shop}-a");
        let clients: Vec<&str> = if setup.neighbour { vec![&shop, &neighbour] } else { vec![&shop] };
        for namespace in [system.as_str(), &provider].iter().chain(&clients) {
            create(&kube, None, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})).await;
        }
        let names = [system.as_str(), &provider, &shop];
        let watched = format!("--watch-namespace={provider},{}", clients.join(","));
        let (kubeconfig, mut args) = match everywhere {
            Some(kubeconfig) => (kubeconfig, Vec::new()),
            None => (identity(plane, &kube, names, &clients).await, vec![watched.as_str(), cluster_id]),
        };
        let secrets = vec![PANEL_PASSWORD.to_owned(), POOL_PASSWORD.to_owned()];
        let (record, watches) = Record::start(&kube, &[&[provider.as_str()], clients.as_slice()].concat(), secrets.clone()).await;
        let log = Log::default();
        args.extend(setup.args.iter().map(String::as_str));
        let launch = Launch::new(&kubeconfig, &args, &log);
        Self {
            plane,
            kube,
            sim,
            provider,
            shop,
            neighbour,
            system,
            record,
            log,
            launch,
            operator: None,
            secrets,
            patience: PATIENCE,
            kubeconfig,
            _watches: watches,
            done: false,
        }
    }

    /// Creates an object in a namespace.
    pub async fn create(&self, namespace: &str, object: Value) -> Value {
        create(&self.kube, Some(namespace), object).await
    }

    /// Creates an order that this world's handler serves.
    pub async fn order(&self, name: &str, spec: &Value) -> Value {
        let mut object = objects::order(name, spec);
        if object["spec"]["handlerRef"].is_object() && object["spec"]["handlerRef"]["namespace"].is_null() {
            object["spec"]["handlerRef"]["namespace"] = self.provider.clone().into();
        }
        self.create(&self.shop, object).await
    }

    /// Creates an order that the API server may refuse until it has taken notice of another definition.
    pub async fn until_stored(&mut self, namespace: &str, object: &Value) {
        let resource = resource_of(object);
        let api: Api<DynamicObject> = Api::namespaced_with(self.kube.clone(), namespace, &resource);
        let object: DynamicObject = serde_json::from_value(object.clone()).unwrap();
        let began = Instant::now();
        while let Err(error) = api.create(&PostParams::default(), &object).await {
            assert!(began.elapsed() < PATIENCE, "{error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn api(&self, kind: &str) -> Api<DynamicObject> {
        let namespace = if kind == "DedicatedServerOrder" { &self.shop } else { &self.provider };
        Api::namespaced_with(self.kube.clone(), namespace, &resource(kind))
    }

    /// Patches an object of ours, and waits until the record has seen it: what is waited for next must not be found in what was
    /// there before.
    pub async fn patch(&self, kind: &str, name: &str, patch: &Value) {
        let patched = self.api(kind).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
        let version = |text: &str| text.parse::<u64>().unwrap();
        let wanted = version(patched.metadata.resource_version.as_deref().unwrap());
        let mut changes = self.record.changes();
        let seen = || self.record.get(kind, name).is_none_or(|o| version(o["metadata"]["resourceVersion"].as_str().unwrap()) >= wanted);
        let began = Instant::now();
        while !seen() {
            assert!(began.elapsed() < self.patience, "the record does not see the patch of {kind} {name}");
            let _ = tokio::time::timeout(Duration::from_millis(50), changes.changed()).await;
        }
    }

    /// Deletes an object of ours.
    pub async fn delete(&self, kind: &str, name: &str) {
        self.api(kind).delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Something that nobody may be told.
    pub fn keep_secret(&mut self, secret: &str) {
        self.record.forbid(secret);
        self.secrets.push(secret.to_owned());
    }

    /// Whether the operator has said this.
    pub fn said(&self, text: &str) -> bool {
        self.log.text().contains(text)
    }

    /// Replaces what a Secret of the provider's holds.
    pub async fn write_secret(&self, name: &str, data: &Value) {
        let api: Api<DynamicObject> = Api::namespaced_with(self.kube.clone(), &self.provider, &core("Secret"));
        api.patch(name, &PatchParams::default(), &Patch::Merge(json!({"stringData": data}))).await.unwrap();
    }

    /// A kubeconfig of another account in the operator's namespace.
    pub async fn identity_of(&self, account: &str) -> PathBuf {
        kubeconfig_of(self.plane, &self.kube, &self.system, account).await
    }

    /// Runs kubectl as administrator: exit code and both outputs.
    pub async fn kubectl(&self, args: &[&str]) -> (i32, String) {
        let output = self.plane.kubectl_command().args(args).output().await.unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.code().unwrap_or(-1), text)
    }

    /// Waits until a check returns something; time-outs and broken rules fail the test.
    pub async fn until<T>(&mut self, what: &str, mut check: impl FnMut(&Self) -> Option<T>) -> T {
        let began = Instant::now();
        let mut changes = self.record.changes();
        loop {
            self.obeyed();
            if let Some(found) = check(self) {
                return found;
            }
            assert!(began.elapsed() < self.patience, "waited {:?} for: {what}", self.patience);
            if let Some(status) = self.operator.as_mut().and_then(Operator::exited) {
                panic!("the operator ended ({status}) while waiting for: {what}");
            }
            // Changes of objects wake at once; the panels are looked at now and then.
            let _ = tokio::time::timeout(Duration::from_millis(50), changes.changed()).await;
        }
    }

    /// Waits for an order's status.
    pub async fn until_order(&mut self, name: &str, what: &str, check: impl Fn(&Value) -> bool) -> Value {
        self.until(&format!("order {name}: {what}"), |world| world.record.get("DedicatedServerOrder", name).filter(&check)).await
    }

    /// Waits until an order is Active.
    pub async fn until_active(&mut self, name: &str) -> Value {
        self.until_order(name, "Active", |o| o["status"]["phase"] == "Active" && super::kstatus::is_true(o, "Ready")).await
    }

    /// Waits until an order is gone.
    pub async fn until_gone(&mut self, name: &str) {
        self.until(&format!("order {name} is gone"), |world| world.record.get("DedicatedServerOrder", name).is_none().then_some(())).await;
    }

    /// Waits until an object's condition has this reason.
    pub async fn until_reason(&mut self, kind: &str, name: &str, type_: &str, reason: &str) -> Value {
        self.until(&format!("{kind} {name}: {type_} with reason {reason}"), |world| {
            let object = world.record.get(kind, name)?;
            let found = super::kstatus::condition(&object, type_).is_some_and(|c| c["reason"] == reason);
            found.then_some(object)
        })
        .await
    }

    /// Waits until the operator has listed the servers that many times more, and had time to act upon what it saw before. The panels, too,
    /// are as the rules say then.
    pub async fn polls(&mut self, count: u64) {
        let began = self.requests("dci", "server");
        self.until(&format!("{count} more lists"), |world| (world.requests("dci", "server") >= began + count).then_some(())).await;
        self.panels_obeyed();
    }

    /// Whatever is created after this is younger than this order: creation times have a resolution of a second, and the uid decides
    /// between equal ones.
    pub async fn next_second(&mut self, name: &str) {
        let created = self.until_order(name, "it is seen", |o| o["metadata"]["creationTimestamp"].is_string()).await;
        let created: jiff::Timestamp = created["metadata"]["creationTimestamp"].as_str().unwrap().parse().unwrap();
        self.until("the next second", |_| (jiff::Timestamp::now().as_second() > created.as_second()).then_some(())).await;
    }

    /// The operator is killed with SIGKILL and started anew.
    pub async fn kill_and_restart(&mut self) {
        if let Some(operator) = self.operator.take() {
            operator.kill().await;
        }
        self.operator = Some(self.launch.start().await);
    }

    fn obeyed(&self) {
        let violations = self.record.violations();
        assert!(violations.is_empty(), "statuses break the rules:\n{}", violations.join("\n"));
    }

    fn panels_obeyed(&self) {
        let broken = self.record.broken(&self.sim.state());
        assert!(broken.is_empty(), "the panels break the rules:\n{}", broken.join("\n"));
    }

    /// The end of a test: nothing broke the rules, nothing told a secret, nobody else's server was touched.
    pub async fn end(mut self) {
        self.obeyed();
        self.panels_obeyed();
        assert!(!self.touched(18), "the server of another client was touched");
        for namespace in [&self.provider, &self.shop] {
            let api: Api<DynamicObject> = Api::namespaced_with(self.kube.clone(), namespace, &core("Event"));
            let events = serde_json::to_string(&api.list(&ListParams::default()).await.unwrap().items).unwrap();
            let told = self.secrets.iter().find(|secret| events.contains(secret.as_str()));
            assert!(told.is_none(), "an event holds the secret {told:?}");
        }
        if let Some(mut operator) = self.operator.take() {
            assert!(operator.exited().is_none(), "the operator has ended");
            operator.kill().await;
        }
        let log = self.log.text();
        for secret in &self.secrets {
            assert!(!log.contains(secret.as_str()), "the log holds the secret {secret}");
        }
        assert!(!log.contains("panicked"), "a reconcile panicked:\n{log}");
        self.done = true;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.kubeconfig);
        if !std::thread::panicking() {
            assert!(self.done, "a test has to close its world with end()");
            return;
        }
        for kind in ["ProcessingHandler", "IPManager", "DedicatedServerOrder", "ManualTask"] {
            for mut object in self.record.all(kind) {
                object["metadata"].as_object_mut().unwrap().remove("annotations");
                eprintln!("--- {}", serde_yaml::to_string(&object).unwrap_or_default());
            }
        }
        eprintln!("--- changes at the panels\n{}", self.changes().join("\n"));
        eprintln!("--- end of the operator's log\n{}", self.log.tail(60));
    }
}

fn core(kind: &str) -> ApiResource {
    let plural = format!("{}s", kind.to_lowercase());
    ApiResource { group: String::new(), version: "v1".into(), api_version: "v1".into(), kind: kind.into(), plural }
}

fn resource_of(object: &Value) -> ApiResource {
    let (api_version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let plural = format!("{}s", kind.to_lowercase());
    ApiResource { group: group.into(), version: version.into(), api_version: api_version.into(), kind: kind.into(), plural }
}

async fn create(kube: &Client, namespace: Option<&str>, object: Value) -> Value {
    let resource = resource_of(&object);
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(kube.clone(), namespace, &resource),
        None => Api::all_with(kube.clone(), &resource),
    };
    let described = object.to_string();
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    let stored = api.create(&PostParams::default(), &object).await.unwrap_or_else(|error| panic!("{described}: {error}"));
    serde_json::to_value(stored).unwrap()
}

/// Applies the chart's permissions to three namespaces, those of a client's to each of `clients`, and writes a kubeconfig of its
/// account.
async fn identity(plane: &Plane, kube: &Client, names: [&str; 3], clients: &[&str]) -> PathBuf {
    let mut text = chart().to_owned();
    for (placeholder, name) in PLACEHOLDERS.iter().zip(names) {
        text = text.replace(placeholder, name);
    }
    let mut account = String::new();
    // All of them first: the reader cannot be held while something is waited for on another thread.
    let objects: Vec<Value> = serde_yaml::Deserializer::from_str(&text).map(|document| Value::deserialize(document).unwrap()).collect();
    for object in objects {
        match object["kind"].as_str() {
            Some("ServiceAccount") => object["metadata"]["name"].as_str().unwrap().clone_into(&mut account),
            Some("Role" | "RoleBinding") => {}
            _ => continue,
        }
        let namespace = object["metadata"]["namespace"].as_str().unwrap().to_owned();
        for client in clients.iter().filter(|client| namespace == names[2] && **client != names[2]) {
            let mut theirs = object.clone();
            theirs["metadata"]["namespace"] = (*client).into();
            create(kube, Some(client), theirs).await;
        }
        create(kube, Some(&namespace), object).await;
    }
    super::audit::account(&plane.dir, "namespaced", names[0], &account);
    kubeconfig_of(plane, kube, names[0], &account).await
}

/// Writes a kubeconfig of a service account.
async fn kubeconfig_of(plane: &Plane, kube: &Client, namespace: &str, account: &str) -> PathBuf {
    let request = TokenRequest {
        spec: TokenRequestSpec { audiences: Vec::new(), expiration_seconds: Some(7200), ..TokenRequestSpec::default() },
        ..TokenRequest::default()
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(kube.clone(), namespace);
    let answer = accounts.create_token_request(account, &PostParams::default(), &request).await.unwrap();
    write_kubeconfig(plane, namespace, account, &answer.status.unwrap().token)
}

/// The administrator's kubeconfig with another user.
fn write_kubeconfig(plane: &Plane, namespace: &str, account: &str, token: &str) -> PathBuf {
    let text = std::fs::read_to_string(&plane.kubeconfig).unwrap();
    let mut config: Value = serde_yaml::from_str(&text).unwrap();
    let cluster = config["contexts"][0]["context"]["cluster"].clone();
    config["users"] = json!([{"name": "operator", "user": {"token": token}}]);
    config["contexts"] = json!([{"name": "operator", "context": {"cluster": cluster, "user": "operator", "namespace": namespace}}]);
    config["current-context"] = "operator".into();
    let path = std::env::temp_dir().join(format!("dci-operator-e2e-{namespace}-{account}.kubeconfig"));
    std::fs::write(&path, serde_yaml::to_string(&config).unwrap()).unwrap();
    path
}
