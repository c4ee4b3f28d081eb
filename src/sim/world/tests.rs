//! Tables of the rules of the world.

use std::{net::IpAddr, time::Duration};

use super::{
    Form, Moment, World,
    addresses::{Family, Range, Want},
    iplist::{NewAddress, RowChange},
    operation::OperationCall,
    power::{PowerCall, PowerFlag},
    refusal::Kind,
};
use crate::sim::config::{Config, Flag, TemplateKind};

const PANEL: &str = "
    users:
      - {name: admin, password: a, level: 30}
      - {name: acme, password: b}
    durations: {power: 2s, install: 20s, diag: 10s, connection: 1s}
    server_types: [{name: T}, {name: Picky, os: [Debian]}]
    os_templates:
      - {name: Debian}
      - {name: Broken, outcome: fail}
      - {name: Endless, outcome: hang}
      - {name: Slow, duration: 1h}
      - {name: Diag, type: diag}
    recipes: [{name: good}, {name: bad, outcome: fail}]
    address_groups:
      - {name: public, ranges: [203.0.113.1-203.0.113.3]}
      - {name: parking, ranges: [10.0.0.0/24]}
";

fn world(extra: &str, servers: &str) -> World {
    let yaml = format!("dcimanager5:\n  - name: dci{PANEL}{extra}\n    servers: {servers}\n");
    World::build(&Config::from_yaml(&yaml).unwrap()).unwrap()
}

