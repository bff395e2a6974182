"""The suites of others: where each comes from, how it is run on a broker, and what each of its tests said."""

import json
import os
import re
import shutil
import xml.etree.ElementTree

from world import fetch_go, fetch_npm, fetch_pypi, fetched, http_ok, run

# A test that passes says so of what was negotiated, too, or it passes on a server that declines: "empty".
PASS, FAIL, SKIP, EMPTY, INTERNAL = "pass", "fail", "skipped", "empty", "internal"

FEATURES = ("tls", "snappy", "deflate")


def features_in(name):
    return {feature for feature in FEATURES if re.search(feature, name, re.IGNORECASE)}


def go_test(world, directory, arguments, environment, evidence=None):
    """Runs the Go tests of a directory. `evidence` finds in a test's output which features it has really used."""
    command = ["go", "test", "-json", "-count=1", "-vet=off", "-timeout=300s", *arguments, "."]
    done = run(command, cwd=directory, env=environment, timeout=400)
    results, output = {}, {}
    for line in done.stdout.splitlines():
        if not line.startswith("{"):
            continue
        event = json.loads(line)
        name = event.get("Test")
        if not name:
            continue
        if event["Action"] == "output":
            output[name] = output.get(name, "") + event["Output"]
        elif event["Action"] in ("pass", "fail", "skip"):
            results[name] = {"pass": PASS, "fail": FAIL, "skip": SKIP}[event["Action"]]
    # One that ended the whole process has no end of its own.
    for name in output:
        results.setdefault(name, FAIL)
    parents = {name.rsplit("/", 1)[0] for name in results if "/" in name}
    results = {name: result for name, result in results.items() if name not in parents}
    if not results:
        raise RuntimeError(f"no test ran in {directory}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    for name, result in results.items():
        if evidence and result == PASS and features_in(name) - evidence(output.get(name, "")):
            results[name] = EMPTY
    world.keep_log("go", "".join(output.values()) + done.stderr)
    return results


class GoNsq:
    """NSQ's own client for Go; test.sh of the package says what it needs."""

    name, quick = "go-nsq 1.1.0", True
    source = "Go proxy"

    def fetch(self, world):
        self.directory = fetch_go(world, "github.com/nsqio/go-nsq", "v1.1.0")

    def run(self, world, broker):
        certificates = os.path.join(self.directory, "test")
        with world.lookupd() as lookupd, world.start(
            broker,
            "--tcp-address=127.0.0.1:4150",
            "--http-address=127.0.0.1:4151",
            f"--data-path={world.new_directory()}",
            f"--lookupd-tcp-address={lookupd.tcp}",
            f"--tls-cert={certificates}/server.pem",
            f"--tls-key={certificates}/server.key",
            f"--tls-root-ca-file={certificates}/ca.pem",
        ):
            http_ok("http://127.0.0.1:4151/ping")
            return go_test(world, self.directory, [], world.environment, self.evidence)

    @staticmethod
    def evidence(output):
        return {feature for feature in FEATURES if re.search(f"upgrading to {feature}", output, re.IGNORECASE)}


def without_unused_imports(text):
    """Go refuses an import that nothing uses any more."""
    begin, end = text.index("import ("), text.index("\n)\n")
    used = [
        line
        for line in text[begin:end].splitlines()
        if not (path := re.search(r'"([^"]+)"', line))
        or re.search(rf"\b{path[1].rsplit('/', 1)[-1].removeprefix('go-')}\.", text[end:])
    ]
    return text[:begin] + "\n".join(used) + text[end:]


def signed_anew(directory):
    """Makes the CA of nsqd's tests and what it has signed again: its key has 512 bits, of which today's libraries take none."""

    def openssl(*arguments):
        fetched(["openssl", *arguments], cwd=directory)

    new_key = ["-newkey", "rsa:2048", "-nodes"]
    ca = ["-addext", "basicConstraints=critical,CA:TRUE"]
    openssl("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=ca", *ca)
    for name, usage in (("server", "serverAuth"), ("client", "clientAuth")):
        with open(os.path.join(directory, "extensions"), "w", encoding="utf-8") as file:
            file.write(f"basicConstraints=critical,CA:FALSE\nextendedKeyUsage={usage}\nsubjectAltName=IP:127.0.0.1\n")
        openssl("req", *new_key, "-keyout", f"{name}.key", "-out", "request", "-subj", "/CN=nsq.io")
        signer = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "extensions"]
        openssl("x509", "-req", "-in", "request", "-out", f"{name}.pem", "-days", "2", *signer)


