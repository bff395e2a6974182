"""Runs the suites of others on stock nsqd and on `playcounts broker`, and compares them: see scripts/conformance."""

import argparse
import json
import os
import sys
import time

import ours
import suites
from suites import EMPTY, FAIL, INTERNAL, PASS, SKIP
from world import NotServed, World

SUITES = [suites.GoNsq(), ours.Pynsq(), ours.Tools(), suites.Nsqjs(), suites.Gnsq(), suites.Segmentio(), suites.Nsqd()]
BROKERS = ("stock", "ours")

# Why a test says something else of ours, where that is on purpose. Any other difference is a failure.
REASONS = {
    "TestOutputBuffering": "ours sends a message at once, however long a client lets it wait for more",
}

# Why stock nsqd does not pass, where that is known.
STOCK = {
    "TestClientMsgTimeout": "nsqd looks at a new channel after 5 s; its own tests set that to 100 ms, which no flag does",
    "TestConsumer/": "it reads nsqlookupd's answers as they were before 1.0",
    "TestRequeue": "it reads nsqlookupd's answers as they were before 1.0",
    "TestLookup": "it reads nsqlookupd's answers as they were before 1.0",
}


def fetch_suite(world, suite):
    """Gets a suite; why it cannot be had, or nothing."""
    try:
        suite.fetch(world)
    except NotServed as error:
        return str(error)
    return None


def run_suite(world, suite):
    """What each test said on each broker."""
    results = {}
    for broker in BROKERS:
        began = time.monotonic()
        world.part = f"{type(suite).__name__.lower()}-{broker}-"
        try:
            results[broker] = suite.run(world, broker)
        except (RuntimeError, TimeoutError, OSError) as error:
            world.keep_log("why", str(error))
            print(f"  {broker}: it does not run at all: {error}", file=sys.stderr)
            results[broker] = {}
        print(f"  {broker}: {told(results[broker])}, {time.monotonic() - began:.0f} s", flush=True)
    return results


def told(results):
    """`23 of 24`, and what is to be known besides."""
    internal = sum(result == INTERNAL for result in results.values())
    passed = sum(result == PASS for result in results.values())
    text = f"{passed} of {len(results) - internal}"
    for result in (EMPTY, SKIP):
        count = sum(one == result for one in results.values())
        text += f", {count} {result}" if count else ""
    return text


def differences(results):
    """Tests that say something else on ours, as rows: name, stock, ours, reason, whether that is a failure of ours."""
    stock, own = results["stock"], results["ours"]
    rows = []
    for name in sorted(stock | own):
        was, is_now = stock.get(name, "not run"), own.get(name, "not run")
        if was == is_now and was in (PASS, SKIP, INTERNAL):
            continue
        known = REASONS if was == PASS else STOCK
        # A name that ends with / stands for all below it.
        reason = known.get(name) or known.get(name.split("/")[0] + "/", "")
        bad = was == PASS and is_now != PASS and not reason
        rows.append((name, was, is_now, reason, bad))
    return rows


def cell(text):
    return text.replace("|", "\\|").replace("\n", " ")


def document(outcome):
    """The table, and what it is of."""
    lines = [
        "# Suites of others on the broker",
        "",
        "Made by `scripts/conformance --write`. Each suite is fetched by its package's name, and run on stock",
        "nsqd 1.3.0 and on `playcounts broker`, whose options are nsqd's, in turn. A test counts as empty where it passes",
        "without what its name says: clients go on in the clear when a server declines TLS or compression, and their tests do",
        "not notice. It is told by what the clients log of their connections, and for pynsq by what `/stats` says of them.",
        "",
        "| Suite | From | Stock nsqd | Ours |",
        "|---|---|---|---|",
    ]
    for suite, (results, why) in outcome:
        if results is None:
            lines.append(f"| {suite.name} | {suite.source} | not run | not run: {cell(why)} |")
        else:
            lines.append(f"| {suite.name} | {suite.source} | {told(results['stock'])} | {told(results['ours'])} |")
    lines += ["", "## Differences", ""]
    rows = [(suite, row) for suite, (results, _) in outcome if results for row in differences(results)]
    if rows:
        lines += ["| Suite | Test | Stock nsqd | Ours | Why |", "|---|---|---|---|---|"]
        for suite, (name, was, is_now, reason, _) in rows:
            lines.append(f"| {suite.name} | `{cell(name)}` | {was} | {is_now} | {cell(reason)} |")
    else:
        lines.append("None.")
    lines += [
        "",
        "## What is not run, or not as it is",
        "",
        "- nsqd's tests run in its process, and here on a broker in another one, by `tools/conformance/remote.go`: what they do to",
        "  topics and channels in memory goes over HTTP, and the CA of their certificates, whose key has 512 bits, is made anew.",
    ]
    for name, reason in suites.Nsqd.internal.items():
        lines.append(f"- nsqd's `{name}` {reason}.")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(prog="scripts/conformance")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--write")
    parser.add_argument("--fetch", action="store_true")
    options = parser.parse_args()
    chosen = [
        suite
        for suite in SUITES
        if (suite.quick or not options.quick)
        and (not options.only or any(word in suite.name for word in options.only))
    ]
    if not chosen:
        parser.error(f"no suite is named so; there are {', '.join(suite.name for suite in SUITES)}")
    variables = {"nsqd": "NSQD", "nsqlookupd": "NSQLOOKUPD", "nsqadmin": "NSQADMIN", "playcounts": "PLAYCOUNTS"}
    programs = {name: os.environ[variable] for name, variable in variables.items() if os.environ.get(variable)}
    world = World(programs, os.environ["CONFORMANCE_CACHE"])
    for broker in BROKERS:
        world.shim(broker)
    try:
        return fetch_all(world, chosen) if options.fetch else run_all(world, chosen, options.write)
    finally:
        world.close()


def fetch_all(world, chosen):
    """Gets the suites, and keeps what cannot be had: they may be run where there is no network."""
    missing = {suite.name: why for suite in chosen if (why := fetch_suite(world, suite))}
    with open(os.path.join(world.cache, "missing.json"), "w", encoding="utf-8") as file:
        json.dump(missing, file)
    return 0


def run_all(world, chosen, write):
    """Runs the suites, prints what differs, and writes the table."""
    with open(os.path.join(world.cache, "missing.json"), encoding="utf-8") as file:
        missing = json.load(file)
    outcome, bad = [], 0
    for suite in chosen:
        print(suite.name, flush=True)
        why = missing.get(suite.name) or fetch_suite(world, suite)
        if why:
            missing[suite.name] = why
            print(f"  SKIPPED: NOT RUN: {suite.source} does not serve it: {why}", file=sys.stderr)
            outcome.append((suite, (None, why)))
            continue
        results = run_suite(world, suite)
        outcome.append((suite, (results, None)))
        for name, was, is_now, reason, is_bad in differences(results):
            bad += is_bad
            print(f"  {'FAILED' if is_bad else 'differs'}: {name}: stock {was}, ours {is_now}{reason and f': {reason}'}")
        bad += not results["stock"] or not results["ours"]
    if write:
        with open(write, "w", encoding="utf-8") as file:
            file.write(document(outcome))
    print(f"what they said is in {world.logs}")
    if bad:
        print(f"conformance: {bad} tests that stock nsqd passes fail on ours", file=sys.stderr)
    return 1 if bad else 3 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
