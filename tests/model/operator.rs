//! The operator: what one pass over an order does next (`controller/order.rs`, `provisioning/{allocation,inflight,closing}.rs`).

use super::network;
use super::panel::{marked, ours};
use super::rules::Rules;
use super::world::{
    Answer, At, Installed, Intent, Kind, Life, Message, Object, Order, Outcome, Owner, Pass, Replica, Server, Status, TWO, World, at, bit,
};

/// How often the effect of a lost answer is looked for in vain before the call is made again (`inflight::LOOKS`).
const LOOKS: u8 = 2;

/// What an operator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Reads the order, and is away for a while. Where an old version can be written this is a step of its own.
    Begin(Replica, Order),
    /// Goes on with a pass, or begins one.
    Go(Replica, Order),
    /// The same, and of the free servers this one is asked for. The list may be old: which one it shows first is open.
    Choose(Replica, Order, Server),
    /// The list shows an idle lock, twice; then the order is read anew (`sweep`).
    SweepLook(Server),
    /// The lock that was found idle goes, unless another request has removed it. That its order may have taken it again is not told apart
    /// here; in the code that is another version of it, which stays.
    SweepRemove(Server),
}

/// What a decision comes to.
enum Next {
    Call(Kind, Server),
    /// A claim of any of these servers, as bits.
    AnyOf(u8),
    Wait,
    Forget,
}

/// The steps that operators may take now.
pub fn steps(rules: &Rules, world: &World, found: &mut Vec<Step>) {
    for replica in TWO {
        for order in TWO {
            let pass = world.passes[at(replica)][at(order)];
            match pass.at {
                At::Idle if world.orders[at(order)].life == Life::Gone => {}
                At::Idle => begin(rules, world, replica, order, found),
                At::Wait => {}
                At::Decide => match decide(rules, world, order, &mut pass.clone()) {
                    Next::AnyOf(servers) => {
                        found.extend(TWO.into_iter().filter(|s| servers & bit(*s) != 0).map(|s| Step::Choose(replica, order, s)));
                    }
                    Next::Call(..) | Next::Wait | Next::Forget => found.push(Step::Go(replica, order)),
                },
                At::Call(..) | At::Send(..) if !world.wire.contains(&None) => {}
                At::Call(..) | At::Send(..) | At::Unlock | At::Finalize => found.push(Step::Go(replica, order)),
            }
        }
    }
    for server in TWO {
        if world.sweeping[at(server)] {
            found.push(Step::SweepRemove(server));
        } else if idle(world, server) {
            found.push(Step::SweepLook(server));
        }
    }
}

/// A lock that no order needs, on a server that the panel shows free.
fn idle(world: &World, server: Server) -> bool {
    let Some(holder) = world.locks[at(server)] else { return false };
    let object = &world.orders[at(holder)];
    world.servers[at(server)].owner == Owner::Nobody && (object.life == Life::Gone || !names(&object.status, server))
}

/// Whether an order speaks of a server, in `status.server` or in `inFlight`.
fn names(status: &Status, server: Server) -> bool {
    status.server == Some(server) || status.intent.is_some_and(|i| i.server == server)
}

/// The ways in which a pass may begin.
fn begin(rules: &Rules, world: &World, replica: Replica, order: Order, found: &mut Vec<Step>) {
    if !rules.safe.resource_version {
        found.push(Step::Begin(replica, order));
        return;
    }
    match decide(rules, world, order, &mut fresh(world, order)) {
        Next::AnyOf(servers) => {
            found.extend(TWO.into_iter().filter(|s| servers & bit(*s) != 0).map(|s| Step::Choose(replica, order, s)));
        }
        Next::Call(..) | Next::Wait | Next::Forget => found.push(Step::Go(replica, order)),
    }
}

/// A pass that has just read the order.
fn fresh(world: &World, order: Order) -> Pass {
    let object = world.orders[at(order)];
    let deleting = object.life == Life::Deleting;
    Pass { at: At::Decide, deleting, status: object.status, ..Pass::default() }
}

/// It is done.
pub fn step(rules: &Rules, world: &mut World, step: Step) {
    match step {
        Step::Begin(replica, order) => *world.pass(replica, order) = fresh(world, order),
        Step::Choose(replica, order, server) => {
            let mut pass = begun(world, replica, order);
            decide(rules, world, order, &mut pass);
            ask(rules, world, replica, order, &mut pass, Kind::Claim, server);
            *world.pass(replica, order) = pass;
        }
        Step::Go(replica, order) => go(rules, world, replica, order),
        Step::SweepLook(server) => world.sweeping[at(server)] = true,
        Step::SweepRemove(server) => unlock(world, server),
    }
}

