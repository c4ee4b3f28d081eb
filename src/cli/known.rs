//! What reading an object came to: what may not be read is neither there nor missing.

/// An object, or why there is none to look at.
#[derive(Clone, Debug, PartialEq)]
pub enum Known<T> {
    /// It is there.
    Is(T),
    /// It does not exist.
    Absent,
    /// It cannot be told: why, in words.
    Hidden(String),
}

impl<T> Known<T> {
    /// The object, where it is there.
    #[must_use]
    pub fn get(&self) -> Option<&T> {
        match self {
            Self::Is(object) => Some(object),
            Self::Absent | Self::Hidden(_) => None,
        }
    }

    /// Why nothing is known.
    #[must_use]
    pub fn hidden(&self) -> Option<&str> {
        match self {
            Self::Hidden(why) => Some(why),
            Self::Is(_) | Self::Absent => None,
        }
    }
}
