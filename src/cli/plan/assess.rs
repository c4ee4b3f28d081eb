//! Whether a handler can serve an order, by what is stored of the two; and which one does.

use std::collections::BTreeMap;

use crate::api::condition::{self, Condition, ConditionType};
use crate::api::handler::{AllowedNamespaces, DeletionPolicy, Module, NamespacesFrom};
use crate::api::{DedicatedServerOrder, ProcessingHandler};
use crate::controller::context::serving_handler;
use crate::provisioning::order::{Handler, Order};
use crate::provisioning::wanted::Wanted;

use super::{Assessment, Finding, Offer, Plan, Question, Situation, Weight};
use crate::cli::inventory::LISTED;
use crate::cli::known::Known;

fn finding(weight: Weight, text: impl Into<String>) -> Finding {
    Finding { weight, text: text.into() }
}

/// Looks at all handlers, and says which one serves the order.
pub(super) fn handlers(question: &Question, order: &Order, plan: &mut Plan) {
    let offers = match &question.handlers {
        Known::Hidden(why) => {
            plan.no_handler = Some(finding(Weight::Unknown, why.clone()));
            return;
        }
        Known::Absent => &Vec::new(),
        Known::Is(offers) => offers,
    };
    if offers.is_empty() {
        let text = match (&order.handler, &order.selector) {
            (Some(key), _) => format!("handler {key} does not exist: make it, or correct spec.handlerRef (HandlerNotFound until then)"),
            (None, Some(s)) => format!("no handler of namespace {} has these labels (HandlerNotFound until one has)", s.namespace),
            (None, None) => "the order names no handler".to_owned(),
        };
        plan.no_handler = Some(unread_handlers(question).unwrap_or_else(|| finding(Weight::Stops, text)));
        return;
    }
    let has_server = matches!(plan.situation, Situation::Preparing | Situation::HandedOver);
    let prepares = plan.situation != Situation::HandedOver && order.adopt.is_none();
    plan.handlers = offers.iter().map(|offer| assess(question, order, offer, has_server, prepares)).collect();
    if let Some(unread) = unread_handlers(question).filter(|_| plan.selects && !has_server) {
        plan.handlers.iter_mut().for_each(|handler| handler.findings.push(unread.clone()));
    }
    plan.handlers.sort_by(|a, b| (a.priority, &a.key.name).cmp(&(b.priority, &b.key.name)));
    let only = plan.handlers.first().filter(|_| !plan.selects || has_server);
    let first = only.or_else(|| plan.handlers.iter().find(|a| a.weight() <= Weight::Unknown));
    plan.chosen = first.map(|a| a.key.clone());
}

/// That handlers which the order selects cannot be read: one of them may be tried first, or be the one that serves it.
fn unread_handlers(question: &Question) -> Option<Finding> {
    let names = question.unread_handlers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    (!names.is_empty()).then(|| finding(Weight::Unknown, format!("{names}: cannot be read by this version, and may serve the order")))
}

/// `prepares`: a system is going to be installed now, and its recipes run.
fn assess(question: &Question, order: &Order, offer: &Offer, has_server: bool, prepares: bool) -> Assessment {
    let (handler, policy) = (&offer.handler, offer.policy());
    let mut findings = readiness(offer);
    if !has_server {
        findings.push(namespace(&handler.spec.allowed_namespaces, handler, &order.key.namespace, &question.labels));
        findings.extend(namespace_limit(question, &policy));
        findings.push(match &order.adopt {
            Some(server) if policy.adoption => {
                finding(Weight::Good, format!("orders may take over servers; whether server {server} can be, see below"))
            }
            Some(_) => finding(
                Weight::Stops,
                "orders may not take over servers: the provider sets spec.adoption: Allowed (AdoptionForbidden until then)",
            ),
            None => capacity(order, &policy, handler),
        });
        findings.extend(client(handler, order));
    }
    findings.push(deletion_policy(order, &policy));
    if prepares && order.recipes.len() > 1 && !policy.run_recipe {
        let text =
            "spec.recipes names several recipes, and the handler's spec.dialect has no runRecipe: keep one (SeveralRecipes until then)";
        findings.push(finding(Weight::Stops, text));
    }
    findings.extend(licenses(question, order, offer));
    Assessment { key: handler.key(), priority: handler.spec.priority, findings }
}