fn begun(world: &mut World, replica: Replica, order: Order) -> Pass {
    let pass = *world.pass(replica, order);
    if pass.at == At::Idle { fresh(world, order) } else { pass }
}

/// Removes a lock. Who meant to remove it too finds another uid, or none.
fn unlock(world: &mut World, server: Server) {
    world.locks[at(server)] = None;
    world.sweeping[at(server)] = false;
}

fn go(rules: &Rules, world: &mut World, replica: Replica, order: Order) {
    let mut pass = begun(world, replica, order);
    match pass.at {
        At::Idle | At::Wait => {}
        At::Decide => match decide(rules, world, order, &mut pass) {
            Next::Call(kind, server) => ask(rules, world, replica, order, &mut pass, kind, server),
            Next::AnyOf(_) => {}
            Next::Wait => {
                save(rules, world, replica, order, &mut pass);
                pass = Pass::default();
            }
            // What the status says of it is for people; what counts is guarded by the removal of the finalizer.
            Next::Forget => pass.at = At::Finalize,
        },
        At::Call(kind, server) => call(rules, world, replica, order, &mut pass, kind, server),
        At::Send(kind, server) => send(world, replica, order, &mut pass, kind, server),
        At::Unlock => {
            if let Some(server) = pass.status.server.filter(|s| world.locks[at(*s)] == Some(order)) {
                unlock(world, server);
            }
            pass.at = At::Idle;
        }
        At::Finalize => {
            let goes = !pass.stale || !rules.safe.resource_version;
            if goes {
                world.orders[at(order)] = Object { life: Life::Gone, ..Object::default() };
                world.wrote(order, Some(replica));
                world.harm.early |= world.servers.iter().any(|r| r.holder == Some(order) && !r.by_hand);
            }
            pass.at = if goes && pass.status.server.is_some() { At::Unlock } else { At::Idle };
        }
    }
    *world.pass(replica, order) = pass;
}

/// A call is decided upon: its intent is written before it is made.
fn ask(rules: &Rules, world: &mut World, replica: Replica, order: Order, pass: &mut Pass, kind: Kind, server: Server) {
    pass.status.intent = rules.safe.intent.then_some(Intent { kind, server, outcome: Outcome::Sent });
    if save(rules, world, replica, order, pass) {
        pass.own = true;
        pass.at = At::Call(kind, server);
    } else {
        *pass = Pass::default();
    }
}

/// Lock, last look, request (`perform.rs`, `edit_server`).
fn call(rules: &Rules, world: &mut World, replica: Replica, order: Order, pass: &mut Pass, kind: Kind, server: Server) {
    let record = world.servers[at(server)];
    let expected = match kind {
        Kind::Claim => {
            if rules.safe.lock && world.locks[at(server)].is_some_and(|holder| holder != order) {
                return refused(pass, kind, server);
            }
            world.locks[at(server)] = Some(order);
            if rules.safe.marker { world.is_free(server) } else { record.owner == Owner::Nobody }
        }
        Kind::Release => marked(rules, &record, order),
        Kind::Install | Kind::PowerOff => true,
    };
    if !expected {
        return refused(pass, kind, server);
    }
    if rules.assume.no_long_pause {
        send(world, replica, order, pass, kind, server);
    } else {
        pass.at = At::Send(kind, server);
    }
}

fn send(world: &mut World, replica: Replica, order: Order, pass: &mut Pass, kind: Kind, server: Server) {
    world.harm.blind |= kind.destructive() && !pass.read_back;
    pass.read_back = false;
    if network::send(world, Message { order, kind, server, waiter: Some(replica), copy: false }) {
        pass.at = At::Wait;
    }
}

fn refused(pass: &mut Pass, kind: Kind, server: Server) {
    pass.answer = Answer::Refused(kind);
    if kind == Kind::Claim {
        pass.not_free |= bit(server);
    }
    pass.at = At::Decide;
}

/// Writes the status if it differs; `false` when somebody else was quicker (`status::write`).
fn save(rules: &Rules, world: &mut World, replica: Replica, order: Order, pass: &mut Pass) -> bool {
    let stored = world.orders[at(order)];
    if !pass.stale && stored.status == pass.status {
        return true;
    }
    if stored.life == Life::Gone || (pass.stale && rules.safe.resource_version) {
        return false;
    }
    world.orders[at(order)].status = pass.status;
    world.wrote(order, Some(replica));
    true
}

