//! (6): a licence is bought once for an order and a product. A second one only where a person took the first away, or the order itself did
//! not ask for it at some time since.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::view::{self, list, text};

/// What was bought.
#[derive(Default)]
pub struct Purchases {
    /// The licence that was bought last, by its remote id.
    bought: BTreeMap<String, String>,
    /// Remote ids of what its order stopped asking for since that was bought.
    dropped: BTreeSet<String>,
}

/// The remote ids of the licences that an order asks for.
fn wanted(order: &Value) -> BTreeSet<String> {
    let id = view::order_id(order);
    list(&order["spec"]["licenses"]).iter().map(|license| format!("k8s:{id}/{}", text(&license["product"]))).collect()
}

impl Purchases {
    /// An order is not what it was.
    pub fn changed(&mut self, before: &Value, after: &Value) {
        self.dropped.extend(wanted(before).difference(&wanted(after)).cloned());
    }

    /// The licences that there are: id, remote id, and the orders that it says. `by_hand`: whether a person changed one.
    pub fn seen(&mut self, licenses: &[(&str, &str, Vec<String>)], by_hand: impl Fn(&str) -> bool) -> Vec<String> {
        let mut wrong = Vec::new();
        for (id, remote, _) in licenses.iter().filter(|(.., marks)| !marks.is_empty()) {
            if let Some(first) = self.bought.get(*remote).filter(|first| first.as_str() != *id) {
                let there = licenses.iter().any(|(other, of, _)| *other == first.as_str() && of == remote);
                if there || !(by_hand(first.as_str()) || self.dropped.contains(*remote)) {
                    wrong.push(format!("(6) licences {first} and {id} were both bought for {remote}"));
                    continue;
                }
                self.dropped.remove(*remote);
            }
            self.bought.insert((*remote).to_owned(), (*id).to_owned());
        }
        wrong
    }
}

#[test]
fn a_second_licence_is_bought_where_the_first_was_taken_away() {
    use serde_json::json;
    const REMOTE: &str = "k8s:u-1/Lite";
    let order = |licenses: Value| json!({"metadata": {"uid": "u-1"}, "spec": {"licenses": licenses}});
    let (with, without) = (order(json!([{"product": "Lite"}])), order(json!([])));
    let marked = |id: &'static str, remote: &'static str| (id, remote, view::marks(remote));
    let nobody = |_: &str| false;
    let bought = || {
        let mut purchases = Purchases::default();
        assert!(purchases.seen(&[marked("1", REMOTE)], nobody).is_empty());
        purchases
    };
    // Nobody took it away: not even the operator itself may, and buy another.
    let freed = [marked("1", ""), marked("2", REMOTE)];
    assert!(!bought().seen(&freed, nobody).is_empty());
    assert!(!bought().seen(&[marked("2", REMOTE)], nobody).is_empty(), "it is gone");
    assert!(bought().seen(&freed, |id| id == "1").is_empty(), "a person took it away");
    assert!(!bought().seen(&[marked("1", REMOTE), marked("2", REMOTE)], |id| id == "1").is_empty(), "it is there still");
    // Not asked for any more, and asked for again: freed meanwhile, or kept.
    let mut again = bought();
    again.changed(&with, &without);
    assert!(again.seen(&[marked("1", REMOTE)], nobody).is_empty());
    again.changed(&without, &with);
    assert!(again.seen(&freed, nobody).is_empty());
    assert!(!again.seen(&[freed[0].clone(), marked("2", ""), marked("3", REMOTE)], nobody).is_empty(), "once");
}
