//! What else somebody does: to licences, users and Secrets, to objects by force, to whoever leads; and how it is put back later.

use serde_json::{Value, json};

use super::apiserver::{Answer, HANDLERS, IPMANAGERS, Key, Kind, LEASES, ORDERS, SECRETS};
use super::departments::Temper;
use super::determinism::now;
use super::invariants::view;
use super::people::{Act, MERGE, People, name_of};
use super::world::{PROVIDER, SHOP, SYSTEM, World};

/// What somebody does. Spans are in milliseconds; what lasts for one ends sooner where everything is put right.
#[derive(Clone, Debug)]
pub enum Mischief {
    /// The one thing, and the other one so long after it.
    Then(Box<Act>, u64, Box<Act>),
    /// Edits a handler's spec for so long.
    Handler(String, Value, u64),
    /// Edits what becomes of an order's server in the end.
    Policy(String, &'static str),
    /// Protects an order from being deleted, or no longer.
    Protection(String, bool),
    /// Changes a licence of an order at the licence server.
    License(String, Value),
    /// Deletes a user at a panel, as soon as nobody has, or is about to get, a server of his there.
    Dismiss(&'static str, &'static str),
    /// Takes a Secret away for so long: its namespace and name.
    Lose(&'static str, String, u64),
    /// Writes a password into a Secret for so long that opens nothing.
    Mistype(&'static str, String, u64),
    /// Writes this into a Secret.
    Write(&'static str, String, Value),
    /// Takes an object of the provider's out, and makes it anew so long after that: by force, or as soon as nobody holds it.
    Anew { kind: Kind, name: String, politely: bool, after: u64 },
    /// Makes an object as it was, where there is none of its name.
    Make(Kind, &'static str, Value),
    /// Takes an order out by force, as soon as nothing of it is in flight, and restores it from a backup so long after that.
    Restore(String, u64),
    /// Restores it. What it had is known to somebody where that cannot be done.
    Restored(Value, Vec<String>),
    /// The API server is down for so long.
    Outage(u64),
    /// Whoever leads is frozen for so long.
    FreezeLeader(u64),
    /// The Lease is deleted by which it leads.
    Depose,
    /// Departments answer so.
    Temper(Temper),
}

/// How long somebody waits until what he wants to do can be done.
const WAITS: u64 = 1000;

impl Mischief {
    /// What sort of thing it is.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Then(..) => "then",
            Self::Handler(..) => "handler-edited",
            Self::Policy(..) => "policy",
            Self::Protection(..) => "protection",
            Self::License(..) => "license",
            Self::Dismiss(..) => "user",
            Self::Lose(..) => "secret-lost",
            Self::Mistype(..) | Self::Write(..) => "secret-changed",
            Self::Anew { kind, .. } if *kind == HANDLERS => "handler-anew",
            Self::Anew { .. } => "address-manager-anew",
            Self::Make(..) => "made",
            Self::Restore(..) => "taken-out",
            Self::Restored(..) => "restored",
            Self::Outage(_) => "outage",
            Self::FreezeLeader(_) => "leader-frozen",
            Self::Depose => "leader-deposed",
            Self::Temper(_) => "temper",
        }
    }

    /// The same as of other acts: it is done behind the operator's back, or to what the operator is given to work with, and may keep an
    /// order from its end. What is put back does not, nor what the client may ask for.
    pub fn is_by_hand(&self) -> bool {
        match self {
            Self::Then(first, _, other) => first.is_by_hand() || other.is_by_hand(),
            Self::Protection(_, on) => *on,
            Self::Temper(temper) => !temper.answers.is_empty(),
            Self::Handler(..)
            | Self::License(..)
            | Self::Dismiss(..)
            | Self::Lose(..)
            | Self::Mistype(..)
            | Self::Anew { .. }
            | Self::Restore(..) => true,
            Self::Policy(..)
            | Self::Write(..)
            | Self::Make(..)
            | Self::Restored(..)
            | Self::Outage(_)
            | Self::FreezeLeader(_)
            | Self::Depose => false,
        }
    }

    /// A handler is made again that somebody removed.
    pub fn makes_a_handler(&self) -> bool {
        matches!(self, Self::Make(kind, ..) if *kind == HANDLERS)
    }

    /// A Secret is made again that belongs to an order.
    pub fn has_an_owner(&self) -> bool {
        matches!(self, Self::Make(_, _, object) if !view::list(&object["metadata"]["ownerReferences"]).is_empty())
    }

    /// What a Secret of this name holds is put back.
    fn puts_back(&self, secret: &str) -> bool {
        match self {
            Self::Make(kind, _, object) => *kind == SECRETS && name_of(object) == secret,
            Self::Write(_, name, _) => name == secret,
            Self::Then(..)
            | Self::Handler(..)
            | Self::Policy(..)
            | Self::Protection(..)
            | Self::License(..)
            | Self::Dismiss(..)
            | Self::Lose(..)
            | Self::Mistype(..)
            | Self::Anew { .. }
            | Self::Restore(..)
            | Self::Restored(..)
            | Self::Outage(_)
            | Self::FreezeLeader(_)
            | Self::Depose
            | Self::Temper(_) => false,
        }
    }

    /// The same for whoever reads the trace.
    pub fn described(&self) -> String {
        match self {
            Self::Make(kind, _, object) => format!("makes {} {}", kind.kind, name_of(object)),
            Self::Restored(object, _) => format!("restores {}", name_of(object)),
            other => format!("{other:?}"),
        }
    }
}

impl People {
    /// Whether anything comes of it, now or later; what does is counted.
    pub(super) fn mischief(&mut self, world: &World, what: Mischief) -> bool {
        let name = what.name();
        let did = match what {
            // Each of the two is counted by itself.
            Mischief::Then(first, after, other) => {
                let did = self.somebody(world, *first);
                if did {
                    self.put_off(after, *other);
                }
                return did;
            }
            // Nothing comes of these for others to see.
            Mischief::Temper(temper) => {
                self.temper = temper;
                return true;
            }
            Mischief::Handler(name, patch, span) => self.edits(world, (HANDLERS, PROVIDER.into(), name), &patch, span),
            Mischief::Policy(name, policy) => policy_changes(world, &(ORDERS, SHOP.into(), name), policy),
            Mischief::Protection(name, on) => patched(world, &(ORDERS, SHOP.into(), name), &json!({"spec": {"deletionProtection": on}})),
            Mischief::License(name, change) => license_of(world, &name).is_some_and(|(id, server)| {
                world.license_by_hand(id, &server, &change);
                world.panels.change_license(id, change).is_ok()
            }),
            Mischief::Dismiss(panel, user) => {
                if !self.healing && is_needed(world, panel, user) {
                    self.put_off(WAITS, Act::Also(Mischief::Dismiss(panel, user)));
                    return true;
                }
                !is_needed(world, panel, user) && world.panels.change_user(json!({"panel": panel, "name": user, "delete": true})).is_ok()
            }
            Mischief::Lose(namespace, name, span) => {
                let place = (SECRETS, namespace.to_owned(), name);
                let secret = world.server(|s| s.get(&place).ok()).filter(|_| !self.puts_back(&place.2));
                if let Some(secret) = &secret {
                    let _ = world.change(|s| s.delete(&place, &Value::Null, now()));
                    self.put_off(span, Act::Also(Mischief::Make(SECRETS, namespace, manifest(secret))));
                }
                secret.is_some()
            }
            Mischief::Mistype(namespace, name, span) => {
                let secret = world.server(|s| s.get(&(SECRETS, namespace.to_owned(), name.clone())).ok());
                let secret = secret.filter(|_| !self.puts_back(&name));
                if let Some(secret) = &secret {
                    self.put_off(span, Act::Also(Mischief::Write(namespace, name.clone(), json!({"data": secret["data"]}))));
                }
                let wrong = json!({"stringData": {"password": "wrong-4Tz8"}});
                secret.is_some() && written(world, namespace, &name, &wrong)
            }
            Mischief::Write(namespace, name, data) => written(world, namespace, &name, &data),
            Mischief::Anew { kind, name, politely, after } => return self.takes_away(world, kind, name, politely, after),
            Mischief::Make(kind, namespace, object) => {
                let again = Mischief::Make(kind, namespace, object.clone());
                if again.has_an_owner() && self.restores_something() {
                    self.put_off(WAITS, Act::Also(again));
                    return true;
                }
                made(world, kind, namespace, object)
            }
            Mischief::Restore(name, after) => return self.takes_out(world, name, after),
            Mischief::Restored(order, had) => {
                if self.misses_a_handler() {
                    self.put_off(WAITS, Act::Also(Mischief::Restored(order, had)));
                    return true;
                }
                let id = view::order_id(&order).to_owned();
                let restored = told(world, &world.change(|s| s.create((ORDERS, SHOP.into(), String::new()), order, now())));
                if !restored {
                    world.lost(&id, &had);
                }
                restored
            }
            Mischief::Outage(span) => {
                world.adversary(|a| a.api_down_until = now() + span);
                true
            }
            Mischief::FreezeLeader(span) => world.freeze_leader(span),
            Mischief::Depose => {
                let place = (LEASES, SYSTEM.to_owned(), super::replica::LEADER.to_owned());
                told(world, &world.change(|s| s.delete(&place, &Value::Null, now())))
            }
        };
        if did {
            world.met(&format!("act-{name}"));
        }
        did
    }

    /// Removes an object of the provider's, and makes it again later.
    fn takes_away(&mut self, world: &World, kind: Kind, name: String, politely: bool, after: u64) -> bool {
        let place = (kind, PROVIDER.to_owned(), name);
        let Ok(object) = world.server(|s| s.get(&place)) else { return false };
        if kind == HANDLERS && (self.restores_something() || is_looking_for_its_server(world)) {
            // Where its server is, an order without its status is told by nobody but the handler.
            if !self.healing {
                self.put_off(WAITS, Act::Also(Mischief::Anew { kind, name: place.2, politely, after }));
            }
            return false;
        }
        if politely {
            let _ = world.change(|s| s.delete(&place, &Value::Null, now()));
        } else {
            take_out(world, &place);
        }
        self.put_off(after, Act::Also(Mischief::Make(kind, PROVIDER, manifest(&object))));
        world.met(if kind == HANDLERS { "act-handler-anew" } else { "act-address-manager-anew" });
        true
    }

    /// Whether somebody is about to put back what a Secret of this name has held.
    fn puts_back(&self, secret: &str) -> bool {
        self.later.iter().any(|(_, act)| matches!(act, Act::Also(what) if what.puts_back(secret)))
    }

    /// Whether somebody is about to restore an order.
    fn restores_something(&self) -> bool {
        self.later.iter().any(|(_, act)| matches!(act, Act::Also(Mischief::Restored(..))))
    }

    /// Whether somebody is about to make a handler anew.
    fn misses_a_handler(&self) -> bool {
        self.later.iter().any(|(_, act)| matches!(act, Act::Also(what) if what.makes_a_handler()))
    }

    /// Edits these fields of an object's spec, and puts back later what stood there.
    fn edits(&mut self, world: &World, place: Key, fields: &Value, span: u64) -> bool {
        let Ok(before) = world.server(|s| s.get(&place)) else { return false };
        if !patched(world, &place, &json!({"spec": fields})) {
            return false;
        }
        let mut back = json!({});
        for name in fields.as_object().into_iter().flatten().map(|(name, _)| name) {
            back[name] = before["spec"][name].clone();
        }
        self.put_off(span, Act::Handler(place.2, back));
        true
    }

    /// Takes an order out of the API server, and what it owns with it: a backup has both, and leaves owners out.
    fn takes_out(&mut self, world: &World, name: String, after: u64) -> bool {
        let place = (ORDERS, SHOP.to_owned(), name.clone());
        let Ok(order) = world.server(|s| s.get(&place)) else { return false };
        let status = &order["status"];
        // Nobody finds a server by its marker that another client has: its status alone leads there.
        if view::is_deleting(&order) || is_anothers(world, view::text(&status["server"]["id"])) {
            return false;
        }
        if !status["server"]["id"].is_string() || !status["inFlight"].is_null() {
            if !self.healing {
                self.put_off(WAITS, Act::Also(Mischief::Restore(name, after)));
            }
            return !self.healing;
        }
        // The address that a server had before, and that nobody has given back yet, stands in the status alone.
        if let Some(parked) = status["server"]["parkedAddress"].as_str() {
            world.touch(parked);
        }
        let addresses = view::list(&status["server"]["addresses"]).iter().chain([&status["server"]["mainAddress"]]);
        let had = addresses.chain([&status["server"]["id"]]).filter_map(Value::as_str).map(str::to_owned).collect();
        let owned = |secret: &&Value| {
            view::list(&secret["metadata"]["ownerReferences"]).iter().any(|owner| owner["uid"] == order["metadata"]["uid"])
        };
        let secrets: Vec<Value> = world.server(|s| s.all(SECRETS).filter(owned).map(manifest).collect());
        world.taken_out(view::order_id(&order));
        take_out(world, &place);
        for mut secret in secrets {
            let _ = world.change(|s| s.delete(&(SECRETS, SHOP.to_owned(), name_of(&secret)), &Value::Null, now()));
            disown(&mut secret);
            self.put_off(after, Act::Also(Mischief::Make(SECRETS, SHOP, secret)));
        }
        self.put_off(after, Act::Also(Mischief::Restored(manifest(&order), had)));
        world.met("act-taken-out");
        true
    }
}

/// Whether the API server did it; it is told where not.
fn told(world: &World, what: &Answer) -> bool {
    if let Err(refusal) = what {
        world.tell(&format!("   (not so: {})", refusal.message));
    }
    what.is_ok()
}

/// Patches an object; whether that changed it.
fn patched(world: &World, place: &Key, patch: &Value) -> bool {
    let before = world.server(|s| s.version);
    told(world, &world.change(|s| s.patch(place, MERGE, patch, false, now()))) && world.server(|s| s.version) != before
}

/// A release that is on its way cannot be called back: nobody is asked to keep a server then.
fn policy_changes(world: &World, place: &Key, policy: &str) -> bool {
    let releases = |order: &Value| view::is_deleting(order) && order["status"]["inFlight"]["call"] == "release";
    if policy == "Orphan" && world.server(|s| s.get(place)).is_ok_and(|order| releases(&order)) {
        return false;
    }
    patched(world, place, &json!({"spec": {"deletionPolicy": policy}}))
}

/// A licence that an order has, and its server.
fn license_of(world: &World, order: &str) -> Option<(u64, String)> {
    let order = world.server(|s| s.get(&(ORDERS, SHOP.to_owned(), order.to_owned()))).ok()?;
    let id = view::list(&order["status"]["licenses"]).iter().find_map(|license| license["id"].as_str()?.parse().ok())?;
    Some((id, view::server_of(&order).unwrap_or_default().to_owned()))
}

/// Whether a person gave a server to another client.
fn is_anothers(world: &World, id: &str) -> bool {
    let panels = world.panels.state();
    view::servers(&panels).iter().any(|server| server.id() == id && view::text(&server.state["owner"]).starts_with("owner-of-"))
}

/// Whether an order that was restored without its status has yet to find its server, or another one.
fn is_looking_for_its_server(world: &World) -> bool {
    let looks = |order: &Value| view::order_id(order) != order["metadata"]["uid"] && view::server_of(order).is_none();
    world.server(|s| s.all(ORDERS).any(looks))
}

/// Whether a user of a panel has a server, or may be about to get one; also where there is no such user yet.
fn is_needed(world: &World, panel: &str, user: &str) -> bool {
    let panels = world.panels.state();
    let state = &panels["panels"][panel];
    let known = view::list(&state["users"]).iter().any(|row| row["name"] == user);
    let owns = view::list(&state["servers"]).iter().any(|server| server["owner"] == user);
    let under_way = world.server(|s| s.all(ORDERS).any(|order| !order["status"]["inFlight"].is_null()));
    !known || owns || under_way
}

/// Writes into a Secret. Whoever has got his system by the password in it may have got either.
fn written(world: &World, namespace: &str, name: &str, data: &Value) -> bool {
    let of_secret = |order: &&Value| order["spec"]["operatingSystem"]["passwordSecretRef"]["name"] == name;
    let servers = |order: &Value| view::server_of(order).map(str::to_owned);
    let affected: Vec<String> = world.server(|s| s.all(ORDERS).filter(of_secret).filter_map(servers).collect());
    for server in &affected {
        world.touch(server);
    }
    patched(world, &(SECRETS, namespace.to_owned(), name.to_owned()), data)
}

/// An object as a backup has it: without status, and without what the server says of it.
fn manifest(object: &Value) -> Value {
    let mut manifest = object.clone();
    if let Some(members) = manifest.as_object_mut() {
        members.remove("status");
    }
    if let Some(members) = manifest["metadata"].as_object_mut() {
        members.retain(|name, _| ["name", "labels", "annotations", "ownerReferences"].contains(&name.as_str()));
    }
    manifest
}

fn disown(object: &mut Value) {
    if let Some(members) = object["metadata"].as_object_mut() {
        members.remove("ownerReferences");
    }
}

/// Takes an object out of the API server, whatever holds it.
fn take_out(world: &World, place: &Key) {
    let bare = json!({"metadata": {"finalizers": null}});
    let _ = world.change(|s| s.patch(place, MERGE, &bare, false, now()));
    let _ = world.change(|s| s.delete(place, &Value::Null, now()));
}

/// Makes an object; one of the provider's that is still held on its way out goes first.
fn made(world: &World, kind: Kind, namespace: &str, mut object: Value) -> bool {
    let place = (kind, namespace.to_owned(), name_of(&object));
    if [HANDLERS, IPMANAGERS].contains(&kind) && world.server(|s| s.get(&place)).is_ok_and(|there| view::is_deleting(&there)) {
        take_out(world, &place);
    }
    if kind == SECRETS && !is_wanted(world, &mut object) {
        return false;
    }
    told(world, &world.change(|s| s.create((kind, namespace.to_owned(), String::new()), object, now())))
}

/// Whether anybody wants a Secret back. One of an order that has another uid by now is left without an owner; the cluster would collect it.
fn is_wanted(world: &World, secret: &mut Value) -> bool {
    let owners = view::list(&secret["metadata"]["ownerReferences"]).to_vec();
    let orders: Vec<Value> = world.server(|s| s.all(ORDERS).cloned().collect());
    if owners.is_empty() || orders.iter().any(|order| owners.iter().any(|owner| owner["uid"] == order["metadata"]["uid"])) {
        return true;
    }
    let id = view::text(&secret["metadata"]["annotations"][view::ORDER_ID]).to_owned();
    disown(secret);
    orders.iter().any(|order| view::order_id(order) == id)
}
