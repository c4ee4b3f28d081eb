//! The control plane that all tests share: found by KUBECONFIG, prepared once.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

/// The operator under test.
pub const OPERATOR: &str = env!("CARGO_BIN_EXE_dci-operator");

/// Names that stand in the rendered chart, to be replaced by those of a test.
pub const PLACEHOLDERS: [&str; 3] = ["e2e-placeholder-system", "e2e-placeholder-provider", "e2e-placeholder-shop"];

const HOW: &str = "run the tests with `make test-e2e`, or with `deploy/local/control-plane.sh run -- cargo test --test e2e`";

/// A control plane with the definitions installed.
pub struct Plane {
    /// An administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// Minor version of the server.
    pub minor: u32,
    /// Where custom resources are served by a current server's code beside an older server (`DCI_CURRENT=1`): that part's own
    /// kubeconfig. Definitions and policies are told to it, all else to the older server, which passes requests on.
    current: Option<PathBuf>,
    /// Where the control plane keeps its files, such as `audit.log`.
    pub dir: PathBuf,
    kubectl: String,
    helm: String,
}

/// The control plane. The first caller prepares it.
pub fn plane() -> &'static Plane {
    static PLANE: OnceLock<Plane> = OnceLock::new();
    PLANE.get_or_init(|| {
        let kubeconfig = std::env::var_os("KUBECONFIG").unwrap_or_else(|| panic!("KUBECONFIG is not set; {HOW}"));
        // Nobody's cluster is used by accident.
        let dir = std::env::var_os("DCI_CONTROL_PLANE_DIR").unwrap_or_else(|| panic!("DCI_CONTROL_PLANE_DIR is not set; {HOW}"));
        Plane::at(kubeconfig.into(), dir.into())
    })
}

/// The chart's permissions in two namespaces, with placeholders; rendered once.
pub fn chart() -> &'static str {
    static CHART: OnceLock<String> = OnceLock::new();
    CHART.get_or_init(|| {
        let [system, provider, shop] = PLACEHOLDERS;
        let watch = format!("watchNamespaces={{{provider},{shop}}}");
        plane().render(&["--namespace", system, "--set", &watch, "--set", "clusterId=e2e"])
    })
}

