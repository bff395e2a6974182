"""Where the suites run: packages by name, brokers as processes, and what is left of both."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

# How long a broker may take to start or to end, in seconds.
PATIENCE = 20


class NotServed(Exception):
    """A package registry does not give what a suite needs."""


@dataclasses.dataclass
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def run(command, cwd=None, env=None, timeout=300, join=False, stdin=None):
    """Runs a command to its end; one that takes too long is killed with all that it has started."""
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        text=True,
        errors="replace",
        stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if join else subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(stdin, timeout=timeout)
        return Done(process.returncode, out, err or "")
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        return Done(-1, out, (err or "") + f"\nkilled after {timeout} s")


def fetched(command, **arguments):
    """The output of a registry's client, or `NotServed` with what it says."""
    done = run(command, timeout=300, **arguments)
    if done.returncode != 0:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise NotServed(" ".join(said[-3:])[-300:])
    return done.stdout


def writable_copy(source, target):
    shutil.copytree(source, target)
    for directory, _, files in os.walk(target):
        for name in [directory, *(os.path.join(directory, file) for file in files)]:
            os.chmod(name, os.stat(name).st_mode | 0o200)
    return target


def fetch_go(world, module, version):
    """A copy of a Go module, with its dependencies in Go's cache."""
    # In a directory of its own: this one may be inside a module.
    told = fetched(["go", "mod", "download", "-json", f"{module}@{version}"], cwd=world.new_directory())
    copy = writable_copy(json.loads(told)["Dir"], os.path.join(world.new_directory(), module.rsplit("/", 1)[-1]))
    if not os.path.exists(os.path.join(copy, "go.mod")):
        raise NotServed(f"{module}@{version} has no go.mod")
    fetched(["go", "mod", "download"], cwd=copy)
    return copy


def fetch_npm(world, package, version):
    """A package of npm with what its tests need."""
    kept = os.path.join(world.cache, f"{package}-{version}")
    if not os.path.isdir(os.path.join(kept, "node_modules")):
        shutil.rmtree(kept, ignore_errors=True)
        unpacked = world.new_directory()
        archive = fetched(["npm", "pack", "--silent", f"{package}@{version}"], cwd=unpacked).split()[-1]
        fetched(["tar", "xzf", archive], cwd=unpacked)
        fetched(["npm", "install", "--silent", "--no-audit", "--no-fund"], cwd=os.path.join(unpacked, "package"))
        shutil.move(os.path.join(unpacked, "package"), kept)
    return kept


def fetch_pypi(world, package, version):
    """The sdist of a package of PyPI, unpacked."""
    kept = os.path.join(world.cache, f"{package}-{version}")
    if not os.path.isdir(kept):
        directory = world.new_directory()
        pip = [world.python(), "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        fetched([*pip, f"{package}=={version}"], cwd=directory)
        fetched(["tar", "xzf", f"{package}-{version}.tar.gz", "-C", world.cache], cwd=directory)
    return kept


def listening(address):
    """Whether something listens at `host:port`."""
    host, port = address.rsplit(":", 1)
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
        return True
    return False


def wait_for(what, condition, seconds=PATIENCE):
    """What `condition` gives once that is true; an error after a while."""
    until = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > until:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(0.02)


def http(url, body=None, method=None):
    """The answer's text."""
    request = urllib.request.Request(url, data=body, method=method or ("GET" if body is None else "POST"))
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return answer.read().decode()


def http_ok(url):
    """Waits until `url` answers."""

    def answers():
        with contextlib.suppress(OSError):
            return http(url) is not None
        return False

    wait_for(url, answers)


def stats(address, topic):
    """What /stats of nsqd at an HTTP address says of a topic; `None` if it has none of that name."""
    topics = json.loads(http(f"http://{address}/stats?format=json&topic={topic}"))["topics"]
    return topics[0] if topics else None


class Server:
    """A broker or an nsqlookupd as a process, until the end of its `with`."""

    def __init__(self, command, log, environment, tcp, http_address):
        self.tcp, self.http = tcp, http_address
        with open(log, "ab") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment)
        self.log = log

    def ready(self):
        def up():
            if self.process.poll() is not None:
                with open(self.log, encoding="utf-8", errors="replace") as log:
                    raise RuntimeError(f"it ended at once: {log.read()[-600:]}")
            return listening(self.tcp) and listening(self.http)

        try:
            wait_for(f"{self.tcp} and {self.http}", up)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self):
        return self.ready()

    def __exit__(self, *_):
        self.stop()


