//! Users of a panel: sections 1.2 and 2.9 of the facts.

use std::collections::BTreeMap;

use super::refusal::Refusal;

/// The level of an ordinary user.
pub(crate) const LEVEL_USER: u8 = 16;
/// The level from which a user is an administrator.
pub(crate) const LEVEL_ADMIN: u8 = 29;

/// Somebody who can log in.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) password: String,
    pub(crate) level: u8,
}

impl User {
    /// Whether the level is an administrator's.
    pub(crate) fn is_admin(&self) -> bool {
        self.level >= LEVEL_ADMIN
    }
}

/// All users of one panel.
#[derive(Debug, Clone, Default)]
pub(crate) struct Users {
    list: BTreeMap<u64, User>,
    last_id: u64,
}

/// Reads a level: the panels take numbers and, on creation, names such as `lvUser` (section 1.2).
pub(crate) fn parse_level(text: &str) -> Option<u8> {
    match text {
        "" | "lvUser" => Some(LEVEL_USER),
        "lvAdmin" => Some(LEVEL_ADMIN),
        "lvSuper" => Some(30),
        number => number.parse().ok().filter(|level| (1..=31).contains(level)),
    }
}

impl Users {
    /// All users, by id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &User> {
        self.list.values()
    }

    /// The user with this id.
    pub(crate) fn get(&self, id: u64) -> Option<&User> {
        self.list.get(&id)
    }

    /// The user with this id, as a form names it.
    pub(crate) fn find(&self, id: &str) -> Option<&User> {
        self.list.get(&id.parse().ok()?)
    }

    /// The user with this name.
    pub(crate) fn named(&self, name: &str) -> Option<&User> {
        self.list.values().find(|user| user.name == name)
    }

    /// The user whose name and password these are.
    pub(crate) fn check(&self, name: &str, password: &str) -> Option<&User> {
        self.named(name).filter(|user| user.password == password)
    }

    /// Makes a user and returns the id. A name that is taken is refused as `exists` / `user`.
    pub(crate) fn create(&mut self, name: &str, password: &str, level: u8) -> Result<u64, Refusal> {
        if name.is_empty() || name.contains(':') {
            return Err(Refusal::value("name", name));
        }
        if self.named(name).is_some() {
            return Err(Refusal::exists("user", name));
        }
        self.last_id += 1;
        let id = self.last_id;
        let user = User { id, name: name.to_owned(), password: password.to_owned(), level };
        self.list.insert(id, user);
        Ok(id)
    }

    /// Changes what is given of one user.
    pub(crate) fn change(&mut self, id: u64, name: Option<&str>, password: Option<&str>, level: Option<u8>) -> Result<(), Refusal> {
        if let Some(name) = name
            && self.list.values().any(|user| user.name == name && user.id != id)
        {
            return Err(Refusal::exists("user", name));
        }
        let user = self.list.get_mut(&id).ok_or_else(|| Refusal::missed("user", &id.to_string()))?;
        if let Some(name) = name {
            name.clone_into(&mut user.name);
        }
        if let Some(password) = password {
            password.clone_into(&mut user.password);
        }
        if let Some(level) = level {
            user.level = level;
        }
        Ok(())
    }

    /// Removes a user.
    pub(crate) fn delete(&mut self, id: u64) -> Result<(), Refusal> {
        self.list.remove(&id).map(|_| ()).ok_or_else(|| Refusal::missed("user", &id.to_string()))
    }
}
