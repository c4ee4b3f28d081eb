//! The steps of an order in their order, what each will do, and what nobody but the panel can tell beforehand.

use crate::api::handler::AllocateBy;
use crate::api::order::ReadyWhen;
use crate::provisioning::order::{Handler, Order};
use crate::provisioning::step::{OPENING, State, Step};
use crate::provisioning::wanted::Wanted;

use super::{Act, Effect, Offer, Plan, Planned, Question, Situation};

/// The steps that are left, with those that are over.
pub(super) fn of(question: &Question, order: &Order, offer: Option<&Offer>, situation: &Situation) -> Vec<Planned> {
    if *situation == Situation::HandedOver {
        return Vec::new();
    }
    let policy = offer.map(Offer::policy);
    let status = question.existing.get().and_then(|o| o.status.as_ref());
    let mut planned = Vec::new();
    for step in OPENING {
        let known = status.and_then(|s| s.steps.iter().find(|r| r.name == step.as_str()));
        let (act, text) = match known.filter(|record| State::parse(&record.state).over()) {
            Some(record) => (Act::Over, if record.message.is_empty() { record.state.clone() } else { record.message.clone() }),
            None if order.adopt.is_some() => adopting(step, order),
            None => (Act::Does, does(step, question, order, policy.as_ref())),
        };
        let skipped = text.strip_prefix(SKIPPED).map(str::to_owned);
        planned.push(match skipped {
            Some(why) => Planned { step, act: Act::Skips, text: why },
            None => Planned { step, act, text },
        });
    }
    if order.suspended && order.adopt.is_none() {
        let ways = [
            (Step::Suspend, "disables the server"),
            (Step::PortsOff, "switches its switch ports off"),
            (Step::StopPower, "switches its power off"),
        ];
        planned.extend(ways.map(|(step, text)| Planned { step, act: Act::Does, text: text.into() }));
    }
    planned
}

/// Stands before the reason of a step that is not needed.
const SKIPPED: &str = "skipped: ";

fn adopting(step: Step, order: &Order) -> (Act, String) {
    match (&order.adopt, step) {
        (Some(server), Step::Allocate) => {
            let text = format!(
                "takes over server {server}: writes the order's marker into its notes, and nothing else; refused where anything is not as the order says"
            );
            (Act::Does, text)
        }
        (Some(_), Step::IssueLicenses) if !order.licenses.is_empty() => (Act::Does, licenses(order, None)),
        (Some(_) | None, _) => (Act::Skips, "an adopted server is not prepared".into()),
    }
}

fn does(step: Step, question: &Question, order: &Order, policy: Option<&Handler>) -> String {
    let name = &order.key.name;
    match step {
        Step::CreateClient => {
            format!("makes panel user {} where the panel does not have it; its log-in comes into Secret {name}-panel", order.username)
        }
        Step::Allocate => match &order.wanted {
            Wanted::Ready(server_type) => {
                format!("claims one free server of type {server_type}: owner and marker are written, and read back")
            }
            Wanted::Custom(_) => format!(
                "claims the free server that has {} with the least surplus; where none has it, the most similar one is reserved",
                order.wanted
            ),
        },
        Step::Assemble => match (&order.wanted, policy) {
            (Wanted::Ready(_), _) => format!("{SKIPPED}ready configuration"),
            (Wanted::Custom(_), policy) => {
                let department = policy.map_or("assembly", |p| p.assembly.as_ref().unwrap_or(&p.operations));
                format!("asks department {department} with a task, only where the server lacks parts")
            }
        },
        Step::PowerOn => "switches the server on, where it is off".into(),
        Step::ChangeAddress => addresses(order, policy),
        Step::InstallOS => {
            let recipe = order.recipes.first().map_or_else(String::new, |recipe| format!(" with recipe {recipe}"));
            format!("installs template {}{recipe}; the root password {}", order.template, password(question))
        }
        Step::RunRecipes => recipes(order, policy),
        Step::IssueLicenses if order.licenses.is_empty() => format!("{SKIPPED}none ordered"),
        Step::IssueLicenses => licenses(order, policy),
        Step::HandOver => format!("makes {} the owner at the panel: the order is Ready", order.username),
        other => other.as_str().to_owned(),
    }
}

fn password(question: &Question) -> String {
    match &question.order.spec.operating_system.password_secret_ref {
        Some(own) => format!("is key {} of Secret {}", own.key, own.name),
        None => format!("is generated into Secret {}-root", question.order.key().name),
    }
}

/// How many addresses of which family, in words.
pub(super) fn count(ipv4: usize, ipv6: usize) -> String {
    if ipv6 == 0 { format!("{ipv4} IPv4") } else { format!("{ipv4} IPv4 and {ipv6} IPv6") }
}

