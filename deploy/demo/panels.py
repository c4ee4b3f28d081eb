#!/usr/bin/env python3
"""Looks at the simulated panels and says in a sentence what is not as it has to be.

usage: panels.py EXPECTATION STATE JOURNAL [SERVER[=CLIENT]...]

  sold      these servers belong to these clients, with public addresses and the system installed
  held      this server still is the client's, as it was
  free      this server is free: no owner, no marker, a parking address, and its public addresses are back in the pool
  journal   prints every change that was asked for, and expects each to be there once and applied
"""

import ipaddress
import json
import re
import sys

PARKING = ipaddress.ip_network("10.0.0.0/24")


def main():
    expectation, state, journal, *ids = sys.argv[1:]
    with open(state, encoding="utf-8") as file:
        panels = json.load(file)["panels"]
    with open(journal, encoding="utf-8") as file:
        entries = json.load(file)
    servers = {str(s["id"]): s for s in panels["dci"]["servers"]}
    if str(servers["30"]["owner"]) != "bob" or servers["30"]["hostname"] != "bob.example.net":
        return ["server 30 is bob's, and was changed"]
    check = {"sold": sold, "held": held, "free": free, "journal": changes}[expectation]
    if expectation == "journal":
        return check(entries)
    problems = []
    for argument in ids:
        number, _, client = argument.partition("=")
        problems += check(number, servers[number], client, panels)
    return problems


def sold(number, server, client, panels):
    problems = held(number, server, client, panels)
    if not server["installed"]["template"]:
        problems.append(f"server {number}: nothing is installed")
    if server["power"] != "on":
        problems.append(f"server {number}: it is off")
    return problems


def held(number, server, client, _panels):
    problems = []
    if server["owner"] != client:
        problems.append(f"server {number}: the owner is {server['owner'] or 'nobody'}, not {client}")
    if "k8s:" not in server["notes"]:
        problems.append(f"server {number}: there is no marker in its notes")
    if ipaddress.ip_address(server["ip"]) in PARKING:
        problems.append(f"server {number}: the main address is {server['ip']}, a parking address")
    return problems


def free(number, server, _client, panels):
    problems = []
    if server["owner"]:
        problems.append(f"server {number}: the owner is still {server['owner']}")
    if "k8s:" in server["notes"]:
        problems.append(f"server {number}: the marker is still in its notes")
    if server["hostname"] != "free.ds":
        problems.append(f"server {number}: the host name is {server['hostname']}")
    if ipaddress.ip_address(server["ip"]) not in PARKING:
        problems.append(f"server {number}: the main address is {server['ip']}, not a parking address")
    if len(server["ips"]) != 1:
        problems.append(f"server {number}: it has {len(server['addresses'])} addresses")
    on_servers = {a["ip"] for s in panels["dci"]["servers"] for a in s["ips"]}
    taken = {a["ip"] for a in panels["ipm"]["addresses"]}
    for address in sorted(taken - on_servers):
        problems.append(f"address {address} is taken in IPmanager and on no server")
    return problems


# What a change is about, in the words of a person.
SHOWN = ("username", "name", "owner", "operation", "ostemplate", "recipe", "iptype", "ip", "domain", "notes", "note")
# Cluster and order ids are long: the demo's reader needs namespace and name.
MARKER = re.compile(r"k8s:[0-9a-f-]{36}(/[^/\s]+/[^/\s]+)?(/[0-9a-f-]{36})?")


def changes(entries):
    problems, seen = [], set()
    print(f"{'TIME':<9} {'PANEL':<6} {'FUNCTION':<18} {'TARGET':<14} {'OUTCOME':<8} DETAILS")
    for entry in entries:
        params = entry["params"]
        details = " ".join(f"{key}={params[key]}" for key in SHOWN if params.get(key))
        details = MARKER.sub(lambda found: "k8s:…" + (found[1] + "/…" if found[1] else ""), details)
        if entry.get("result"):
            details += f" -> {entry['result']}"
        if entry.get("error"):
            details = f"{entry['error']['type']} {entry['error']['object']} {details}"
        time = entry["time"][11:19]
        print(f"{time:<9} {entry['panel']:<6} {entry['func']:<18} {entry['target']:<14} {entry['outcome']:<8} {details}".rstrip())
        # Addresses are taken one by one: what was given tells two such calls apart.
        key = json.dumps([entry["panel"], entry["func"], params, entry.get("result")], sort_keys=True)
        if key in seen:
            problems.append(f"asked for twice: {key}")
        seen.add(key)
        # The dead IPMI refuses the power call: that is the one refusal of the demo.
        if entry["outcome"] != "applied" and not entry["func"].startswith("server.power"):
            problems.append(f"{entry['func']} {entry['target']}: {entry['outcome']}")
    print(f"{len(entries)} changes; no two alike" if not problems else f"{len(entries)} changes")
    return problems


if __name__ == "__main__":
    found = main()
    for text in found:
        print(f"not as expected: {text}", file=sys.stderr)
    sys.exit(1 if found else 0)
