//! The model as the checker sees it, and how it is checked.

use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model, Property};

use super::human::{self, Act};
use super::network::{self, Fate};
use super::operator::{self, Step};
use super::properties;
use super::rules::Rules;
use super::world::{At, Life, Order, Pass, Replica, TWO, World, at};

/// The protocol under these rules.
#[derive(Clone, Copy, Debug, Default)]
pub struct Protocol(pub Rules);

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// An operator goes on.
    Operator(Step),
    /// The network does something with the request at this place.
    Network(u8, Fate),
    /// A person does something.
    Human(Act),
    /// `timeouts.settle` passes for an order.
    Elapse(Order),
    /// A replica is killed.
    Kill(Replica),
    /// The API server does not answer a pass, which ends.
    Abort(Replica, Order),
}

impl Protocol {
    /// What happens by itself sooner or later, whatever else goes wrong.
    pub fn fair(&self, world: &World, actions: &mut Vec<Action>) {
        let mut steps = Vec::new();
        operator::steps(&self.0, world, &mut steps);
        actions.extend(steps.into_iter().map(Action::Operator));
        let mut fates = Vec::new();
        network::fates(&self.0, world, &mut fates);
        actions.extend(fates.into_iter().filter(|(_, fate)| *fate == Fate::Arrive).map(|(place, fate)| Action::Network(place, fate)));
        actions.extend(TWO.into_iter().filter(|o| self.may_elapse(world, *o)).map(Action::Elapse));
    }