fn addresses(order: &Order, policy: Option<&Handler>) -> String {
    let domain = format!("all get domain {}", order.domain);
    let Some(policy) = policy else {
        return format!("gives it {} public addresses, as its handler says; {domain}", count(order.ipv4, order.ipv6));
    };
    let group = &policy.public_group;
    if policy.disable_ip_change {
        let (more, count) = (order.ipv4.saturating_sub(1) + order.ipv6, count(order.ipv4.saturating_sub(1), order.ipv6));
        let more = if more == 0 { "no other is added".to_owned() } else { format!("{count} of group {group} are added") };
        return format!("the main address stays (disableIPChange), {more}; {domain}");
    }
    let from = match policy.allocate_by {
        AllocateBy::Operator => "taken in IPmanager",
        AllocateBy::Panel => "taken by the panel",
    };
    let parking = policy.parking_group.as_ref().filter(|_| policy.operator_allocates());
    let back = parking.map_or_else(String::new, |group| format!("; the old main address goes back to group {group}"));
    format!("gives it {} of group {group}, {from}, one of them as main address{back}; {domain}", count(order.ipv4, order.ipv6))
}

fn recipes(order: &Order, policy: Option<&Handler>) -> String {
    let others: Vec<&str> = order.recipes.iter().skip(1).map(String::as_str).collect();
    let failure = match order.ready_when {
        ReadyWhen::RecipesFinished => "where one fails, another server is tried, once",
        ReadyWhen::OSInstalled => "one that fails is not waited for (readyWhen: OSInstalled)",
    };
    match (order.recipes.is_empty(), policy) {
        (true, _) => format!("{SKIPPED}none asked for"),
        (false, Some(policy)) if policy.run_recipe && !others.is_empty() => {
            format!("runs {}, one after the other; {failure}", others.join(", "))
        }
        (false, Some(_) | None) => format!("nothing by itself: the recipe is part of the installation; {failure}"),
    }
}

fn licenses(order: &Order, policy: Option<&Handler>) -> String {
    let each: Vec<String> = order.licenses.iter().map(|l| format!("{} for {} months", l.product, l.period)).collect();
    let server = policy.and_then(|p| p.license_server.as_ref()).map_or_else(String::new, |key| format!(" at {key}"));
    format!("orders {}{server}, where they are not there yet; the keys come into a Secret", each.join(", "))
}

/// What cannot be told from Kubernetes, or not by this user.
pub(super) fn unknown(question: &Question, order: &Order, offer: Option<&Offer>, plan: &Plan) -> Vec<String> {
    let mut unknown = Vec::new();
    if let Some(server) = &order.adopt {
        unknown.push(format!(
            "whether server {server} belongs to client {}, and is as the order says (AdoptionRefused where not)",
            order.username
        ));
        return unknown;
    }
    let will = |step: Step| plan.steps.iter().any(|p| p.step == step && p.act == Act::Does);
    if will(Step::CreateClient) {
        unknown.push(format!("whether panel user {} exists, and is no administrator (ClientIsAdministrator)", order.username));
    }
    if will(Step::Allocate) {
        unknown.push("how many servers are free when the order's turn comes: older orders are served first".into());
        if question.beside > 0 {
            unknown.push(format!(
                "which of the {} other orders of this call come first: each is planned as if it were alone",
                question.beside
            ));
        }
        let at_once = offer.map_or(0, |o| o.handler.spec.limits.max_concurrent_operations);
        if at_once > 0 {
            unknown.push(format!("whether one of {at_once} places (limits.maxConcurrentOperations) is free then"));
        }
    }
    let wipes = plan.changes.iter().any(|c| c.effect == Effect::Wipes);
    if will(Step::InstallOS) || wipes {
        let recipes = if order.recipes.is_empty() { String::new() } else { format!(", and {}", order.recipes.join(", ")) };
        unknown.push(format!("whether the panel offers {}{recipes} for the server (UnknownTemplate, UnknownRecipe)", order.template));
        if let Some(own) = &question.order.spec.operating_system.password_secret_ref {
            unknown.push(format!(
                "whether Secret {} has key {}: Secrets are not read here (CredentialsMissing until it has)",
                own.name, own.key
            ));
        }
    }
    let more = plan.changes.iter().any(|c| c.field.starts_with("spec.addresses") && c.effect == Effect::AtOnce);
    if will(Step::ChangeAddress) || more {
        let group = offer.map_or_else(|| "the public group".to_owned(), |o| format!("group {}", o.policy().public_group));
        unknown.push(format!("whether {group} has free addresses: IPmanager 5 does not tell"));
    }
    unknown
}
