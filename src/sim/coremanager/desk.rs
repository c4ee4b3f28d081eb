//! Who is at the counter: sessions, one-time keys and stored filters of one panel. Sections 1.2 and 1.3 of the facts.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::Duration,
};

use crate::sim::world::{
    Form, Moment,
    refusal::{Kind, Refusal},
    users::{User, Users},
};

use super::params::Params;

/// The shortest one-time key (section 1.2).
const KEY_LENGTH: usize = 16;

#[derive(Debug)]
struct Session {
    user: u64,
    /// The user's level when the session began.
    level: u8,
    ip: IpAddr,
    last_call: Moment,
}

/// Stored filters: they belong to a user, and stay when the session ends (section 1.3, a trap).
#[derive(Debug, Default)]
pub(crate) struct Filters(BTreeMap<(u64, String), Form>);

impl Filters {
    /// Stores a filter for a list; one without any value takes the filter away.
    pub(crate) fn store(&mut self, user: u64, list: &str, fields: Form) {
        if fields.is_empty() {
            self.0.remove(&(user, list.to_owned()));
        } else {
            self.0.insert((user, list.to_owned()), fields);
        }
    }

    /// The filter of a list.
    pub(crate) fn get(&self, user: u64, list: &str) -> Option<&Form> {
        self.0.get(&(user, list.to_owned()))
    }
}

/// How log-in works on one panel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) idle: Duration,
    pub(crate) bound_to_ip: bool,
    /// A session keeps the level that its user had when it began.
    pub(crate) keeps_level: bool,
}

/// Sessions, keys and filters of one panel.
#[derive(Debug)]
pub(crate) struct Desk {
    rules: Rules,
    sessions: HashMap<String, Session>,
    keys: BTreeMap<String, (u64, Moment)>,
    pub(crate) filters: Filters,
}

fn bad_password() -> Refusal {
    Refusal::new(Kind::Auth, "badpassword", "")
}

fn bad_session() -> Refusal {
    Refusal::new(Kind::Auth, "session", "")
}

impl Desk {
    /// A counter where nobody is.
    pub(crate) fn new(rules: Rules) -> Self {
        Self { rules, sessions: HashMap::new(), keys: BTreeMap::new(), filters: Filters::default() }
    }

    /// How many sessions there are.
    pub(crate) fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Their ids, which are as good as passwords.
    pub(crate) fn session_ids(&self) -> impl Iterator<Item = &str> {
        self.sessions.keys().map(String::as_str)
    }

    /// Ends all sessions, as a restart of the panel does.
    pub(crate) fn end_sessions(&mut self) {
        self.sessions.clear();
    }