impl Plane {
    /// Prepares a control plane: the definitions are installed and served afterwards.
    pub fn at(kubeconfig: PathBuf, dir: PathBuf) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let tool = |name: &str, fallback: &str| std::env::var(name).unwrap_or_else(|_| fallback.to_owned());
        let current = Some(dir.join("current.kubeconfig")).filter(|file| file.exists());
        let mut plane =
            Self { kubeconfig, minor: 0, current, dir, kubectl: tool("DCI_KUBECTL", "kubectl"), helm: tool("DCI_HELM", "helm") };
        let version: Value = serde_json::from_str(&plane.kubectl(&["get", "--raw", "/version"], None)).unwrap();
        let digits: String = version["minor"].as_str().unwrap().chars().take_while(char::is_ascii_digit).collect();
        plane.minor = digits.parse().unwrap();
        let target = if plane.current.is_some() { "current".to_owned() } else { format!("1.{}", plane.minor) };
        let crds = output(Command::new(OPERATOR).args(["crds", "--for", &target]), None);
        plane.define(&["apply", "--server-side", "--force-conflicts", "-f", "-"], Some(&crds));
        for kind in ["dedicatedserverorders", "processinghandlers", "ipmanagers", "manualtasks"] {
            // Not with `kubectl wait`, which fails where a new definition has no conditions yet.
            let established = || {
                let crd: Value =
                    serde_json::from_str(&plane.define(&["get", &format!("crd/{kind}.dci-operator.dev"), "-o", "json"], None)).unwrap();
                let mut conditions = crd["status"]["conditions"].as_array().into_iter().flatten();
                conditions.any(|condition| condition["type"] == "Established" && condition["status"] == "True")
            };
            let began = std::time::Instant::now();
            while !established() {
                assert!(began.elapsed().as_secs() < 60, "{kind} is not served");
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
        }
        if plane.current.is_some() {
            // The operator asks after them where it asks after all else, before it releases anything.
            let crds = output(Command::new(OPERATOR).args(["crds", "--for", &format!("1.{}", plane.minor)]), None);
            plane.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "-"], Some(&crds));
            let service = "apiservice/v1alpha1.dci-operator.dev";
            // A change makes the older server look at once; it asks again ever more rarely.
            plane.kubectl(&["annotate", "--overwrite", service, &format!("defined={}", std::process::id())], None);
            plane.kubectl(&["wait", "--for=condition=Available", "--timeout=60s", service], None);
        }
        plane
    }

    /// Runs kubectl as administrator of the server that has the definitions and policies; it has to succeed.
    pub fn define(&self, args: &[&str], stdin: Option<&str>) -> String {
        output(Command::new(&self.kubectl).env("KUBECONFIG", self.definitions()).args(args), stdin)
    }

    /// Deletes a definition, with what it defines.
    pub fn undefine(&self, definition: &str) {
        if self.current.is_some() {
            // Where nothing is stored, and where the operator asks: before anything is deleted.
            self.kubectl(&["delete", definition], None);
        }
        self.define(&["delete", definition, "--wait=false"], None);
    }

    /// An administrator's kubeconfig of the server that has the definitions and policies.
    pub fn definitions(&self) -> &Path {
        self.current.as_ref().unwrap_or(&self.kubeconfig)
    }

    /// Whether rules in definitions are known, and enforced.
    pub fn knows_rules(&self) -> bool {
        self.current.is_some() || self.minor >= 25
    }

    /// Runs kubectl as administrator; it has to succeed.
    pub fn kubectl(&self, args: &[&str], stdin: Option<&str>) -> String {
        output(Command::new(&self.kubectl).env("KUBECONFIG", &self.kubeconfig).args(args), stdin)
    }

    /// A command line of kubectl's as administrator, for an asynchronous caller.
    pub fn kubectl_command(&self) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.kubectl);
        command.env("KUBECONFIG", &self.kubeconfig).kill_on_drop(true);
        command
    }

    /// Runs Helm as administrator; it has to succeed.
    pub fn helm(&self, args: &[&str]) -> String {
        output(self.helm_line().args(args), None)
    }

    /// A command line of Helm's as administrator.
    pub fn helm_line(&self) -> Command {
        let mut command = Command::new(&self.helm);
        command.env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// Where Helm is.
    pub fn helm_path(&self) -> &str {
        &self.helm
    }

    /// Whether a command of kubectl's succeeds.
    pub fn try_kubectl(&self, args: &[&str]) -> bool {
        let mut command = Command::new(&self.kubectl);
        command.env("KUBECONFIG", &self.kubeconfig).args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    /// What the chart would install, without pods and definitions.
    pub fn render(&self, args: &[&str]) -> String {
        let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/dci-operator");
        let version = format!("1.{}.0", self.minor);
        let fixed = ["template", "dci", chart, "--kube-version", &version, "--set", "replicaCount=0", "--set", "crds.enabled=false"];
        output(Command::new(&self.helm).args(fixed).args(args), None)
    }

    /// Whether custom resources are served as a supported server serves them, with rules and policies; the test is counted as
    /// skipped when not. Fields to select by are more: `selects_fields`.
    pub fn serves_current(&self, test: &str) -> bool {
        self.current.is_some() || self.is_current(test)
    }

    /// Whether the whole server is a supported one; the test is counted as skipped when not.
    pub fn is_current(&self, test: &str) -> bool {
        self.reaches(30, test)
    }

    /// Whether the fields that definitions name can be selected by: 1.30 has that switched off. The test, or the part of it, is
    /// counted as skipped when not.
    pub fn selects_fields(&self, test: &str) -> bool {
        self.current.is_some() || self.reaches(31, test)
    }

    fn reaches(&self, minor: u32, test: &str) -> bool {
        static SKIPPED: AtomicUsize = AtomicUsize::new(0);
        if self.minor >= minor {
            return true;
        }
        let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
        // Past the capture of the test harness: what was not tested has to be seen.
        let _ = writeln!(std::io::stderr(), "SKIPPED (needs >= 1.{minor}): {test} ({count} skipped so far, server is 1.{})", self.minor);
        false
    }
}

/// A control plane of one test's own, for what would disturb the others. It goes with this.
pub struct OwnPlane {
    /// The control plane; it is used by tasks that may outlive the test's own frame.
    pub plane: &'static Plane,
    /// Identity of the chart's account, for all namespaces.
    pub identity: PathBuf,
}

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/local");

impl OwnPlane {
    /// Starts one; `None` where tests have to share a cluster that was given to them.
    pub fn start(test: &str) -> Option<Self> {
        Self::start_with(test, &[])
    }

    /// Starts one with more options of `operator-identity.sh`.
    pub fn start_with(test: &str, options: &[&str]) -> Option<Self> {
        if std::env::var_os("DCI_E2E_EXISTING_CLUSTER").is_some() {
            let _ = writeln!(std::io::stderr(), "SKIPPED (needs a control plane of its own): {test}");
            return None;
        }
        // Without the shared one nothing runs, so that what is missing is told in one way.
        let _ = plane();
        let dir = std::env::temp_dir().join(format!("dci-operator-e2e-{}-{test}", std::process::id()));
        let path = dir.to_str().unwrap();
        output(Command::new(format!("{SCRIPTS}/control-plane.sh")).env_remove("KUBECONFIG").args(["up", path]), None);
        let own = Plane::at(dir.join("kubeconfig"), dir.clone());
        let identity = dir.join("operator.kubeconfig");
        let args = [own.kubeconfig.to_str().unwrap(), identity.to_str().unwrap()];
        output(Command::new(format!("{SCRIPTS}/operator-identity.sh")).args(args).args(options), None);
        let mode = if options.contains(&"--namespace-selectors") { "selectors" } else { "cluster" };
        super::audit::account(&dir, mode, "dci-system", "dci-operator");
        Some(Self { plane: Box::leak(Box::new(own)), identity })
    }
}

impl Drop for OwnPlane {
    fn drop(&mut self) {
        let _ = Command::new(format!("{SCRIPTS}/control-plane.sh")).arg("down").arg(&self.plane.dir).stderr(Stdio::null()).status();
        super::audit::keep(&self.plane.dir);
        let _ = std::fs::remove_dir_all(&self.plane.dir);
    }
}

fn output(command: &mut Command, stdin: Option<&str>) -> String {
    let input = if stdin.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = command
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; {HOW}"));
    let writer = stdin.map(|text| {
        let (mut pipe, text) = (child.stdin.take().unwrap(), text.to_owned());
        std::thread::spawn(move || pipe.write_all(text.as_bytes()))
    });
    let output = child.wait_with_output().unwrap();
    if let Some(writer) = writer {
        let _ = writer.join();
    }
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
