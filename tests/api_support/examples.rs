//! A manifest of each kind with every field that the contract names.

use serde_json::Value;

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

/// An order with all fields but `handlerSelector`, `custom` and `adopt`, which exclude others.
pub fn order() -> Value {
    yaml(
        r#"
apiVersion: dci-operator.dev/v1alpha1
kind: DedicatedServerOrder
metadata: {name: web-01, namespace: shop}
spec:
  handlerRef: {name: msk-1, namespace: hosting}
  client: {username: acme, email: ops@acme.example}
  configuration:
    serverType: E3-16G
  domain: web-01.example.net
  addresses: {ipv4: 2, ipv6: 1}
  operatingSystem: {template: ISPsystem__Debian-12-x86_64, passwordSecretRef: {name: web-01-root, key: password}}
  recipes: [ISPsystem__nginx.sh]
  readyWhen: OSInstalled
  licenses: [{product: ISPmanager6Lite, period: 3}]
  suspended: true
  reinstall: "2026-11-22"
  deletionPolicy: Orphan
  deletionProtection: true
"#,
    )
}

/// What replaces `serverType` in a custom order.
pub fn custom() -> Value {
    yaml("{cpu: {model: E-2146G, count: 2}, memoryGiB: 64, disks: [{type: SSD, sizeGB: 1920, count: 2}], pci: [X520]}")
}

/// The smallest order.
pub fn minimal_order() -> Value {
    yaml(
        r"
apiVersion: dci-operator.dev/v1alpha1
kind: DedicatedServerOrder
metadata: {name: web-01, namespace: shop}
spec:
  handlerRef: {name: msk-1}
  client: {username: acme}
  configuration: {serverType: E3-16G}
  domain: web-01.example.net
  operatingSystem: {template: ISPsystem__Debian-12-x86_64}
",
    )
}

/// A handler with all fields.
pub fn handler() -> Value {
    yaml(
        r#"
apiVersion: dci-operator.dev/v1alpha1
kind: ProcessingHandler
metadata: {name: msk-1, namespace: hosting}
spec:
  productType: DedicatedServer
  module: DCImanager5
  connection:
    url: https://dci.example.net:1500/dcimgr
    credentialsSecretRef: {name: dci-admin}
    tls:
      caBundle: |
        -----BEGIN CERTIFICATE-----
      insecureSkipVerify: false
    timeout: 1m30s
  byServerType: false
  ipmiErrorPolicy: CreateTask
  ipManagement:
    ipManagerRef: {name: main}
    disableIPChange: true
    publicIPType: clients
    parkingIPType: parking
    allocateBy: Panel
  licenseServerRef: {name: isp-licenses, namespace: billing}
  departments:
    operations:
      name: Duty
      title: Duty engineers
      deadline: 4h
      escalateTo: Leads
      webhook: {url: 'https://hooks.example.net/dci', secretRef: {name: hooks, key: hmac}, caBundle: PEM}
    assembly:
      name: Assembly
      title: Workshop
      deadline: 24h
      escalateTo: Leads
      webhook: {url: 'https://hooks.example.net/dci', secretRef: {name: hooks, key: hmac}, caBundle: PEM}
    procurement:
      name: Procurement
      title: Buyers
      deadline: 48h
      escalateTo: Leads
      webhook: {url: 'https://hooks.example.net/dci', secretRef: {name: hooks, key: hmac}, caBundle: PEM}
  dataCenter: msk-1
  priority: 10
  limits: {maxConcurrentOperations: 21, maxConcurrentReleases: 6, maxOrdersPerNamespace: 1, requestsPerSecond: 11}
  retry: {interval: 6m, maxAttempts: 11}
  timeouts: {power: 11m, install: 3h, step: 6m, settle: 3m}
  pollInterval: 31s
  allowedNamespaces: {from: Selector, selector: {matchLabels: {team: shop}}}
  allowedDeletionPolicies: [Release, Orphan]
  adoption: Allowed
  dialect:
    runRecipe:
      func: server.recipe
      params: {elid: "{server}"}
      answer: id
      verify: {call: server, expect: recipe}
  suspend: true
"#,
    )
}

/// A licence server with every field that only it has.
pub fn license_server() -> Value {
    yaml(
        r#"
apiVersion: dci-operator.dev/v1alpha1
kind: ProcessingHandler
metadata: {name: isp-licenses, namespace: hosting}
spec:
  module: BILLmanager6
  connection:
    url: https://api.example.net/manager/billmgr
    credentialsSecretRef: {name: isp}
  licenses:
    products:
      Lite: {pricelist: "55227", addons: {"7": "2"}}
    renewBefore: 48h
    onDeletion: Release
    project: "4"
"#,
    )
}

/// The smallest handler.
pub fn minimal_handler() -> Value {
    yaml(
        r"
apiVersion: dci-operator.dev/v1alpha1
kind: ProcessingHandler
metadata: {name: msk-1, namespace: hosting}
spec:
  module: DCImanager5
  connection: {url: 'https://dci.example.net:1500/dcimgr', credentialsSecretRef: {name: dci-admin}}
  ipManagement: {ipManagerRef: {name: main}}
  departments: {assembly: {name: Assembly}, procurement: {name: Procurement}}
",
    )
}

/// An `IPManager` with all fields.
pub fn ipmanager() -> Value {
    yaml(
        r"
apiVersion: dci-operator.dev/v1alpha1
kind: IPManager
metadata: {name: main, namespace: hosting}
spec:
  flavor: IPmanager5
  connection:
    url: https://ip.example.net:1500/ipmgr
    credentialsSecretRef: {name: ip-admin}
    tls: {pinnedSHA256: '00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF'}
    timeout: 1m30s
  pollInterval: 1m
",
    )
}

/// A task with all fields.
pub fn task() -> Value {
    yaml(
        r"
apiVersion: dci-operator.dev/v1alpha1
kind: ManualTask
metadata: {name: mt-1, namespace: hosting}
spec:
  type: Assembly
  department: Assembly
  orderRef: {namespace: shop, name: web-01, uid: 0c4f3a6e-0000-4000-8000-000000000001}
  handlerRef: {name: msk-1}
  deadline: '2026-11-22T10:00:00Z'
  escalateTo: Leads
  summary: Build a server
  details: 2 disks are wanted, 1 is present
  resolution: Done
  note: swapped both disks
",
    )
}
