"""Small programs with pynsq, whose package carries no tests: `python pynsq_programs.py NAME` runs one and ends with 0 if all
went as it should. Where a broker listens comes in the environment, as JSON in $PYNSQ."""

import json
import os
import ssl
import sys
import types
import urllib.request

import nsq
import nsq.deflate_socket
import nsq.snappy_socket
import tornado.ioloop

AT = json.loads(os.environ["PYNSQ"])
SECONDS = 20
TOPIC = f"pynsq.{sys.argv[1]}"


# "Nothing decoded yet, come again": tornado knows it since 6.1 by its class alone, and pynsq 0.9.1 raises a class above it.
for compressed in (nsq.deflate_socket, nsq.snappy_socket):
    compressed.socket = types.SimpleNamespace(error=lambda code: BlockingIOError(code, os.strerror(code)))


def loop():
    return tornado.ioloop.IOLoop.current()


def end(reason=None):
    """Ends the program: with a reason it has failed."""
    if reason:
        print(reason, file=sys.stderr)
    sys.stderr.flush()
    os._exit(1 if reason else 0)


def check(truth, reason):
    if not truth:
        end(reason)


def http(path, body=None):
    request = urllib.request.Request(f"http://{AT['http']}{path}", data=body, method="POST" if body is not None else "GET")
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
        return answer.read()


def consumers():
    """What /stats says of those who consume the topic."""
    topics = json.loads(http(f"/stats?format=json&topic={TOPIC}"))["topics"] or []
    return [client for topic in topics for channel in topic["channels"] for client in channel["clients"] or []]


def publish(*bodies):
    for body in bodies:
        http(f"/pub?topic={TOPIC}", body)


def consume(handler, **options):
    options.setdefault("nsqd_tcp_addresses", [AT["tcp"]])
    return nsq.Reader(message_handler=handler, topic=TOPIC, channel="c", lookupd_poll_interval=1, max_in_flight=9, **options)


def run():
    loop().call_later(SECONDS, lambda: end(f"not over after {SECONDS} s"))
    nsq.run()


def round_trip(expected, **options):
    """Three messages to a consumer; /stats must show on its connection what is `expected`."""
    bodies, got = {b"one", b"two", b"x" * 100_000}, set()
    publish(*bodies)

    def handler(message):
        got.add(message.body)
        if got == bodies:
            client = consumers()[0]
            for key, value in expected.items():
                check(client[key] == value, f"/stats says {key}: {client[key]!r}, not {value!r}")
            # The answer to the last one goes first.
            loop().call_later(0.2, end)
        return True

    consume(handler, **options)
    run()


def write(publish_with):
    """A writer's publishes by `publish_with`, each with its OK, and the messages at a consumer."""
    bodies, got, answers = {b"1", b"2", b"3"}, set(), []
    writer = nsq.Writer([AT["tcp"]])

    def answered(_, data):
        check(data == b"OK", f"the answer is {data!r}")
        answers.append(data)
        over()

    def handler(message):
        got.add(message.body)
        over()
        return True

    def over():
        if got == bodies and len(answers) == wanted:
            end()

    def begin():
        if not writer.conns:
            loop().call_later(0.05, begin)
            return
        publish_with(writer, sorted(bodies), answered)

    wanted = 1 if publish_with is mpub else 3
    consume(handler)
    loop().call_later(0.1, begin)
    run()


def pub(writer, bodies, answered):
    for body in bodies:
        writer.pub(TOPIC, body, answered)


def mpub(writer, bodies, answered):
    writer.mpub(TOPIC, bodies, answered)


def dpub(writer, bodies, answered):
    for body in bodies:
        writer.dpub(TOPIC, 300, body, answered)


def requeue():
    """A message that is given back comes again, with one more attempt each time."""
    publish(b"again")
    attempts = []

    def handler(message):
        attempts.append(message.attempts)
        if attempts == [1, 2, 3]:
            loop().call_later(0.2, end)
            return True
        check(len(attempts) < 3, f"attempts {attempts}")
        message.requeue(delay=0, backoff=False)
        return None

    consume(handler)
    run()


def touch():
    """A message that is touched twice within its timeout of a second does not come again in two."""
    publish(b"slow")
    seen = []

    def handler(message):
        seen.append(message.attempts)
        check(seen == [1], f"it came again: attempts {seen}")
        message.enable_async()
        for after in (0.6, 1.2):
            loop().call_later(after, message.touch)
        loop().call_later(2.0, lambda: (message.finish(), loop().call_later(0.3, over)))

    def over():
        topic = json.loads(http(f"/stats?format=json&topic={TOPIC}"))["topics"][0]["channels"][0]
        found = {key: topic[key] for key in ("depth", "in_flight_count", "timeout_count", "requeue_count")}
        check(not any(found.values()), f"/stats says {found}")
        end()

    consume(handler, msg_timeout=1)
    run()


def pipelined():
    """500 publishes without waiting for an answer, while a consumer takes them."""
    got, answers = set(), []
    writer = nsq.Writer([AT["tcp"]])

    def handler(message):
        got.add(message.body)
        if len(got) == 500 and len(answers) == 500:
            end()
        return True

    def begin():
        if not writer.conns:
            loop().call_later(0.05, begin)
            return
        for number in range(500):
            writer.pub(TOPIC, str(number).encode(), lambda _, data: (check(data == b"OK", data), answers.append(data)))

    consume(handler)
    loop().call_later(0.1, begin)
    run()


def heartbeats():
    """Two heartbeats, each a second after the other, and the connection stays."""
    beats = []
    reader = consume(lambda message: True, heartbeat_interval=1)

    def beat(conn):
        beats.append(conn)
        if len(beats) == 2:
            check(consumers(), "the consumer is gone")
            end()

    reader.heartbeat = beat
    run()


def lookupd():
    """A consumer that knows nsqlookupd alone finds the topic, which the broker has only then."""
    got = []

    def handler(message):
        got.append(message.body)
        loop().call_later(0.2, end)
        return True

    consume(handler, nsqd_tcp_addresses=[], lookupd_http_addresses=[f"http://{AT['lookupd']}"])
    loop().call_later(0.5, lambda: publish(b"found"))
    run()


TLS = {"tls_v1": True, "tls_options": {"cert_reqs": ssl.CERT_NONE}}
PROGRAMS = {
    "consume": lambda: round_trip({"tls": False, "snappy": False, "deflate": False}),
    "pub": lambda: write(pub),
    "mpub": lambda: write(mpub),
    "dpub": lambda: write(dpub),
    "pipelined": pipelined,
    "requeue": requeue,
    "touch": touch,
    "heartbeats": heartbeats,
    "tls": lambda: round_trip({"tls": True, "snappy": False}, **TLS),
    "snappy": lambda: round_trip({"snappy": True}, snappy=True),
    "deflate": lambda: round_trip({"deflate": True}, deflate=True, deflate_level=6),
    "tls_snappy": lambda: round_trip({"tls": True, "snappy": True}, snappy=True, **TLS),
    "tls_deflate": lambda: round_trip({"tls": True, "deflate": True}, deflate=True, deflate_level=6, **TLS),
    "auth": lambda: round_trip({"authed": True, "auth_identity": "conformance"}, auth_secret="open sesame"),
    "lookupd": lookupd,
}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]]()
