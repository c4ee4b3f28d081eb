//! Errors with their causes: libraries of the network say of a connection no more than that there is none.

use std::error::Error as StdError;

/// The causes of an error. An `io::Error` hides the error that it was made of from `source`, so it is opened by hand.
pub(crate) fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |e| cause(*e)).take(16)
}

fn cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

/// An error with its causes in one line, each said once.
pub(crate) fn whole(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    for said in causes(error).skip(1).map(ToString::to_string) {
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
    }
    text
}
