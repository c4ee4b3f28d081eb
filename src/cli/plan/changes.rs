//! What a changed manifest costs an order that has a server: field by field, against what is stored.

use crate::api::DedicatedServerOrder;
use crate::api::messages as msg;
use crate::api::order::{OrderSpec, OrderStatus};
use crate::provisioning::order::{Handler, Order};
use crate::provisioning::wanted::Wanted;

use super::assess::policy_name;
use super::{Change, Effect, Offer, Question, Situation, situation};

/// Fields that are fixed whether there is a server or not.
pub(super) fn fixed_from_the_start(existing: &DedicatedServerOrder, new: &DedicatedServerOrder) -> Vec<Change> {
    let name = |spec: &OrderSpec| spec.adopt.as_ref().map_or_else(|| "-".to_owned(), |a| a.server_id.clone());
    let (was, becomes) = (name(&existing.spec), name(&new.spec));
    let changed = existing.spec.adopt != new.spec.adopt;
    changed.then(|| refused("spec.adopt", was, becomes, msg::ADOPT_FIXED)).into_iter().collect()
}

fn refused(field: &'static str, was: String, becomes: String, why: &str) -> Change {
    Change { field, was, becomes, effect: Effect::Refused, text: why.to_owned() }
}

/// Every field that differs, in the order of the spec.
pub(super) fn of(existing: &DedicatedServerOrder, question: &Question, order: &Order) -> Vec<Change> {
    let offer = question.handlers.get().and_then(|offers| offers.first());
    let difference = Difference {
        was: &existing.spec,
        becomes: &question.order.spec,
        order,
        status: existing.status.clone().unwrap_or_default(),
        policy: offer.map(Offer::policy),
        handed_over: situation(&question.existing) == Situation::HandedOver,
    };
    let mut changes = difference.fixed();
    changes.extend(fixed_from_the_start(existing, &question.order));
    changes.extend(difference.network());
    changes.extend(difference.system());
    changes.extend(difference.reinstall());
    changes.extend(difference.licenses());
    changes.extend(difference.rest());
    changes
}

struct Difference<'a> {
    was: &'a OrderSpec,
    becomes: &'a OrderSpec,
    order: &'a Order,
    status: OrderStatus,
    policy: Option<Handler>,
    handed_over: bool,
}