fn at(seconds: u64) -> Moment {
    Duration::from_secs(seconds)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn install(world: &mut World, template: &str, recipe: &str, now: Moment) -> Result<(), Kind> {
    let call = OperationCall {
        kind: TemplateKind::Os,
        template: template.to_owned(),
        recipe: recipe.to_owned(),
        password: String::new(),
        clear_disks: false,
    };
    world.dci[0].start_operation(1, call, now).map_err(|refusal| refusal.kind)
}

#[test]
fn power_comes_with_delay() {
    let mut world = world("", "[{ip: 10.0.0.1}]");
    let flag = |world: &mut World, now| {
        world.advance(now);
        world.dci[0].servers[&1].power.flag(&world.dci[0].behaviour, now)
    };
    world.dci[0].power(1, PowerCall::On, at(0)).unwrap();
    assert_eq!(flag(&mut world, at(1)), PowerFlag::Off);
    assert_eq!(flag(&mut world, at(2)), PowerFlag::On);
    world.dci[0].power(1, PowerCall::Reboot, at(2)).unwrap();
    assert_eq!(flag(&mut world, at(9)), PowerFlag::On);
    // The last word counts.
    world.dci[0].power(1, PowerCall::Off, at(10)).unwrap();
    world.dci[0].power(1, PowerCall::On, at(11)).unwrap();
    assert_eq!(flag(&mut world, at(99)), PowerFlag::On);
}

#[test]
fn a_dead_ipmi() {
    for (answer, list, refused, before, after) in [
        ("error", "powererror", true, PowerFlag::Error, PowerFlag::Error),
        ("error", "last-known", true, PowerFlag::On, PowerFlag::On),
        ("ok", "powererror", false, PowerFlag::On, PowerFlag::Error),
        ("ok", "last-known", false, PowerFlag::On, PowerFlag::On),
    ] {
        let extra = format!("\n    behaviour: {{dead_ipmi_answer: {answer}, dead_ipmi_list: {list}}}");
        let mut world = world(&extra, "[{ip: 10.0.0.1, power: 'on', ipmi: dead}]");
        let panel = &mut world.dci[0];
        let flag = |panel: &super::dci::Dci, now| panel.servers[&1].power.flag(&panel.behaviour, now);
        assert_eq!(flag(panel, at(0)), before, "{answer} {list}");
        let called = panel.power(1, PowerCall::Off, at(0));
        assert_eq!(called.is_err(), refused, "{answer} {list}");
        if let Err(refusal) = called {
            assert_eq!((refusal.kind.word(), refusal.object.as_str()), ("connection", "ipmi"));
        }
        assert_eq!(flag(panel, at(1)), before, "{answer} {list}");
        panel.advance(at(2));
        assert_eq!(flag(panel, at(2)), after, "{answer} {list}");
    }
}

#[test]
fn installations_end_as_they_are_told() {
    // template, recipe, when it is over, installed template, installed recipe, failed
    for (template, recipe, over, installed, installed_recipe, failed) in [
        ("Debian", "", Some(20), "Debian", "", false),
        ("Debian", "good", Some(20), "Debian", "good", false),
        ("Debian", "bad", Some(20), "Debian", "", true),
        ("Broken", "", Some(20), "", "", true),
        ("Slow", "", Some(3600), "Slow", "", false),
        ("Endless", "", None, "", "", false),
    ] {
        let mut world = world("", "[{type: T, ip: 10.0.0.1}]");
        install(&mut world, template, recipe, at(0)).unwrap();
        for second in [0, 1, 19, 20, 21, 3599, 3600, 9000] {
            world.advance(at(second));
            let server = &world.dci[0].servers[&1];
            let runs = over.is_none_or(|over| second < over);
            assert_eq!(server.operation.is_some(), runs, "{template} at {second}");
        }
        let server = &world.dci[0].servers[&1];
        assert_eq!(server.installed.template, installed, "{template}");
        assert_eq!(server.installed.recipe, installed_recipe, "{template} {recipe}");
        assert_eq!(server.marks.has(Flag::OperationFailed), failed, "{template} {recipe}");
    }
}

#[test]
fn a_failure_shows_until_something_begins_or_until_something_succeeds() {
    for (until, while_the_next_one_runs) in [("next-operation", false), ("next-success", true)] {
        let mut world = world(&format!("\n    behaviour: {{operation_failed_until: {until}}}"), "[{type: T, ip: 10.0.0.1}]");
        let failed = |world: &World| world.dci[0].servers[&1].marks.has(Flag::OperationFailed);
        for begin in [0, 20] {
            install(&mut world, "Broken", "", at(begin)).unwrap();
            assert_eq!(failed(&world), begin > 0 && while_the_next_one_runs, "{until}");
            world.advance(at(begin + 20));
            assert!(failed(&world), "{until}");
        }
        install(&mut world, "Debian", "", at(40)).unwrap();
        assert_eq!(failed(&world), while_the_next_one_runs, "{until}");
        world.advance(at(60));
        assert!(!failed(&world), "{until}");
    }
}

#[test]
fn installations_are_refused() {
    for (servers, template, recipe, kind) in [
        ("[{type: T, ip: 10.0.0.1}]", "Nothing", "", Kind::Value),
        ("[{type: T, ip: 10.0.0.1}]", "Diag", "", Kind::Value),
        ("[{type: T, ip: 10.0.0.1}]", "Debian", "nothing", Kind::Value),
        ("[{type: Picky, ip: 10.0.0.1}]", "Slow", "", Kind::Value),
        ("[{type: T, ip: 10.0.0.1, mac: ''}]", "Debian", "", Kind::Missed),
        ("[{type: T, ip: ''}]", "Debian", "", Kind::Missed),
    ] {
        let mut world = world("", servers);
        assert_eq!(install(&mut world, template, recipe, at(0)), Err(kind), "{servers} {template} {recipe}");
    }
    let mut world = world("", "[{type: Picky, ip: 10.0.0.1}]");
    install(&mut world, "Debian", "", at(0)).unwrap();
    assert_eq!(install(&mut world, "Debian", "", at(1)), Err(Kind::Other("server_busy".to_owned())));
    world.advance(at(20));
    install(&mut world, "Debian", "", at(20)).unwrap();
    world.dci[0].cancel_operation(1).unwrap();
    assert_eq!(world.dci[0].cancel_operation(1).unwrap_err().kind, Kind::Missed);
    assert_eq!(world.dci[0].servers[&1].installed.times, 1);
}

#[test]
fn progress_counts_up() {
    let mut world = world("", "[{type: T, ip: 10.0.0.1, operations: [{outcome: hang, duration: 10s}]}]");
    install(&mut world, "Debian", "", at(100)).unwrap();
    for (second, text) in [(100, "0%"), (104, "40%"), (110, "99%"), (9999, "99%")] {
        world.advance(at(second));
        let operation = world.dci[0].servers[&1].operation.as_ref().unwrap();
        assert_eq!(operation.progress(at(second)), text);
    }
}

fn edit(world: &mut World, fields: &[(&str, &str)], now: Moment) -> Result<(), Kind> {
    let form: Form = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    world.edit_server(0, 1, &form, now).map_err(|refusal| refusal.kind)
}

#[test]
fn omitted_fields_are_reset_or_kept() {
    let server = "[{name: n, type: T, ip: 10.0.0.1, notes: old, owner: acme, hardware: {hdd_3: '7'}, flags: [hwproblem]}]";
    for (omitted, name, notes, owner, kind, disk, hwproblem) in
        [("reset", "", "new", None, "", "null", false), ("keep", "n", "new", Some(2), "T", "7", true)]
    {
        let mut world = world(&format!("\n    behaviour: {{server_edit_omitted: {omitted}}}"), server);
        edit(&mut world, &[("notes", "new")], at(0)).unwrap();
        let server = &world.dci[0].servers[&1];
        assert_eq!(server.name, name);
        assert_eq!(server.notes, notes);
        assert_eq!(server.owner, owner);
        assert_eq!(server.type_name, kind);
        assert_eq!(server.form["hdd_3"], disk);
        assert_eq!(server.marks.has(Flag::Hwproblem), hwproblem);
        assert_eq!(server.hostname(), "free.ds");
    }
}

#[test]
fn reading_the_form_and_sending_it_back_changes_nothing() {
    let server = "[{name: n, type: T, ip: 10.0.0.1, notes: old, owner: acme, hardware: {hdd_3: '7'}, flags: [hwproblem]}]";
    let mut world = world("", server);
    let before = format!("{:?}", world.dci[0].servers);
    let form: Form = world.dci[0].form(&world.dci[0].servers[&1]).into_iter().collect();
    world.edit_server(0, 1, &form, at(0)).unwrap();
    assert_eq!(format!("{:?}", world.dci[0].servers), before);
}

#[test]
fn parts_have_ids_names_and_options_and_a_person_changes_them() {
    let server = "[{ip: 10.0.0.1, hardware: {cpu_0: E5, cpu_count: '2', chassis_ram: '64', hdd_0: 480SSD, hdd_1: 480SSD, pci_0: '9'}}]";
    let mut world = world("", server);
    let form = |world: &World, field: &str| world.dci[0].servers[&1].form[field].clone();
    assert_eq!(form(&world, "hdd_0"), form(&world, "hdd_1"), "one id for one name");
    assert_ne!(form(&world, "cpu_0"), form(&world, "hdd_0"));
    assert_eq!(form(&world, "pci_0"), "9", "an id without a name");
    let described = |world: &World| world.dci[0].description(&world.dci[0].servers[&1]);
    assert_eq!(described(&world), "2xE5-64Gb-480SSD-480SSD");
    let change = |fields: &[(&str, &str)]| super::human::ServerChange {
        hardware: fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..super::human::ServerChange::default()
    };
    world.human_server(0, 1, &change(&[("hdd_0", "1920SSD"), ("hdd_1", "null"), ("chassis_ram", "128")]), at(0)).unwrap();
    assert_eq!(described(&world), "2xE5-128Gb-1920SSD");
    let options = world.dci[0].part_options();
    let texts =
        |field: &str| options.iter().find(|(name, _)| name == field).map(|(_, o)| o.iter().map(|(_, t)| t.as_str()).collect::<Vec<_>>());
    assert_eq!(texts("hdd_29").unwrap(), ["-- none --", "480SSD", "1920SSD"]);
    assert_eq!(texts("pci_0"), None);
    assert!(world.human_server(0, 1, &change(&[("notes", "x")]), at(0)).is_err());
}

#[test]
fn forms_are_checked() {
    for (fields, kind) in [
        (&[("owner", "99")], Kind::Value),
        (&[("owner", "acme")], Kind::Value),
        (&[("chassistempl", "99")], Kind::Value),
        (&[("mac", "02:5e:00:00:00:02")], Kind::Exists),
    ] {
        let mut world = world("", "[{count: 2, ip: 10.0.0.1}]");
        assert_eq!(edit(&mut world, fields, at(0)), Err(kind), "{fields:?}");
    }
}

#[test]
fn release_starts_diagnostics() {
    let policy = "\n    release: {diagnostics: true, outcome: OUTCOME}";
    for (outcome, hwproblem) in [("ok", false), ("hwproblem", true)] {
        let mut world = world(
            &policy.replace("OUTCOME", outcome),
            "[{name: n, type: T, ip: 10.0.0.1, owner: acme, hostname: a.example, power: 'on', installed: Debian}]",
        );
        let row = world.dci[0].servers[&1].rows[0].id;
        let domain = RowChange { domain: Some("free.ds"), ..RowChange::default() };
        world.change_row(0, 1, row, domain, at(0)).unwrap();
        assert!(world.dci[0].servers[&1].operation.is_none(), "it still has an owner");
        edit(&mut world, &[("name", "n"), ("type", "T"), ("owner", "no_owner")], at(0)).unwrap();
        assert_eq!(world.dci[0].servers[&1].operation.as_ref().map(|op| op.kind), Some(TemplateKind::Diag));
        world.advance(at(10));
        let server = &world.dci[0].servers[&1];
        assert!(server.operation.is_none());
        assert_eq!(server.marks.has(Flag::Hwproblem), hwproblem);
        assert!(!server.installed.data && !server.power.on);
        // Being free is no news any more.
        edit(&mut world, &[("name", "m"), ("type", "T")], at(11)).unwrap();
        assert!(world.dci[0].servers[&1].operation.is_none());
    }
}

#[test]
fn the_main_address_is_replaced_or_not() {
    for (behaviour, result, address) in
        [("works", Ok(()), "203.0.113.2"), ("ignored", Ok(()), "10.0.0.1"), ("refused", Err(Kind::Value), "10.0.0.1")]
    {
        let mut world = world(&format!("\n    behaviour: {{main_ip_replace: {behaviour}}}"), "[{ip: 10.0.0.1}]");
        let row = world.dci[0].servers[&1].rows[0].id;
        let change = RowChange { ip: Some(ip("203.0.113.2")), domain: Some("a.example"), any_of: None };
        let done = world.change_row(0, 1, row, change, at(0)).map_err(|refusal| refusal.kind);
        assert_eq!(done, result, "{behaviour}");
        let server = &world.dci[0].servers[&1];
        assert_eq!(server.main_ip(), Some(ip(address)), "{behaviour}");
        assert_eq!(server.rows[0].id, row);
        let parked = world.dci[0].base.taken.contains_key(&ip("10.0.0.1"));
        assert_eq!(parked, address == "10.0.0.1", "{behaviour}: the old one is given back");
    }
}

#[test]
fn the_main_address_is_replaced_later() {
    let mut world = world("\n    behaviour: {main_ip_replace: later}", "[{ip: 10.0.0.1}]");
    let row = world.dci[0].servers[&1].rows[0].id;
    let change = RowChange { ip: Some(ip("203.0.113.2")), domain: Some("a.example"), any_of: None };
    world.change_row(0, 1, row, change, at(0)).unwrap();
    for (second, address) in [(0, "10.0.0.1"), (2, "10.0.0.1"), (3, "203.0.113.2"), (9, "203.0.113.2")] {
        world.advance(at(second));
        let server = &world.dci[0].servers[&1];
        assert_eq!(server.main_ip(), Some(ip(address)), "{second}");
        assert_eq!(server.hostname() == "a.example", second >= 3);
        assert_eq!(world.dci[0].base.taken.contains_key(&ip("10.0.0.1")), second < 3, "{second}: the old one is given back");
    }
    // Of a server that is gone by then nothing comes.
    let back = RowChange { ip: Some(ip("10.0.0.7")), ..RowChange::default() };
    world.change_row(0, 1, row, back, at(10)).unwrap();
    world.dci[0].delete_server(1).unwrap();
    world.advance(at(20));
    assert!(!world.dci[0].base.taken.contains_key(&ip("10.0.0.7")));
}

#[test]
fn addresses_of_a_server() {
    let mut world = world("", "[{ip: 10.0.0.1}, {ip: 10.0.0.2}]");
    let any = |group| NewAddress { group, family: Family::V4, ip: None, domain: "a.example" };
    let named = |text| NewAddress { ip: Some(ip(text)), ..any("public") };
    assert_eq!(world.add_address(0, 1, &named("203.0.113.1"), at(0)), Ok(ip("203.0.113.1")));
    assert_eq!(world.add_address(0, 1, &any("public"), at(0)), Ok(ip("203.0.113.2")));
    assert_eq!(world.add_address(0, 2, &named("203.0.113.1"), at(0)).unwrap_err().kind, Kind::Exists);
    assert_eq!(world.add_address(0, 2, &named("10.0.0.1"), at(0)).unwrap_err().kind, Kind::Exists);
    assert_eq!(world.add_address(0, 1, &any("public"), at(0)), Ok(ip("203.0.113.3")));
    assert_eq!(world.add_address(0, 1, &any("public"), at(0)).unwrap_err().kind, Kind::Limit);
    assert_eq!(world.add_address(0, 1, &any("nothing"), at(0)).unwrap_err().kind, Kind::Value);
    let rows: Vec<u64> = world.dci[0].servers[&1].rows.iter().map(|row| row.id).collect();
    assert_eq!(world.delete_row(0, 1, rows[0]).unwrap_err().kind, Kind::Access);
    assert_eq!(world.delete_row(0, 2, rows[1]).unwrap_err().kind, Kind::Missed);
    world.delete_row(0, 1, rows[1]).unwrap();
    assert_eq!(world.add_address(0, 2, &any("public"), at(0)), Ok(ip("203.0.113.1")));
}

#[test]
fn ranges() {
    for (text, first, last, outside) in [
        ("10.0.0.5", "10.0.0.5", "10.0.0.5", "10.0.0.6"),
        ("10.0.0.5-10.0.0.9", "10.0.0.5", "10.0.0.9", "10.0.0.10"),
        ("10.0.0.0/30", "10.0.0.1", "10.0.0.2", "10.0.0.3"),
        ("10.0.0.7/29", "10.0.0.1", "10.0.0.6", "10.0.0.0"),
        ("10.0.0.0/31", "10.0.0.0", "10.0.0.1", "10.0.0.2"),
        ("10.0.0.1/32", "10.0.0.1", "10.0.0.1", "10.0.0.2"),
        ("2001:db8::/64", "2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", "2001:db8::"),
    ] {
        let range = Range::parse(text, false).unwrap();
        let mut base = super::AddressBase::default();
        base.groups.push(super::addresses::Group { name: "g".to_owned(), ranges: vec![range], users: None });
        assert!(base.group_of(ip(first)).is_some(), "{text}");
        assert!(base.group_of(ip(last)).is_some(), "{text}");
        assert!(base.group_of(ip(outside)).is_none(), "{text}");
        let family = Family::of(ip(first));
        let want = Want { group: "g", family, ip: None, holder: "h", is_admin: false, domain: "", note: "" };
        assert_eq!(base.take(&want), Ok(ip(first)), "{text}");
    }
    for text in ["", "x", "10.0.0.9-10.0.0.5", "10.0.0.0/33", "10.0.0.1-::1", "10.0.0.0/"] {
        assert!(Range::parse(text, false).is_err(), "{text}");
    }
}

#[test]
fn disabling_switches_ports_off_after_a_while() {
    let mut world = world("", "[{ip: 10.0.0.1}]");
    let ports = |world: &mut World, now| {
        world.advance(now);
        let connections = &world.dci[0].servers[&1].connections;
        connections.iter().map(|port| (port.on, port.change.is_some())).collect::<Vec<_>>()
    };
    world.dci[0].set_disabled(1, true, at(0)).unwrap();
    assert_eq!(ports(&mut world, at(0)), [(true, true), (true, false)]);
    assert_eq!(ports(&mut world, at(1)), [(false, false), (true, false)]);
    let port = world.dci[0].servers[&1].connections[0].id;
    assert_eq!(world.dci[0].switch_connection(1, port, true, at(2)).unwrap_err().kind, Kind::Access);
    world.dci[0].set_disabled(1, false, at(2)).unwrap();
    assert_eq!(ports(&mut world, at(3)), [(true, false), (true, false)]);
}

#[test]
fn servers_are_made_by_count() {
    let world = world("", "[{count: 3, id: 7, name: 'r-{n}-{id}', type: T, ip: 10.0.0.9}, {}]");
    let names: Vec<&str> = world.dci[0].servers.values().map(|server| server.name.as_str()).collect();
    assert_eq!(names, ["r-1-7", "r-2-8", "r-3-9", "server-10"]);
    let ips: Vec<IpAddr> = world.dci[0].servers.values().filter_map(super::server::Server::main_ip).collect();
    assert_eq!(ips, ["10.0.0.9", "10.0.0.10", "10.0.0.11", "10.0.0.10"].map(ip));
}

#[test]
fn bad_configurations_say_what_is_wrong() {
    for (extra, servers, message) in [
        ("", "[{type: X}]", "dcimanager5[0] (dci): servers[0]: unknown server type `X`"),
        ("", "[{id: 1}, {id: 1}]", "servers[1]: there are two servers with the id 1"),
        ("", "[{owner: nobody}]", "unknown owner `nobody`"),
        ("", "[{ip: x}]", "`x` is no address"),
        ("", "[{hardware: {disk: '1'}}]", "`disk` is no field of the server form"),
        ("\n    addresses_from: {ipmanager: x, user: y}", "[]", "no ipmanager5 `x`"),
    ] {
        let yaml = format!("dcimanager5:\n  - name: dci{PANEL}{extra}\n    servers: {servers}\n");
        let error = World::build(&Config::from_yaml(&yaml).unwrap()).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    let error = Config::from_yaml("dcimanager5:\n  - users: []\n    durations: {instal: 2s}\n").unwrap_err().to_string();
    assert!(error.contains("dcimanager5[0].durations: unknown field `instal`, expected one of"), "{error}");
    assert!(error.contains("line 3"), "{error}");
    let error = Config::from_yaml("dcimanager5:\n  - users: []\n    durations: {install: 2}\n").unwrap_err().to_string();
    assert!(error.contains("`2` is no duration"), "{error}");
}

#[test]
fn the_example_can_be_used() {
    let config = Config::from_yaml(include_str!("../example.yaml")).unwrap();
    config.check().unwrap();
    let world = World::build(&config).unwrap();
    assert_eq!(world.dci[0].servers.len(), 22);
    assert!(world.ipm[0].base.taken.contains_key(&ip("10.0.0.17")));
}
