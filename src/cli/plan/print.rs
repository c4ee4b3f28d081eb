//! A plan as text.

use crate::cli::text::{Table, clean};

use super::{Act, Effect, Plan, Situation, Weight};

fn mark(weight: Weight) -> &'static str {
    match weight {
        Weight::Good => "ok",
        Weight::Unknown => "unknown",
        Weight::Waits => "waits",
        Weight::Stops => "STOPS",
    }
}

fn cost(effect: Effect) -> &'static str {
    match effect {
        Effect::AtOnce => "at once",
        Effect::Later => "later",
        Effect::Wipes => "WIPES DATA",
        Effect::Refused => "REFUSED",
    }
}

/// The whole plan.
#[must_use]
pub fn text(plan: &Plan) -> String {
    let mut text = format!("order {}: {}\n", clean(&plan.order.to_string()), met(plan));
    if plan.problems.is_empty() {
        text.push_str("manifest: valid\n");
    } else {
        text.push_str("manifest: INVALID\n");
        plan.problems.iter().for_each(|problem| line(&mut text, &format!("  - {problem}")));
        return text;
    }
    if plan.situation == Situation::Deleting {
        text.push_str("\nThe order is taken back, whatever the manifest says; deletionPolicy and deletionProtection still count. Apply it again once the order is gone.\n");
        return text;
    }
    if let Some(finding) = &plan.stands {
        line(&mut text, &format!("\nas it is: {}: {}", mark(finding.weight), finding.text));
    }
    handlers(plan, &mut text);
    changes(plan, &mut text);
    steps(plan, &mut text);
    if !plan.unknown.is_empty() {
        text.push_str("\nonly the panel knows, or nobody before it happens:\n");
        plan.unknown.iter().for_each(|unknown| line(&mut text, &format!("  - {unknown}")));
    }
    line(&mut text, &format!("\nresult: {}", result(plan)));
    text
}

fn line(text: &mut String, of: &str) {
    let (breaks, rest) = of.split_at(of.len() - of.trim_start_matches('\n').len());
    text.push_str(breaks);
    text.push_str(&clean(rest));
    text.push('\n');
}

fn met(plan: &Plan) -> String {
    match &plan.situation {
        Situation::New => "new".into(),
        Situation::Unseen(why) => format!("planned as a new one ({})", clean(why)),
        Situation::Waiting => "exists, and has no server yet".into(),
        Situation::Preparing => "exists, and its server is being prepared".into(),
        Situation::HandedOver => "exists, and the client has its server".into(),
        Situation::Deleting => "exists, and is being deleted".into(),
    }
}

fn handlers(plan: &Plan, text: &mut String) {
    if let Some(finding) = &plan.no_handler {
        line(text, &format!("\nhandler: {}: {}", mark(finding.weight), finding.text));
    }
    for handler in &plan.handlers {
        let chosen = plan.chosen.as_ref() == Some(&handler.key);
        let place = match (chosen, plan.selects) {
            (true, true) => format!(" (priority {}): the first one that can serve the order", handler.priority),
            (false, true) => format!(" (priority {}): not the one", handler.priority),
            (_, false) => String::new(),
        };
        line(text, &format!("\nhandler {}{place}", handler.key));
        let mut table = Table::bare();
        handler.findings.iter().for_each(|finding| table.row([mark(finding.weight), &finding.text]));
        text.push_str(&table.indented(2));
    }
}

fn changes(plan: &Plan, text: &mut String) {
    let with_server = matches!(plan.situation, Situation::Preparing | Situation::HandedOver);
    if plan.changes.is_empty() {
        if with_server {
            text.push_str("\nchanges: none, the spec is what is stored\n");
        }
        return;
    }
    text.push_str("\nchanges, as if the manifest were the whole spec:\n");
    let mut table = Table::new(&["FIELD", "IS", "BECOMES", "EFFECT", "WHAT HAPPENS"]);
    for change in &plan.changes {
        table.row([change.field, &change.was, &change.becomes, cost(change.effect), &change.text]);
    }
    text.push_str(&table.indented(2));
}

fn steps(plan: &Plan, text: &mut String) {
    if plan.steps.is_empty() {
        return;
    }
    text.push_str("\nsteps:\n");
    let mut table = Table::bare();
    let mut number = 0;
    for planned in &plan.steps {
        let (place, what) = match planned.act {
            Act::Does => {
                number += 1;
                (number.to_string(), planned.text.clone())
            }
            Act::Skips => (String::new(), format!("skipped: {}", planned.text)),
            Act::Over => (String::new(), format!("over: {}", planned.text)),
        };
        table.row([place.as_str(), planned.step.as_str(), &what]);
    }
    text.push_str(&table.indented(2));
}

/// One line on what it comes to.
fn result(plan: &Plan) -> String {
    let refused = plan.changes.iter().filter(|c| c.effect == Effect::Refused).map(|c| c.field).collect::<Vec<_>>();
    if !refused.is_empty() {
        return format!("REFUSED: {}; put it back, or create another order", refused.join(", "));
    }
    if let Some(finding) = plan.no_handler.as_ref().filter(|finding| finding.weight >= plan.weight()) {
        return format!("{}: {}", mark(finding.weight), finding.text);
    }
    let worst = |weight: Weight| {
        let all = plan.stands.iter().chain(plan.handlers.iter().flat_map(|h| &h.findings)).filter(|f| f.weight == weight);
        all.map(|f| f.text.as_str()).collect::<Vec<_>>().join("; ")
    };
    let wipes = plan.changes.iter().any(|c| c.effect == Effect::Wipes);
    let goes = match plan.situation {
        Situation::HandedOver if plan.changes.is_empty() => "nothing happens",
        Situation::HandedOver if wipes => "the changes above are made; THE DATA ON THE SERVER ARE LOST",
        Situation::HandedOver => "the changes above are made",
        Situation::New | Situation::Unseen(_) | Situation::Waiting | Situation::Preparing | Situation::Deleting => {
            "the steps above are taken"
        }
    };
    match plan.weight() {
        Weight::Good => goes.to_owned(),
        Weight::Unknown => format!("{goes}, unless what is unknown stands against it"),
        Weight::Waits => format!("the order waits, and goes on by itself: {}", worst(Weight::Waits)),
        Weight::Stops => format!("the order STANDS STILL until somebody changes something: {}", worst(Weight::Stops)),
    }
}
