//! Tests of licence servers.

use std::future::{pending, ready};
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt as _;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::*;
use crate::api::samples;
use crate::controller::license_told::{DOUBTED, UNTOLD};
use crate::panel::license::{LicenseEdit, LicenseForm, LicenseId, LicenseOrder};
use crate::panel::model::Probe;
use crate::panel::{Change, Read};

fn row(id: &str) -> LicenseRow {
    LicenseRow {
        id: LicenseId(id.to_owned()),
        name: String::new(),
        address: None,
        state: LicenseState::Active,
        expires: None,
        remote_id: None,
        by_form: false,
    }
}

/// A licence server whose list shows no remote ids; what its forms show, how often they were read, and the state of its licence.
struct Forms(Option<&'static str>, AtomicUsize, LicenseState);

impl Forms {
    fn of(shown: Option<&'static str>) -> Self {
        Self(shown, AtomicUsize::new(0), LicenseState::Active)
    }
}

impl LicensePanel for Forms {
    fn probe(&self) -> Read<'_, Probe> {
        pending().boxed()
    }

    fn licenses(&self) -> Read<'_, Vec<LicenseRow>> {
        ready(Ok(vec![LicenseRow { state: self.2, ..row("1") }])).boxed()
    }

    fn license<'a>(&'a self, _: &'a LicenseId) -> Read<'a, LicenseForm> {
        self.1.fetch_add(1, Ordering::Relaxed);
        let remote_id = self.0.map(str::to_owned);
        ready(Ok(LicenseForm { name: String::new(), address: None, remote_id, key: None, expires: Ok(None) })).boxed()
    }

    fn order<'a>(&'a self, _: &'a LicenseOrder) -> Change<'a, Option<LicenseId>> {
        pending().boxed()
    }

    fn edit<'a>(&'a self, _: &'a LicenseId, _: &'a LicenseEdit) -> Change<'a, ()> {
        pending().boxed()
    }

    fn renew<'a>(&'a self, _: &'a LicenseId, _: i32) -> Change<'a, Option<Timestamp>> {
        pending().boxed()
    }

    fn suspend<'a>(&'a self, _: &'a LicenseId) -> Change<'a, ()> {
        pending().boxed()
    }

    fn resume<'a>(&'a self, _: &'a LicenseId) -> Change<'a, ()> {
        pending().boxed()
    }
}

#[tokio::test]
async fn a_remote_id_that_the_list_does_not_show_is_told_as_one_of_a_form() {
    let (runtime, panel) = (LicenseRuntime::default(), Forms::of(Some("k8s:u-web/Lite")));
    for _ in ["read", "remembered"] {
        let rows = runtime.list(&panel, None).await.unwrap().rows;
        assert_eq!((rows["1"].remote_id.as_deref(), rows["1"].by_form), (Some("k8s:u-web/Lite"), true));
    }
    assert_eq!(panel.1.load(Ordering::Relaxed), 1);
}

fn asking(answered: Option<Timestamp>) -> Asking<'static> {
    Asking { own: "k8s:u-web/", answered }
}

fn remember(runtime: &LicenseRuntime, change: impl Fn(&mut Told)) {
    lock(&runtime.0).remote_ids.values_mut().for_each(change);
}

