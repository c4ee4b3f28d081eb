//! Panels that nobody listens for: called by a function, in the caller's own time. They outlive any runtime.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::Value;

use super::{
    SimError, admin,
    config::Config,
    core::{Core, Request},
    coremanager::params::Params,
    http,
    world::bill::LicenseChange,
    world::human::{AddressChange, ServerChange, UserChange},
};

/// Simulated panels without sockets and without tasks.
pub struct Offline {
    core: Core,
}

impl Offline {
    /// The panels that a configuration describes. Its faults are not made: what goes wrong on the way is the caller's.
    pub fn new(config: &Config) -> Result<Self, SimError> {
        Ok(Self { core: Core::new(config)? })
    }

    /// One call: the path of the panel (`dcimgr`) and a form. `None`: there is no such panel.
    #[must_use]
    pub fn post(&self, path: &str, form: &[u8]) -> Option<Vec<u8>> {
        let mgr = path.trim_matches('/');
        let panel = self.core.panels.iter().position(|panel| panel.place.mgr() == mgr || panel.name == mgr)?;
        let params = Params::read(None, "application/x-www-form-urlencoded", form);
        let request = Request { panel, params, cookie: None, peer: IpAddr::V4(Ipv4Addr::LOCALHOST) };
        Some(http::direct(&self.core, &request))
    }

    /// The whole state: what `/_sim/state` shows.
    #[must_use]
    pub fn state(&self) -> Value {
        admin::state(&self.core)
    }

    /// The changes asked for after this number: what `/_sim/journal` shows.
    #[must_use]
    pub fn journal(&self, since: u64) -> Vec<Value> {
        admin::journal(&self.core, since)
    }

    /// Changes a server behind the panel, as `POST /_sim/servers/{id}` does.
    pub fn change_server(&self, id: u64, change: Value) -> Result<Value, SimError> {
        let change: ServerChange = serde_json::from_value(change).map_err(|error| SimError::Admin(error.to_string()))?;
        admin::server(&self.core, id, &change).map_err(|error| SimError::Admin(error.to_string()))
    }

    /// Takes, changes or gives back an address, as `POST /_sim/addresses` does.
    pub fn change_address(&self, change: Value) -> Result<Value, SimError> {
        let change: AddressChange = serde_json::from_value(change).map_err(|error| SimError::Admin(error.to_string()))?;
        admin::address(&self.core, &change).map_err(|error| SimError::Admin(error.to_string()))
    }

    /// Changes a licence behind the panel, as `POST /_sim/licenses/{id}` does.
    pub fn change_license(&self, id: u64, change: Value) -> Result<Value, SimError> {
        let change: LicenseChange = serde_json::from_value(change).map_err(|error| SimError::Admin(error.to_string()))?;
        admin::license(&self.core, id, &change).map_err(|error| SimError::Admin(error.to_string()))
    }

    /// Makes, changes or deletes a user, as `POST /_sim/users` does.
    pub fn change_user(&self, change: Value) -> Result<Value, SimError> {
        let change: UserChange = serde_json::from_value(change).map_err(|error| SimError::Admin(error.to_string()))?;
        admin::user(&self.core, &change).map_err(|error| SimError::Admin(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_answer_without_a_runtime() {
        let config = Config::from_yaml("dcimanager5: [{name: one, users: [{name: admin, password: secret, level: 30}]}]").unwrap();
        let panels = Offline::new(&config).unwrap();
        let post = |path: &str, form: &str| panels.post(path, form.as_bytes()).map(|body| serde_json::from_slice::<Value>(&body).unwrap());
        let session = post("dcimgr", "func=auth&username=admin&password=secret&out=json").unwrap();
        let session = session["doc"]["auth"]["$id"].as_str().unwrap().to_owned();
        let made = post("one", &format!("func=user.edit&sok=ok&name=acme&passwd=x&out=json&auth={session}")).unwrap();
        assert!(made["doc"]["error"].is_null(), "{made}");
        assert_eq!(panels.journal(0).len(), 1);
        assert!(panels.state()["panels"]["one"]["users"].to_string().contains("acme"));
        panels.change_user(serde_json::json!({"panel": "one", "name": "acme", "delete": true})).unwrap();
        assert!(!panels.state()["panels"]["one"]["users"].to_string().contains("acme"));
        assert_eq!(post("ipmgr", "func=whoami&out=json"), None);
    }
}
