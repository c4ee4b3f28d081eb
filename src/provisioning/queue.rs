//! Orders that wait for the same servers: who came first is served first.

use crate::panel::model::ServerRow;

use super::wanted::Wanted;

/// A place, or the length of a queue, for people: exact up to ten, rough beyond. Whoever waits far behind would else be written each
/// time that somebody before it is served, which costs the API server the square of the queue.
#[must_use]
pub fn about(number: usize) -> String {
    const ROUGH: [usize; 10] = [10_000, 5_000, 2_000, 1_000, 500, 200, 100, 50, 20, 10];
    ROUGH.into_iter().find(|least| number > *least).map_or_else(|| number.to_string(), |least| format!("{least}+"))
}

/// An order that came before, and could take a server that this one may want.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The server type that it waits for; `None` for a configuration of the client's own, which any free server may become.
    pub server_type: Option<String>,
    /// The server that it has asked for already.
    pub asked_for: Option<String>,
    /// Servers that it does not take again.
    pub tried: Vec<String>,
}

impl Waiting {
    fn takes(&self, row: &ServerRow) -> bool {
        self.server_type.as_ref().is_none_or(|t| row.types.contains(t)) && !self.tried.contains(&row.id.0)
    }
}

/// Orders of the same handler that wait for a server which this one could take, too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// Those that were created before.
    pub ahead: Vec<Waiting>,
    /// How many were created later.
    pub behind: usize,
}

impl Queue {
    /// The place in the queue, for a message.
    #[must_use]
    pub fn place(&self) -> String {
        let place = self.ahead.len() + 1;
        format!("place {} of {}", about(place), about(place + self.behind))
    }

    /// The free servers that are left when every older order has got one, in the same order. Each takes the first that it can; those
    /// with a configuration of their own, which can take any, come after those that need a type.
    #[must_use]
    pub fn left_over<'r>(&self, mut free: Vec<&'r ServerRow>) -> Vec<&'r ServerRow> {
        let (asked, waiting): (Vec<&Waiting>, Vec<&Waiting>) = self.ahead.iter().partition(|w| w.asked_for.is_some());
        free.retain(|row| !asked.iter().any(|w| w.asked_for.as_deref() == Some(row.id.0.as_str())));
        let (any, typed): (Vec<&Waiting>, Vec<&Waiting>) = waiting.into_iter().partition(|w| w.server_type.is_none());
        for waiting in typed.into_iter().chain(any) {
            if let Some(at) = free.iter().position(|row| waiting.takes(row)) {
                free.remove(at);
            }
        }
        free
    }
}

/// Whether two orders may want the same server.
#[must_use]
pub fn compete(one: &Wanted, other: &Wanted) -> bool {
    match (one, other) {
        (Wanted::Ready(one), Wanted::Ready(other)) => one == other,
        (Wanted::Custom(_), _) | (_, Wanted::Custom(_)) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, kind: &str) -> ServerRow {
        ServerRow { types: vec![kind.into()], ..ServerRow::blank(id) }
    }

    fn waiting(server_type: &str, asked_for: Option<&str>) -> Waiting {
        let server_type = Some(server_type.to_owned()).filter(|t| !t.is_empty());
        Waiting { server_type, asked_for: asked_for.map(str::to_owned), tried: Vec::new() }
    }

    #[test]
    fn older_orders_get_theirs_first() {
        let rows = [row("1", "A"), row("2", "B"), row("3", "A"), row("4", "B")];
        for (ahead, left) in [
            (vec![], vec!["1", "2", "3", "4"]),
            (vec![waiting("A", None)], vec!["2", "3", "4"]),
            (vec![waiting("", None)], vec!["2", "3", "4"]),
            (vec![waiting("", None), waiting("B", None)], vec!["3", "4"]),
            (vec![waiting("B", None), waiting("B", None), waiting("B", None)], vec!["1", "3"]),
            (vec![waiting("C", None)], vec!["1", "2", "3", "4"]),
            (vec![waiting("A", Some("3"))], vec!["1", "2", "4"]),
            (vec![waiting("A", Some("9"))], vec!["1", "2", "3", "4"]),
            (vec![waiting("", None); 9], vec![]),
            (vec![Waiting { tried: vec!["1".into(), "3".into()], ..waiting("A", None) }], vec!["1", "2", "3", "4"]),
            (vec![Waiting { tried: vec!["1".into()], ..waiting("", None) }], vec!["1", "3", "4"]),
        ] {
            let queue = Queue { ahead: ahead.clone(), behind: 0 };
            let got: Vec<&str> = queue.left_over(rows.iter().collect()).iter().map(|r| r.id.0.as_str()).collect();
            assert_eq!(got, left, "{ahead:?}");
        }
    }

    #[test]
    fn orders_compete_for_one_type_and_with_whoever_takes_any_server() {
        let ready = |server_type: &str| Wanted::Ready(server_type.into());
        let custom = || Wanted::Custom(serde_json::from_value(serde_json::json!({"memoryGiB": 64})).unwrap());
        for (one, other, expected) in [
            (ready("A"), ready("A"), true),
            (ready("A"), ready("B"), false),
            (ready("A"), custom(), true),
            (custom(), ready("A"), true),
            (custom(), custom(), true),
        ] {
            assert_eq!(compete(&one, &other), expected, "{one} {other}");
        }
    }

    #[test]
    fn the_place_counts_from_one() {
        assert_eq!(Queue::default().place(), "place 1 of 1");
        assert_eq!(Queue { ahead: vec![waiting("A", None)], behind: 1 }.place(), "place 2 of 3");
        assert_eq!(Queue { ahead: vec![waiting("A", None); 9], behind: 1 }.place(), "place 10 of 10+");
        assert_eq!(Queue { ahead: vec![waiting("A", None); 700], behind: 1 }.place(), "place 500+ of 500+");
        let texts: std::collections::BTreeSet<String> = (1..100_000).map(about).collect();
        assert_eq!(texts.len(), 20, "nobody is told more often than that");
    }
}
