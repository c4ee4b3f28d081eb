//! What goes wrong, and with which requests.

use std::fmt::{self, Display};
use std::str::FromStr;
use std::time::Duration;

use super::{Asked, Point};

/// How a request goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It never arrives: the connection is closed.
    Drop,
    /// It is applied, and the connection is closed without an answer.
    DropAnswer,
    /// It is applied, and the operator is killed before it has the answer.
    Kill,
    /// The operator is killed when it has sent it, and it never arrives.
    KillBefore,
    /// It is applied that much later, and only then answered.
    Late(Duration),
    /// It is applied at once, and answered that much later.
    SlowAnswer(Duration),
    /// It is applied twice, one after the other, and answered with the first answer.
    Duplicate,
    /// This status; whether it was applied before.
    Status(u16, bool),
    /// It is applied, and the answer is no document.
    Garbage,
    /// It is applied, and the answer breaks off in the middle.
    Truncate,
}

impl Fault {
    /// How long it may hold up whoever asked.
    pub fn lasts(&self) -> Duration {
        match self {
            Self::Late(by) | Self::SlowAnswer(by) => *by,
            Self::Drop
            | Self::DropAnswer
            | Self::Kill
            | Self::KillBefore
            | Self::Duplicate
            | Self::Status(..)
            | Self::Garbage
            | Self::Truncate => Duration::ZERO,
        }
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drop => f.write_str("drop"),
            Self::DropAnswer => f.write_str("drop-answer"),
            Self::Kill => f.write_str("kill"),
            Self::KillBefore => f.write_str("kill-before"),
            Self::Late(by) => write!(f, "late-{}ms", by.as_millis()),
            Self::SlowAnswer(by) => write!(f, "slow-{}ms", by.as_millis()),
            Self::Duplicate => f.write_str("duplicate"),
            Self::Status(status, false) => write!(f, "{status}"),
            Self::Status(status, true) => write!(f, "{status}-applied"),
            Self::Garbage => f.write_str("garbage"),
            Self::Truncate => f.write_str("truncate"),
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let span = |text: &str| {
            let number = text.strip_suffix("ms").and_then(|n| n.parse().ok());
            number.map(Duration::from_millis).ok_or_else(|| format!("{text} are no milliseconds"))
        };
        Ok(match text {
            "drop" => Self::Drop,
            "drop-answer" => Self::DropAnswer,
            "kill" => Self::Kill,
            "kill-before" => Self::KillBefore,
            "duplicate" => Self::Duplicate,
            "garbage" => Self::Garbage,
            "truncate" => Self::Truncate,
            _ => match (text.strip_prefix("late-"), text.strip_prefix("slow-")) {
                (Some(by), _) => Self::Late(span(by)?),
                (None, Some(by)) => Self::SlowAnswer(span(by)?),
                (None, None) => {
                    let (status, applied) = text.strip_suffix("-applied").map_or((text, false), |status| (status, true));
                    Self::Status(status.parse().map_err(|_| format!("there is no fault {text}"))?, applied)
                }
            },
        })
    }
}

/// Which requests a rule is for.
type Matches = Box<dyn Fn(&Asked) -> bool + Send>;

/// Requests, and what goes wrong with them.
pub struct Rule {
    matches: Matches,
    fault: Fault,
    left: Option<u64>,
}

impl Rule {
    /// This one request.
    pub fn at(point: Point, fault: Fault) -> Self {
        Self::first(1, fault, move |asked| asked.point == point)
    }

    /// The first few requests that match.
    pub fn first(count: u64, fault: Fault, matches: impl Fn(&Asked) -> bool + Send + 'static) -> Self {
        Self { matches: Box::new(matches), fault, left: Some(count) }
    }

    /// Every request that matches, until `Proxy::clear`.
    pub fn always(fault: Fault, matches: impl Fn(&Asked) -> bool + Send + 'static) -> Self {
        Self { matches: Box::new(matches), fault, left: None }
    }

    pub(super) fn meets(&mut self, asked: &Asked) -> Option<Fault> {
        if self.left == Some(0) || !(self.matches)(asked) {
            return None;
        }
        self.left = self.left.map(|left| left - 1);
        Some(self.fault.clone())
    }
}

#[test]
fn faults_are_written_as_they_are_read() {
    let late = Duration::from_millis(1500);
    for fault in [
        Fault::Drop,
        Fault::DropAnswer,
        Fault::Kill,
        Fault::KillBefore,
        Fault::Late(late),
        Fault::SlowAnswer(late),
        Fault::Duplicate,
        Fault::Status(409, false),
        Fault::Status(500, true),
        Fault::Garbage,
        Fault::Truncate,
    ] {
        assert_eq!(fault.to_string().parse(), Ok(fault));
    }
    assert!("dorp".parse::<Fault>().is_err());
}