class Nsqd:
    """nsqd's own tests of its protocol and HTTP API, which start nsqd in their process: remote.go starts a broker."""

    name, quick = "nsqd 1.3.0, protocol and HTTP", False
    source = "Go proxy"
    # What a test does to nsqd in memory and can be said over HTTP, in the copy.
    rewired = (
        (r"func mustStartNSQD\(.*?\n}\n", ""),
        (r"func TestPausing\(.*?\n}\n", ""),
        (r"func testIOLoopReturnsClientErr\(.*?\n}\n", ""),
        (r"func TestIOLoop\w+\(.*?\n}\n", ""),
        (r"func Benchmark\w+\([^\n]*}\n", ""),
        (r"func (Benchmark|benchmark|subWorker)\w*\(.*?\n}\n", ""),
        (r"test\.Equal\(t, msg\.ID, msgOut\.ID\)", "test.Equal(t, 16, len(msgOut.ID))"),
        (r"nsq\.MessageID\(msg\.ID\)", "nsq.MessageID(msgOut.ID)"),
        (r"len\((\w+)\.deferredMessages\)", r"\1.sum().deferred"),
        (r"len\((\w+)\.inFlightMessages\)", r"\1.sum().inFlight"),
        (r"atomic\.LoadUint64\(&(\w+)\.(\w+)Count\)", r"\1.sum().\2s"),
        (r"channel\.timeoutCount\b", "channel.sum().timeouts"),
        (r"\n[^\n]*\w+\.(deferred|inFlight)Mutex\.(Lock|Unlock)\(\)", ""),
        (r"minTs := [^\n]*", ""),
        (r"pqItem := [^\n]*", "test.Equal(t, 1, channel.sum().deferred)"),
        (r"\n[^\n]*pqItem[^\n]*", ""),
        (r"nsqd\.startTime = testTime", "testTime = nsqd.started()\n_ = testTime"),
        (r"nsqd\.httpsListener\.Addr\(\)", "nsqd.RealHTTPSAddr()"),
    )
    # They do not ask a broker, or what they ask is inside nsqd.
    internal = {
        "TestChannelTopicNames": "calls a function of nsqd, and no broker",
        "TestIOLoopReturnsClientErrWhenSendFails": "calls nsqd's loop with a connection that is none",
        "TestIOLoopReturnsClientErrWhenSendSucceeds": "calls nsqd's loop with a connection that is none",
        "TestPausing": "takes a message out of nsqd's memory",
        "TestClientTimeout": "needs nsqd's ClientTimeout of 150 ms, which no flag sets",
    }

    def fetch(self, world):
        module = fetch_go(world, "github.com/nsqio/nsq", "v1.3.0")
        self.directory = os.path.join(module, "nsqd", "remote")
        os.makedirs(self.directory)
        shutil.copytree(os.path.join(module, "nsqd", "test"), os.path.join(self.directory, "test"))
        signed_anew(os.path.join(self.directory, "test", "certs"))
        shutil.copy(os.path.join(world.here, "remote.go"), os.path.join(self.directory, "remote_test.go"))
        for file in ("protocol_v2_test.go", "http_test.go"):
            with open(os.path.join(module, "nsqd", file), encoding="utf-8") as original:
                text = original.read()
            for pattern, replacement in self.rewired:
                text = re.sub(pattern, replacement, text, flags=re.DOTALL)
            with open(os.path.join(self.directory, file), "w", encoding="utf-8") as copy:
                copy.write(without_unused_imports(text))

    def run(self, world, broker):
        environment = dict(world.environment, CONFORMANCE_NSQD=world.shim(broker))
        results = {name: INTERNAL for name in self.internal}
        # One by one: a broker that does not start ends the process of its test.
        listed = run(["go", "test", "-list", "^Test", "."], cwd=self.directory, env=environment, timeout=300)
        names = [name for name in listed.stdout.split() if name.startswith("Test")]
        if not names:
            raise RuntimeError(f"nsqd's tests do not compile:\n{listed.stdout}{listed.stderr}")
        program = os.path.join(self.directory, "remote.test")
        run(["go", "test", "-c", "-vet=off", "-o", program, "."], cwd=self.directory, env=environment, timeout=300)
        for name in names:
            if name not in self.internal:
                command = [program, "-test.run", f"^{name}$", "-test.timeout", "60s"]
                done = run(command, cwd=self.directory, env=environment, timeout=90)
                results[name] = PASS if done.returncode == 0 and "PASS" in done.stdout else FAIL
                world.keep_log(f"nsqd-{name}", done.stdout + done.stderr)
        return results


