"""The suites of our own: small programs with pynsq, and NSQ's tools, directly and through nsqlookupd."""

import concurrent.futures
import contextlib
import glob
import http.server as http_server
import json
import os
import signal
import subprocess
import threading

from suites import FAIL, PASS
from world import fetched, http, run, stats, wait_for

BODIES = [b"one", b"two", b"three"]


@contextlib.contextmanager
def serving(answer):
    """An HTTP server that answers each request with `answer(path, body)`; gives its address."""

    class Handler(http_server.BaseHTTPRequestHandler):
        def do_GET(self):
            length = int(self.headers.get("Content-Length") or 0)
            text = answer(self.path, self.rfile.read(length))
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    server = http_server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class Pynsq:
    """NSQ's client for Python, whose package carries no tests: pynsq_programs.py."""

    name, quick = "pynsq 0.9.1, programs of ours", True
    source = "PyPI"
    names = (
        "consume pub mpub dpub pipelined requeue touch heartbeats tls snappy deflate tls_snappy tls_deflate auth lookupd"
    ).split()

    def fetch(self, world):
        self.python = world.python("pynsq==0.9.1", "tornado", "python-snappy")

    def run(self, world, broker):
        certificate(world)
        # Most of each is waiting.
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            return dict(zip(self.names, pool.map(lambda name: self.program(world, broker, name), self.names)))

    def program(self, world, broker, name):
        with contextlib.ExitStack() as stack:
            lookupd = stack.enter_context(world.lookupd())
            options = [f"--lookupd-tcp-address={lookupd.tcp}"]
            if "tls" in name:
                options += [f"--tls-{part}={file}" for part, file in zip(("cert", "key"), certificate(world))]
                # nsqd's own one is the same for all.
                options += [f"--https-address={world.free_address()}"]
            if name == "auth":
                options += [f"--auth-http-address={stack.enter_context(serving(grant))}"]
            try:
                server = stack.enter_context(world.broker(broker, *options))
            except (RuntimeError, TimeoutError) as error:
                world.keep_log(f"pynsq-{name}", str(error))
                return FAIL
            at = {"tcp": server.tcp, "http": server.http, "lookupd": lookupd.http}
            command = [self.python, os.path.join(world.here, "pynsq_programs.py"), name]
            done = run(command, env=dict(world.environment, PYNSQ=json.dumps(at)), timeout=40)
            world.keep_log(f"pynsq-{name}", done.stdout + done.stderr)
            return PASS if done.returncode == 0 else FAIL


def grant(path, _):
    """What an auth server says: everything, to who knows the secret."""
    allowed = {"topic": ".*", "channels": [".*"], "permissions": ["subscribe", "publish"]}
    known = "secret=open+sesame" in path or "secret=open%20sesame" in path
    return json.dumps({"ttl": 60, "identity": "conformance", "authorizations": [allowed] if known else []}).encode()


def certificate(world):
    """A certificate and its key, made once."""
    files = [os.path.join(world.directory, f"server.{part}") for part in ("pem", "key")]
    if not os.path.exists(files[0]):
        name = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
        out = ["-out", files[0], "-keyout", files[1]]
        fetched(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *name, *out])
    return files