/// Looks at the panel and decides (`decide::decide`); what is learned goes into the status of the pass.
fn decide(rules: &Rules, world: &World, order: Order, pass: &mut Pass) -> Next {
    if pass.deleting { close(rules, world, order, pass) } else { open(rules, world, order, pass) }
}

fn open(rules: &Rules, world: &World, order: Order, pass: &mut Pass) -> Next {
    if pass.status.server.is_none()
        && let Some(next) = allocate(rules, world, order, pass)
    {
        return next;
    }
    let Some(server) = pass.status.server else { return Next::Wait };
    install(rules, world, order, pass, server)
}

/// `allocation::allocate`; `None` once there is a server.
fn allocate(rules: &Rules, world: &World, order: Order, pass: &mut Pass) -> Option<Next> {
    // `find_own`: whatever the status says, a server that carries our marker is ours.
    if rules.safe.marker {
        let mut found = TWO.into_iter().filter(|s| marked(rules, &world.servers[at(*s)], order));
        match (found.next(), found.next()) {
            (Some(server), None) => return bind(rules, world, order, pass, server),
            (Some(_), Some(_)) => return Some(Next::Wait),
            (None, _) => {}
        }
    }
    if let Some(Intent { kind: Kind::Claim, server, outcome: _ }) = pass.status.intent {
        let applied = pass.answer == Answer::Applied(Kind::Claim);
        let won = if rules.safe.read_back { ours(rules, &world.servers[at(server)], order) } else { applied };
        if won {
            return bind(rules, world, order, pass, server);
        }
        if pass.own {
            // Lost to somebody else, or refused: another one is chosen.
            pass.status.intent = None;
        } else {
            return Some(if settled(rules, world, order, pass) { Next::Call(Kind::Claim, server) } else { Next::Wait });
        }
    } else if !rules.safe.intent && pass.answer == Answer::Applied(Kind::Claim) {
        // Without an intent the answer alone leads to the server.
        let server = TWO.into_iter().find(|s| ours(rules, &world.servers[at(*s)], order));
        if let Some(server) = server {
            return bind(rules, world, order, pass, server);
        }
    }
    let locked = |s: Server| rules.safe.lock && world.locks[at(s)].is_some_and(|holder| holder != order);
    let free = |s: &Server| world.is_free(*s) && pass.not_free & bit(*s) == 0 && !locked(*s);
    let free: u8 = TWO.into_iter().filter(free).map(bit).sum();
    Some(if free == 0 { Next::Wait } else { Next::AnyOf(free) })
}

/// The server is the order's from here on; `Some` when somebody took it (`OwnerChanged`).
fn bind(rules: &Rules, world: &World, order: Order, pass: &mut Pass, server: Server) -> Option<Next> {
    if rules.safe.read_back && !ours(rules, &world.servers[at(server)], order) {
        settle_known(pass);
        return Some(Next::Wait);
    }
    pass.status.server = Some(server);
    pass.status.intent = None;
    None
}

/// `installation::install`.
fn install(rules: &Rules, world: &World, order: Order, pass: &mut Pass, server: Server) -> Next {
    let shows = world.servers[at(server)].installed;
    match pass.status.installed {
        Installed::Yes => return Next::Wait,
        Installed::Asked if shows => {
            pass.status.installed = Installed::Yes;
            return Next::Wait;
        }
        // Accepted, and no trace of it: `InstallVanished`, tried anew.
        Installed::Asked => pass.status.installed = Installed::No,
        Installed::No => {}
    }
    if pass.answer == Answer::Applied(Kind::Install) {
        pass.status.installed = Installed::Asked;
        pass.status.intent = None;
        return Next::Wait;
    }
    let begun = pass.status.intent.is_some_and(|i| i.kind == Kind::Install);
    if begun && shows {
        pass.status.installed = Installed::Yes;
        pass.status.intent = None;
        return Next::Wait;
    }
    destroy(rules, world, order, pass, Kind::Install, server)
}

/// A destructive call: read back first, and never repeated blindly (`Cx::call`).
fn destroy(rules: &Rules, world: &World, order: Order, pass: &mut Pass, kind: Kind, server: Server) -> Next {
    if rules.safe.read_back {
        let record = &world.servers[at(server)];
        if !ours(rules, record, order) {
            // `NotOurServer`, `OwnerChanged`.
            settle_known(pass);
            return Next::Wait;
        }
        // Without a marker it may look like the order's, and be none of it.
        pass.read_back = record.holder == Some(order);
    }
    if pass.answer == Answer::Refused(kind) || pass.answer == Answer::Applied(kind) {
        settle_known(pass);
        return Next::Wait;
    }
    if settled(rules, world, order, pass) { Next::Call(kind, server) } else { Next::Wait }
}