/// The handler itself, and its IPManager.
fn readiness(offer: &Offer) -> Vec<Finding> {
    let handler = &offer.handler;
    let mut found = Vec::new();
    if handler.spec.module != Module::DCImanager5 {
        let text = format!(
            "its module is {}, which gives no servers in this version: name a handler with DCImanager5",
            handler.spec.module.as_str()
        );
        found.push(finding(Weight::Stops, text));
    }
    if handler.metadata.deletion_timestamp.is_some() {
        found.push(finding(Weight::Waits, "it is being deleted"));
    }
    found.push(ready("it", handler.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default()));
    if handler.spec.suspend {
        found.push(finding(Weight::Waits, "it is suspended (spec.suspend): nothing is changed at the panel"));
    }
    if let Some(management) = &handler.spec.ip_management {
        let name = format!("IPManager {}", management.ip_manager_ref.name);
        found.push(match &offer.pool {
            Known::Is(pool) => ready(&name, pool.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default()),
            Known::Absent => finding(Weight::Waits, format!("{name} does not exist")),
            Known::Hidden(why) => finding(Weight::Unknown, format!("{name}: {why}")),
        });
    }
    found
}

fn ready(what: &str, conditions: &[Condition]) -> Finding {
    match condition::find(conditions, ConditionType::Ready) {
        Some(c) if c.status == "True" => finding(Weight::Good, format!("{what} is Ready")),
        Some(c) => finding(Weight::Waits, format!("{what} is not Ready: {}: {}", c.reason, c.message)),
        None => finding(Weight::Waits, format!("{what} has not been looked at by the operator yet")),
    }
}

/// Whether orders of a namespace may use it.
fn namespace(rule: &AllowedNamespaces, handler: &ProcessingHandler, namespace: &str, labels: &Known<BTreeMap<String, String>>) -> Finding {
    let allowed = match rule.from {
        NamespacesFrom::Same => handler.metadata.namespace.as_deref() == Some(namespace),
        NamespacesFrom::All => true,
        NamespacesFrom::Selector => {
            let wanted = rule.selector.as_ref().map(|s| &s.match_labels).filter(|w| !w.is_empty());
            match (wanted, labels) {
                (None, _) => false,
                (Some(_), Known::Absent) => {
                    let text = format!("namespace {namespace} does not exist yet: whether it will have the labels of allowedNamespaces");
                    return finding(Weight::Unknown, text);
                }
                (Some(wanted), Known::Is(labels)) => wanted.iter().all(|(name, value)| labels.get(name) == Some(value)),
                (Some(_), Known::Hidden(why)) => {
                    return finding(Weight::Unknown, format!("whether namespace {namespace} has the labels of allowedNamespaces: {why}"));
                }
            }
        }
    };
    if allowed {
        return finding(Weight::Good, format!("namespace {namespace} may use it"));
    }
    let text = format!("namespace {namespace} may not use it: the provider changes spec.allowedNamespaces (HandlerNotFound until then)");
    finding(Weight::Stops, text)
}

/// How many orders of one namespace may have servers of it.
fn namespace_limit(question: &Question, policy: &Handler) -> Option<Finding> {
    let max = policy.max_orders_per_namespace;
    if max == 0 {
        return None;
    }
    let (own, key) = (question.order.key(), &policy.key);
    let created = question.existing.get().and_then(|e| e.metadata.creation_timestamp.as_ref()).map(|t| t.0);
    // An order that is still to be made comes after all that are there.
    let older = |o: &DedicatedServerOrder| created.is_none_or(|at| o.metadata.creation_timestamp.as_ref().is_some_and(|t| t.0 < at));
    let counts = |o: &&DedicatedServerOrder| o.key() != own && serving_handler(o).as_ref() == Some(key) && (o.is_bound() || older(o));
    let unread = question.unread_orders.iter().filter(|key| **key != own).count();
    Some(match &question.neighbours {
        Known::Is(orders) => match orders.iter().filter(counts).count() {
            there if there >= max => finding(
                Weight::Waits,
                format!(
                    "{there} orders of this namespace have servers or came before, and limits.maxOrdersPerNamespace is {max} (LimitReached)"
                ),
            ),
            there if there + unread >= max => finding(
                Weight::Unknown,
                format!(
                    "{there} orders of this namespace have servers or came before, {unread} more cannot be read by this version, and limits.maxOrdersPerNamespace is {max}"
                ),
            ),
            there => finding(
                Weight::Good,
                format!("{there} orders of this namespace have servers or came before, and limits.maxOrdersPerNamespace is {max}"),
            ),
        },
        Known::Absent => {
            finding(Weight::Good, format!("no other order of this namespace is there, and limits.maxOrdersPerNamespace is {max}"))
        }
        Known::Hidden(why) => finding(Weight::Unknown, format!("limits.maxOrdersPerNamespace is {max}: {why}")),
    })
}