    /// Whether the time for a lost answer may be over: nothing that was sent under the intent can take effect later.
    fn may_elapse(&self, world: &World, order: Order) -> bool {
        let object = &world.orders[at(order)];
        if object.elapsed || object.status.intent.is_none() || object.life == Life::Gone {
            return false;
        }
        let sent = world.wire.iter().flatten().any(|m| m.order == order);
        let about = |pass: &Pass| matches!(pass.at, At::Call(..) | At::Send(..));
        let acting = self.0.assume.no_long_pause && world.passes.iter().any(|replica| about(&replica[at(order)]));
        !sent && !acting
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World { faults: self.0.faults, ..World::default() }.canonical(self.0.safe.resource_version)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        self.fair(world, actions);
        let mut fates = Vec::new();
        network::fates(&self.0, world, &mut fates);
        actions.extend(fates.into_iter().filter(|(_, fate)| *fate != Fate::Arrive).map(|(place, fate)| Action::Network(place, fate)));
        let mut acts = Vec::new();
        human::acts(&self.0, world, &mut acts);
        actions.extend(acts.into_iter().map(Action::Human));
        if world.faults.crashes == 0 {
            return;
        }
        for replica in TWO {
            let busy: Vec<Order> = TWO.into_iter().filter(|o| world.passes[at(replica)][at(*o)].at != At::Idle).collect();
            actions.extend(busy.iter().map(|order| Action::Abort(replica, *order)));
            if busy.len() > 1 {
                actions.push(Action::Kill(replica));
            }
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = *last;
        match action {
            Action::Operator(step) => operator::step(&self.0, &mut world, step),
            Action::Network(place, fate) => network::happen(&mut world, place, fate),
            Action::Human(act) => human::act(&mut world, act),
            Action::Elapse(order) => world.orders[at(order)].elapsed = true,
            Action::Kill(replica) => {
                world.faults.crashes -= 1;
                world.passes[at(replica)] = [Pass::default(); 2];
                world.forget_waiter(replica, None);
            }
            Action::Abort(replica, order) => {
                world.faults.crashes -= 1;
                *world.pass(replica, order) = Pass::default();
                world.forget_waiter(replica, Some(order));
            }
        }
        let world = world.canonical(self.0.safe.resource_version);
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

/// What a check came to.
#[derive(Debug)]
pub struct Checked {
    /// Distinct states seen.
    pub states: usize,
    /// All states were seen.
    pub complete: bool,
    /// The longest path.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// The property that does not hold, with the shortest way there.
    pub broken: Option<(&'static str, Vec<String>)>,
}

/// Looks at all states, or at the first so many, in breadth; ends at the first property that does not hold. With one
/// thread the way there is the shortest, and the same each time.
pub fn check(rules: Rules, states: usize, threads: usize) -> Checked {
    let began = Instant::now();
    let mut builder = Protocol(rules).checker().threads(threads).finish_when(HasDiscoveries::AnyFailures);
    if states > 0 {
        builder = builder.target_state_count(states);
    }
    let checker = builder.spawn_bfs().join();
    let broken = checker.discoveries().into_iter().min_by_key(|(_, path)| path.clone().into_actions().len());
    let broken = broken.map(|(name, path)| (name, path.into_actions().iter().map(|a| format!("{a:?}")).collect()));
    let complete = broken.is_none() && (states == 0 || checker.state_count() < states);
    Checked { states: checker.unique_state_count(), complete, depth: checker.max_depth(), took: began.elapsed(), broken }
}

/// Whether a pass begins beside one of the other replica. Two that act on one order for ever can keep each other from
/// getting anywhere, without harm: that there is one leader in the end is what leader election is for.
fn doubles(world: &World, action: Action) -> bool {
    let Action::Operator(Step::Begin(replica, order) | Step::Go(replica, order) | Step::Choose(replica, order, _)) = action else {
        return false;
    };
    let idle = |replica: Replica| world.passes[at(replica)][at(order)].at == At::Idle;
    idle(replica) && !idle(1 - replica)
}

/// Walks at random for a while, then lets only happen what happens by itself, in turn; gives the most steps that it took to
/// come to rest. Every property is looked at after each step, the one of what is at rest too: these walks meet adversaries of whom
/// not all states can be seen. What breaks is told with the steps that led there.
pub fn longest_to_rest(rules: Rules, seed: u64, walks: usize, bound: usize) -> Result<usize, String> {
    let protocol = Protocol(rules);
    let properties = properties::all();
    let judged = |world: &World, way: &[Action]| {
        let broken = properties.iter().find(|property| !(property.condition)(&protocol, world));
        broken.map_or(Ok(()), |property| Err(format!("{}\n  {}", property.name, told(way))))
    };
    let mut random = seed;
    let mut pick = |among: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(random >> 33).unwrap_or(0) % among.max(1)
    };
    let mut longest = 0;
    for _ in 0..walks {
        let Some(mut world) = protocol.init_states().into_iter().next() else { return Err("nothing to begin with".into()) };
        let mut way = Vec::new();
        for _ in 0..pick(60) {
            let mut actions = Vec::new();
            protocol.actions(&world, &mut actions);
            let action = actions.get(pick(actions.len())).copied();
            if let Some((action, next)) = action.and_then(|action| Some((action, protocol.next_state(&world, action)?))) {
                world = next;
                way.push(action);
                judged(&world, &way)?;
            }
        }
        let mut taken = 0;
        loop {
            let mut actions = Vec::new();
            protocol.fair(&world, &mut actions);
            actions.retain(|action| !doubles(&world, *action));
            let mut next: Vec<(Action, World)> =
                actions.into_iter().filter_map(|action| Some((action, protocol.next_state(&world, action)?))).collect();
            if next.is_empty() {
                break;
            }
            if taken == bound {
                return Err(format!("not at rest after {bound} steps\n  {}", told(&way)));
            }
            let (action, after) = next.swap_remove(taken % next.len());
            world = after;
            way.push(action);
            judged(&world, &way)?;
            taken += 1;
        }
        longest = longest.max(taken);
    }
    Ok(longest)
}

fn told(way: &[Action]) -> String {
    way.iter().map(|action| format!("{action:?}")).collect::<Vec<_>>().join("\n  ")
}