/// Somebody clears it, or writes it: the row is what it was.
#[tokio::test]
async fn what_is_remembered_of_an_orders_own_licence_or_of_nobodys_is_looked_at_again_when_the_order_asks() {
    for (before, after, most) in [("k8s:u-web/Lite", "", DOUBTED), ("", "k8s:u-web/Lite", UNTOLD), ("k8s:u-we", "k8s:u-web/Lite", DOUBTED)]
    {
        let (runtime, panel) = (LicenseRuntime::default(), Forms::of(Some(before)));
        let panel_now = Forms::of(Some(after));
        runtime.list(&panel, Some(asking(None))).await.unwrap();
        let told =
            async |by: Option<Asking<'static>>| runtime.list(&panel_now, by).await.unwrap().rows["1"].remote_id.clone().unwrap_or_default();
        assert_eq!(told(Some(asking(None))).await, before, "read a moment ago");
        remember(&runtime, |told| told.at -= most - SignedDuration::from_mins(1));
        assert_eq!(told(Some(asking(None))).await, before, "{before}");
        remember(&runtime, |told| told.at -= SignedDuration::from_mins(1));
        assert_eq!(told(None).await, before, "all of them are too many to be read at each poll");
        assert_eq!(told(Some(asking(None))).await, after, "{before}");
    }
    let (runtime, panel) = (LicenseRuntime::default(), Forms::of(Some("k8s:u-db/Lite")));
    runtime.list(&panel, None).await.unwrap();
    remember(&runtime, |told| told.at -= DOUBTED);
    runtime.list(&panel, Some(asking(None))).await.unwrap();
    assert_eq!(panel.1.load(Ordering::Relaxed), 1, "another order's is no business of this one");
}

/// Another order has just read the form of a free licence; then the department puts our remote id there, and says so.
#[tokio::test]
async fn what_was_nobodys_is_read_again_once_a_department_has_answered() {
    let (runtime, free) = (LicenseRuntime::default(), Forms::of(Some("")));
    runtime.list(&free, Some(asking(None))).await.unwrap();
    remember(&runtime, |told| told.at -= SignedDuration::from_mins(1));
    let ago = |seconds: i64| Timestamp::now() - SignedDuration::from_secs(seconds);
    let ours = Forms::of(Some("k8s:u-web/Lite"));
    let told = async |answered: Timestamp| {
        runtime.list(&ours, Some(asking(Some(answered)))).await.unwrap().rows["1"].remote_id.clone().unwrap_or_default()
    };
    assert_eq!(told(ago(120)).await, "", "answered before it was read");
    assert_eq!(told(ago(30)).await, "k8s:u-web/Lite");
    told(ago(30)).await;
    assert_eq!(ours.1.load(Ordering::Relaxed), 1, "once");
}

#[tokio::test]
async fn what_was_remembered_while_the_clock_was_ahead_is_read_again() {
    for shows in [Some("k8s:u-web/Lite"), Some(""), None] {
        let (runtime, panel) = (LicenseRuntime::default(), Forms::of(shows));
        runtime.list(&panel, Some(asking(None))).await.unwrap();
        remember(&runtime, |told| told.at += SignedDuration::from_hours(24));
        runtime.list(&panel, Some(asking(None))).await.unwrap();
        assert_eq!(panel.1.load(Ordering::Relaxed), 2, "{shows:?}");
    }
}

/// There may be many of them, and nobody looks for one.
#[tokio::test]
async fn the_form_of_a_licence_that_is_deleted_is_not_read() {
    let (runtime, mut panel) = (LicenseRuntime::default(), Forms::of(Some("")));
    panel.2 = LicenseState::Deleted;
    let rows = runtime.list(&panel, Some(asking(None))).await.unwrap().rows;
    assert_eq!((rows["1"].remote_id.as_deref(), rows["1"].state, panel.1.load(Ordering::Relaxed)), (None, LicenseState::Deleted, 0));
}

/// A list of many forms takes a while: what is read late is remembered from then on.
#[tokio::test]
async fn a_form_is_as_old_as_its_reading_and_not_as_its_list() {
    let (runtime, panel) = (LicenseRuntime::default(), Forms::of(Some("k8s:u-web/Lite")));
    let list = runtime.list(&panel, Some(asking(None))).await.unwrap();
    assert!(lock(&runtime.0).remote_ids["1"].at > list.began);
}

#[tokio::test]
async fn a_remote_id_that_no_form_shows_either_is_not_known_and_asked_for_again_an_hour_later() {
    let (runtime, panel) = (LicenseRuntime::default(), Forms::of(None));
    for _ in ["read", "remembered"] {
        let rows = runtime.list(&panel, None).await.unwrap().rows;
        assert_eq!((rows["1"].remote_id.as_deref(), rows["1"].by_form), (None, false));
    }
    assert_eq!(panel.1.load(Ordering::Relaxed), 1);
    lock(&runtime.0).remote_ids.values_mut().for_each(|told| told.at -= UNTOLD);
    let told = Forms::of(Some("k8s:u-web/Lite"));
    let rows = runtime.list(&told, None).await.unwrap().rows;
    assert_eq!((rows["1"].remote_id.as_deref(), rows["1"].by_form), (Some("k8s:u-web/Lite"), true));
}

