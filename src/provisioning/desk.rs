//! What a handler says of its departments: how long a task may stay open, and who looks after it then.

use std::time::Duration;

use crate::api::handler::Departments;
use crate::api::task::TaskType;

/// Deadline and escalation of one department.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desk {
    /// How long a task may stay open; `None`: as long as it takes.
    pub deadline: Option<Duration>,
    /// The department that may act as well when the deadline has passed.
    pub escalate_to: Option<String>,
}

/// The departments of a handler.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desks {
    operations: Desk,
    assembly: Desk,
    procurement: Desk,
}

impl Desks {
    /// Takes them out of a handler's spec. Operations looks after what is for a department that the handler does not have, and in its own
    /// time.
    #[must_use]
    pub fn new(departments: &Departments) -> Self {
        let second = Duration::from_secs(1);
        let desk = |deadline: Option<crate::api::Duration>, escalate_to: &Option<String>| Desk {
            deadline: deadline.map(|d| d.0.max(second)),
            escalate_to: escalate_to.clone().filter(|_| deadline.is_some()),
        };
        let operations = desk(departments.operations.deadline, &departments.operations.escalate_to);
        let of = |d: &Option<crate::api::handler::Department>| {
            d.as_ref().map_or_else(|| operations.clone(), |d| desk(d.deadline, &d.escalate_to))
        };
        Self { assembly: of(&departments.assembly), procurement: of(&departments.procurement), operations }
    }

    /// The department that tasks of a type are for.
    #[must_use]
    pub fn of(&self, type_: TaskType) -> &Desk {
        match type_ {
            TaskType::Assembly => &self.assembly,
            TaskType::Procurement => &self.procurement,
            TaskType::StopServer | TaskType::FailedOperation => &self.operations,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_falls_to_operations_is_due_when_operations_says() {
        let desks = |departments: serde_json::Value| Desks::new(&serde_json::from_value(departments).unwrap());
        let operations = json!({"name": "Operations", "deadline": "4h", "escalateTo": "Leads"});
        let due = Desk { deadline: Some(Duration::from_hours(4)), escalate_to: Some("Leads".into()) };
        let alone = desks(json!({"operations": operations}));
        for type_ in [TaskType::Assembly, TaskType::Procurement, TaskType::StopServer, TaskType::FailedOperation] {
            assert_eq!(*alone.of(type_), due, "{type_:?}");
        }
        let all = desks(json!({"operations": operations, "assembly": {"name": "A"}, "procurement": {"name": "P", "deadline": "1h"}}));
        assert_eq!(*all.of(TaskType::Assembly), Desk::default(), "a department of its own has as long as it takes");
        assert_eq!(*all.of(TaskType::Procurement), Desk { deadline: Some(Duration::from_hours(1)), escalate_to: None });
        assert_eq!(*all.of(TaskType::FailedOperation), due);
    }
}
