//! What each alert is for, as it happens to a cluster: it begins at a minute, and is over at another.

use super::fleet::{Fleet, Leader, condition, in_step, task, unreadable, with_server};

/// When each incident begins.
pub const BEGINS: i64 = 20;
/// When it is over.
pub const OVER: i64 = 80;

/// An incident, and the alert that it has to raise.
pub struct Incident {
    /// The alert.
    pub alert: &'static str,
    /// Minutes from the incident's beginning until the alert has to be there; one minute before that it must not be.
    pub after: i64,
    /// Its labels, severity included; where the operator is comes by itself.
    pub labels: &'static [(&'static str, &'static str)],
    /// Its summary.
    pub summary: &'static str,
    /// What stands in its description.
    pub description: &'static str,
    /// Its value, where the description tells it.
    pub value: &'static str,
    /// The same where it is a time, at a minute.
    pub duration: fn(i64) -> String,
    /// What happens to the cluster.
    pub happens: fn(&mut Fleet, i64),
}

fn no_duration(_: i64) -> String {
    String::new()
}

/// As Prometheus writes a number of minutes.
fn humanize(minutes: i64) -> String {
    format!("{}d {}h {}m 0s", minutes / 1440, minutes / 60 % 24, minutes % 60)
}

/// One for each alert.
pub const INCIDENTS: [Incident; 12] = [
    Incident {
        alert: "DciOperatorDown",
        after: 5,
        labels: &[("severity", "critical")],
        summary: "dci-operator is down",
        description: "For five minutes no replica has said that it works.",
        value: "",
        duration: no_duration,
        happens: |fleet, _| fleet.leader = None,
    },
    Incident {
        alert: "DciWatchStale",
        // A watch is stale after three minutes.
        after: 4 + 2,
        labels: &[("severity", "critical"), ("kind", "DedicatedServerOrder"), ("watched", "all")],
        summary: "dci-operator does not see DedicatedServerOrder objects any more",
        description: "The watch of DedicatedServerOrder (all) was last accepted",
        value: "",
        duration: |minute| format!("{}m 0s", minute - BEGINS),
        happens: |fleet, minute| fleet.watch_age = minute - BEGINS,
    },
    Incident {
        alert: "DciHandlerNotReady",
        after: 10,
        labels: &[("severity", "critical"), ("handler", "hosting/msk-1")],
        summary: "Handler hosting/msk-1 is not ready",
        description: "Its panel answers, but the handler cannot be used.",
        value: "",
        duration: no_duration,
        happens: |fleet, _| fleet.status(0)["conditions"][0] = condition("Ready", "False", "LoginRefused"),
    },
    Incident {
        alert: "DciBreakerOpen",
        after: 5,
        labels: &[("severity", "critical"), ("panel", "hosting/isp")],
        summary: "The panel of hosting/isp does not answer",
        description: "The panel has not answered for five minutes.",
        value: "",
        duration: no_duration,
        happens: |fleet, _| fleet.status(1)["conditions"][0] = condition("Ready", "False", "Unreachable"),
    },
    Incident {
        alert: "DciOrderBeyondSLA",
        // Ten minutes for the power, five for a retry; what counts is beyond that.
        after: 16 + 5,
        labels: &[("severity", "warning"), ("handler", "hosting/msk-1"), ("step", "PowerOn")],
        summary: "Orders at hosting/msk-1 are late in step PowerOn",
        description: "2 order(s) are in this step for longer than its SLA",
        value: "2",
        duration: no_duration,
        happens: |fleet, _| {
            fleet.orders.push(in_step("late", "PowerOn", BEGINS, Some("Panel")));
            fleet.orders.push(in_step("retried", "PowerOn", BEGINS, Some("Retry")));
        },
    },
    Incident {
        alert: "DciTaskOverdue",
        after: 15 + 5,
        labels: &[("severity", "warning"), ("department", "Operations")],
        summary: "Tasks of department Operations are overdue",
        description: "1 open task(s) of this department are past their deadline, or open for a day where they have none.",
        value: "1",
        duration: no_duration,
        happens: |fleet, _| fleet.tasks.push(task("FailedOperation", BEGINS, Some(BEGINS + 15))),
    },
    Incident {
        alert: "DciNoFreeServers",
        after: 10,
        labels: &[("severity", "warning"), ("handler", "hosting/msk-1"), ("configuration", "E3-16G")],
        summary: "No free E3-16G at hosting/msk-1",
        description: "1 order(s) of this configuration wait for a free server.",
        value: "1",
        duration: no_duration,
        happens: |fleet, _| fleet.orders.push(in_step("waits", "Allocate", BEGINS, Some("Capacity"))),
    },
    Incident {
        alert: "DciStopServerWaiting",
        after: 30,
        labels: &[("severity", "warning"), ("department", "Operations")],
        summary: "Servers wait for Operations to stop them by hand",
        description: "1 StopServer task(s) are open.",
        value: "1",
        duration: no_duration,
        happens: |fleet, _| fleet.tasks.push(task("StopServer", BEGINS, None)),
    },
    Incident {
        alert: "DciLicenseExpiring",
        after: 15,
        labels: &[("severity", "warning"), ("handler", "hosting/isp"), ("product", "ispmanager")],
        summary: "A licence for ispmanager from hosting/isp is not renewed",
        description: "The soonest of them ends in 1d 1",
        value: "",
        duration: |minute| humanize(BEGINS + 36 * 60 - 1 - minute),
        // Renewed three days before their end by default: half of that is 36 hours.
        happens: |fleet, _| {
            fleet.licenses.insert("ispmanager", BEGINS + 36 * 60 - 1);
        },
    },
    Incident {
        alert: "DciOrphanServers",
        after: 15,
        labels: &[("severity", "warning"), ("handler", "hosting/msk-1")],
        summary: "Servers at hosting/msk-1 belong to no order",
        description: "3 server(s) carry a marker of this cluster, and no order answers to it.",
        value: "3",
        duration: no_duration,
        happens: |fleet, _| fleet.status(0)["orphanCount"] = 3.into(),
    },
    Incident {
        alert: "DciGhostOrders",
        after: 15,
        labels: &[("severity", "warning"), ("handler", "hosting/msk-1")],
        summary: "Orders at hosting/msk-1 have lost their server",
        description: "The panel does not list the servers of 2 order(s), or not as theirs.",
        value: "2",
        duration: no_duration,
        happens: |fleet, _| fleet.status(0)["ghostCount"] = 2.into(),
    },
    Incident {
        alert: "DciUnreadableObjects",
        after: 10,
        labels: &[("severity", "warning"), ("kind", "DedicatedServerOrder")],
        summary: "dci-operator cannot read some objects of kind DedicatedServerOrder",
        description: "2 object(s) say something that this version of the operator does not understand.",
        value: "2",
        duration: no_duration,
        happens: |fleet, _| fleet.orders.extend(["one", "two"].map(unreadable)),
    },
];