class World:
    """The programs, a directory for packages that is kept, and one for everything else."""

    def __init__(self, programs, cache):
        self.here = os.path.dirname(os.path.abspath(__file__))
        self.programs, self.cache = programs, cache
        os.makedirs(cache, exist_ok=True)
        self.directory = tempfile.mkdtemp(prefix="conformance-")
        self.logs = os.path.join(cache, "logs")
        shutil.rmtree(self.logs, ignore_errors=True)
        os.makedirs(self.logs)
        self.part = ""
        self.shims = set()
        self.environment = dict(os.environ, GOFLAGS="-mod=mod", TMPDIR=self.directory)

    def close(self):
        # Go's tests may leave files that cannot be written to.
        run(["chmod", "-R", "u+w", self.directory])
        shutil.rmtree(self.directory, ignore_errors=True)

    def new_directory(self):
        return tempfile.mkdtemp(dir=self.directory)

    def keep_log(self, name, text):
        with open(os.path.join(self.logs, f"{self.part}{name}.log"), "w", encoding="utf-8") as log:
            log.write(text)

    def python(self, *packages):
        """A Python of its own with these packages."""
        venv = os.path.join(self.cache, "venv")
        python = os.path.join(venv, "bin", "python")
        if not os.path.exists(python):
            fetched([os.environ.get("PYTHON", "python3"), "-m", "venv", venv])
        have = {line.split("==")[0].lower() for line in fetched([python, "-m", "pip", "freeze"]).split()}
        missing = [package for package in packages if package.split("==")[0].lower() not in have]
        if missing:
            fetched([python, "-m", "pip", "install", "--quiet", *missing])
        return python

    def shim(self, broker):
        """A program that takes nsqd's arguments and is that broker."""
        path = os.path.join(self.directory, broker, "nsqd")
        if broker not in self.shims:
            self.shims.add(broker)
            os.makedirs(os.path.dirname(path))
            command = self.programs["nsqd"] if broker == "stock" else f"{self.programs['playcounts']}' broker '"
            text = f"#!/bin/sh\nexec '{command}' \"$@\"\n".replace(" ''", "")
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(path, 0o755)
            os.symlink(self.programs["nsqlookupd"], os.path.join(os.path.dirname(path), "nsqlookupd"))
        return path

    def path_with(self, broker):
        """An environment in which `nsqd` is that broker."""
        directory = os.path.dirname(self.shim(broker))
        return dict(self.environment, PATH=f"{directory}:{self.environment['PATH']}")

    def start(self, broker, *arguments):
        """That broker with nsqd's arguments, which name both addresses."""
        address = {argument.split("=")[0]: argument.split("=")[-1] for argument in arguments}
        log = os.path.join(self.logs, f"{self.part}broker.log")
        command = [self.shim(broker), *arguments]
        return Server(command, log, self.environment, address["--tcp-address"], address["--http-address"])

    def broker(self, broker, *arguments):
        """That broker at ports that are free, in a directory of its own."""
        tcp, http_address = self.free_address(), self.free_address()
        usual = [f"--tcp-address={tcp}", f"--http-address={http_address}", "--broadcast-address=127.0.0.1"]
        return self.start(broker, *usual, f"--data-path={self.new_directory()}", *arguments)

    def lookupd(self, port=None):
        """nsqlookupd at `port` and the one behind it, or at ports that are free."""
        tcp = f"127.0.0.1:{port}" if port else self.free_address()
        http_address = f"127.0.0.1:{port + 1}" if port else self.free_address()
        command = [self.programs["nsqlookupd"], f"--tcp-address={tcp}", f"--http-address={http_address}"]
        log = os.path.join(self.logs, f"{self.part}nsqlookupd.log")
        return Server(command, log, self.environment, tcp, http_address)

    @staticmethod
    def free_address():
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            return f"127.0.0.1:{one.getsockname()[1]}"