#[test]
fn a_licence_that_its_server_stops_at_its_end_is_told_of_and_one_that_we_stopped_is_not() {
    let end = Timestamp::from_second(1_000).unwrap();
    for (ours, theirs, told) in [
        ("Issued", LicenseState::Active, true),
        ("Issued", LicenseState::Suspended, true),
        ("Issued", LicenseState::Deleted, false),
        ("Suspended", LicenseState::Suspended, false),
    ] {
        let order = samples::order(&json!({"status": {"licenses": [{"product": "Lite", "id": "1", "state": ours}]}}));
        let stopped = LicenseRow { state: theirs, expires: Some(end), ..row("1") };
        let list = LicenseList { rows: [("1".to_owned(), stopped)].into(), began: Timestamp::now() };
        let found = listed(&[&order], &list);
        assert_eq!(found.len(), 1);
        assert_eq!(ends(&found).get("Lite"), told.then_some(&end), "{ours} here, {theirs:?} there");
    }
}

#[test]
fn an_account_that_knows_none_of_several_licences_is_another_one() {
    let list = |ids: &[&str]| LicenseList { rows: ids.iter().map(|id| ((*id).to_owned(), row(id))).collect(), began: Timestamp::now() };
    let until = |ids: &[&str], end: Option<&str>| {
        let license = |id: &&str| json!({"product": id, "id": id, "state": "Issued", "expiresAt": end});
        let licenses: Vec<Value> = ids.iter().map(license).collect();
        samples::order(&json!({"status": {"licenses": licenses}}))
    };
    let having = |ids: &[&str]| until(ids, None);
    let (three, two) = (having(&["1", "2", "3"]), having(&["1", "2"]));
    assert!(same_licenses(&[&three], &list(&["3", "9"])).is_ok());
    assert!(same_licenses(&[&two], &list(&["9"])).is_ok(), "both may have ended");
    let ended = until(&["1", "2", "3"], Some("2020-01-01T00:00:00Z"));
    assert!(same_licenses(&[&ended], &list(&["9"])).is_ok(), "they have ended, and the seller may have removed them");
    assert!(same_licenses(&[&ended, &two], &list(&["9"])).is_ok(), "two that should be there tell nothing");
    let lasting = until(&["1", "2", "3"], Some("2999-01-01T00:00:00Z"));
    assert!(same_licenses(&[&lasting], &list(&["9"])).is_err());
    let problem = same_licenses(&[&three], &list(&["9"])).unwrap_err();
    assert_eq!((problem.reason, problem.stalled), (Reason::PanelChanged, true));
    assert!(problem.message.contains("3 licences") && problem.message.contains("such as 1"), "{}", problem.message);
}

#[test]
fn a_list_of_licences_from_before_the_clock_was_put_back_is_not_believed_of_what_is_changed_afterwards() {
    let began = Timestamp::now().checked_add(Duration::from_hours(1)).unwrap();
    let list = || Arc::new(LicenseList { began, ..LicenseList::default() });
    let is_newer = |runtime: &LicenseRuntime| {
        let seen = runtime.shown(&samples::handler(&json!({})), "u-1");
        seen.list.unwrap().began > seen.changed.unwrap()
    };
    // Published before the clock was put back.
    let runtime = LicenseRuntime::default();
    lock(&runtime.0).list = Some(list());
    runtime.note_change("u-1", Timestamp::now());
    assert!(!is_newer(&runtime));
    // Read meanwhile: nobody knows whether the change came before it.
    let runtime = LicenseRuntime::default();
    runtime.note_change("u-1", Timestamp::now());
    runtime.set_list(list());
    assert!(!is_newer(&runtime));
}