class Segmentio:
    """A client for Go of segmentio's; its docker-compose.yml says what it needs."""

    name, quick = "segmentio/nsq-go 1.2.4", False
    source = "Go proxy"

    def fetch(self, world):
        self.directory = fetch_go(world, "github.com/segmentio/nsq-go", "v1.2.4")

    def run(self, world, broker):
        with world.lookupd(4160) as one, world.lookupd(4162) as two, world.lookupd(4164) as three:
            lookupds = [f"--lookupd-tcp-address={lookupd.tcp}" for lookupd in (one, two, three)]
            brokers = [
                world.start(
                    broker,
                    f"--tcp-address=127.0.0.1:{port}",
                    f"--http-address=127.0.0.1:{port + 1}",
                    f"--broadcast-address=localhost:{port}",
                    f"--data-path={world.new_directory()}",
                    *lookupds,
                )
                for port in (4150, 4152, 4154)
            ]
            with brokers[0], brokers[1], brokers[2]:
                for port in (4151, 4153, 4155):
                    http_ok(f"http://127.0.0.1:{port}/ping")
                return go_test(world, self.directory, [], world.environment)


class Nsqjs:
    """A client for Node; its tests start `nsqd` from PATH."""

    name, quick = "nsqjs 0.13.0", False
    source = "npm"

    def fetch(self, world):
        self.directory = fetch_npm(world, "nsqjs", "0.13.0")

    def run(self, world, broker):
        environment = dict(world.path_with(broker), DEBUG="nsqjs:*", DEBUG_COLORS="no", DEBUG_HIDE_DATE="yes")
        # One pipe, in the order in which they are written: what a connection logs is of the test that ends next.
        command = ["node", "node_modules/mocha/bin/mocha", "--reporter", "json-stream", "--exit"]
        done = run(command, cwd=self.directory, env=environment, timeout=400, join=True)
        results, agreed = {}, set()
        for line in done.stdout.splitlines():
            event = re.match(r'\["(pass|fail)",(\{.*\})\]$', line)
            if event:
                name = json.loads(event[2])["fullTitle"]
                # Some of its tests have one name.
                name += f" ({sum(other.split(' (')[0] == name for other in results) + 1})" if name in results else ""
                results[name] = PASS if event[1] == "pass" else FAIL
                # Their titles name the compression, or "none", and TLS with "true" or "false".
                wanted = features_in(name.replace("tls (false)", "")) if "compression" in name else set()
                if results[name] == PASS and wanted - agreed:
                    results[name] = EMPTY
                agreed = set()
            for feature, state in (("tls", "TLS_RESPONSE"), ("snappy", "SNAPPY_START"), ("deflate", "DEFLATE_START")):
                if state in line:
                    agreed.add(feature)
        if not results:
            raise RuntimeError(f"no test of nsqjs ran:\n{done.stdout[-3000:]}")
        world.keep_log("nsqjs", done.stdout)
        return results


class Gnsq:
    """A client for Python with gevent; its tests start `nsqd` and `nsqlookupd` from PATH, and check what was negotiated."""

    name, quick = "gnsq 1.0.2", False
    source = "PyPI, the sdist"

    def fetch(self, world):
        self.directory = fetch_pypi(world, "gnsq", "1.0.2")
        self.python = world.python("pytest", "pytest-timeout", "gevent", "blinker", "six", "urllib3", "python-snappy")

    def run(self, world, broker):
        report = os.path.join(world.new_directory(), "report.xml")
        environment = dict(world.path_with(broker), PYTHONPATH=self.directory)
        command = [self.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=20", f"--junitxml={report}"]
        done = run([*command, "tests"], cwd=self.directory, env=environment, timeout=400)
        world.keep_log("gnsq", done.stdout + done.stderr)
        results = {}
        for case in xml.etree.ElementTree.parse(report).iter("testcase"):
            kinds = {child.tag for child in case}
            name = f"{case.get('classname', '').rsplit('.', 1)[-1]}::{case.get('name')}"
            results[name] = FAIL if kinds & {"failure", "error"} else SKIP if "skipped" in kinds else PASS
        return results