/// Free servers, as the handler last counted them.
fn capacity(order: &Order, policy: &Handler, handler: &ProcessingHandler) -> Finding {
    let inventory = handler.status.as_ref().and_then(|s| s.inventory.as_ref());
    match (&order.wanted, inventory) {
        (Wanted::Custom(_), _) if policy.by_server_type => finding(
            Weight::Stops,
            "it sells server types only (byServerType): set configuration.serverType (CustomConfigurationRefused until then)",
        ),
        (_, None) => finding(Weight::Unknown, "the operator has not counted its servers yet"),
        (Wanted::Custom(_), Some(servers)) if servers.free == 0 => {
            let department = policy.assembly.as_ref().unwrap_or(&policy.operations);
            finding(Weight::Waits, format!("no server is free: a task asks department {department} to build one"))
        }
        (Wanted::Custom(_), Some(servers)) => finding(
            Weight::Unknown,
            format!("{} of {} servers are free; which parts they have, only the panel knows", servers.free, servers.total),
        ),
        (Wanted::Ready(wanted), Some(servers)) => match servers.by_configuration.iter().find(|c| c.configuration == *wanted) {
            Some(row) if row.free > 0 => finding(Weight::Good, format!("{} of {} servers of type {wanted} are free", row.free, row.total)),
            Some(row) => finding(Weight::Waits, format!("none of {} servers of type {wanted} is free (WaitingForCapacity)", row.total)),
            None if servers.by_configuration.len() >= LISTED => {
                finding(Weight::Unknown, format!("{wanted} is not among the {LISTED} largest configurations that it lists"))
            }
            None => {
                let known: Vec<&str> = servers.by_configuration.iter().map(|c| c.configuration.as_str()).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                // Allocation also takes the panel's own ids of types, which the count does not tell.
                let id = "unless that is the panel's id of one of them";
                finding(Weight::Waits, format!("its panel has no server of type {wanted} (WaitingForCapacity); it has: {known}; {id}"))
            }
        },
    }
}

/// A client's name belongs to one namespace for each panel.
fn client(handler: &ProcessingHandler, order: &Order) -> Option<Finding> {
    let mut claims = handler.status.iter().flat_map(|s| &s.clients);
    let claim = claims.find(|c| c.username.eq_ignore_ascii_case(&order.username))?;
    // Whose it is, is nobody else's business.
    let name = &order.username;
    Some(if claim.namespace == order.key.namespace {
        finding(Weight::Good, format!("client {name} belongs to this namespace at its panel"))
    } else {
        finding(
            Weight::Stops,
            format!(
                "client {name} belongs to another namespace at its panel: choose another spec.client.username (ClientNameTaken until then)"
            ),
        )
    })
}

pub(super) fn policy_name(policy: DeletionPolicy) -> &'static str {
    match policy {
        DeletionPolicy::Release => "Release",
        DeletionPolicy::Orphan => "Orphan",
    }
}

fn deletion_policy(order: &Order, policy: &Handler) -> Finding {
    let asked = policy_name(order.deletion_policy);
    if policy.deletion_policies.contains(&order.deletion_policy) {
        return finding(Weight::Good, format!("deletionPolicy {asked} is allowed"));
    }
    let allowed: Vec<&str> = policy.deletion_policies.iter().map(|p| policy_name(*p)).collect();
    let text = format!("deletionPolicy {asked} is not allowed: set {} (DeletionPolicyForbidden until then)", allowed.join(" or "));
    finding(Weight::Stops, text)
}

/// Licences have to be for sale before a server is taken.
fn licenses(question: &Question, order: &Order, offer: &Offer) -> Vec<Finding> {
    // What the order has already needs not be for sale any more.
    let has = question.existing.get().and_then(|e| e.status.as_ref()).map(|s| s.licenses.as_slice()).unwrap_or_default();
    let wanted: Vec<&str> = order.licenses.iter().map(|l| l.product.as_str()).filter(|p| has.iter().all(|h| h.product != *p)).collect();
    if wanted.is_empty() {
        return Vec::new();
    }
    let Some(key) = offer.policy().license_server else {
        let text = "it has no licenseServerRef: the provider sets it, or remove spec.licenses (LicenseServerNotReady until then)";
        return vec![finding(Weight::Stops, text)];
    };
    let server = match &offer.license_server {
        Known::Is(server) => server,
        Known::Absent => return vec![finding(Weight::Unknown, format!("licence server {key} does not exist; the licences wait for it"))],
        Known::Hidden(why) => return vec![finding(Weight::Unknown, format!("licence server {key}: {why}"))],
    };
    let conditions = server.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    let readiness = ready(&format!("licence server {key}"), conditions);
    // The server is prepared meanwhile; the licences wait.
    let mut found = vec![if readiness.weight == Weight::Waits { Finding { weight: Weight::Unknown, ..readiness } } else { readiness }];
    let sold: Vec<&str> = server.spec.licenses.iter().flat_map(|l| l.products.keys()).map(String::as_str).collect();
    for product in wanted.into_iter().filter(|product| !sold.contains(product)) {
        let text = format!("licence server {key} does not sell {product}: it sells {} (UnknownProduct until then)", sold.join(", "));
        found.push(finding(Weight::Stops, text));
    }
    found
}