class Tools:
    """NSQ's tools: each told where the broker is, and each told where nsqlookupd is."""

    name, quick = "NSQ's tools 1.3.0", True
    source = "Go proxy"

    def fetch(self, world):
        self.bin = os.path.dirname(world.programs["nsqlookupd"])
        tools = [name for name, _ in self.scenarios() if name != "nsqadmin"]
        # Beside nsqd and nsqlookupd where those are built here, else in the cache.
        if not os.path.exists(os.path.join(self.bin, tools[0])):
            self.bin = os.path.join(world.cache, "bin")
            environment = dict(os.environ, GOBIN=self.bin)
            apps = [f"github.com/nsqio/nsq/apps/{tool}" for tool in tools]
            module = os.path.join(world.here, "..", "nsqd")
            fetched(["go", "install", "-mod=mod", *apps], cwd=module, env=environment)
        self.admin = world.programs.get("nsqadmin")

    @classmethod
    def scenarios(cls):
        return [
            ("to_nsq", cls.to_nsq),
            ("nsq_tail", cls.nsq_tail),
            ("nsq_to_file", cls.nsq_to_file),
            ("nsq_to_nsq", cls.nsq_to_nsq),
            ("nsq_to_http", cls.nsq_to_http),
            ("nsq_stat", cls.nsq_stat),
            ("nsqadmin", cls.nsqadmin),
        ]

    def run(self, world, broker):
        results = {}
        for way in ("directly", "through nsqlookupd"):
            with world.lookupd() as lookupd:
                try:
                    with world.broker(broker, f"--lookupd-tcp-address={lookupd.tcp}") as server:
                        for name, scenario in self.scenarios():
                            results[f"{name} {way}"] = self.one(world, scenario, server, lookupd, name, way)
                except (RuntimeError, TimeoutError) as error:
                    world.keep_log(f"tools-{way}", str(error))
                    results.update({f"{name} {way}": FAIL for name, _ in self.scenarios()})
        return results

    def one(self, world, scenario, server, lookupd, name, way):
        # to_nsq has no way to ask nsqlookupd: it is told where nsqd is, and what it publishes is looked up.
        self.world, self.server, self.lookupd, self.direct = world, server, lookupd, way == "directly"
        self.log = f"{name}-{way.split()[-1]}"
        self.topic = f"tools.{name}"
        try:
            scenario(self)
        except (AssertionError, TimeoutError, OSError, subprocess.SubprocessError) as error:
            world.keep_log(f"{self.log}-why", f"{type(error).__name__}: {error}")
            return FAIL
        return PASS

    # --- What they have in common ---

    def where(self, nsqd="--nsqd-tcp-address", lookupd="--lookupd-http-address"):
        return f"{nsqd}={self.server.tcp}" if self.direct else f"{lookupd}={self.lookupd.http}"

    def publish(self, topic=None):
        for body in BODIES:
            http(f"http://{self.server.http}/pub?topic={topic or self.topic}", body)
        if not self.direct:
            # A broker registers a topic when it comes to be.
            producers = f"http://{self.lookupd.http}/lookup?topic={topic or self.topic}"
            wait_for(f"{self.topic} at nsqlookupd", lambda: found(producers))

    @contextlib.contextmanager
    def running(self, tool, *arguments):
        log = os.path.join(self.world.logs, f"{self.world.part}{self.log}.log")
        path = self.admin if tool == "nsqadmin" else os.path.join(self.bin, tool)
        with open(log, "wb") as out:
            process = subprocess.Popen([path, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=out)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=10)
            except (subprocess.TimeoutExpired, ValueError):
                process.kill()
                process.wait()

    def depth(self, topic, channel):
        for one in (stats(self.server.http, topic) or {"channels": []})["channels"]:
            if one["channel_name"] == channel:
                return one
        return None

    def finished(self, channel):
        """Waits until all messages of the topic are finished in `channel`."""

        def done():
            one = self.depth(self.topic, channel)
            return one and one["message_count"] == 3 and not one["depth"] and not one["in_flight_count"]

        wait_for(f"{self.topic}/{channel} finished", done)

    # --- Each of them ---

    def to_nsq(self):
        command = [os.path.join(self.bin, "to_nsq"), f"--topic={self.topic}", f"--nsqd-tcp-address={self.server.tcp}"]
        lines = "".join(f"{body.decode()}\n" for body in BODIES)
        before = (stats(self.server.http, self.topic) or {"message_count": 0})["message_count"]
        done = run(command, timeout=30, stdin=lines)
        assert done.returncode == 0, done.stderr
        assert stats(self.server.http, self.topic)["message_count"] == before + 3
        if not self.direct:
            wait_for("its topic", lambda: found(f"http://{self.lookupd.http}/lookup?topic={self.topic}"))

    def nsq_tail(self):
        self.publish()
        with self.running("nsq_tail", f"--topic={self.topic}", "--channel=tail", "-n=3", self.where()) as tail:
            out, _ = tail.communicate(timeout=20)
        assert sorted(out.split()) == sorted(BODIES), out

    def nsq_to_file(self):
        directory = self.world.new_directory()
        self.publish()
        with self.running("nsq_to_file", f"--topic={self.topic}", f"--output-dir={directory}", self.where()) as to_file:
            wait_for("all at it", lambda: (self.depth(self.topic, "nsq_to_file") or {}).get("depth") == 0)
            # It writes at the latest when it ends, and finishes the messages then.
            to_file.send_signal(signal.SIGTERM)
            to_file.wait(20)
        self.finished("nsq_to_file")
        text = b"".join(open(file, "rb").read() for file in glob.glob(f"{directory}/*"))
        assert sorted(text.split()) == sorted(BODIES), text

    def nsq_to_nsq(self):
        self.publish()
        target = f"{self.topic}.copy"
        arguments = [f"--topic={self.topic}", f"--destination-topic={target}"]
        with self.running("nsq_to_nsq", *arguments, f"--destination-nsqd-tcp-address={self.server.tcp}", self.where()):
            self.finished("nsq_to_nsq")
        assert stats(self.server.http, target)["message_count"] == 3

    def nsq_to_http(self):
        self.publish()
        got = []
        with serving(lambda _, body: got.append(body) or b"OK") as address:
            with self.running("nsq_to_http", f"--topic={self.topic}", f"--post=http://{address}/", self.where()):
                self.finished("nsq_to_http")
        assert sorted(got) == sorted(BODIES), got

    def nsq_stat(self):
        http(f"http://{self.server.http}/topic/create?topic={self.topic}", b"")
        http(f"http://{self.server.http}/channel/create?topic={self.topic}&channel=c", b"")
        self.publish()
        wait_for("the channel has them", lambda: (self.depth(self.topic, "c") or {}).get("depth") == 3)
        arguments = [f"--topic={self.topic}", "--channel=c", "--interval=100ms", "--count=2"]
        where = f"--nsqd-http-address={self.server.http}" if self.direct else self.where()
        with self.running("nsq_stat", *arguments, where) as stat:
            out, _ = stat.communicate(timeout=20)
        rows = [line.split() for line in out.decode().splitlines() if line.strip()[:1].isdigit()]
        # Rates, then depths.
        assert rows and all(row[3] == "3" for row in rows), out

    def nsqadmin(self):
        assert self.admin, "there is no nsqadmin"
        self.publish()
        at = self.world.free_address()
        where = f"--nsqd-http-address={self.server.http}" if self.direct else self.where()
        with self.running("nsqadmin", f"--http-address={at}", where):
            wait_for("nsqadmin", lambda: reads(f"http://{at}/ping"))

            def asked(path, **act):
                body = json.dumps(act).encode() if act else None
                return json.loads(http(f"http://{at}/api{path}", body) or "{}")

            assert self.topic in asked("/topics")["topics"]
            if not self.direct:
                asked("/topics", topic=self.topic, channel="made")
                wait_for("its channel", lambda: self.depth(self.topic, "made"))
            else:
                http(f"http://{self.server.http}/channel/create?topic={self.topic}&channel=made", b"")
            topic = asked(f"/topics/{self.topic}")
            assert topic["message_count"] == 3 and [c["channel_name"] for c in topic["channels"]] == ["made"], topic
            assert len(asked("/nodes")["nodes"]) == 1
            for action, paused in (("pause", True), ("unpause", False)):
                asked(f"/topics/{self.topic}/made", action=action)
                assert self.depth(self.topic, "made")["paused"] is paused
            asked(f"/topics/{self.topic}/made", action="empty")
            assert self.depth(self.topic, "made")["depth"] == 0
            done = http(f"http://{at}/api/topics/{self.topic}", method="DELETE")
            assert done is not None and stats(self.server.http, self.topic) is None


def reads(url):
    with contextlib.suppress(OSError):
        return http(url)
    return None


def found(lookup):
    """Whether nsqlookupd answers with a producer."""
    answer = reads(lookup)
    return bool(answer and json.loads(answer)["producers"])