impl Difference<'_> {
    /// A change of one field, where there is one.
    fn field(&self, field: &'static str, value: impl Fn(&OrderSpec) -> String, tell: impl FnOnce() -> (Effect, String)) -> Option<Change> {
        let (was, becomes) = (value(self.was), value(self.becomes));
        if was == becomes {
            return None;
        }
        let (effect, text) = tell();
        Some(Change { field, was, becomes, effect, text })
    }

    fn fixed(&self) -> Vec<Change> {
        let handler = |s: &OrderSpec| {
            let named =
                s.handler_ref.as_ref().map(|r| r.namespace.as_ref().map_or_else(|| r.name.clone(), |ns| format!("{ns}/{}", r.name)));
            named.unwrap_or_default()
        };
        let selector =
            |s: &OrderSpec| s.handler_selector.as_ref().map_or_else(String::new, |s| format!("{:?}", (&s.namespace, &s.match_labels)));
        let client = |s: &OrderSpec| {
            s.client.email.as_ref().map_or_else(|| s.client.username.clone(), |mail| format!("{} <{mail}>", s.client.username))
        };
        let refuse = |why: &str| (Effect::Refused, why.to_owned());
        [
            self.field("spec.handlerRef", handler, || refuse(msg::HANDLER_REF_FIXED)),
            self.field("spec.handlerSelector", selector, || refuse(msg::HANDLER_SELECTOR_FIXED)),
            self.field("spec.client", client, || refuse(msg::CLIENT_FIXED)),
            self.field("spec.configuration", |s| Wanted::new(&s.configuration).to_string(), || refuse(msg::CONFIGURATION_FIXED)),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn network(&self) -> Vec<Change> {
        let domain = "ChangeAddress writes it to all addresses of the server; the host name of the system changes at the next reinstall";
        let count = |was: i32, becomes: i32, family: &str| {
            let many = was.abs_diff(becomes);
            if becomes > was {
                let group = self.policy.as_ref().map_or_else(String::new, |p| format!(" of group {}", p.public_group));
                return (Effect::AtOnce, format!("ChangeAddress adds {many} {family}{group}; those that are there stay"));
            }
            let first =
                if self.policy.as_ref().is_none_or(Handler::operator_allocates) { "the highest" } else { "the last in the panel's list" };
            (
                Effect::AtOnce,
                format!(
                    "ChangeAddress takes {many} {family} away from the server, {first} first, never the main one; somebody else may get them"
                ),
            )
        };
        let (old, new) = (&self.was.addresses, &self.becomes.addresses);
        [
            self.field("spec.domain", |s| s.domain.clone(), || (Effect::AtOnce, domain.into())),
            self.field("spec.addresses.ipv4", |s| s.addresses.ipv4.to_string(), || count(old.ipv4, new.ipv4, "IPv4")),
            self.field("spec.addresses.ipv6", |s| s.addresses.ipv6.to_string(), || count(old.ipv6, new.ipv6, "IPv6")),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Whether the manifest has the system installed again, which it did not have before.
    fn wipes(&self) -> bool {
        self.is_due(self.becomes) && !self.is_due(self.was)
    }

    /// Whether a value of `reinstall` is acted upon as soon as the operator sees this spec.
    fn is_due(&self, spec: &OrderSpec) -> bool {
        self.handed_over && self.is_new(spec) && !spec.suspended && !spec.deletion_protection
    }

    fn is_new(&self, spec: &OrderSpec) -> bool {
        !spec.reinstall.is_empty() && self.status.last_handled_reinstall.as_deref() != Some(spec.reinstall.as_str())
    }

    fn system(&self) -> Vec<Change> {
        let wipes = self.wipes();
        let later = || {
            let text = match (self.handed_over, wipes) {
                (_, true) => "taken by the reinstallation below",
                (true, false) => "nothing now: it takes effect at the next reinstall, which it does not start",
                (false, false) => "the installation takes it, unless that has begun; then the next reinstall does",
            };
            (Effect::Later, text.to_owned())
        };
        let recipes = || {
            let added: Vec<&str> = self.becomes.recipes.iter().filter(|r| !self.was.recipes.contains(r)).map(String::as_str).collect();
            match &self.policy {
                Some(policy) if policy.run_recipe && !added.is_empty() && !wipes => {
                    (Effect::AtOnce, format!("RunRecipes runs {}; one that was taken out of the list is not undone", added.join(", ")))
                }
                None if !wipes => {
                    (Effect::Later, "at the next reinstall; those that are added at once, where the handler has dialect.runRecipe".into())
                }
                Some(_) | None => later(),
            }
        };
        let password = || match &self.policy {
            Some(policy) if policy.sets_password && self.handed_over => {
                (Effect::AtOnce, "SetPassword sets it on the running system within retry.interval".into())
            }
            Some(_) | None => later(),
        };
        let secret =
            |s: &OrderSpec| s.operating_system.password_secret_ref.as_ref().map_or_else(String::new, |r| format!("{}/{}", r.name, r.key));
        [
            self.field("spec.operatingSystem.template", |s| s.operating_system.template.clone(), later),
            self.field("spec.operatingSystem.passwordSecretRef", secret, password),
            self.field("spec.recipes", |s| s.recipes.join(", "), recipes),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn reinstall(&self) -> Vec<Change> {
        let spec = self.becomes;
        let wipe = || {
            let recipe = self.order.recipes.first().map_or_else(String::new, |recipe| format!(" with recipe {recipe}"));
            (
                Effect::Wipes,
                format!(
                    "InstallOS installs {}{recipe} again and DESTROYS THE DATA on the disks; owner and addresses stay",
                    spec.operating_system.template
                ),
            )
        };
        let changed = self.field(
            "spec.reinstall",
            |s| s.reinstall.clone(),
            || match () {
                () if spec.reinstall.is_empty() => (Effect::AtOnce, "asks for nothing; an installation that has begun goes on".into()),
                () if !self.is_new(spec) => (Effect::AtOnce, "nothing: this value was acted upon or recorded before".into()),
                () if !self.handed_over => (Effect::AtOnce, "nothing more: the installation of the preparation serves it".into()),
                () if spec.suspended => (Effect::Later, "installed again, which destroys the data, when the service is resumed".into()),
                () if spec.deletion_protection => (
                    Effect::Refused,
                    "deletionProtection refuses what destroys data (ReinstallProtected): set it to false, or put reinstall back".into(),
                ),
                () => wipe(),
            },
        );
        if changed.is_some() || !self.wipes() {
            return changed.into_iter().collect();
        }
        // The value was there, and what held it back goes with this manifest.
        let (effect, text) = wipe();
        let held = self.was.reinstall.clone();
        vec![Change { field: "spec.reinstall", was: format!("{held} (held back)"), becomes: held, effect, text }]
    }

    fn licenses(&self) -> Vec<Change> {
        let all = |s: &OrderSpec| s.licenses.iter().map(|l| format!("{}:{}", l.product, l.period)).collect::<Vec<_>>().join(", ");
        let lists = |here: &OrderSpec, there: &OrderSpec| {
            let missing = here.licenses.iter().filter(|l| !there.licenses.iter().any(|t| t.product == l.product));
            missing.map(|l| l.product.clone()).collect::<Vec<_>>().join(", ")
        };
        let tell = || {
            let (added, removed) = (lists(self.becomes, self.was), lists(self.was, self.becomes));
            let mut parts = Vec::new();
            if !added.is_empty() {
                parts.push(format!("IssueLicenses orders {added}"));
            }
            if !removed.is_empty() {
                parts.push(format!("{removed}: suspended or released, as the licence server's onDeletion says"));
            }
            if parts.is_empty() {
                return (Effect::Later, "the period counts from the next renewal on".into());
            }
            (Effect::AtOnce, parts.join("; "))
        };
        self.field("spec.licenses", all, tell).into_iter().collect()
    }

    fn rest(&self) -> Vec<Change> {
        let suspended = || match (self.becomes.suspended, self.handed_over) {
            (true, true) => {
                (Effect::AtOnce, "Suspend, PortsOff, StopPower: the server is disabled, then its ports and its power are off".into())
            }
            (true, false) => (Effect::Later, "suspended once it is prepared and handed over".into()),
            (false, true) => {
                (Effect::AtOnce, "Resume, PortsOn, PowerOn: the server is enabled, then its ports and its power are on".into())
            }
            (false, false) => (Effect::AtOnce, "it is not suspended after the hand-over".into()),
        };
        let until = if self.becomes.deletion_protection { "refused from now on" } else { "not refused any more" };
        let protection = || (Effect::AtOnce, format!("deletion and reinstallation are {until}"));
        let forbidden = self.policy.as_ref().is_some_and(|p| !p.deletion_policies.contains(&self.becomes.deletion_policy));
        let policy = || {
            if forbidden {
                return (Effect::Refused, "the handler does not allow it (DeletionPolicyForbidden)".into());
            }
            (Effect::Later, "it says what becomes of the server when the order is deleted".into())
        };
        let ready = || (Effect::AtOnce, "it says what the preparation waits for; a server that is handed over stays".into());
        [
            self.field("spec.suspended", |s| s.suspended.to_string(), suspended),
            self.field("spec.deletionPolicy", |s| policy_name(s.deletion_policy).to_owned(), policy),
            self.field("spec.deletionProtection", |s| s.deletion_protection.to_string(), protection),
            self.field("spec.readyWhen", |s| format!("{:?}", s.ready_when), ready),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
