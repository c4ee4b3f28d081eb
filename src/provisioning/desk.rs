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
    /// Takes them out of a handler's spec.
    #[must_use]
    pub fn new(departments: &Departments) -> Self {
        let second = Duration::from_secs(1);
        let desk = |deadline: Option<crate::api::Duration>, escalate_to: &Option<String>| Desk {
            deadline: deadline.map(|d| d.0.max(second)),
            escalate_to: escalate_to.clone().filter(|_| deadline.is_some()),
        };
        let of = |d: &Option<crate::api::handler::Department>| d.as_ref().map(|d| desk(d.deadline, &d.escalate_to)).unwrap_or_default();
        Self {
            operations: desk(departments.operations.deadline, &departments.operations.escalate_to),
            assembly: of(&departments.assembly),
            procurement: of(&departments.procurement),
        }
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