/// What looks like an incident and is none: everyday life, at every minute of two hours.
pub fn everyday(fleet: &mut Fleet, minute: i64) {
    // A new replica takes over from the one before within three minutes, again and again.
    fleet.leader = (minute % 20 >= 3).then_some(Leader { pod: minute / 20 + 1, since: minute - minute % 20 + 3 });
    fleet.standby = Some(minute / 20 + 2);
    // Each watch is opened anew every minute.
    fleet.watch_age = minute % 2;
    // A panel is restarted, and a log-in is changed in two steps.
    if (30..34).contains(&minute) {
        fleet.status(1)["conditions"][0] = condition("Ready", "False", "Unreachable");
    }
    if (50..59).contains(&minute) {
        fleet.status(0)["conditions"][0] = condition("Ready", "False", "LoginRefused");
    }
    // An installation of two hours, an order that its department or a free server is waited for, late as it may be, and a server that is
    // taken back in its turn.
    fleet.orders.push(in_step("installs", "InstallOS", 0, Some("Panel")));
    fleet.orders.push(in_step("asks", "PowerOn", 0, Some("Department")));
    if minute % 15 < 9 {
        fleet.orders.push(in_step("queues", "Allocate", 0, Some("Capacity")));
    }
    fleet.orders.push(with_server(in_step("leaves", "PowerOff", 0, Some("Capacity"))));
    // Tasks that are done in time, one of them to stop a server and one that has all the time it needs, and servers and orders that
    // lists show astray before the next one.
    fleet.tasks.push(task("FailedOperation", 0, Some(240)));
    fleet.tasks.push(task("Assembly", 120 - 24 * 60, None));
    if minute % 40 < 29 {
        fleet.tasks.push(task("StopServer", minute - minute % 40, None));
    }
    fleet.status(0)["orphanCount"] = i64::from(minute % 20 < 10).into();
    fleet.status(0)["ghostCount"] = i64::from(minute % 20 >= 10).into();
    // An order that was written for a later version, and corrected.
    if (70..79).contains(&minute) {
        fleet.orders.push(unreadable("corrected"));
    }
    // A licence at its renewal.
    fleet.licenses.insert("ispmanager", minute + 71 * 60);
}