    /// `func=auth`: a session for a name with a password or a one-time key. Returns its id and the user.
    pub(crate) fn log_in<'a>(
        &mut self,
        users: &'a Users,
        params: &Params,
        ip: IpAddr,
        new_id: String,
        now: Moment,
    ) -> Result<(String, &'a User), Refusal> {
        let name = params.get("username");
        let user = match params.sent("key") {
            Some(key) => {
                let user = users.named(name).ok_or_else(bad_password)?;
                let known = self.keys.get(key).is_some_and(|(owner, until)| *owner == user.id && now < *until);
                if !known {
                    return Err(bad_password());
                }
                self.keys.remove(key);
                user
            }
            None => users.check(name, params.get("password")).ok_or_else(bad_password)?,
        };
        let idle = self.rules.idle;
        self.sessions.retain(|_, session| now < session.last_call + idle);
        self.sessions.insert(new_id.clone(), Session { user: user.id, level: user.level, ip, last_call: now });
        Ok((new_id, user))
    }

    /// `session.newkey`: a key with which a user can log in once. Administrators make keys for everybody.
    pub(crate) fn new_key(&mut self, users: &Users, user: &User, params: &Params, now: Moment) -> Result<(), Refusal> {
        let owner = match params.get("username") {
            "" => user,
            name if name == user.name || user.is_admin() => users.named(name).ok_or_else(|| Refusal::missed("user", name))?,
            _ => return Err(Refusal::access("session.newkey")),
        };
        let key = params.get("key");
        if key.len() < KEY_LENGTH {
            return Err(Refusal::value("key", ""));
        }
        self.keys.retain(|_, (_, until)| now < *until);
        self.keys.insert(key.to_owned(), (owner.id, now + self.rules.idle));
        Ok(())
    }

    /// Who seems to call, without checking anything: for the journal.
    pub(crate) fn guess(&self, users: &Users, params: &Params, cookie: Option<&str>) -> String {
        if let Some(info) = params.sent("authinfo") {
            return info.split_once(':').map_or(info, |(name, _)| name).to_owned();
        }
        if params.func() == "auth" {
            return params.get("username").to_owned();
        }
        let session = params.sent("auth").or(cookie).and_then(|id| self.sessions.get(id));
        session.and_then(|session| users.get(session.user)).map_or_else(String::new, |user| user.name.clone())
    }

    /// Finds out who calls, by `authinfo`, by `auth`, or by the cookie, and returns the user as whom the call is done:
    /// the same, or the one named by `su`.
    pub(crate) fn identify(
        &mut self,
        users: &Users,
        params: &Params,
        cookie: Option<&str>,
        ip: IpAddr,
        now: Moment,
    ) -> Result<User, Refusal> {
        let known;
        let user = if let Some(info) = params.sent("authinfo") {
            let (name, password) = info.split_once(':').ok_or_else(bad_password)?;
            users.check(name, password).ok_or_else(bad_password)?
        } else {
            let id = params.sent("auth").or(cookie).ok_or_else(bad_session)?;
            let session = self.sessions.get_mut(id).ok_or_else(bad_session)?;
            if now >= session.last_call + self.rules.idle {
                self.sessions.remove(id);
                return Err(bad_session());
            }
            if self.rules.bound_to_ip && session.ip != ip {
                return Err(bad_session());
            }
            session.last_call = now;
            let user = users.get(session.user).ok_or_else(bad_session)?;
            known = User { level: if self.rules.keeps_level { session.level } else { user.level }, ..user.clone() };
            &known
        };
        let user = match params.get("su") {
            "" => user,
            name if name == user.name => user,
            name if user.is_admin() => users.named(name).ok_or_else(|| Refusal::missed("user", name))?,
            _ => return Err(Refusal::access("su")),
        };
        Ok(user.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn at(seconds: u64) -> Moment {
        Duration::from_secs(seconds)
    }

    fn params(query: &str) -> Params {
        Params::read(Some(query), "", b"")
    }

    fn office(bound_to_ip: bool) -> (Users, Desk) {
        let mut users = Users::default();
        users.create("admin", "a:b", 30).unwrap();
        users.create("acme", "x", 16).unwrap();
        (users, Desk::new(Rules { idle: at(3600), bound_to_ip, keeps_level: false }))
    }

    fn who(desk: &mut Desk, users: &Users, query: &str, ip: IpAddr, now: Moment) -> Result<String, Kind> {
        desk.identify(users, &params(query), None, ip, now).map(|user| user.name).map_err(|refusal| refusal.kind)
    }

    #[test]
    fn sessions_end_an_hour_after_the_last_call() {
        let (users, mut desk) = office(true);
        let login = params("username=acme&password=x");
        desk.log_in(&users, &login, HERE, "s".to_owned(), at(0)).unwrap();
        assert_eq!(who(&mut desk, &users, "auth=s", HERE, at(3599)), Ok("acme".to_owned()));
        assert_eq!(who(&mut desk, &users, "auth=s", HERE, at(7198)), Ok("acme".to_owned()));
        assert_eq!(who(&mut desk, &users, "auth=s", HERE, at(10_798)), Err(Kind::Auth));
        assert_eq!(who(&mut desk, &users, "auth=s", HERE, at(10_798)), Err(Kind::Auth));
    }

    #[test]
    fn sessions_belong_to_an_address() {
        for bound in [true, false] {
            let (users, mut desk) = office(bound);
            desk.log_in(&users, &params("username=acme&password=x"), HERE, "s".to_owned(), at(0)).unwrap();
            assert_eq!(who(&mut desk, &users, "auth=s", THERE, at(1)).is_err(), bound);
        }
    }

    #[test]
    fn sessions_keep_their_level_or_lose_it() {
        for keeps_level in [true, false] {
            let (mut users, _) = office(true);
            let mut desk = Desk::new(Rules { idle: at(3600), bound_to_ip: true, keeps_level });
            desk.log_in(&users, &params("username=admin&password=a:b"), HERE, "s".to_owned(), at(0)).unwrap();
            let id = users.named("admin").unwrap().id;
            users.change(id, None, None, Some(16)).unwrap();
            let level = |desk: &mut Desk, query: &str| desk.identify(&users, &params(query), None, HERE, at(1)).unwrap().level;
            assert_eq!(level(&mut desk, "auth=s"), if keeps_level { 30 } else { 16 });
            assert_eq!(level(&mut desk, "authinfo=admin:a:b"), 16);
        }
    }

    #[test]
    fn keys_work_once() {
        let (users, mut desk) = office(true);
        let admin = users.named("admin").unwrap();
        let acme = users.named("acme").unwrap();
        let key = params("username=acme&key=0123456789abcdef");
        desk.new_key(&users, admin, &key, at(0)).unwrap();
        let wrong = params("username=admin&key=0123456789abcdef");
        assert!(desk.log_in(&users, &wrong, HERE, "s".to_owned(), at(1)).is_err());
        assert_eq!(desk.log_in(&users, &key, HERE, "s".to_owned(), at(1)).unwrap().1.name, "acme");
        assert!(desk.log_in(&users, &key, HERE, "t".to_owned(), at(1)).is_err());
        let short = params("username=acme&key=short");
        assert_eq!(desk.new_key(&users, admin, &short, at(0)).unwrap_err().kind, Kind::Value);
        assert_eq!(desk.new_key(&users, acme, &wrong, at(0)).unwrap_err().kind, Kind::Access);
    }

    #[test]
    fn identifies() {
        for (query, result) in [
            ("authinfo=admin:a:b", Ok("admin")),
            ("authinfo=acme:x", Ok("acme")),
            ("authinfo=acme:y", Err(Kind::Auth)),
            ("authinfo=acme", Err(Kind::Auth)),
            ("authinfo=nobody:x", Err(Kind::Auth)),
            ("auth=unknown", Err(Kind::Auth)),
            ("", Err(Kind::Auth)),
            ("authinfo=admin:a:b&su=acme", Ok("acme")),
            ("authinfo=admin:a:b&su=nobody", Err(Kind::Missed)),
            ("authinfo=acme:x&su=admin", Err(Kind::Access)),
            ("authinfo=acme:x&su=acme", Ok("acme")),
        ] {
            let (users, mut desk) = office(true);
            assert_eq!(who(&mut desk, &users, query, HERE, at(0)), result.map(str::to_owned), "{query}");
        }
    }
}
