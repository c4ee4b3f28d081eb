//! Who still uses an object that is being deleted, in words.

/// `1 order still uses it`, `2 orders still use it`.
#[must_use]
pub fn still_in_use(users: usize, what: &str) -> String {
    if users == 1 { format!("1 {what} still uses it") } else { format!("{users} {what}s still use it") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_uses_and_several_use() {
        assert_eq!(still_in_use(1, "order"), "1 order still uses it");
        assert_eq!([0, 2].map(|n| still_in_use(n, "handler")), ["0 handlers still use it", "2 handlers still use it"]);
    }
}