/// All outcomes of this pass are known, so that its intent has served (`Cx::settle_known`).
fn settle_known(pass: &mut Pass) {
    let unread = matches!(pass.answer, Answer::Applied(Kind::Claim | Kind::Release));
    if !unread && pass.own {
        pass.status.intent = None;
    }
}

/// Whether whatever is in flight has had its time, and was looked for in vain as often as is due (`Cx::settled`).
fn settled(rules: &Rules, world: &World, order: Order, pass: &mut Pass) -> bool {
    let Some(intent) = pass.status.intent.as_mut() else { return true };
    if pass.own || !rules.safe.settle {
        return true;
    }
    let looks = match intent.outcome {
        Outcome::Sent => {
            intent.outcome = Outcome::Ambiguous(0);
            return false;
        }
        Outcome::Ambiguous(looks) => looks,
    };
    let object = &world.orders[at(order)];
    let stored = object.elapsed && !pass.stale && object.status.intent == Some(*intent);
    if !stored {
        return false;
    }
    intent.outcome = Outcome::Ambiguous((looks + 1).min(LOOKS));
    looks + 1 >= LOOKS
}

/// `closing::close`.
fn close(rules: &Rules, world: &World, order: Order, pass: &mut Pass) -> Next {
    if pass.status.server.is_none() {
        let intent = pass.status.intent;
        if let Some(Intent { kind: Kind::Claim, server, outcome: _ }) = intent {
            // `resolve_claim`.
            let record = world.servers[at(server)];
            if marked(rules, &record, order) {
                if let Some(next) = bind(rules, world, order, pass, server) {
                    return next;
                }
            } else if settled(rules, world, order, pass) {
                pass.status.intent = None;
                return Next::Forget;
            } else {
                return Next::Wait;
            }
        } else {
            return Next::Forget;
        }
    }
    let Some(server) = pass.status.server else { return Next::Forget };
    let record = world.servers[at(server)];
    let begun = |pass: &Pass, kind| pass.status.intent.is_some_and(|i| i.kind == kind);
    // `released`: asked for before, and our marker is gone.
    if begun(pass, Kind::Release) && !marked(rules, &record, order) {
        return if settled(rules, world, order, pass) && quiet(rules, world, order) { Next::Forget } else { Next::Wait };
    }
    // `opening_settled`: a call of the preparation gets its time before anything is taken back.
    if begun(pass, Kind::Install) {
        if !settled(rules, world, order, pass) {
            return Next::Wait;
        }
        pass.status.intent = None;
    }
    if !pass.status.off {
        if !record.on || pass.answer == Answer::Applied(Kind::PowerOff) {
            if begun(pass, Kind::PowerOff) && !settled(rules, world, order, pass) {
                return Next::Wait;
            }
            pass.status.off = true;
            if begun(pass, Kind::PowerOff) {
                pass.status.intent = None;
            }
        } else {
            return destroy(rules, world, order, pass, Kind::PowerOff, server);
        }
    }
    if rules.safe.earlier_calls && preparing(world, order) || !quiet(rules, world, order) {
        return Next::Wait;
    }
    destroy(rules, world, order, pass, Kind::Release, server)
}

/// `earlier_calls_had_their_time`: a call of the preparation, or a copy of one, may still take effect.
fn preparing(world: &World, order: Order) -> bool {
    under_way(world, order, |kind| matches!(kind, Kind::Claim | Kind::Install))
}

/// Repaired, taking back waits until no earlier request of the order can take effect any more.
fn quiet(rules: &Rules, world: &World, order: Order) -> bool {
    !(rules.repair.quiet && under_way(world, order, |_| true))
}

/// Whether a request of these kinds is on the wire, or about to be.
fn under_way(world: &World, order: Order, of_it: impl Fn(Kind) -> bool) -> bool {
    let about = |pass: &Pass| matches!(pass.at, At::Call(kind, _) | At::Send(kind, _) if of_it(kind));
    let sent = world.wire.iter().flatten().any(|m| m.order == order && of_it(m.kind));
    sent || world.passes.iter().any(|replica| about(&replica[at(order)]))
}
