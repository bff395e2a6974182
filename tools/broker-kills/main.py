"""Kills a broker under load and counts what became of each message: see scripts/broker-kills."""

import argparse
import collections
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

CACHE = os.environ["KILLS_CACHE"]
PYNSQ = os.path.join(os.path.dirname(__file__), "..", "..", "benches", "peers", "pynsq", "kills.py")
CLIENTS = {
    "go-nsq": [os.path.join(CACHE, "go-nsq")],
    "pynsq": [os.path.join(CACHE, "venv", "bin", "python"), "-B", PYNSQ],
    "ours": [os.environ["KILLS_OURS"]],
}
CHANNELS = ("one", "two")
# Seconds: that a start may take, that all must be silent to be over, and after which it is given up.
START, SILENT, DRAIN = 30, 5, 300


class Failed(Exception):
    """The broker does not do what it must."""


class Broker:
    """A broker on one directory, which is started and killed again and again."""

    def __init__(self, options, directory):
        self.tcp, self.http = (f"127.0.0.1:{options.port + more}" for more in (0, 1))
        data = os.path.join(directory, "data")
        os.mkdir(data)
        if options.broker == "nsqd":
            self.command = [os.environ["NSQD"], "-tcp-address", self.tcp, "-http-address", self.http, "-data-path", data]
            if not options.nsqd_defaults:
                self.command += ["-mem-queue-size", "0", "-sync-every", "1"]
        else:
            self.command = [os.environ["PLAYCOUNTS"], "broker", "--tcp-address", self.tcp, "--http-address", self.http]
            self.command += ["--data-path", data, "--durability", options.durability]
            # Small limits make small files, of which there are more.
            self.command += ["--mem-queue-size", "100", "--max-msg-size", "1000", "--max-body-size", "20000"]
        self.log_path = os.path.join(directory, "broker.log")
        self.log = open(self.log_path, "ab")
        self.process = None
        self.starts = []

    def start(self):
        """Starts it, and waits until it answers."""
        began = time.monotonic()
        self.process = subprocess.Popen(self.command, stdout=self.log, stderr=self.log)
        while True:
            try:
                self.ask("/ping")
                break
            except (OSError, urllib.error.URLError):
                pass
            if self.process.poll() is not None:
                raise Failed(f"a start ends with exit status {self.process.returncode}: {self.said()}")
            if time.monotonic() - began > START:
                raise Failed(f"a start takes more than {START} s: {self.said()}")
            time.sleep(0.005)
        self.starts.append(time.monotonic() - began)

    def kill_early(self, seconds):
        """Kills it while it starts, or right behind that."""
        self.process = subprocess.Popen(self.command, stdout=self.log, stderr=self.log)
        time.sleep(seconds)
        self.kill()

    def kill(self):
        if self.process.poll() is not None:
            raise Failed(f"it ended by itself with exit status {self.process.returncode}: {self.said()}")
        self.process.kill()
        self.process.wait()

    def ask(self, target, method="GET"):
        request = urllib.request.Request(f"http://{self.http}{target}", method=method)
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.read()

    def said(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return "".join(log.readlines()[-20:])

    def waiting(self):
        """Messages that it holds, wherever they wait."""
        topics = json.loads(self.ask("/stats?format=json"))["topics"]
        held = 0
        for topic in topics:
            held += topic["depth"]
            for channel in topic["channels"]:
                held += channel["depth"] + channel["in_flight_count"] + channel["deferred_count"]
        return held


class Client:
    """A client library's producer and its consumers, on a topic of their own."""

    def __init__(self, name, broker, directory, rate):
        self.name, self.directory = name, directory
        self.topic = f"kills.{name}"
        broker.ask(f"/topic/create?topic={self.topic}", "POST")
        for channel in CHANNELS:
            broker.ask(f"/channel/create?topic={self.topic}&channel={channel}", "POST")
        self.consumers = {channel: self.run("consume", broker, channel, rate) for channel in CHANNELS}
        self.producer = self.run("produce", broker, "none", rate)

    def path(self, channel):
        return os.path.join(self.directory, f"{self.name}.{channel}")

    def run(self, role, broker, channel, rate):
        command = [*CLIENTS[self.name], role, broker.tcp, self.topic, channel, self.path(channel), str(rate)]
        with open(f"{self.path(channel)}.log", "wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)

    def check(self):
        """A client that has ended by itself would show nothing."""
        for process in [self.producer, *self.consumers.values()]:
            if process.poll() is not None:
                raise Failed(f"a client of {self.name} has ended: {self.directory}/{self.name}.*.log says why")

    def lines(self, channel):
        """Whole lines of a file: the last one may be half written."""
        with open(self.path(channel), encoding="utf-8", errors="replace") as file:
            return [line[:-1] for line in file if line.endswith("\n")]

    def rows(self):
        """Acknowledged, delivered, lost, phantom and repeated of each channel."""
        lines = self.lines("none")
        acknowledged = {int(line) for line in lines if line[:1].isdigit()}
        sent = max((int(line[1:]) for line in lines if line.startswith("+")), default=0)
        for channel in CHANNELS:
            got = self.lines(channel)
            counts = collections.Counter(int(line) for line in got if line.isdigit())
            phantom = [line for line in got if not line.isdigit() or not 1 <= int(line) <= sent]
            lost = sorted(acknowledged - counts.keys())
            repeated = sum(count > 1 for count in counts.values())
            yield channel, acknowledged, counts, lost, phantom, repeated

    def stop(self):
        for process in [self.producer, *self.consumers.values()]:
            end(process)


def end(process):
    if process and process.poll() is None:
        process.kill()
        process.wait()


def pause_some(chance, broker, clients):
    """Pauses a second channel, or lets all go on: so there is a backlog at some kills, and none at others."""
    try:
        roll = chance.random()
        if roll < 0.25:
            topic = chance.choice(clients).topic
            broker.ask(f"/channel/pause?topic={topic}&channel=two", "POST")
        elif roll < 0.5:
            go_on(broker, clients)
    except urllib.error.HTTPError as error:
        raise Failed(f"it refuses to pause a channel: {error}, {error.read()!r}") from error


def go_on(broker, clients):
    for client in clients:
        broker.ask(f"/channel/unpause?topic={client.topic}&channel=two", "POST")


def drain(broker, clients):
    """Waits until nothing has come for some seconds, and the broker holds nothing."""
    began, quiet_since, size = time.monotonic(), time.monotonic(), -1
    while time.monotonic() - quiet_since < SILENT:
        time.sleep(0.25)
        now = sum(os.path.getsize(client.path(channel)) for client in clients for channel in CHANNELS)
        if now != size or broker.waiting():
            size, quiet_since = now, time.monotonic()
        if time.monotonic() - began > DRAIN:
            stats = broker.ask("/stats?format=text").decode()
            raise Failed(f"after {DRAIN} s it still holds {broker.waiting()} messages:\n{stats}")
    return time.monotonic() - began - SILENT


def run(options, directory, started):
    chance = random.Random(options.seed)
    broker = Broker(options, directory)
    started.append(broker)
    broker.start()
    clients = []
    for name in CLIENTS:
        clients.append(Client(name, broker, directory, options.rate))
        started.append(clients[-1])
    for kill in range(1, options.kills + 1):
        before = chance.uniform(0.3, 2)
        early = before * chance.random()
        time.sleep(early)
        pause_some(chance, broker, clients)
        time.sleep(before - early)
        broker.kill()
        if options.early and chance.random() < 0.5:
            broker.kill_early(chance.uniform(0, 0.3))
        broker.start()
        for client in clients:
            client.check()
        if kill % 50 == 0:
            print(f"  {kill} kills", flush=True)
    for client in clients:
        end(client.producer)
    go_on(broker, clients)
    print(f"  all is delivered after {drain(broker, clients):.1f} s", flush=True)
    return broker, clients


def report(options, broker, clients):
    """The table; some of what was lost or made up."""
    # The first start had nothing to read.
    starts = [start * 1000 for start in broker.starts[1:]] or [0]
    middle = statistics.median(starts)
    print(f"{options.kills} kills; from start to /ping: median {middle:.0f} ms, worst {max(starts):.0f} ms\n")
    print("| Client | Channel | Acknowledged | Delivered | Lost | Phantom | More than once |")
    print("|---|---|---|---|---|---|---|")
    bad = []
    for client in clients:
        for channel, acknowledged, counts, lost, phantom, repeated in client.rows():
            row = [client.name, channel, *(f"{len(of):,}" for of in (acknowledged, counts, lost, phantom)), f"{repeated:,}"]
            print(f"| {' | '.join(row)} |")
            named = (("lost", lost), ("phantom", phantom))
            bad += [f"{client.name} {channel}: {what}: {which[:20]}" for what, which in named if which]
            if not acknowledged:
                raise Failed(f"{client.name} has got nothing acknowledged: this has shown nothing")
    return bad


def main():
    parser = argparse.ArgumentParser(prog="scripts/broker-kills")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--broker", choices=["playcounts", "nsqd"], default="playcounts")
    parser.add_argument("--durability", choices=["process", "power"], default="process")
    parser.add_argument("--nsqd-defaults", action="store_true")
    parser.add_argument("--early", action="store_true")
    parser.add_argument("--rate", type=int, default=150)
    parser.add_argument("--port", type=int, default=4350)
    options = parser.parse_args()
    if options.broker == "nsqd" and not os.environ.get("NSQD"):
        parser.error("there is no nsqd here; set NSQD, or install Go")
    directory = tempfile.mkdtemp(prefix="run-", dir=CACHE)
    started = []
    try:
        found = report(options, *run(options, directory, started))
        bad = found and options.broker == "playcounts"
        if bad:
            print("\n".join(found), file=sys.stderr)
    except Failed as error:
        print(f"broker-kills: {error}", file=sys.stderr)
        bad = True
    finally:
        for one in started:
            if isinstance(one, Broker):
                end(one.process)
            else:
                one.stop()
    if bad:
        why = f"{directory} has what each client and the broker said"
        print(f"broker-kills: FAILED with --seed {options.seed}; {why}", file=sys.stderr)
        return 1
    shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
