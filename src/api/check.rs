//! What schema and rules refuse, checked once more on the parsed object: old API servers drop rules, and a restore loses status.
//!
//! Pure, and about one object by itself. Transitions need the object as it was before and are not here.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use super::common::{Connection, Duration, NamespacedRef, SecretKeyRef, Tls};
use super::dialect::DialectCall;
use super::handler::{Department, Departments, HandlerSpec, IpManagement, Module, NamespacesFrom, Operations};
use super::licenses::Licenses;
use super::messages as msg;
use super::order::{Configuration, CustomConfiguration, OrderSpec};
use super::task::Resolution;
use super::{DedicatedServerOrder, IPManager, ManualTask, ProcessingHandler, syntax};

/// What is wrong with a field, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field.
    pub field: &'static str,
    /// A rule's own message, or the bound that is broken.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// A form that a text must have: the test, and its description.
type Form = (fn(&str) -> bool, &'static str);

const NAME: Form = (syntax::name, "must be the name of an object: lower-case letters, digits, - and .");
const NAMESPACE: Form = (syntax::namespace, "must be the name of a namespace: lower-case letters, digits and -");
const SECRET_KEY: Form = (syntax::secret_key, "must be the key of a Secret: letters, digits, -, _ and .");
const LABEL: Form = (syntax::label, "must be a label value: letters, digits, -, _ and ., with a letter or digit at both ends");
const LABEL_OR_EMPTY: Form = (syntax::label_or_empty, LABEL.1);
const USERNAME: Form = (syntax::username, "must be a log-in name: letters, digits, ., _, @ and -, with a letter or digit at both ends");
const EMAIL: Form = (syntax::email, "must be a mail address, NAME@DOMAIN");
const DOMAIN: Form = (syntax::domain, "must be a domain name in lower case, such as web-01.example.net");
const FUNCTION: Form = (syntax::function, "must be the name of a function: letters, digits, _ and .");
const METHOD: Form = (syntax::method, "must be an HTTP method in upper case, such as POST");
const FINGERPRINT: Form = (syntax::fingerprint, "must be 32 bytes in hex, with or without colons");
const NOT_BLANK: Form = (syntax::not_blank, "must not be blank");
const ANY: Form = (|_| true, "");

#[derive(Default)]
struct Findings(Vec<Problem>);

impl Findings {
    fn add(&mut self, field: &'static str, message: impl Into<String>) {
        self.0.push(Problem { field, message: message.into() });
    }

    fn rule(&mut self, field: &'static str, kept: bool, message: &'static str) {
        if !kept {
            self.add(field, message);
        }
    }

    fn text(&mut self, field: &'static str, value: &str, length: RangeInclusive<usize>, form: Form) {
        if !length.contains(&value.chars().count()) {
            self.add(field, format!("must have {} to {} characters", length.start(), length.end()));
        } else if !form.0(value) {
            self.add(field, form.1);
        }
    }

    fn optional(&mut self, field: &'static str, value: Option<&String>, length: RangeInclusive<usize>, form: Form) {
        if let Some(value) = value {
            self.text(field, value, length, form);
        }
    }

    fn entries(&mut self, field: &'static str, count: usize, allowed: RangeInclusive<usize>) {
        if !allowed.contains(&count) {
            self.add(field, format!("must have {} to {} entries", allowed.start(), allowed.end()));
        }
    }

    fn number(&mut self, field: &'static str, value: i32, allowed: RangeInclusive<i32>) {
        if !allowed.contains(&value) {
            self.add(field, format!("must be between {} and {}", allowed.start(), allowed.end()));
        }
    }

    fn at_least_a_second(&mut self, field: &'static str, value: Duration, message: &'static str) {
        self.rule(field, value >= Duration::seconds(1), message);
    }

    fn labels(&mut self, field: &'static str, labels: &BTreeMap<String, String>, count: RangeInclusive<usize>) {
        self.entries(field, labels.len(), count);
        for value in labels.values() {
            self.text(field, value, 0..=63, LABEL_OR_EMPTY);
        }
    }

    fn reference(&mut self, fields: [&'static str; 2], reference: &NamespacedRef) {
        self.text(fields[0], &reference.name, 1..=253, NAME);
        self.optional(fields[1], reference.namespace.as_ref(), 1..=63, NAMESPACE);
    }

    fn secret_key(&mut self, fields: [&'static str; 2], reference: &SecretKeyRef) {
        self.text(fields[0], &reference.name, 1..=253, NAME);
        self.text(fields[1], &reference.key, 1..=253, SECRET_KEY);
    }
}

/// Checks an order.
#[must_use]
pub fn check_order(order: &DedicatedServerOrder) -> Vec<Problem> {
    let mut found = Findings::default();
    let name = order.metadata.name.as_deref().unwrap_or_default();
    found.rule("metadata.name", name.chars().count() <= 63, msg::ORDER_NAME);
    order_references(&mut found, &order.spec);
    configuration(&mut found, &order.spec.configuration);
    let spec = &order.spec;
    found.text("spec.client.username", &spec.client.username, 1..=64, USERNAME);
    let nobody = ["no_owner", "null"].iter().any(|word| spec.client.username.eq_ignore_ascii_case(word));
    found.rule("spec.client.username", !nobody, msg::USERNAME_TAKEN);
    found.optional("spec.client.email", spec.client.email.as_ref(), 3..=254, EMAIL);
    found.text("spec.domain", &spec.domain, 1..=253, DOMAIN);
    found.rule("spec.domain", spec.domain != "free.ds", msg::DOMAIN_FREE);
    found.number("spec.addresses.ipv4", spec.addresses.ipv4, 1..=64);
    found.number("spec.addresses.ipv6", spec.addresses.ipv6, 0..=64);
    found.text("spec.operatingSystem.template", &spec.operating_system.template, 1..=253, NOT_BLANK);
    found.entries("spec.recipes", spec.recipes.len(), 0..=16);
    for recipe in &spec.recipes {
        found.text("spec.recipes[]", recipe, 1..=253, NOT_BLANK);
    }
    found.entries("spec.licenses", spec.licenses.len(), 0..=16);
    for license in &spec.licenses {
        found.text("spec.licenses[].product", &license.product, 1..=128, NOT_BLANK);
        found.number("spec.licenses[].period", license.period, 1..=120);
    }
    let products: std::collections::BTreeSet<&str> = spec.licenses.iter().map(|license| license.product.as_str()).collect();
    found.rule("spec.licenses", products.len() == spec.licenses.len(), msg::LICENSES_UNIQUE);
    found.text("spec.reinstall", &spec.reinstall, 0..=253, ANY);
    found.0
}

fn order_references(found: &mut Findings, spec: &OrderSpec) {
    found.rule("spec", spec.handler_ref.is_some() != spec.handler_selector.is_some(), msg::ONE_HANDLER);
    found.rule("spec.adopt", !(spec.adopt.is_some() && spec.handler_selector.is_some()), msg::ADOPT_HANDLER);
    if let Some(handler) = &spec.handler_ref {
        found.reference(["spec.handlerRef.name", "spec.handlerRef.namespace"], handler);
    }
    if let Some(selector) = &spec.handler_selector {
        found.optional("spec.handlerSelector.namespace", selector.namespace.as_ref(), 1..=63, NAMESPACE);
        found.labels("spec.handlerSelector.matchLabels", &selector.match_labels, 0..=16);
    }
    if let Some(password) = &spec.operating_system.password_secret_ref {
        found.secret_key(["spec.operatingSystem.passwordSecretRef.name", "spec.operatingSystem.passwordSecretRef.key"], password);
    }
    if let Some(adopt) = &spec.adopt {
        found.text("spec.adopt.serverId", &adopt.server_id, 1..=64, NOT_BLANK);
    }
}

fn configuration(found: &mut Findings, configuration: &Configuration) {
    found.rule("spec.configuration", configuration.server_type.is_some() != configuration.custom.is_some(), msg::ONE_CONFIGURATION);
    found.optional("spec.configuration.serverType", configuration.server_type.as_ref(), 1..=128, NOT_BLANK);
    let Some(custom) = &configuration.custom else { return };
    let CustomConfiguration { cpu, memory_gib, disks, pci } = custom;
    let any = cpu.is_some() || memory_gib.is_some() || !disks.is_empty() || !pci.is_empty();
    found.rule("spec.configuration.custom", any, msg::CUSTOM_PART);
    if let Some(cpu) = cpu {
        found.text("spec.configuration.custom.cpu.model", &cpu.model, 1..=128, NOT_BLANK);
        found.number("spec.configuration.custom.cpu.count", cpu.count, 1..=16);
    }
    if let Some(memory) = memory_gib {
        found.number("spec.configuration.custom.memoryGiB", *memory, 1..=65_536);
    }
    found.entries("spec.configuration.custom.disks", disks.len(), 0..=30);
    for disk in disks {
        found.text("spec.configuration.custom.disks[].type", &disk.type_, 1..=32, NOT_BLANK);
        found.number("spec.configuration.custom.disks[].sizeGB", disk.size_gb, 1..=1_000_000);
        found.number("spec.configuration.custom.disks[].count", disk.count, 1..=30);
    }
    found.entries("spec.configuration.custom.pci", pci.len(), 0..=7);
    for card in pci {
        found.text("spec.configuration.custom.pci[]", card, 1..=128, NOT_BLANK);
    }
}

/// Checks a handler.
#[must_use]
pub fn check_handler(handler: &ProcessingHandler) -> Vec<Problem> {
    let mut found = Findings::default();
    let spec = &handler.spec;
    connection(&mut found, &spec.connection);
    module(&mut found, spec);
    if let Some(management) = &spec.ip_management {
        ip_management(&mut found, management);
    }
    if let Some(server) = &spec.license_server_ref {
        found.reference(["spec.licenseServerRef.name", "spec.licenseServerRef.namespace"], server);
    }
    if let Some(sold) = &spec.licenses {
        licenses(&mut found, sold);
    }
    if let Some(list) = &spec.departments {
        departments(&mut found, list);
    }
    found.optional("spec.dataCenter", spec.data_center.as_ref(), 1..=253, NOT_BLANK);
    found.number("spec.priority", spec.priority, -1000..=1000);
    found.number("spec.limits.maxConcurrentOperations", spec.limits.max_concurrent_operations, 0..=10_000);
    found.number("spec.limits.maxConcurrentReleases", spec.limits.max_concurrent_releases, 0..=10_000);
    found.number("spec.limits.maxOrdersPerNamespace", spec.limits.max_orders_per_namespace, 0..=100_000);
    found.number("spec.limits.requestsPerSecond", spec.limits.requests_per_second, 0..=10_000);
    found.at_least_a_second("spec.retry.interval", spec.retry.interval, msg::RETRY_INTERVAL);
    found.number("spec.retry.maxAttempts", spec.retry.max_attempts, 1..=1000);
    let shortest = [spec.timeouts.power, spec.timeouts.install, spec.timeouts.step, spec.timeouts.settle].into_iter().min();
    found.at_least_a_second("spec.timeouts", shortest.unwrap_or(spec.timeouts.settle), msg::TIMEOUTS);
    found.at_least_a_second("spec.pollInterval", spec.poll_interval, msg::POLL_INTERVAL);
    let allowed = &spec.allowed_namespaces;
    found.rule("spec.allowedNamespaces", (allowed.from == NamespacesFrom::Selector) == allowed.selector.is_some(), msg::ALLOWED_NAMESPACES);
    if let Some(selector) = &allowed.selector {
        found.labels("spec.allowedNamespaces.selector.matchLabels", &selector.match_labels, 1..=16);
    }
    found.entries("spec.allowedDeletionPolicies", spec.allowed_deletion_policies.len(), 1..=2);
    found.entries("spec.dialect", spec.dialect.len(), 0..=32);
    for call in spec.dialect.values() {
        dialect_call(&mut found, call);
    }
    found.0
}

fn module(found: &mut Findings, spec: &HandlerSpec) {
    let assembly = spec.departments.as_ref().is_some_and(|d| d.assembly.is_some());
    let procurement = spec.departments.as_ref().is_some_and(|d| d.procurement.is_some());
    match spec.module {
        Module::BILLmanager6 => {
            let foreign = spec.by_server_type || spec.ip_management.is_some() || assembly || procurement;
            found.rule("spec", !foreign, msg::LICENSE_SERVER);
            found.rule("spec", spec.license_server_ref.is_none(), msg::LICENSES);
        }
        Module::DCImanager5 | Module::DCImanager6 => {
            found.rule("spec.departments", spec.by_server_type || (assembly && procurement), msg::DEPARTMENTS);
            found.rule("spec.ipManagement", spec.ip_management.is_some(), msg::IP_MANAGEMENT);
            found.rule("spec", spec.licenses.is_none(), msg::LICENSES);
        }
    }
}

fn licenses(found: &mut Findings, licenses: &Licenses) {
    found.entries("spec.licenses.products", licenses.products.len(), 1..=32);
    for (name, product) in &licenses.products {
        found.rule("spec.licenses.products", name.chars().count() <= 63 && syntax::label(name), msg::LICENSE_PRODUCT);
        found.text("spec.licenses.products[].pricelist", &product.pricelist, 1..=64, NOT_BLANK);
        found.entries("spec.licenses.products[].addons", product.addons.len(), 0..=16);
        for value in product.addons.values() {
            found.text("spec.licenses.products[].addons[]", value, 0..=128, ANY);
        }
    }
    found.at_least_a_second("spec.licenses.renewBefore", licenses.renew_before, msg::RENEW_BEFORE);
    found.optional("spec.licenses.project", licenses.project.as_ref(), 1..=64, NOT_BLANK);
}

fn ip_management(found: &mut Findings, management: &IpManagement) {
    found.text("spec.ipManagement.ipManagerRef.name", &management.ip_manager_ref.name, 1..=253, NAME);
    found.text("spec.ipManagement.publicIPType", &management.public_ip_type, 1..=64, NOT_BLANK);
    found.optional("spec.ipManagement.parkingIPType", management.parking_ip_type.as_ref(), 1..=64, NOT_BLANK);
    let apart = management.parking_ip_type.as_ref() != Some(&management.public_ip_type);
    found.rule("spec.ipManagement.parkingIPType", apart, msg::PARKING);
}

fn departments(found: &mut Findings, departments: &Departments) {
    let Operations { name, title, deadline, escalate_to, webhook } = departments.operations.clone();
    let operations = Some(Department { name, title, deadline, escalate_to, webhook });
    for (fields, department) in [
        (DEPARTMENT_FIELDS[0], &operations),
        (DEPARTMENT_FIELDS[1], &departments.assembly),
        (DEPARTMENT_FIELDS[2], &departments.procurement),
    ] {
        if let Some(department) = department {
            one_department(found, fields, department);
        }
    }
}

const DEPARTMENT_FIELDS: [[&str; 8]; 3] = [
    [
        "spec.departments.operations.name",
        "spec.departments.operations.title",
        "spec.departments.operations.deadline",
        "spec.departments.operations.escalateTo",
        "spec.departments.operations.webhook.url",
        "spec.departments.operations.webhook.secretRef.name",
        "spec.departments.operations.webhook.secretRef.key",
        "spec.departments.operations.webhook.caBundle",
    ],
    [
        "spec.departments.assembly.name",
        "spec.departments.assembly.title",
        "spec.departments.assembly.deadline",
        "spec.departments.assembly.escalateTo",
        "spec.departments.assembly.webhook.url",
        "spec.departments.assembly.webhook.secretRef.name",
        "spec.departments.assembly.webhook.secretRef.key",
        "spec.departments.assembly.webhook.caBundle",
    ],
    [
        "spec.departments.procurement.name",
        "spec.departments.procurement.title",
        "spec.departments.procurement.deadline",
        "spec.departments.procurement.escalateTo",
        "spec.departments.procurement.webhook.url",
        "spec.departments.procurement.webhook.secretRef.name",
        "spec.departments.procurement.webhook.secretRef.key",
        "spec.departments.procurement.webhook.caBundle",
    ],
];

fn one_department(found: &mut Findings, fields: [&'static str; 8], department: &Department) {
    let Department { name, title, deadline, escalate_to, webhook } = department;
    found.text(fields[0], name, 1..=63, LABEL);
    found.optional(fields[1], title.as_ref(), 0..=253, ANY);
    if let Some(deadline) = deadline {
        found.at_least_a_second(fields[2], *deadline, msg::DEADLINE);
    }
    found.optional(fields[3], escalate_to.as_ref(), 1..=63, LABEL);
    found.rule(fields[3], escalate_to.as_ref().is_none_or(|other| deadline.is_some() && other != name), msg::ESCALATE_TO);
    if let Some(webhook) = webhook {
        found.text(fields[4], &webhook.url, 8..=512, (syntax::panel_url, msg::WEBHOOK_URL));
        found.secret_key([fields[5], fields[6]], &webhook.secret_ref);
        found.optional(fields[7], webhook.ca_bundle.as_ref(), 1..=65_536, NOT_BLANK);
    }
}

fn dialect_call(found: &mut Findings, call: &DialectCall) {
    let rest = call.method.is_some() && call.path.is_some();
    let half = call.method.is_some() != call.path.is_some();
    found.rule("spec.dialect", call.func.is_some() != rest && !half, msg::DIALECT);
    found.optional("spec.dialect[].func", call.func.as_ref(), 1..=128, FUNCTION);
    found.optional("spec.dialect[].method", call.method.as_ref(), 3..=6, METHOD);
    found.optional("spec.dialect[].path", call.path.as_ref(), 1..=512, NOT_BLANK);
    found.entries("spec.dialect[].params", call.params.len(), 0..=64);
    for value in call.params.values() {
        found.text("spec.dialect[].params[]", value, 0..=512, ANY);
    }
    found.optional("spec.dialect[].answer", call.answer.as_ref(), 1..=128, NOT_BLANK);
    if let Some(verify) = &call.verify {
        found.text("spec.dialect[].verify.call", &verify.call, 1..=128, NOT_BLANK);
        found.text("spec.dialect[].verify.expect", &verify.expect, 1..=512, NOT_BLANK);
    }
}

fn connection(found: &mut Findings, connection: &Connection) {
    found.text("spec.connection.url", &connection.url, 8..=512, (syntax::panel_url, msg::URL));
    found.text("spec.connection.credentialsSecretRef.name", &connection.credentials_secret_ref.name, 1..=253, NAME);
    let allowed = Duration::seconds(1)..=Duration::seconds(300);
    found.rule("spec.connection.timeout", allowed.contains(&connection.timeout), msg::TIMEOUT);
    let Some(Tls { ca_bundle, ca_bundle_secret_ref, pinned_sha256, insecure_skip_verify }) = &connection.tls else { return };
    let ways = [ca_bundle.is_some(), ca_bundle_secret_ref.is_some(), pinned_sha256.is_some(), *insecure_skip_verify];
    found.rule("spec.connection.tls", ways.iter().filter(|way| **way).count() <= 1, msg::TLS);
    found.optional("spec.connection.tls.caBundle", ca_bundle.as_ref(), 1..=65_536, NOT_BLANK);
    if let Some(reference) = ca_bundle_secret_ref {
        found.secret_key(["spec.connection.tls.caBundleSecretRef.name", "spec.connection.tls.caBundleSecretRef.key"], reference);
    }
    found.optional("spec.connection.tls.pinnedSHA256", pinned_sha256.as_ref(), 64..=95, FINGERPRINT);
}

/// Checks an `IPManager`.
#[must_use]
pub fn check_ipmanager(manager: &IPManager) -> Vec<Problem> {
    let mut found = Findings::default();
    connection(&mut found, &manager.spec.connection);
    found.at_least_a_second("spec.pollInterval", manager.spec.poll_interval, msg::POLL_INTERVAL);
    found.0
}

/// Checks a task.
#[must_use]
pub fn check_task(task: &ManualTask) -> Vec<Problem> {
    let mut found = Findings::default();
    let spec = &task.spec;
    found.text("spec.department", &spec.department, 1..=63, LABEL);
    found.text("spec.orderRef.namespace", &spec.order_ref.namespace, 1..=63, NAMESPACE);
    found.text("spec.orderRef.name", &spec.order_ref.name, 1..=253, NAME);
    found.text("spec.orderRef.uid", &spec.order_ref.uid, 1..=64, NOT_BLANK);
    found.text("spec.summary", &spec.summary, 0..=512, ANY);
    found.optional("spec.details", spec.details.as_ref(), 0..=16_384, ANY);
    found.optional("spec.escalateTo", spec.escalate_to.as_ref(), 1..=63, LABEL);
    found.optional("spec.handlerRef.name", spec.handler_ref.as_ref().map(|r| &r.name), 1..=253, NAME);
    found.optional("spec.note", spec.note.as_ref(), 0..=4096, ANY);
    if let Some(resolution) = spec.resolution {
        let message = match resolution {
            Resolution::PartsMissing => msg::PARTS_MISSING,
            Resolution::Cancelled => msg::CANCELLED,
            Resolution::Abandon => msg::ABANDON,
            Resolution::Done | Resolution::Retry => "",
        };
        found.rule("spec.resolution", spec.type_.takes(resolution), message);
    }
    found.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_ordered_once() {
        let order = |products: &[&str]| -> DedicatedServerOrder {
            let licenses: Vec<_> = products.iter().map(|p| serde_json::json!({"product": p})).collect();
            crate::api::samples::order(&serde_json::json!({"spec": {"licenses": licenses}}))
        };
        assert!(check_order(&order(&["Lite", "Pro"])).is_empty());
        let problems = check_order(&order(&["Lite", "Pro", "Lite"]));
        assert_eq!(problems.iter().map(|p| p.message.as_str()).collect::<Vec<_>>(), [msg::LICENSES_UNIQUE]);
    }
}
